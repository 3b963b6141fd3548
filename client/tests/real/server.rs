//! An sshd that serves chroots as the appliance does.

use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use bento_protocol::{Report, ReportName};
use bento_tests::key;
use flate2::read::GzDecoder;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::publisher::Generation;

/// The user and group of the machine's account.
const ACCOUNT: u32 = 23_456;
/// Another account, which nobody may use unless a test enrols a key for it.
pub(crate) const RENAMED: &str = "leshy";

pub(crate) struct Server {
    folder: PathBuf,
    pub(crate) port: u16,
    /// As `bento host-key` would print it.
    pub(crate) host_key: String,
    sshd: Child,
    publications: u32,
}

impl Server {
    /// Starts a server that knows one machine by its name, but no key of it yet.
    pub(crate) fn start(folder: &Path, name: &str) -> Self {
        let folder = folder.join("server");
        for made in ["keys", "hosts"] {
            fs::create_dir_all(folder.join(made)).unwrap();
        }
        for name in [name, RENAMED] {
            fs::create_dir_all(folder.join("hosts").join(name)).unwrap();
        }
        make_key(&folder.join("host_key"));
        let host_key = key::public(&folder.join("host_key")).unwrap();
        let account = |name| format!("{name}:*:{ACCOUNT}:{ACCOUNT}::/:/bin/false\n");
        let passwd =
            fs::read_to_string("/etc/passwd").unwrap() + &account(name) + &account(RENAMED);
        fs::write(folder.join("passwd"), passwd).unwrap();
        fs::write(folder.join("sshd_config"), configuration(&folder)).unwrap();
        let (port, sshd) = start_sshd(&folder);
        Server {
            folder,
            port,
            host_key,
            sshd,
            publications: 0,
        }
    }

    /// Lets the machine in with this key, and no other.
    pub(crate) fn enrol(&self, name: &str, public_key: &str) {
        fs::write(self.folder.join("keys").join(name), public_key).unwrap();
    }

    /// Publishes a generation, with a delta from each of the others.
    pub(crate) fn publish(&mut self, generation: &Generation, from: &[&Generation]) {
        let bundle = generation.bundle();
        let deltas: Vec<_> = from
            .iter()
            .map(|old| (old.manifest.generation(), generation.delta_from(old)))
            .collect();
        self.publish_as(generation, |publication| {
            fs::write(publication.join("bundle.tar.gz"), &bundle).unwrap();
            for (old, delta) in &deltas {
                fs::write(publication.join(format!("delta/{old}.tar.gz")), delta).unwrap();
            }
        });
    }

    /// Publishes a generation's id, with whatever archives.
    pub(crate) fn publish_as(
        &mut self,
        generation: &Generation,
        write_archives: impl FnOnce(&Path),
    ) {
        self.publications += 1;
        let host = self
            .folder
            .join("hosts")
            .join(generation.manifest.host().as_str());
        let name = self.publications.to_string();
        let publication = host.join(&name);
        let inbox = publication.join("logs");
        for made in [&publication.join("delta"), &inbox] {
            fs::create_dir_all(made).unwrap();
        }
        chown(&inbox, Some(0), Some(ACCOUNT)).unwrap();
        fs::set_permissions(&inbox, Permissions::from_mode(0o730)).unwrap();
        symlink(
            generation.manifest.generation().to_string(),
            publication.join("generation"),
        )
        .unwrap();
        write_archives(&publication);
        let next = host.join("next");
        symlink(&name, &next).unwrap();
        fs::rename(&next, host.join("current")).unwrap();
    }

    /// What the machine's session sees now.
    pub(crate) fn publication(&self, name: &str) -> PathBuf {
        fs::canonicalize(self.folder.join("hosts").join(name).join("current")).unwrap()
    }

    /// The reports in all inboxes, in the order of their runs.
    pub(crate) fn reports(&self, name: &str) -> Vec<(ReportName, Report)> {
        let host = self.folder.join("hosts").join(name);
        let mut reports = Vec::new();
        for publication in 1..=self.publications {
            let Ok(entries) = fs::read_dir(host.join(publication.to_string()).join("logs")) else {
                continue; // Another account's.
            };
            for entry in entries {
                let entry = entry.unwrap();
                let name: ReportName = entry.file_name().to_str().unwrap().parse().unwrap();
                let mut json = Vec::new();
                let decoder = GzDecoder::new(File::open(entry.path()).unwrap());
                // Half of one is what a cut upload leaves.
                if std::io::copy(&mut { decoder }, &mut json).is_ok() {
                    reports.push((name, Report::parse(&json).unwrap()));
                }
            }
        }
        reports.sort_by_key(|(name, _)| *name);
        reports
    }

    /// What a session of sshd did meanwhile, of these system calls.
    pub(crate) fn calls(&self, names: &str, meanwhile: impl FnOnce()) -> String {
        // The process of sshd is the only child of the one that made its namespaces.
        let parent = self.sshd.id();
        let child = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
        let traced = self.folder.join("calls");
        let mut strace = Command::new("strace")
            .args([
                "-f",
                "-e",
                &format!("trace={names}"),
                "-p",
                child.trim(),
                "-o",
            ])
            .arg(&traced)
            .stderr(Stdio::piped())
            .spawn()
            .expect("strace can't be run");
        let mut said = BufReader::new(strace.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert!(line.contains("attached"), "strace: {line}");
        meanwhile();
        // Killed, it would take sshd with it.
        kill(Pid::from_raw(strace.id().cast_signed()), Signal::SIGINT).unwrap();
        strace.wait().unwrap();
        fs::read_to_string(traced).unwrap()
    }

    /// What sshd has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.sshd.kill().unwrap();
        self.sshd.wait().unwrap();
    }
}

/// A host that only passes the machine on.
pub(crate) struct JumpHost {
    folder: PathBuf,
    public_key: String,
    pub(crate) port: u16,
    pub(crate) host_key: String,
    sshd: Child,
}

impl JumpHost {
    /// Starts one that lets the machine through to this address and no other.
    pub(crate) fn start(folder: &Path, public_key: &str, allowed: &str) -> Self {
        fs::create_dir_all(folder.join("keys")).unwrap();
        make_key(&folder.join("host_key"));
        let account = format!("kikimora:*:{ACCOUNT}:{ACCOUNT}::/:/bin/false\n");
        let passwd = fs::read_to_string("/etc/passwd").unwrap() + &account;
        fs::write(folder.join("passwd"), passwd).unwrap();
        fs::write(folder.join("banner"), "\nBe welcome.\n\n").unwrap();
        let configuration = format!(
            "ListenAddress 127.0.0.1\nHostKey {0}/host_key\nAuthorizedKeysFile {0}/keys/%u\nPidFile none\n\
             UsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nBanner {0}/banner\n",
            folder.display()
        );
        fs::write(folder.join("sshd_config"), configuration).unwrap();
        let (port, sshd) = start_sshd(folder);
        let jump = JumpHost {
            folder: folder.to_owned(),
            public_key: public_key.to_owned(),
            port,
            host_key: key::public(&folder.join("host_key")).unwrap(),
            sshd,
        };
        jump.allow(allowed);
        jump
    }

    /// Lets the machine through to another address, from the next connection on.
    pub(crate) fn allow(&self, address: &str) {
        let line = format!(
            "restrict,port-forwarding,permitopen=\"{address}\" {}\n",
            self.public_key
        );
        fs::write(self.folder.join("keys/kikimora"), line).unwrap();
    }
}

impl Drop for JumpHost {
    fn drop(&mut self) {
        self.sshd.kill().unwrap();
        self.sshd.wait().unwrap();
    }
}

fn configuration(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "ListenAddress 127.0.0.1\n\
         HostKey {folder}/host_key\n\
         AuthorizedKeysFile {folder}/keys/%u\n\
         PidFile none\n\
         UsePAM no\n\
         PasswordAuthentication no\n\
         KbdInteractiveAuthentication no\n\
         LogLevel VERBOSE\n\
         Subsystem sftp internal-sftp\n\
         ChrootDirectory {folder}/hosts/%u/current\n\
         ForceCommand internal-sftp -u 0777 -P fsetstat,setstat,lsetstat,remove,rename,posix-rename,rmdir,mkdir,\
         symlink,hardlink,copy-data,statvfs,fstatvfs\n\
         AllowTcpForwarding no\n"
    )
}

/// Starts sshd on a free port, in a mount namespace of its own that has the machine's account.
fn start_sshd(folder: &Path) -> (u16, Child) {
    let script = "mount --bind \"$1/passwd\" /etc/passwd && mount -t tmpfs none /run && mkdir /run/sshd && \
                  exec /usr/sbin/sshd -D -e -f \"$1/sshd_config\" -p \"$2\"";
    for _ in 0..5 {
        let port = free_port();
        let log = File::create(folder.join("log")).unwrap();
        let mut sshd = Command::new("unshare")
            // In a PID namespace, so that no session outlives the server.
            .args(["--mount", "--pid", "--fork", "--kill-child"])
            .args(["/bin/sh", "-c", script, "sshd"])
            .arg(folder)
            .arg(port.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("unshare (of util-linux) can't be run");
        if answers(port, &mut sshd) {
            return (port, sshd);
        }
        // Somebody else may have taken the port meanwhile.
        let _ = sshd.kill();
        sshd.wait().unwrap();
    }
    panic!(
        "sshd didn't start: {}",
        fs::read_to_string(folder.join("log")).unwrap()
    );
}

fn answers(port: u16, sshd: &mut Child) -> bool {
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline && sshd.try_wait().unwrap().is_none() {
        if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return true;
        }
        thread::sleep(Duration::from_millis(20));
    }
    false
}

/// A port on which nobody listens now.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// Makes a key, as root of the machine would.
pub(crate) fn make_key(file: &Path) {
    key::make(file, "root@kikimora").unwrap();
}

/// What people compare of a key, as OpenSSH prints it.
pub(crate) fn fingerprint(file: &Path) -> String {
    let listed = Command::new("ssh-keygen")
        .arg("-lf")
        .arg(file.with_extension("pub"))
        .output();
    let text = String::from_utf8(listed.unwrap().stdout).unwrap();
    text.split(' ').nth(1).unwrap().to_owned()
}
