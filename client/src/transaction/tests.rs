use super::*;
use crate::machine::Situation;

/// A machine in memory: what happens to it is written down, and anything can be made to fail.
#[derive(Default)]
struct Fake {
    published: Option<GenerationId>,
    installed: Option<Installed>,
    situation: Situation,
    told: Option<Told>,
    has_staged: bool,
    has_base: bool,
    delta: Option<PullError>,
    bundle: Option<PullError>,
    build_fails: bool,
    /// What runs after an activation that fails.
    activation_ends_with: Option<SystemPath>,
    is_half_activated: bool,
    /// What was done, in order.
    done: Vec<String>,
    reports: Vec<Report>,
}

impl Fake {
    fn new(published: char) -> Self {
        Fake {
            published: Some(id(published)),
            situation: Situation {
                running: Some(system("old")),
                ..Situation::default()
            },
            ..Fake::default()
        }
    }

    fn with_installed(mut self, generation: char) -> Self {
        self.installed = Some(Installed {
            generation: id(generation),
            system: system("old"),
            outcome: Outcome::Switched,
        });
        self
    }

    fn did(&mut self, what: impl Into<String>) {
        self.done.push(what.into());
    }

    fn update(&mut self) -> Result<(), ExitReason> {
        update(self, RunId::now()).map_err(|failure| failure.reason)
    }
}

fn id(digit: char) -> GenerationId {
    digit.to_string().repeat(64).parse().unwrap()
}

fn system(name: &str) -> SystemPath {
    format!("/nix/store/{name}").parse().unwrap()
}

fn shorten(generation: Option<GenerationId>) -> char {
    generation.map_or('-', |generation| generation.short().chars().next().unwrap())
}

impl World for Fake {
    type Base = ();
    type Pulled = ();
    type Verified = ();
    type Staged = ();

    fn installed(&mut self) -> Option<Installed> {
        self.installed.clone()
    }

    fn situation(&mut self) -> Situation {
        self.situation.clone()
    }

    fn told(&mut self) -> Option<Told> {
        self.told.clone()
    }

    fn poll(&mut self) -> anyhow::Result<GenerationId> {
        self.did("poll");
        self.published.ok_or_else(|| anyhow!("unreachable"))
    }

    fn deliver(&mut self) {
        self.did("deliver");
    }

    fn staged(&mut self, _: GenerationId) -> anyhow::Result<Option<()>> {
        Ok(self.has_staged.then_some(()))
    }

    fn base(&mut self, _: GenerationId) -> Option<()> {
        self.has_base.then_some(())
    }

    fn pull(&mut self, _: GenerationId, base: Option<()>) -> Result<(), PullError> {
        self.did(if base.is_some() {
            "pull delta"
        } else {
            "pull bundle"
        });
        let fails = if base.is_some() {
            &mut self.delta
        } else {
            &mut self.bundle
        };
        fails.take().map_or(Ok(()), Err)
    }

    fn verify(&mut self, (): ()) -> Result<(), PullError> {
        self.did("verify");
        Ok(())
    }

    fn stage(&mut self, (): (), _: Option<GenerationId>) -> anyhow::Result<()> {
        self.did("stage");
        Ok(())
    }

    fn hang_up(&mut self) {
        self.did("hang up");
    }

    fn switch_secrets(&mut self, generation: Option<GenerationId>) -> anyhow::Result<()> {
        self.did(format!("secrets {}", shorten(generation)));
        Ok(())
    }

    fn build(&mut self, (): &()) -> anyhow::Result<SystemPath> {
        self.did("build");
        if self.build_fails {
            return Err(anyhow!("error: no such thing"));
        }
        Ok(system("new"))
    }

    fn is_half_activated(&mut self) -> bool {
        self.is_half_activated
    }

    fn activate(&mut self, system: &SystemPath) -> anyhow::Result<Activation> {
        self.did("activate");
        if let Some(running) = self.activation_ends_with.take() {
            self.situation.running = Some(running);
            self.is_half_activated = true;
            return Err(anyhow!("exit code 1"));
        }
        self.situation.running = Some(system.clone());
        self.is_half_activated = false;
        Ok(Activation::default())
    }

    fn record(&mut self, installed: &Installed) -> anyhow::Result<()> {
        self.did(format!("record {}", shorten(Some(installed.generation))));
        self.installed = Some(installed.clone());
        Ok(())
    }

    fn report(&mut self, report: Report) {
        self.did(format!("report {}", report.outcome.as_str()));
        self.told = Some(Told::by(&report));
        self.reports.push(report);
    }

    fn log(&mut self) -> String {
        String::new()
    }

    fn nix_version(&mut self) -> Option<String> {
        None
    }

    fn show(&mut self, _: &Phase, _: &str) {}

    fn warn(&mut self, warning: &str) {
        self.did(format!("warn {warning}"));
    }
}

#[test]
fn an_update_goes_through_its_phases_in_order() {
    let mut fake = Fake::new('b').with_installed('a');
    assert_eq!(fake.update(), Ok(()));
    assert_eq!(
        fake.done,
        [
            "poll",
            "deliver",
            "pull bundle",
            "verify",
            "stage",
            "hang up",
            "secrets b",
            "build",
            "activate",
            "record b",
            "report switched"
        ]
    );
    let report = &fake.reports[0];
    let phases: Vec<_> = report
        .phases
        .iter()
        .map(|phase| phase.name.as_str())
        .collect();
    assert_eq!(
        phases,
        ["poll", "pull", "verify", "stage", "build", "activate"]
    );
    assert_eq!(report.system.before, Some(system("old")));
    assert_eq!(report.system.built, Some(system("new")));
    assert_eq!(report.system.running, Some(system("new")));
}

#[test]
fn what_is_staged_is_not_pulled_and_what_runs_is_not_activated() {
    let mut fake = Fake::new('b');
    fake.has_staged = true;
    fake.situation.running = Some(system("new"));
    assert_eq!(fake.update(), Ok(()));
    assert_eq!(
        fake.done,
        [
            "poll",
            "deliver",
            "hang up",
            "secrets b",
            "build",
            "record b",
            "report switched"
        ]
    );
}

#[test]
fn a_delta_that_fails_is_followed_by_the_bundle_once() {
    for (failure, warns) in [
        (PullError::Missing("/delta/x".into()), false),
        (PullError::Unverified(anyhow!("tampered")), true),
        (PullError::Lost(anyhow!("gone")), true),
        (PullError::Local(anyhow!("full")), true),
    ] {
        let mut fake = Fake::new('b').with_installed('a');
        fake.has_base = true;
        fake.delta = Some(failure);
        assert_eq!(fake.update(), Ok(()));
        let pulls: Vec<_> = fake
            .done
            .iter()
            .filter(|done| done.starts_with("pull"))
            .collect();
        assert_eq!(pulls, ["pull delta", "pull bundle"]);
        assert_eq!(fake.done.iter().any(|done| done.starts_with("warn")), warns);
    }
}

#[test]
fn a_server_that_gives_nothing_usable_is_reported_if_it_can_be() {
    for (failure, exit, reported) in [
        (
            PullError::Missing("/bundle.tar.gz".into()),
            ExitReason::Server,
            1,
        ),
        (
            PullError::Unverified(anyhow!("tampered")),
            ExitReason::Server,
            1,
        ),
        (PullError::Lost(anyhow!("gone")), ExitReason::Server, 0),
        (
            PullError::Local(anyhow!("full")),
            ExitReason::RebuildFailed,
            1,
        ),
    ] {
        let mut fake = Fake::new('b').with_installed('a');
        fake.bundle = Some(failure);
        assert_eq!(fake.update(), Err(exit));
        assert!(
            !fake
                .done
                .iter()
                .any(|done| ["stage", "build", "record b"].contains(&done.as_str()))
        );
        assert_eq!(fake.reports.len(), reported);
        assert!(
            fake.reports
                .iter()
                .all(|report| report.outcome == Outcome::BuildFailed)
        );
    }
    let mut unreachable = Fake::new('b');
    unreachable.published = None;
    assert_eq!(unreachable.update(), Err(ExitReason::Server));
    assert_eq!(unreachable.done, ["poll"]);
}

#[test]
fn a_failed_build_leaves_the_old_system_with_its_secrets() {
    let mut fake = Fake::new('b').with_installed('a');
    fake.build_fails = true;
    assert_eq!(fake.update(), Err(ExitReason::RebuildFailed));
    assert_eq!(
        fake.done[6..],
        ["secrets b", "build", "secrets a", "report build_failed"]
    );
    assert_eq!(
        fake.installed.map(|installed| installed.generation),
        Some(id('a'))
    );
    let error = fake.reports[0].error.as_deref().unwrap();
    assert!(error.contains("error: no such thing"), "{error}");
}

#[test]
fn after_a_failed_activation_the_secrets_are_those_of_what_runs() {
    for (running, secrets) in [("old", "secrets a"), ("new", "report activation_failed")] {
        let mut fake = Fake::new('b').with_installed('a');
        fake.activation_ends_with = Some(system(running));
        let result = fake.update();
        assert_eq!(result, Err(ExitReason::RebuildFailed));
        let after = fake
            .done
            .iter()
            .position(|done| done == "activate")
            .unwrap()
            + 1;
        assert_eq!(fake.done[after], secrets);
        assert_eq!(fake.reports[0].outcome, Outcome::ActivationFailed);
        assert_eq!(fake.reports[0].system.built, Some(system("new")));
        assert_eq!(
            fake.installed.map(|installed| installed.generation),
            Some(id('a'))
        );
    }
}

#[test]
fn an_activation_that_came_halfway_is_done_again_whatever_seems_to_run() {
    let mut fake = Fake::new('b').with_installed('a');
    fake.activation_ends_with = Some(system("new"));
    assert_eq!(fake.update(), Err(ExitReason::RebuildFailed));
    fake.done.clear();
    assert_eq!(fake.update(), Ok(()));
    assert!(fake.done.contains(&"activate".to_owned()));

    // The old generation is published again after the new one came halfway.
    let mut fake = Fake::new('b').with_installed('a');
    fake.activation_ends_with = Some(system("new"));
    assert_eq!(fake.update(), Err(ExitReason::RebuildFailed));
    fake.published = Some(id('a'));
    fake.done.clear();
    assert_eq!(fake.update(), Ok(()));
    assert!(fake.done.contains(&"activate".to_owned()));
}

#[test]
fn nothing_new_is_told_only_when_the_machine_is_another_than_was_told() {
    let mut fake = Fake::new('a').with_installed('a');
    assert_eq!(fake.update(), Ok(()));
    assert_eq!(
        fake.done,
        ["poll", "deliver", "secrets a", "report unchanged"]
    );
    fake.done.clear();
    assert_eq!(fake.update(), Ok(()));
    assert_eq!(fake.done, ["poll", "deliver", "secrets a"]);

    fake.situation.running = Some(system("by-hand"));
    assert_eq!(fake.update(), Ok(()));
    let report = fake.reports.last().unwrap();
    assert_eq!(report.outcome, Outcome::Unchanged);
    assert_eq!(report.system.built, Some(system("old")));
    assert_eq!(report.system.running, Some(system("by-hand")));

    fake.situation.reboot_required = true;
    assert_eq!(fake.update(), Ok(()));
    assert!(fake.reports.last().unwrap().reboot_required);
    assert_eq!(fake.reports.len(), 3);
}
