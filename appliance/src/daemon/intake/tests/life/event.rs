//! What happens in a life, and how often.

use bento_protocol::Outcome;
use proptest::prelude::*;

use super::machine::Deed;

/// What happens.
#[derive(Debug, Clone)]
pub(super) enum Event {
    /// A generation is published, perhaps one that was before.
    Publish(char),
    /// `bento build` came to the system that the machine comes to, or to another one.
    Expect(bool),
    /// A run without anything in its way, from the poll to the intake.
    UploadQuota(Deed),
    Connect,
    Disconnect,
    /// The connection is lost, and the appliance doesn't notice.
    Hang,
    /// The machine asks which generation is published. What it does next is about that one, whatever is published then.
    Poll,
    Run(Deed),
    /// It delivers the oldest report that waits.
    Deliver(Upload),
    /// Something that it delivered long ago arrives once more.
    Late(prop::sample::Index),
    Look,
    /// The appliance dies before the summary says what was taken in.
    CrashedLook,
    Restart,
    /// The summary is lost, or damaged.
    LoseLedger(bool),
    /// An inbox can't be opened, or can again.
    Stick(prop::sample::Index, bool),
    /// The appliance's clock is set, by so many seconds.
    Step(i64),
    /// Publications in which nobody stands go.
    Retire,
    /// Removed, and enrolled again: the same machine, or another one of its name.
    Replace(bool),
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Upload {
    Whole,
    /// The connection was cut in the middle of an attempt before.
    AfterACut,
    /// It was there already, but the machine didn't hear so.
    Twice,
}

fn deed() -> impl Strategy<Value = Deed> {
    let failure = prop::sample::select(vec![
        Outcome::PullFailed,
        Outcome::BuildFailed,
        Outcome::ActivationFailed,
        Outcome::RolledBack,
        Outcome::RollbackFailed,
    ]);
    let legacy = prop::sample::select(vec!["success", "failure", "rollback", "autoupdate"]);
    prop_oneof![
        8 => Just(Deed::Switch),
        3 => Just(Deed::Unchanged),
        1 => Just(Deed::NewKernel),
        1 => Just(Deed::Stage),
        3 => failure.clone().prop_map(Deed::Fail),
        1 => Just(Deed::SelfUpdate),
        2 => failure.prop_map(Deed::FailToSelfUpdate),
        2 => Just(Deed::SwitchByHand),
        1 => legacy.prop_map(Deed::Legacy),
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
        10 => deed().prop_map(Event::UploadQuota),
        2 => Just(Event::Connect),
        3 => Just(Event::Disconnect),
        1 => Just(Event::Hang),
        4 => Just(Event::Poll),
        12 => deed().prop_map(Event::Run),
        12 => upload.prop_map(Event::Deliver),
        2 => index().prop_map(Event::Late),
        8 => Just(Event::Look),
        1 => Just(Event::CrashedLook),
        1 => Just(Event::Restart),
        1 => any::<bool>().prop_map(Event::LoseLedger),
        2 => (index(), any::<bool>()).prop_map(|(number, stuck)| Event::Stick(number, stuck)),
        1 => (-100_000..100_000_i64).prop_map(Event::Step),
        2 => Just(Event::Retire),
        1 => any::<bool>().prop_map(Event::Replace),
    ]
}
