use std::fs;

use bento_protocol::{GenerationId, SystemPath};

use super::{BootAction, BootEvent, BootState};
use crate::machine::{BootId, Situation};
use crate::state::record::{Awaiting, Before, Installed, Unkept};

const STATES: [BootState; 10] = [
    BootState::Idle,
    BootState::Staged,
    BootState::Rebooting,
    BootState::Withdrawn,
    BootState::Overridden,
    BootState::Unproven,
    BootState::Stuck,
    BootState::FellBack,
    BootState::Returning,
    BootState::Returned,
];

const EVENTS: [BootEvent; 15] = [
    BootEvent::NewBoots,
    BootEvent::OtherBoots,
    BootEvent::OtherMadeBootable,
    BootEvent::TakeBackCut,
    BootEvent::RunStarts,
    BootEvent::UpdateStaged,
    BootEvent::RebootAllowed,
    BootEvent::ProofDropped,
    BootEvent::BootFound,
    BootEvent::Proven,
    BootEvent::ProofFails,
    BootEvent::WayBackFails,
    BootEvent::OtherPublished,
    BootEvent::Installed,
    BootEvent::RolledBack,
];

fn name(state: BootState) -> String {
    let name = serde_json::to_string(&state).unwrap();
    format!("`{}`", name.trim_matches('"'))
}

fn event_in_words(event: BootEvent) -> &'static str {
    match event {
        BootEvent::NewBoots => "the machine boots the new system",
        BootEvent::OtherBoots => "it boots another system, by its boot loader or by hand",
        BootEvent::OtherMadeBootable => "somebody makes another system the one that boots",
        BootEvent::TakeBackCut => "a run takes the new system back, and is cut short",
        BootEvent::RunStarts => "a run starts",
        BootEvent::UpdateStaged => "an update made a system the one that boots",
        BootEvent::RebootAllowed => "the policy allows a reboot that is needed",
        BootEvent::ProofDropped => "the reboot fails, or there is no system to go back to",
        BootEvent::BootFound => "a run finds that the booted system was never proven",
        BootEvent::Proven => "the new system is proven",
        BootEvent::ProofFails => "the new system fails its proof",
        BootEvent::WayBackFails => "the old system can't be made the one that boots",
        BootEvent::OtherPublished => "another generation is published",
        BootEvent::Installed => "an update was switched to and installed",
        BootEvent::RolledBack => "an update was rolled back, also by hand",
    }
}

fn action_in_words(action: BootAction) -> &'static str {
    match action {
        BootAction::None => "–",
        BootAction::Await => "records it",
        BootAction::Reboot => "reboots",
        BootAction::Prove => "proves the system",
        BootAction::Keep => "installs the new system",
        BootAction::GoBack => "makes the old system the one that boots, and reboots",
        BootAction::Report => "reports `rollback_failed`",
        BootAction::GiveUp => {
            "keeps the old system booting, unless another was chosen by hand; reports `rolled_back` or `rollback_failed`"
        }
        BootAction::TakeBack => "makes the old system the one that boots",
        BootAction::Yield => "leaves it so; reports `activation_failed` for a staged system",
        BootAction::Forget => "forgets the boot",
    }
}

/// The rows of the table: transitions that differ only in their first state share one.
fn rows() -> Vec<String> {
    let mut rows: Vec<(Vec<BootState>, BootEvent, BootAction, Option<BootState>)> = Vec::new();
    for event in EVENTS {
        let first = rows.len();
        for state in STATES {
            let Some((action, next)) = state.on(event) else {
                continue;
            };
            let next = (next != state || event == BootEvent::UpdateStaged).then_some(next);
            let same = rows[first..]
                .iter_mut()
                .find(|(_, _, known, to)| (*known, *to) == (action, next));
            match same {
                Some((states, ..)) => states.push(state),
                None => rows.push((vec![state], event, action, next)),
            }
        }
    }
    rows.into_iter()
        .map(|(states, event, action, next)| {
            let states = match states.len() {
                10 => "each".to_owned(),
                9 => "each but `idle`".to_owned(),
                _ => states.into_iter().map(name).collect::<Vec<_>>().join(", "),
            };
            let next = next.map_or("the same".to_owned(), name);
            let (event, action) = (event_in_words(event), action_in_words(action));
            format!("| {event} | {states} | {action} | {next} |")
        })
        .collect()
}

#[test]
fn the_documented_table_is_that_of_the_code() {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/updates.md");
    let docs = fs::read_to_string(docs).unwrap();
    let table = docs
        .lines()
        .skip_while(|line| !line.starts_with("| event | in state |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let documented: Vec<_> = table.collect();
    assert_eq!(documented, rows(), "the code has:\n{}", rows().join("\n"));
    for state in STATES {
        let row = format!("| {} | ", name(state));
        assert!(docs.contains(&row), "no row explains {}", name(state));
    }
}

fn system(name: &str) -> SystemPath {
    format!("/nix/store/{name}").parse().unwrap()
}

fn generation(digit: &str) -> GenerationId {
    digit.repeat(64).parse().unwrap()
}

fn installed(generation: GenerationId, system: SystemPath) -> Installed {
    Installed {
        generation,
        system,
        mark: None,
        auto: false,
        previous: None,
        previous_boots: None,
    }
}

/// A record, and a machine on which it means this state.
fn example(state: BootState, is_installed: bool) -> (Option<Awaiting>, Situation) {
    let (old, new) = (system("old"), system("new"));
    let boot = BootId::new("1");
    let mut awaiting = Awaiting {
        installed: installed(generation("b"), new.clone()),
        auto: false,
        before: Before {
            running: Some(old.clone()),
            specialisation: None,
            profile: Some(old.clone()),
            generation: Some(generation("a")),
            boot: boot.clone(),
        },
        boot: boot.clone(),
        was_reachable: true,
        failure: None,
        fallback: is_installed.then(|| installed(generation("a"), old.clone())),
        is_stuck: state == BootState::Stuck,
    };
    let mut situation = Situation {
        running: Some(if is_installed {
            new.clone()
        } else {
            old.clone()
        }),
        profile: Some(new.clone()),
        boot,
        ..Situation::default()
    };
    match state {
        BootState::Idle => return (None, situation),
        BootState::Staged | BootState::Rebooting => {}
        BootState::Withdrawn => situation.profile = Some(old),
        BootState::Overridden => situation.profile = Some(system("third")),
        BootState::Unproven | BootState::Stuck => happen(BootEvent::NewBoots, &mut situation),
        BootState::FellBack => happen(BootEvent::OtherBoots, &mut situation),
        BootState::Returning | BootState::Returned => {
            awaiting.failure = Some(Unkept {
                error: "it isn't healthy".into(),
                retry: false,
            });
            (situation.running, situation.profile) = (Some(new), Some(old));
            if state == BootState::Returned {
                happen(BootEvent::OtherBoots, &mut situation);
            }
        }
    }
    (Some(awaiting), situation)
}

/// Changes a machine by an event without its client.
fn happen(event: BootEvent, situation: &mut Situation) {
    let boots = match event {
        BootEvent::NewBoots => system("new"),
        BootEvent::OtherBoots => system("old"),
        BootEvent::OtherMadeBootable => {
            situation.profile = Some(system("third"));
            return;
        }
        BootEvent::TakeBackCut => {
            situation.profile = Some(system("old"));
            return;
        }
        _ => panic!("the client is what {event:?} is about"),
    };
    situation.running = Some(boots);
    situation.boot = BootId::new(&format!("{:?} and another", situation.boot));
}

#[test]
fn a_state_follows_from_the_record_and_the_machine() {
    for state in STATES {
        for is_installed in [false, true] {
            let is_possible = match state {
                BootState::Staged => !is_installed,
                BootState::Rebooting => is_installed,
                _ => true,
            };
            let (awaiting, situation) = example(state, is_installed);
            if is_possible {
                assert_eq!(BootState::of(awaiting.as_ref(), &situation), state);
            }
        }
    }
    // Switched to by hand, and not made the one that boots.
    let (awaiting, mut situation) = example(BootState::Rebooting, true);
    situation.running = Some(system("third"));
    let state = BootState::of(awaiting.as_ref(), &situation);
    assert_eq!(state, BootState::Overridden);
    let (awaiting, mut situation) = example(BootState::Staged, false);
    situation.running = Some(system("third"));
    let state = BootState::of(awaiting.as_ref(), &situation);
    assert_eq!(state, BootState::Staged);
}

#[test]
fn what_happens_without_the_client_leads_where_the_table_says() {
    use BootState::{Overridden, Rebooting, Staged, Withdrawn};
    for event in [
        BootEvent::NewBoots,
        BootEvent::OtherBoots,
        BootEvent::OtherMadeBootable,
        BootEvent::TakeBackCut,
    ] {
        for state in STATES {
            let (awaiting, mut situation) = example(state, state == Rebooting);
            let is_before_boot = matches!(state, Staged | Rebooting | Withdrawn | Overridden);
            let is_boot = matches!(event, BootEvent::NewBoots | BootEvent::OtherBoots);
            let is_cut = event == BootEvent::TakeBackCut;
            if is_boot || is_before_boot && !is_cut || state == Staged {
                happen(event, &mut situation);
            }
            let after = BootState::of(awaiting.as_ref(), &situation);
            assert_eq!(after, state.after(event), "{state:?}, {event:?}");
        }
    }
}
