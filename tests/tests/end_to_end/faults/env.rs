//! A machine whose updates go wrong, and what must hold of it afterwards.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bento_tests::guest::{Features, UNDONE};
use bento_tests::process::{self, Running};
use bento_tests::{Appliance, Fleet, Options, Proxy, wait};
use serde_json::Value;

use crate::states;
use crate::vm::{Vm, configuration, exits, flake};

/// The machine's name in its fleet.
pub(super) const NAME: &str = "kikimora";

/// Publications and reports take some 3 s; a machine that is busy with other tests needs more.
const LIMIT: Duration = Duration::from_secs(60);

/// Shortens what would only take time, and asks for no more room than a small disk has.
pub(super) const QUICK: &str = r#"
  services.bento-client.confirm.grace = "3s";
  services.bento-client.disk.storeFree = "0B";
"#;

/// Lets a test halt a switch inside of its activation or of its boot loader: the first one that finds the file removes
/// it and stands still until it is killed.
const HALTS: &str = r#"
  system.activationScripts.halt = "if [ -e /run/halt-activation ]; then rm /run/halt-activation; sleep 600; fi";
  standIn.bootLoader = "if [ -e /run/halt-boot-loader ]; then rm /run/halt-boot-loader; sleep 600; fi";
"#;

/// Seven lines: what the machine shows of its version in /etc, in its secrets and in what it runs; then what runs,
/// what the profile says, what a boot leads to, and what was booted.
const WHOLE: &str = r"
    for file in /etc/version /var/lib/bento/secrets/token /run/current-system/etc/version; do
        cat $file; echo
    done
    for link in /run/current-system /nix/var/nix/profiles/system /boot/default-system /run/booted-system; do
        readlink -f $link
    done
";

/// A machine, its appliance, and the way between them.
pub(super) struct FaultEnv {
    pub(super) fleet: Fleet,
    pub(super) appliance: Appliance,
    pub(super) vm: Vm,
    pub(super) proxy: Proxy,
    /// Lines of Nix that every version has.
    pub(super) common: String,
    version: u32,
    /// Each other one asks for a reboot.
    kernel: u32,
    /// The number of reports that were checked.
    seen: usize,
}

/// What a machine is, where nothing contradicts it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Whole {
    pub(super) version: String,
    pub(super) running: String,
    pub(super) booted: String,
}

impl FaultEnv {
    /// A machine that runs version 1, and has reported it.
    pub(super) fn new(features: Features) -> Result<Self> {
        Self::with(
            features,
            &format!("{QUICK}{HALTS}"),
            "reboot = \"immediate\"\n",
        )
    }

    /// The same, with lines of Nix that every version has, and lines for the machine in `fleet.toml`.
    pub(super) fn with(features: Features, common: &str, settings: &str) -> Result<Self> {
        let mut fleet = Fleet::new()?;
        fleet.host(NAME, |host| {
            host.file("flake.nix", flake(NAME))?;
            let first = format!("{common}\nstandIn.kernel = \"1\";");
            host.file("configuration.nix", configuration("1", &first))?;
            host.secret("token", "1")?;
            host.settings(settings);
            Ok(())
        })?;
        let appliance = Appliance::start(fleet.path(), Options::default())?;
        let vm = Vm::boot_with(features, &fleet, NAME, &appliance)?;
        let here = vm.guest.host_address();
        let here = here.map_or([127, 0, 0, 1].into(), Into::into);
        let proxy = Proxy::start_at(here, appliance.address(), Duration::ZERO)?;
        vm.go_through(proxy.address())?;
        let mut env = FaultEnv {
            fleet,
            appliance,
            vm,
            proxy,
            common: common.to_owned(),
            version: 1,
            kernel: 1,
            seen: 0,
        };
        // A small disk has less than a client wants by default.
        let wish = "printf '[disk]\nstore_free = \"0B\"\n' >>/etc/bento/client.toml";
        env.vm.guest.shell(wish)?.success()?;
        exits(&env.vm.update()?, 0);
        env.expect_reports(&["switched"])?;
        Ok(env)
    }

    /// The version that was published last.
    pub(super) fn version(&self) -> String {
        self.version.to_string()
    }

    /// Gives the versions from now on another kernel.
    pub(super) fn change_kernel(&mut self) {
        self.kernel += 1;
    }

    /// Publishes the next version, with more lines of Nix.
    pub(super) fn publish(&mut self, more: &str) -> Result<()> {
        self.version += 1;
        let version = self.version();
        let (common, kernel) = (&self.common, self.kernel);
        let kernel = format!("standIn.kernel = \"{kernel}\";");
        let text = configuration(&version, &format!("{common}\n{kernel}\n{more}"));
        self.fleet.at_once(|| {
            self.fleet
                .write(&format!("bento-secrets/{NAME}/token"), &version)?;
            self.fleet
                .write(&format!("hosts/{NAME}/configuration.nix"), &text)
        })?;
        self.await_file("configuration.nix", &text)
    }

    /// Changes one file of the machine, and waits until that is published.
    pub(super) fn edit(&self, file: &str, text: &str) -> Result<()> {
        self.fleet.write(&format!("hosts/{NAME}/{file}"), text)?;
        self.await_file(file, text)
    }

    fn await_file(&self, file: &str, text: &str) -> Result<()> {
        let published = self
            .appliance
            .host_folder(NAME)?
            .join("current/config")
            .join(file);
        wait::until("the publication", LIMIT, || {
            let now = fs::read_to_string(&published).ok()?;
            (now == text).then_some(())
        })
    }

    /// Pins the inputs of the configuration, so that what has failed counts as the configuration's own fault.
    pub(super) fn pin(&self) -> Result<()> {
        self.edit("flake.lock", &self.vm.lock(&flake(NAME))?)
    }

    /// Runs an update, which ends with this exit code; gives all that it said.
    #[track_caller]
    pub(super) fn update(&self, code: i32) -> Result<String> {
        let output = self.vm.update()?;
        exits(&output, code);
        Ok(output.stdout + &output.stderr)
    }

    /// Starts an update that goes on beside the test.
    pub(super) fn start_update(&self) -> Result<Running> {
        process::start(&mut self.vm.guest.command(["bento-client", "update"])?)
    }

    /// Waits until the machine has reported exactly these outcomes since the last time, and gives the reports.
    pub(super) fn expect_reports(&mut self, outcomes: &[&str]) -> Result<Vec<Value>> {
        let mut reports = Vec::new();
        let waited = wait::until("the reports", LIMIT, || {
            reports = self.appliance.reports(NAME).ok()?.split_off(self.seen);
            (reports.len() >= outcomes.len()).then_some(())
        });
        let mut found: Vec<_> = reports
            .iter()
            .map(|report| report["outcome"].as_str().unwrap_or_default())
            .collect();
        // Where it went down while it reported, the report may have been written before or after: if before, what was
        // booted since is in another one.
        if outcomes == ["switched"] && found == ["switched", "unchanged"] {
            let booted = |report: &Value| report["system"]["booted"].clone();
            ensure!(
                booted(&reports[0]) != booted(&reports[1]),
                "both reports are the same: {reports:?}"
            );
            found.pop();
        }
        ensure!(
            waited.is_ok() && found == outcomes,
            "the machine should have reported {outcomes:?}, and reported {found:?}: {}",
            reports
                .iter()
                .map(|it| format!("{} ", it["error"]))
                .collect::<String>()
        );
        self.seen += reports.len();
        Ok(reports)
    }

    /// After something that shouldn't have happened: lets the machine begin anew.
    pub(super) fn forgive(&mut self) -> Result<()> {
        self.proxy.mend();
        self.vm.update()?;
        self.seen = self.appliance.reports(NAME)?.len();
        Ok(())
    }

    /// What the machine is: every part of it says the same. Its profile and boot loader too, if `boots` says so.
    pub(super) fn whole(&self, boots: bool) -> Result<Whole> {
        let output = self.vm.guest.run(["sh", "-c", WHOLE])?;
        let lines: Vec<_> = output.stdout.lines().filter(|it| !it.is_empty()).collect();
        let [version, secret, runs, running, profile, default, booted] = lines[..] else {
            anyhow::bail!(
                "the machine lacks something: {}{}",
                output.stdout,
                output.stderr
            );
        };
        ensure!(
            secret == version && runs == version,
            "/etc shows version {version}, the secrets {secret}, what runs {runs}"
        );
        ensure!(
            !boots || (profile == running && default == running),
            "{running} runs, the profile is {profile}, a boot leads to {default}"
        );
        Ok(Whole {
            version: version.to_owned(),
            running: running.to_owned(),
            booted: booted.to_owned(),
        })
    }

    /// The machine is wholly of this version, nothing of an update goes on or is left, and no lock is held.
    pub(super) fn is_wholly(&self, version: &str) -> Result<()> {
        let guest = &self.vm.guest;
        guest.await_quiet()?;
        let whole = self.whole(true)?;
        ensure!(
            whole.version == version,
            "the machine is wholly of version {}, and should be of {version}",
            whole.version
        );
        let undone = guest.shell(UNDONE)?.success()?.stdout;
        ensure!(undone.is_empty(), "this is left: {undone}");
        Ok(())
    }

    /// Waits until the status has this word for the machine.
    pub(super) fn status(&self, word: &str) -> Result<Value> {
        states::await_word(&self.appliance, NAME, word)
    }

    /// Waits until a file is gone in the guest.
    pub(super) fn await_removal(&self, path: &str) -> Result<()> {
        wait::until(&format!("{path} to go"), LIMIT, || {
            let output = self.vm.guest.run(["test", "-e", path]).ok()?;
            (!output.status.success()).then_some(())
        })
    }

    /// The end of a story: the machine is wholly of the version that is published, and the appliance says so.
    pub(super) fn is_up_to_date(&self) -> Result<()> {
        let version = self.version();
        self.is_wholly(&version)
            .with_context(|| format!("after version {version}"))?;
        self.status("up-to-date").map(drop)
    }
}
