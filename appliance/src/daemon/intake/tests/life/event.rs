//! The events of a life, and their frequency.

use bento_protocol::Outcome;
use proptest::prelude::*;

use super::machine::RunKind;

/// An event.
#[derive(Debug, Clone)]
pub(super) enum Event {
    /// A generation is published, perhaps an earlier one again.
    Publish(char),
    /// `bento build` built the same system as the machine, or another one.
    Expect(bool),
    /// A run without obstacles, from the poll to the intake.
    Visit(RunKind),
    Connect,
    Disconnect,
    /// The connection is lost, and the appliance doesn't notice.
    Hang,
    /// The machine polls. Its next run is about that generation, whatever is published then.
    Poll,
    Run(RunKind),
    /// It delivers the oldest report that waits.
    Deliver(Upload),
    /// A report that was delivered long ago arrives once more.
    Late(prop::sample::Index),
    TakeIn,
    /// The appliance dies before it writes the summary.
    CrashedPass,
    Restart,
    /// The summary is lost, or damaged.
    LoseSummary(bool),
    /// An inbox becomes unreadable, or readable again.
    Obstruct(prop::sample::Index, bool),
    /// The appliance's clock is set by so many seconds.
    SetClock(i64),
    /// Publications without a session are removed.
    RemoveSuperseded,
    /// Removed, and enrolled again: the same machine, or another one of its name.
    Replace(bool),
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Upload {
    Whole,
    /// The connection was cut in the middle of an attempt before.
    AfterACut,
    /// It had arrived already, but the answer was lost.
    Twice,
}

fn kind() -> impl Strategy<Value = RunKind> {
    let failure = prop::sample::select(vec![
        Outcome::PullFailed,
        Outcome::BuildFailed,
        Outcome::ActivationFailed,
        Outcome::RolledBack,
        Outcome::RollbackFailed,
    ]);
    let legacy = prop::sample::select(vec!["success", "failure", "rollback", "autoupdate"]);
    prop_oneof![
        8 => Just(RunKind::Switch),
        3 => Just(RunKind::Unchanged),
        1 => Just(RunKind::NewKernel),
        1 => Just(RunKind::Stage),
        3 => failure.clone().prop_map(RunKind::Fail),
        1 => Just(RunKind::SelfUpdate),
        2 => failure.prop_map(RunKind::FailToSelfUpdate),
        2 => Just(RunKind::SwitchByHand),
        1 => legacy.prop_map(RunKind::Legacy),
    ]
}

pub(super) fn event() -> impl Strategy<Value = Event> {
    let upload = prop_oneof![
        6 => Just(Upload::Whole),
        1 => Just(Upload::AfterACut),
        1 => Just(Upload::Twice),
    ];
    let index = any::<prop::sample::Index>;
    prop_oneof![
        6 => prop::char::range('a', 'c').prop_map(Event::Publish),
        1 => any::<bool>().prop_map(Event::Expect),
        10 => kind().prop_map(Event::Visit),
        2 => Just(Event::Connect),
        3 => Just(Event::Disconnect),
        1 => Just(Event::Hang),
        4 => Just(Event::Poll),
        12 => kind().prop_map(Event::Run),
        12 => upload.prop_map(Event::Deliver),
        2 => index().prop_map(Event::Late),
        8 => Just(Event::TakeIn),
        1 => Just(Event::CrashedPass),
        1 => Just(Event::Restart),
        1 => any::<bool>().prop_map(Event::LoseSummary),
        2 => (index(), any::<bool>()).prop_map(|(number, stuck)| Event::Obstruct(number, stuck)),
        1 => (-100_000..100_000_i64).prop_map(Event::SetClock),
        2 => Just(Event::RemoveSuperseded),
        1 => any::<bool>().prop_map(Event::Replace),
    ]
}
