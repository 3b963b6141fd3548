//! The steps.

use anyhow::{Context, Result, ensure};

use super::Demo;
use super::administrator::text;
use crate::process::Output;

/// The first system is built before the configuration can say where to find what stands in for nixpkgs.
const STAND_INS: &str = r#"nix_args = ["--override-input", "nixpkgs", "path:/srv/nixpkgs-stand-in", "--override-input", "bento", "path:/srv/bento-stand-in"]"#;
const SETTINGS: &str = "/etc/bento/client.toml";
const SECRET: &str = "/var/lib/bento/secrets/wifi.env";
/// What is in the example's secret and nowhere else.
const SECRET_WORD: &str = "home_password";

impl Demo {
    /// All of them, in order.
    ///
    /// # Errors
    /// If one doesn't do what it says.
    pub(super) fn play(&mut self) -> Result<()> {
        self.introduce()?;
        self.start_the_appliance()?;
        self.join()?;
        self.update_for_the_first_time()?;
        self.change_something()?;
        self.make_a_mistake()?;
        self.mend_it()?;
        self.check_timer()
    }

    fn introduce(&mut self) -> Result<()> {
        let (user, machine) = (self.administrator.user(), self.machine.describe()?);
        self.screen.say(&format!(
            "bento keeps machines up to date by pull. Two people type:\n\n  \
             admin $     the ordinary user {user} of this machine, who keeps the\n              \
             fleet folder and runs rootless podman\n  \
             kikimora #  root on the machine to update: {machine}\n\n\
             kikimora isn't NixOS, and in place of nixpkgs, which would have to be\n\
             downloaded, it has tests/nixpkgs-stand-in. All else is real: the image, sshd,\n\
             Nix and its builds, the switch to a new system. Each ✓ was checked."
        ));
        Ok(())
    }

    fn start_the_appliance(&mut self) -> Result<()> {
        let Self {
            screen,
            administrator,
            ..
        } = self;
        screen.begin("A fleet folder, and the appliance that publishes it");
        administrator.make_folder()?;
        administrator.load_image(screen)?;
        screen.say(&format!(
            "  ({}: only for machines as bare as this one.)",
            administrator.run_options()
        ));
        let port = administrator.port().to_string();
        administrator.bento_once(
            screen,
            &["init", "/config", "--address", "127.0.0.1", "--port", &port],
        )?;
        let took = administrator.start(screen)?;
        let health = administrator.bento(screen, &["health"])?;
        screen.check(
            &format!(
                "ready {:.1} s after its start, of which a folder as new as this one has to be stable for 2 s",
                took.as_secs_f64()
            ),
            health.code() == 0,
            health.stdout,
        )?;
        administrator.bento(screen, &["status"])?.success()?;
        let states = administrator.states()?;
        screen.check(
            "four machines have something published for them, and none was ever heard of",
            states == ["new"; 4],
            states.join(", "),
        )
    }

    fn join(&mut self) -> Result<()> {
        let Self {
            screen,
            administrator,
            machine,
        } = self;
        screen.begin("A machine joins: it knows the server's key, and the server knows its key");
        let host_key = administrator.host_key(screen)?;
        let pinned = format!("hostKeys = [ \"{host_key}\" ];");
        administrator.edit(screen, "utils/bento.nix", "hostKeys = [ ];", &pinned)?;
        let bootstrap = machine
            .run(
                screen,
                &format!(
                    "bento-client bootstrap --name kikimora --server 127.0.0.1:{} --host-key \"{host_key}\"",
                    administrator.port()
                ),
            )?
            .success()?;
        let key = between(&bootstrap.stdout, "--key \"", "\"")?;
        administrator.bento_once(screen, &["host", "add", "kikimora", "--key", key])?;
        let let_in = "until bento-client check >/dev/null 2>&1; do sleep 0.5; done";
        screen.wait("the appliance reads fleet.toml", || {
            machine.query(&format!("timeout 30 sh -c '{let_in}' || true"))
        })?;
        let check = machine.run(screen, "bento-client check")?;
        screen.check(
            "the server has the pinned key, and lets kikimora in",
            check.code() == 0 && check.stdout.contains("lets kikimora in"),
            format!("exit code {}", check.code()),
        )?;
        administrator.bento(screen, &["status"])?.success()?;
        let machine = administrator.machine()?;
        screen.check(
            "kikimora is still new, but has made contact",
            machine["state"] == "new" && !machine["seen"].is_null(),
            machine,
        )
    }

    fn update_for_the_first_time(&mut self) -> Result<()> {
        let Self {
            screen, machine, ..
        } = self;
        screen.begin("kikimora's first update: poll, pull, verify, build, activate, report");
        screen.say("  Only here, because there is no nixpkgs:");
        machine
            .run(screen, &format!("sed -i '1a {STAND_INS}' {SETTINGS}"))?
            .success()?;
        let output = self.update(0)?;
        let phase = output
            .stdout
            .lines()
            .find(|line| line.starts_with("build "));
        let built = phase.and_then(|line| line.split_whitespace().last());
        let built = built.context("expected  a phase named build\nseen      none")?;

        let running = self.ask("readlink /run/current-system")?;
        let screen = &mut self.screen;
        screen.check("what was built is what runs", running == built, running)?;
        let settings = self.ask(&format!("readlink -f {SETTINGS}"))?;
        self.screen.check(
            "its settings now come from its configuration",
            settings.starts_with("/nix/store/"),
            settings,
        )?;
        let secret = self.ask(&format!(
            "stat -c '%A %U' {SECRET}; grep -rl {SECRET_WORD} /nix/store"
        ))?;
        self.screen.check(
            "the secret is there for root alone, and not in the Nix store, which everybody can read",
            secret == "-rw------- root",
            secret,
        )?;
        self.expect_up_to_date()
    }

    fn change_something(&mut self) -> Result<()> {
        self.screen.begin("A change for all machines");
        let from = self.administrator.published()?;
        let old = "  time.timeZone = \"UTC\";\n";
        let new =
            format!("{old}  environment.etc.\"motd\".text = \"Kept up to date by bento.\\n\";\n");
        self.administrator
            .edit(&mut self.screen, "utils/common.nix", old, &new)?;
        let output = self.update(0)?;
        self.screen.check(
            "it was pulled as a delta",
            output.stdout.contains("as a delta"),
            output.stdout,
        )?;
        let port = self.administrator.port();
        let host_key = self.machine.query(&format!(
            "sed -n 's/.*\\(ssh-ed25519 [^\" ]*\\).*/\\1/p' {SETTINGS}"
        ))?;
        self.machine.write(
            "/root/.ssh/known_hosts",
            "600",
            &format!("[127.0.0.1]:{port} {host_key}\n"),
        )?;
        let short: String = from.chars().take(8).collect();
        self.ask(&format!(
            "sftp -qP {port} -i /var/lib/bento/id_ed25519 kikimora@127.0.0.1:'/delta/{short}*' /tmp/delta"
        ))?;
        let files = self.ask("tar -tzf /tmp/delta")?;
        self.screen.check(
            "with the one file that has changed, and nothing else",
            files.lines().collect::<Vec<_>>() == ["delta.json", "config/utils/common.nix"],
            files,
        )?;
        let motd = self.ask("cat /etc/motd")?;
        self.screen.check(
            "kikimora has the change",
            motd == "Kept up to date by bento.",
            motd,
        )?;
        self.expect_up_to_date()?;
        let runs = text(&self.administrator.machine()?["runs"]);
        let output = self.update(0)?;
        self.screen.check(
            "with nothing new, an update does nothing",
            output.stdout.lines().count() == 1 && output.stdout.contains("is installed already"),
            output.stdout,
        )?;
        let runs_now = text(&self.administrator.machine()?["runs"]);
        self.screen
            .check("and has nothing to report", runs == runs_now, runs_now)
    }

    fn make_a_mistake(&mut self) -> Result<()> {
        self.screen
            .begin("A mistake: the build fails, and the machine stays as it is");
        let before = self.machine.query("readlink /run/current-system")?;
        let old = "  system.stateVersion";
        let new = format!("  environment.etc.\"motto\".text = motto;\n\n{old}");
        let file = "hosts/kikimora/configuration.nix";
        self.administrator.edit(&mut self.screen, file, old, &new)?;
        let output = self.update(1)?;
        let error = "undefined variable 'motto'";
        self.screen.check(
            "exit code 1, and Nix's own error",
            output.stdout.contains(error),
            output.stdout,
        )?;
        let now = self.ask("readlink /run/current-system")?;
        self.screen
            .check("the old system still runs", now == before, now)?;
        self.administrator
            .bento(&mut self.screen, &["status"])?
            .success()?;
        let machine = self.administrator.machine()?;
        let (state, said) = (text(&machine["state"]), text(&machine["error"]));
        self.screen.check(
            "the administrator sees the same error",
            state == "failing" && said.contains(error),
            format!("{state}: {said}"),
        )
    }

    fn mend_it(&mut self) -> Result<()> {
        self.screen.begin("The mistake is mended");
        let (old, new) = ("text = motto;", "text = \"Pull, don't push.\\n\";");
        let file = "hosts/kikimora/configuration.nix";
        self.administrator.edit(&mut self.screen, file, old, new)?;
        self.update(0)?;
        let motto = self.ask("cat /etc/motto")?;
        self.screen
            .check("the new system runs", motto == "Pull, don't push.", motto)?;
        self.expect_up_to_date()
    }

    fn check_timer(&mut self) -> Result<()> {
        self.administrator.place().write_wrappers()?;
        if !self.machine.has_systemd() {
            return Ok(());
        }
        self.screen.begin("From now on kikimora polls by itself");
        self.screen.say("  Its configuration brought a timer, which was stopped so far, so that it didn't come in between:");
        let timer = "bento-update.timer";
        let listed = self.ask(&format!(
            "systemctl start {timer}; systemctl list-timers --no-pager --no-legend {timer}"
        ))?;
        let state = self
            .machine
            .query(&format!("systemctl is-active {timer} || true"))?;
        self.screen.check(
            "the timer waits for its time",
            state == "active" && listed.contains("bento-update.service"),
            state,
        )
    }

    /// Runs an update by hand; the timer, which the new configuration starts, mustn't come in between.
    fn update(&mut self, code: i32) -> Result<Output> {
        let output = self.machine.run(&mut self.screen, "bento-client update")?;
        if self.machine.has_systemd() {
            self.machine.query(
                "systemctl stop bento-update.timer 2>/dev/null || true
                while systemctl show --property=ActiveState --value bento-update.service | grep -q activating; do sleep 0.1; done",
            )?;
        }
        ensure!(
            output.code() == code,
            "expected  `bento-client update` to end with exit code {code}\nseen      {}",
            output.code()
        );
        Ok(output)
    }

    /// Runs a command on the machine, shows it, and gives what it printed.
    fn ask(&mut self, typed: &str) -> Result<String> {
        let output = self.machine.run(&mut self.screen, typed)?;
        Ok(output.stdout.trim().to_owned())
    }

    fn expect_up_to_date(&mut self) -> Result<()> {
        let running = self.machine.query("readlink /run/current-system")?;
        self.administrator
            .bento(&mut self.screen, &["status"])?
            .success()?;
        let machine = self.administrator.machine()?;
        let state = text(&machine["state"]);
        let reported = &machine["reported"];
        let is_so = state == "up-to-date"
            && reported["generation"] == machine["published"]["generation"]
            && reported["built"] == running
            && reported["running"] == running;
        self.screen.check(
            "up-to-date: what is published is what it reported, built, and runs",
            is_so,
            machine,
        )
    }
}

fn between<'t>(text: &'t str, before: &str, after: &str) -> Result<&'t str> {
    text.split_once(before)
        .and_then(|(_, rest)| rest.split_once(after))
        .map(|(found, _)| found)
        .with_context(|| format!("expected  {before}…\nseen      {text}"))
}
