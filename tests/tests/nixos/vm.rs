//! One machine with NixOS, a host of the fleet.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bento_tests::guest::{Features, UNDONE};
use bento_tests::process::Output;
use bento_tests::{Guest, wait};
use serde_json::Value;

use crate::env::Env;

/// A report is taken in within 2 s; a machine that is busy with other things needs more.
const LIMIT: Duration = Duration::from_secs(60);

/// Nothing happens by itself, and nothing that is sure to fail is tried for long.
const BY_HAND: &str = r#"
  services.bento-client.interval = "2099-12-31";
  systemd.timers.bento-update-boot.timerConfig.OnActiveSec = lib.mkForce "1d";
  systemd.timers.bento-reboot-if-needed.timerConfig.OnCalendar = lib.mkForce "2099-12-31";
  services.bento-client.confirm.grace = lib.mkDefault "3s";
"#;

/// Six lines: what the machine shows of its version in /etc, in its secrets and in what it runs; then what runs, what
/// the profile says, and what a boot leads to.
const WHOLE: &str = r"
    for file in /etc/version /var/lib/bento/secrets/token /run/current-system/etc/version; do
        cat $file; echo
    done
    readlink -f /run/current-system /nix/var/nix/profiles/system
    sed -n 's,^exec \(.*\)/init$,\1,p' /sbin/init
";

/// The units that failed, one a line.
const FAILED_UNITS: &str = "systemctl list-units --failed --plain --no-legend --no-pager";

/// A machine of the fleet.
pub(crate) struct Vm<'a> {
    pub(crate) env: &'a Env,
    pub(crate) guest: Guest,
    pub(crate) name: &'static str,
    /// What it dials.
    server: SocketAddr,
    /// Lines of Nix that every version has.
    pub(crate) common: String,
    version: u32,
    /// How many reports were read.
    seen: usize,
}

impl<'a> Vm<'a> {
    /// A machine with a freshly installed NixOS, whose key is in the fleet; version 1 is published for it.
    pub(crate) fn new(env: &'a Env, name: &'static str, settings: &str) -> Result<Self> {
        Self::boot(env, name, settings, Features::default())
    }

    /// The same, with more than other machines have.
    pub(crate) fn boot(
        env: &'a Env,
        name: &'static str,
        settings: &str,
        features: Features,
    ) -> Result<Self> {
        let vm = Self::enrol(env, Guest::boot_with(features)?, name, settings)?;
        let key = std::fs::read(env.fleet.borrow().key(name))?;
        vm.guest.put_file("/var/lib/bento/id_ed25519", "600", key)?;
        vm.write_settings()?;
        Ok(vm)
    }

    /// A machine that has a key of its own, whose public half is where the fleet has keys.
    pub(crate) fn adopt(env: &'a Env, guest: Guest, name: &'static str) -> Result<Self> {
        Self::enrol(env, guest, name, "")
    }

    fn enrol(env: &'a Env, guest: Guest, name: &'static str, settings: &str) -> Result<Self> {
        let vm = Self {
            env,
            guest,
            name,
            server: env.appliance.address(),
            common: String::new(),
            version: 1,
            seen: 0,
        };
        env.fleet.borrow_mut().host(name, |host| {
            host.file("flake.nix", env.flake(name))?;
            host.file("configuration.nix", vm.configuration(""))?;
            host.secret("token", "1")?;
            host.settings(settings);
            Ok(())
        })?;
        env.await_published(name, "configuration.nix", &vm.configuration(""))?;
        Ok(vm)
    }

    /// Goes through a proxy from now on.
    pub(crate) fn go_through(&mut self, proxy: SocketAddr) -> Result<()> {
        self.server = proxy;
        self.write_settings()?;
        self.rewrite()
    }

    fn write_settings(&self) -> Result<()> {
        let (name, address, port, host_key) = (
            self.name,
            self.server.ip(),
            self.server.port(),
            &self.env.host_key,
        );
        let settings = format!(
            "name = \"{name}\"\n[[servers]]\naddress = \"{address}\"\nport = {port}\nhost_keys = [\"{host_key}\"]\n"
        );
        self.guest
            .put_file("/etc/bento/client.toml", "644", settings)
    }

    /// Publishes version 1 again, as it is now.
    fn rewrite(&self) -> Result<()> {
        let text = self.configuration("");
        let path = format!("hosts/{}/configuration.nix", self.name);
        self.env.fleet.borrow().write(&path, &text)?;
        self.env
            .await_published(self.name, "configuration.nix", &text)
    }

    /// A machine that was updated to version 1.
    pub(crate) fn updated(env: &'a Env, name: &'static str, settings: &str) -> Result<Self> {
        let mut vm = Self::new(env, name, settings)?;
        vm.update(0)?;
        vm.reports(&["switched"])?;
        Ok(vm)
    }

    /// The version that was published last.
    pub(crate) fn version(&self) -> String {
        self.version.to_string()
    }

    /// The text of the configuration, with more lines of Nix.
    pub(crate) fn configuration(&self, more: &str) -> String {
        let (env, name, common, version) = (self.env, self.name, &self.common, self.version);
        let (address, port, host_key) = (self.server.ip(), self.server.port(), &env.host_key);
        format!(
            r#"{{
  networking.hostName = "{name}";
  nixpkgs.hostPlatform = "x86_64-linux";
  system.stateVersion = "24.05";
  environment.etc.version.text = "{version}";
  services.bento-client = {{
    enable = true;
    servers = [ {{ address = "{address}"; port = {port}; hostKeys = [ "{host_key}" ]; }} ];
  }};
  imports = [
    ({{ config, lib, options, pkgs, ... }}: {{ {BY_HAND} }})
    ({{ config, lib, options, pkgs, bento ? null, ... }}: {{ {common} }})
    ({{ config, lib, options, pkgs, ... }}: {{ {more} }})
  ];
}}
"#
        )
    }

    /// Publishes the next version, with more lines of Nix.
    pub(crate) fn publish(&mut self, more: &str) -> Result<()> {
        self.version += 1;
        let (name, version, text) = (self.name, self.version(), self.configuration(more));
        let fleet = self.env.fleet.borrow();
        fleet.at_once(|| {
            fleet.write(&format!("bento-secrets/{name}/token"), &version)?;
            fleet.write(&format!("hosts/{name}/configuration.nix"), &text)
        })?;
        self.env.await_published(name, "configuration.nix", &text)
    }

    /// Runs an update by hand, which ends with this exit code; gives all that it printed.
    #[track_caller]
    pub(crate) fn update(&self, code: i32) -> Result<String> {
        let output = self.guest.run(["bento-client", "update"])?;
        let text = format!("{}{}", output.stdout, output.stderr);
        ensure!(
            output.code() == code,
            "the update ended with {}, not {code}: {text}{}",
            output.code(),
            self.journal()?
        );
        Ok(text)
    }

    /// Lets the unit that the timer starts do it, and expects it to succeed.
    pub(crate) fn update_by_unit(&self) -> Result<()> {
        let output = self
            .guest
            .run(["systemctl", "start", "bento-update.service"])?;
        output
            .success()
            .with_context(|| self.journal().unwrap_or_default())
            .map(drop)
    }

    /// The end of the machine's journal.
    pub(crate) fn journal(&self) -> Result<String> {
        let show = [
            "journalctl",
            "--no-pager",
            "--lines",
            "60",
            "--output",
            "short-precise",
        ];
        Ok(self.guest.run(show)?.stdout)
    }

    /// Waits until the machine has reported exactly this since the last time, and gives the reports.
    pub(crate) fn reports(&mut self, outcomes: &[&str]) -> Result<Vec<Value>> {
        let mut new = Vec::new();
        let waited = wait::until("the reports", LIMIT, || {
            new = self
                .env
                .appliance
                .reports(self.name)
                .ok()?
                .split_off(self.seen);
            (new.len() >= outcomes.len()).then_some(())
        });
        let found: Vec<_> = new
            .iter()
            .map(|report| report["outcome"].as_str().unwrap_or_default())
            .collect();
        ensure!(
            waited.is_ok() && found == outcomes,
            "the machine should have reported {outcomes:?}, and reported {found:?}: {}",
            new.iter()
                .map(|it| format!("{} ", it["error"]))
                .collect::<String>()
        );
        self.seen += new.len();
        Ok(new)
    }

    /// The machine is wholly of this version, nothing of an update goes on or is left, and no unit has failed.
    pub(crate) fn is_wholly(&self, version: &str) -> Result<()> {
        let output = self.guest.run(["sh", "-c", WHOLE])?;
        let lines: Vec<_> = output.stdout.lines().filter(|it| !it.is_empty()).collect();
        let [etc, secret, runs, running, profile, boots] = lines[..] else {
            anyhow::bail!(
                "the machine lacks something: {}{}",
                output.stdout,
                output.stderr
            );
        };
        ensure!(
            [etc, secret, runs] == [version; 3],
            "/etc shows version {etc}, the secrets {secret}, what runs {runs}, and all should be {version}"
        );
        ensure!(
            [profile, boots] == [running; 2],
            "{running} runs, the profile is {profile}, a boot leads to {boots}"
        );
        let undone = self.shell(&format!("{UNDONE}{FAILED_UNITS}"))?;
        ensure!(
            undone.is_empty(),
            "this is left: {undone}{}",
            self.journal()?
        );
        Ok(())
    }

    /// A version that is rolled back for this reason.
    #[track_caller]
    pub(crate) fn goes_back_from(&mut self, more: &str, why: &str) -> Result<()> {
        let old = self.shell("cat /etc/version")?;
        self.publish(more)?;
        let text = self.update(3)?;
        ensure!(text.contains(why), "{why:?} isn't in: {text}");
        let reports = self.reports(&["rolled_back"])?;
        let error = reports[0]["error"].as_str().unwrap_or_default();
        ensure!(error.contains(why), "{why:?} isn't in: {error}");
        self.is_wholly(&old)?;
        self.env.await_state(self.name, "rolled-back").map(drop)
    }

    /// Restarts the machine, and lets it prove its boot.
    pub(crate) fn reboot(&mut self) -> Result<()> {
        self.guest.reboot()?;
        ensure!(
            self.shell("systemctl is-system-running || true")?.trim() == "running",
            "units failed: {}",
            self.shell("systemctl --failed --no-pager")?
        );
        Ok(())
    }

    /// Publishes the next version and updates to it.
    pub(crate) fn switches_to(&mut self, more: &str) -> Result<Value> {
        self.publish(more)?;
        self.update(0)?;
        let report = self.reports(&["switched"])?.remove(0);
        self.is_up_to_date()?;
        Ok(report)
    }

    /// The end of a story: the machine is wholly of the version that is published, and the appliance shows it so.
    pub(crate) fn is_up_to_date(&self) -> Result<()> {
        let version = self.version();
        self.is_wholly(&version)
            .with_context(|| format!("after version {version}"))?;
        self.env.await_state(self.name, "up-to-date").map(drop)
    }

    /// What a shell script prints that must succeed.
    pub(crate) fn shell(&self, script: &str) -> Result<String> {
        Ok(self.guest.shell(script)?.success()?.stdout)
    }

    /// A property of a unit.
    pub(crate) fn property(&self, unit: &str, name: &str) -> Result<String> {
        let output: Output =
            self.guest
                .run(["systemctl", "show", "--value", "--property", name, unit])?;
        Ok(output.success()?.stdout.trim().to_owned())
    }
}
