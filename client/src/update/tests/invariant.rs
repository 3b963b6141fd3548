//! Invariants of every report, and of a machine that nothing disturbs any more.

use bento_protocol::{Outcome, Report, SystemPath};
use jiff::SignedDuration;

use super::super::UpdateOptions;
use super::fake::Fake;
use super::machine::{Nature, id, whole};

/// More minutes than any pause between two tries.
const PAUSE: i64 = 7 * 60;

impl Fake {
    /// Whether an earlier rollback failed and hasn't been made good.
    fn is_failure(&self) -> bool {
        let journal = self.disk.journal.as_ref();
        journal.is_some_and(|journal| {
            journal.outcome == Some(Outcome::RollbackFailed) || journal.unreturned.is_some()
        })
    }

    /// A report is made: does it tell the truth?
    pub(super) fn check_report(&self, report: &Report) {
        let machine = &self.machine;
        let said = || format!("{report:#?}\nof {machine:#?}\nafter {:#?}", self.done);
        let running = report.system.running.as_ref();
        assert_eq!(running, Some(&machine.running), "{}", said());
        let built = report.system.built.as_ref();
        if let Some(built) = built {
            assert!(self.server.leads(report.generation, built), "{}", said());
        }
        let is_specialised = machine.running != whole(&machine.running);
        if report.outcome.is_success() {
            let is_of_it = built == Some(&whole(&machine.running));
            let named = is_specialised && (is_of_it || built.is_none());
            assert_eq!(report.specialisation.is_some(), named, "{}", said());
        }
        // A boot leads from a specialisation to its system.
        let is_what_was =
            |system: &SystemPath| *system == machine.running || whole(system) == machine.running;
        let is_old = report.system.before.as_ref().is_some_and(is_what_was) && !machine.is_half;
        let is_true = match report.outcome {
            Outcome::Switched => built == Some(&whole(&machine.running)) && !machine.is_half,
            Outcome::Unchanged => built != running || !machine.is_half,
            Outcome::Staged => built == Some(machine.loader()) && built == Some(&machine.profile),
            Outcome::PullFailed | Outcome::BuildFailed | Outcome::ActivationFailed => {
                is_old || self.is_failure()
            }
            Outcome::RolledBack => {
                is_old && *machine.loader() == whole(&machine.running) || self.is_failure()
            }
            Outcome::RollbackFailed => true,
        };
        assert!(is_true, "untrue: {}", said());
    }

    /// Nothing goes wrong any more: one start, and one after each reboot that is asked for, makes the machine wholly old
    /// or wholly new; so does the boot that it awaits.
    pub(super) fn recover_undisturbed(&mut self) {
        self.server.is_down = false;
        self.machine.held = None;
        self.machine.is_inhibited = false;
        self.pass(0);
        self.start_until_quiet();
        self.check_whole();
        if self.disk.awaiting.is_some() {
            self.reboot_machine();
            self.start_until_quiet();
            self.check_whole();
        }
    }

    fn start_until_quiet(&mut self) {
        for _ in 0..8 {
            let boots = self.machine.boots;
            self.update();
            if self.machine.boots == boots {
                return;
            }
        }
        panic!("it reboots without an end: {self:#?}");
    }

    /// The machine is wholly old or wholly new, and nothing is left behind.
    pub(super) fn check_whole(&self) {
        let (machine, disk) = (&self.machine, &self.disk);
        let all = || format!("{self:#?}");
        assert!(
            !machine.is_half && machine.switching.is_none(),
            "half: {}",
            all()
        );
        let boots = disk
            .awaiting
            .as_ref()
            .map(|awaiting| &awaiting.installed.system);
        let running = whole(&machine.running);
        let boots = boots.unwrap_or(&running);
        assert_eq!(
            (&machine.profile, machine.loader()),
            (boots, boots),
            "{}",
            all()
        );
        let secrets = disk.secrets.expect("there were secrets from the beginning");
        assert!(
            self.server.leads(secrets, &machine.running),
            "another's secrets: {}",
            all()
        );
        assert_eq!(machine.secrets_in_use, self.secrets_version(), "{}", all());
        assert_eq!(machine.timer, None, "{}", all());
        assert!(disk.decisions.is_empty(), "{}", all());
        assert_eq!(disk.journal, None, "{}", all());
        if self.is_reachable_now() {
            self.check_what_is_known();
        }
    }

    /// The appliance knows what is so.
    fn check_what_is_known(&self) {
        let all = || format!("{self:#?}");
        assert!(self.disk.spool.is_empty(), "{}", all());
        let newest = self.newest_report();
        assert_eq!(newest.generation, id(self.server.published), "{}", all());
        assert_eq!(
            newest.system.running.as_ref(),
            Some(&self.machine.running),
            "{}",
            all()
        );
        let situation = self.machine.situation(&self.server, self.clock);
        assert_eq!(newest.system.booted, situation.booted, "{}", all());
        let awaits = newest.outcome == Outcome::Staged;
        assert_eq!(
            newest.reboot_required,
            situation.reboot_required || awaits,
            "{}",
            all()
        );
        let installed = self.disk.installed.as_ref();
        let is_installed = installed.is_some_and(|it| it.generation == newest.generation);
        if is_installed && !newest.auto {
            assert!(newest.outcome.is_success(), "{}", all());
        }
    }

    /// A good generation comes to run.
    pub(super) fn check_progress(&mut self) {
        let published = &self.server.generations[self.server.published];
        let nature = self.server.systems[published.system].nature;
        let is_good = matches!(nature, Nature::Good | Nature::NeedsBoot | Nature::Inhibited);
        if !is_good || !self.is_reachable_now() {
            return;
        }
        let options = UpdateOptions {
            // It isn't to blame for what was made up.
            retry: self.is_blamed,
            ..UpdateOptions::default()
        };
        for _ in 0..3 {
            self.pass(PAUSE);
            self.update_with(options);
            self.start_until_quiet();
            if self.disk.awaiting.is_some() {
                self.reboot_machine();
            }
        }
        let leads = self
            .server
            .leads(id(self.server.published), &self.machine.running);
        assert!(leads, "it never came to run: {self:#?}");
        self.check_whole();
    }

    pub(super) fn hold(&mut self, hours: i64) {
        self.machine.held = Some(self.clock + SignedDuration::from_hours(hours));
    }
}
