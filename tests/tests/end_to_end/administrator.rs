//! What an administrator does with the Nix of the guests, which is newer than this machine's may be: a system that is
//! brought to its machine by hand, over a real ssh, and lock files that move.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;

use anyhow::{Context, Result};
use bento_tests::process::{self, Output};
use bento_tests::{Guest, artifacts, files, key, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::vm::configuration;

const FLAKE: &str = r#"{
  inputs.nixpkgs.url = "path:/srv/nixpkgs-stand-in";
  outputs = { nixpkgs, ... }: {
    nixosConfigurations.desk = nixpkgs.lib.nixosSystem { modules = [ ./configuration.nix ]; };
  };
}
"#;
const FLEET: &str = "/root/fleet";

/// What many a machine prints at every login: none of it is an answer.
const BANNER: &str = "\n0\n\n  Authorised use only.\n\n";
/// What a shell that begins may say; on its standard output it would be in Nix' way.
const GREETING: &str = "printf '\\n4711\\n\\n' >&2";
/// Lasts until the test has seen it, and what the test does then.
const SLOW: &str = "touch /run/begun; while [ ! -e /run/go-on ]; do sleep 0.05; done";

/// A machine whose administrator works on itself, with an ssh that leads to it again.
struct PushEnv {
    guest: Guest,
    port: u16,
    sshd: Child,
    folder: TempDir,
}

impl PushEnv {
    fn new() -> Result<Self> {
        let guest = Guest::boot()?;
        let folder = TempDir::new()?;
        let path = |name: &str| folder.path().join(name);
        for name in ["host", "user"] {
            key::make(&path(name), name)?;
        }
        fs::copy(path("user.pub"), path("authorized"))?;
        // Guests have no sshd, so that none ever opens a port: this machine's leads its sessions into the guest.
        let inside = guest.command(["sh", "-c"])?;
        let words = [inside.get_program()].into_iter().chain(inside.get_args());
        let words: Vec<_> = words
            .map(|word| format!("'{}'", word.to_string_lossy().replace('\'', r"'\''")))
            .collect();
        let enter = format!(
            "#!/bin/sh\n{GREETING}\ncase $SSH_ORIGINAL_COMMAND in *--serve*) [ ! -e {} ] || kill -9 $PPID;; esac\n\
             exec {} \"$SSH_ORIGINAL_COMMAND\"\n",
            path("no-copies").display(),
            words.join(" ")
        );
        fs::write(path("banner"), BANNER)?;
        files::write_program(&path("enter"), enter)?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let settings = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {0}/host\nAuthorizedKeysFile {0}/authorized\nStrictModes \
             no\nUsePAM no\nPidFile none\nForceCommand {0}/enter\nBanner {0}/banner\n",
            folder.path().display()
        );
        fs::write(path("sshd_config"), settings)?;
        // A folder that sshd wants, seen by nobody else.
        let script =
            "mount -t tmpfs none /run && mkdir /run/sshd && exec /usr/sbin/sshd -D -f \"$1\"";
        let sshd = Command::new("unshare")
            .args(["-m", "sh", "-c", script, "sh"])
            .arg(path("sshd_config"))
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start sshd")?;
        guest.put_file("/root/key", "600", fs::read(path("user"))?)?;
        let bento = fs::read(artifacts::binary("bento")?)?;
        guest.put_file("/opt/bento/bin/bento", "755", bento)?;
        guest.put_file(
            &format!("{FLEET}/fleet.toml"),
            "644",
            "[server]\naddress = \"x\"\n[hosts.desk]\n",
        )?;
        guest.put_file(&format!("{FLEET}/hosts/desk/flake.nix"), "644", FLAKE)?;
        let env = PushEnv {
            guest,
            port,
            sshd,
            folder,
        };
        wait::until("sshd answers", process::SHORT, || {
            TcpStream::connect(("127.0.0.1", port)).ok()
        })?;
        Ok(env)
    }

    /// Lets the machine's configuration be of this version.
    fn configure(&self, version: &str, more: &str) -> Result<()> {
        let place = format!("{FLEET}/hosts/desk/configuration.nix");
        self.guest
            .put_file(&place, "644", configuration(version, more))
    }

    fn bento(&self, arguments: &str) -> Result<Output> {
        self.bento_with("-o StrictHostKeyChecking=no", arguments)
    }

    fn bento_with(&self, options: &str, arguments: &str) -> Result<Output> {
        let port = self.port;
        let options = format!("-p {port} -i /root/key -o UserKnownHostsFile=/dev/null {options}");
        let line = format!("cd {FLEET}; NIX_SSHOPTS='{options}' bento {arguments}");
        self.guest.shell(&line)
    }

    /// Builds the machine's system and brings it there.
    fn push(&self, arguments: &str) -> Result<Output> {
        self.bento(&format!("build desk --target root@127.0.0.1 {arguments}"))
    }

    /// The same, and cuts the connection as soon as the machine has begun what is [`SLOW`]; lets that go on then.
    fn push_and_cut(&self, arguments: &str) -> Result<Output> {
        self.guest.run(["rm", "-f", "/run/begun", "/run/go-on"])?;
        let (cut, pushed) = thread::scope(|scope| {
            let pushed = scope.spawn(|| self.push(arguments));
            let cut = self.cut();
            (cut, pushed.join())
        });
        cut?;
        self.guest.run(["touch", "/run/go-on"])?.success()?;
        pushed.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn cut(&self) -> Result<()> {
        wait::until("the machine to begin", process::SHORT, || {
            self.guest.read_file("/run/begun").ok()
        })?;
        let sshd = self.sshd.id();
        let sessions = fs::read_to_string(format!("/proc/{sshd}/task/{sshd}/children"))?;
        for session in sessions.split_whitespace() {
            kill(Pid::from_raw(session.parse()?), Signal::SIGKILL)?;
        }
        Ok(())
    }

    /// What was built last.
    fn built(&self) -> Result<String> {
        self.leads_to(&format!("{FLEET}/.bento/systems/desk"))
    }

    fn leads_to(&self, link: &str) -> Result<String> {
        let output = self.guest.run(["readlink", "-f", link])?;
        Ok(output.stdout.trim().to_owned())
    }

    fn runs(&self) -> Result<String> {
        self.leads_to("/run/current-system")
    }

    fn boots(&self) -> Result<String> {
        self.leads_to("/nix/var/nix/profiles/system")
    }
}

impl Drop for PushEnv {
    fn drop(&mut self) {
        let _ = self.sshd.kill();
        let _ = self.sshd.wait();
    }
}

#[track_caller]
fn says(output: &Output, code: i32, text: &str) {
    let said = format!("{}{}", output.stdout, output.stderr);
    assert_eq!(output.code(), code, "{said}");
    assert!(said.contains(text), "{text:?} isn't in {said}");
}

#[test]
fn a_system_that_is_brought_by_hand_takes_over_as_far_as_was_asked() -> Result<()> {
    let env = PushEnv::new()?;
    env.configure("1", "")?;
    says(&env.push("--yes")?, 1, "has no /run/current-system");
    let first = env.built()?;
    env.guest
        .shell(&format!("{first}/bin/switch-to-configuration test"))?
        .success()?;

    env.configure("2", "")?;
    says(&env.push("")?, 1, "use --yes");
    assert_eq!(env.runs()?, first);
    says(&env.push("--yes")?, 0, "activating the configuration");
    let second = env.built()?;
    assert_ne!(second, first);
    assert_eq!(env.runs()?, second);
    assert_ne!(env.boots()?, second);

    env.configure("3", "standIn.exitCode = 4;")?;
    says(
        &env.push("--yes --action switch")?,
        1,
        "some of its units failed",
    );
    let third = env.built()?;
    assert_eq!(env.runs()?, third);
    assert_ne!(env.boots()?, third);

    env.configure("4", "")?;
    says(&env.push("--yes --action boot")?, 0, "will boot");
    let fourth = env.built()?;
    assert_eq!(env.runs()?, third);
    assert_eq!(env.boots()?, fourth);
    assert_eq!(env.leads_to("/boot/default-system")?, fourth);

    env.configure("5", "")?;
    says(&env.push("--yes --action switch")?, 0, "will boot");
    let fifth = env.built()?;
    assert_eq!((env.runs()?, env.boots()?), (fifth.clone(), fifth));
    Ok(())
}

#[test]
fn a_push_that_fails_prints_what_the_machine_runs_and_boots() -> Result<()> {
    let env = PushEnv::new()?;
    env.configure("1", "")?;
    says(
        &env.push("--yes")?,
        1,
        "which is unchanged: root@127.0.0.1 has no /run/current-system",
    );
    let first = env.built()?;
    env.guest
        .shell(&format!("{first}/bin/switch-to-configuration test"))?
        .success()?;
    let boots = env.boots()?;

    env.configure("2", &format!("system.activationScripts.slow = ''{SLOW}'';"))?;
    let nowhere = env.bento("build desk --target root@127.0.0.2 --yes")?;
    says(
        &nowhere,
        1,
        "which is unchanged: the connection to root@127.0.0.2 failed",
    );
    let target = "build desk --target root@127.0.0.1 --yes";
    let stranger = env.bento_with("-o StrictHostKeyChecking=yes", target)?;
    says(&stranger, 1, "which is unchanged: the connection to");
    says(&stranger, 1, "Host key verification failed");
    fs::write(env.folder.path().join("no-copies"), "")?;
    let uncopied = env.push("--yes --action switch")?;
    says(&uncopied, 1, "to root@127.0.0.1, which is unchanged: ");
    fs::remove_file(env.folder.path().join("no-copies"))?;
    assert_eq!((env.runs()?, env.boots()?), (first, boots.clone()));

    let cut = env.push_and_cut("--yes --action switch")?;
    says(
        &cut,
        1,
        "lost the connection during switch-to-configuration test",
    );
    says(&cut, 1, "still boots the previous system");
    let second = env.built()?;
    let is_there = || (env.runs().ok()? == second).then_some(());
    wait::until("the switch to go on by itself", process::SHORT, is_there)?;
    assert_eq!(env.boots()?, boots);

    env.configure("3", &format!("standIn.bootLoader = ''{SLOW}'';"))?;
    let cut = env.push_and_cut("--yes --action switch")?;
    let third = env.built()?;
    says(
        &cut,
        1,
        &format!("now runs {third}, but it may not boot {third}"),
    );
    assert_eq!((env.runs()?, env.boots()?), (third.clone(), third.clone()));
    let is_set = || (env.leads_to("/boot/default-system").ok()? == third).then_some(());
    wait::until("the boot loader to be set", process::SHORT, is_set)
}

#[test]
fn lock_files_move_in_the_words_of_a_newer_nix_too() -> Result<()> {
    let env = PushEnv::new()?;
    env.configure("1", "")?;
    let lock = format!("{FLEET}/hosts/desk/flake.lock");
    says(&env.bento("flake-update")?, 0, "  nixpkgs: new, ");
    let first = env.guest.read_file(&lock)?;
    env.guest.put_file("/srv/nixpkgs-stand-in/new", "644", "")?;
    says(
        &env.bento("flake-update other")?,
        1,
        "the inputs are nixpkgs",
    );
    assert_eq!(env.guest.read_file(&lock)?, first);
    says(&env.bento("flake-update nixpkgs")?, 0, "  nixpkgs: ");
    assert_ne!(env.guest.read_file(&lock)?, first);
    Ok(())
}
