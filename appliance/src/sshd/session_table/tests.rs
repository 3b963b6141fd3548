use std::time::Duration;

use super::*;

const A: u32 = 10_000;
const B: u32 = 10_001;

fn registry() -> (SessionTable, Instant) {
    let mut registry = SessionTable::new(Limits {
        unauthenticated: 2,
        ..Limits::default()
    });
    registry.allow([A, B].into());
    (registry, Instant::now())
}

#[test]
fn only_who_has_not_authenticated_takes_a_slot() {
    let (mut registry, now) = registry();
    let first = registry.begin(false, now);
    assert_eq!(
        registry.slots(now),
        Slots {
            free: true,
            silent: false,
            own: true
        }
    );
    registry.begin(false, now);
    assert!(!registry.slots(now).free);
    assert!(!registry.identify(first, 0, now));
    assert!(!registry.identify(first, SSHD_UID, now));
    assert!(!registry.slots(now).free);
    assert!(registry.identify(first, A, now));
    assert!(!registry.identify(first, A, now), "once is enough");
    assert!(registry.slots(now).free);
    for _ in 0..OWN_SESSIONS {
        assert!(registry.slots(now).own);
        registry.begin(true, now);
    }
    assert!(!registry.slots(now).own);
    assert!(registry.slots(now).free, "the health check needs no slot");
}

/// Lets in as many as there is room for now.
fn fill(registry: &mut SessionTable, now: Instant) -> Vec<u64> {
    let mut numbers = Vec::new();
    while registry.slots(now).free {
        numbers.push(registry.begin(false, now));
    }
    numbers
}

#[test]
fn a_crowd_is_let_in_at_the_pace_of_machines() {
    let limits = Limits {
        unauthenticated: 20,
        newcomers: 9,
        per_account: 100,
        ..Limits::default()
    };
    let [good, settled, slow] = [5, 4, 2].map(|part| limits.grace / part);
    let mut registry = SessionTable::new(limits);
    registry.allow([A].into());
    let start = Instant::now();
    let strangers = fill(&mut registry, start);
    assert_eq!(strangers.len(), 9);
    let now = start + settled;
    let machines = fill(&mut registry, now);
    assert_eq!(
        machines.len(),
        9,
        "strangers hold the pace up only at first"
    );
    assert_eq!(
        fill(&mut registry, now + settled).len(),
        2,
        "but there are only so many slots"
    );
    for machine in machines {
        registry.identify(machine, A, now + good);
    }
    assert_eq!(registry.newcomers, 18, "machines are fast: more at a time");
    for _ in 0..30 {
        let machine = registry.begin(false, now);
        registry.identify(machine, A, now + slow);
    }
    assert_eq!(
        registry.newcomers, FEWEST_NEWCOMERS,
        "they are slow: fewer at a time"
    );
    for number in 0..registry.next() {
        registry.ended(number);
    }
    assert_eq!(
        fill(&mut registry, now).len(),
        9,
        "nobody was there: as at first"
    );
}

/// Our sshd spoke so long ago, and nothing was heard since.
fn owed(spoke: Duration) -> Turn {
    Turn { spoke, owed: true }
}

/// Our sshd spoke so long ago, and the client is talking.
fn heard(spoke: Duration) -> Turn {
    Turn { spoke, owed: false }
}

#[test]
fn who_owes_an_answer_takes_no_newcomers_place() {
    let limits = Limits {
        newcomers: 1,
        ..Limits::default()
    };
    let [pause, grace] = [limits.pause, limits.grace];
    let mut registry = SessionTable::new(limits);
    let start = Instant::now();
    let first = registry.begin(false, start);
    assert!(!registry.slots(start).free);
    let now = start + pause;
    registry.observe(first, owed(pause / 2), now);
    assert!(!registry.slots(now).free);
    registry.observe(first, owed(pause), now);
    assert!(registry.slots(now).free);
    registry.observe(first, heard(pause), now);
    assert!(!registry.slots(now).free, "it is our turn");
    assert!(registry.slots(start + grace / 4).free);
}

/// Fills all slots with sessions that began just now, and comes back after a while.
fn full(slots: usize, after: Duration) -> (SessionTable, Vec<u64>, Instant) {
    let mut registry = SessionTable::new(Limits {
        unauthenticated: slots,
        newcomers: 100,
        ..Limits::default()
    });
    registry.allow([A].into());
    let start = Instant::now();
    let numbers = (0..slots).map(|_| registry.begin(false, start)).collect();
    (registry, numbers, start + after)
}

const NOBODY: [u64; 0] = [];
const SECOND: Duration = Duration::from_secs(1);

/// Which sessions are ended to make room for so many.
fn ended(registry: &mut SessionTable, waiting: usize, now: Instant) -> Vec<u64> {
    registry.make_room(waiting, now);
    let number = |action| match action {
        Action::HangUp(number, reason) => {
            assert_eq!(reason, Reason::Room);
            number
        }
        Action::Kill(number) => panic!("{number} is killed"),
    };
    registry.due(now).into_iter().map(number).collect()
}

#[test]
fn who_stalls_longest_goes_first_and_only_for_somebody_who_waits() {
    let stall = Limits::default().stall;
    let (mut registry, numbers, now) = full(5, stall + 3 * SECOND);
    registry.observe(numbers[3], owed(stall + 2 * SECOND), now);
    registry.observe(numbers[1], owed(stall + SECOND), now);
    registry.observe(numbers[4], owed(stall), now);
    // A round trip by way of Tor.
    registry.observe(numbers[2], owed(2 * SECOND), now);
    assert_eq!(ended(&mut registry, 0, now), NOBODY);
    assert_eq!(ended(&mut registry, 1, now), [numbers[3]]);
    let again = ended(&mut registry, 1, now);
    assert_eq!(again, NOBODY, "a slot is about to be free");
    let rest = [numbers[1], numbers[4]];
    assert_eq!(ended(&mut registry, 100, now), rest, "the others get on");
}

#[test]
fn who_drips_goes_after_who_stalls() {
    let half = Limits::default().grace / 2;
    let (mut registry, numbers, now) = full(4, half + 2 * SECOND);
    registry.observe(numbers[0], heard(half + SECOND), now);
    registry.observe(numbers[1], heard(half), now);
    // By way of Tor a login may take longer than that, but it gets on.
    registry.observe(numbers[2], heard(4 * SECOND), now);
    registry.observe(numbers[3], owed(Limits::default().stall), now);
    for (waiting, next) in [(1, numbers[3]), (2, numbers[0]), (3, numbers[1])] {
        assert_eq!(ended(&mut registry, waiting, now), [next]);
    }
    assert_eq!(ended(&mut registry, 100, now), NOBODY);
}

#[test]
fn nobody_goes_for_one_that_would_have_to_wait_anyway() {
    let stall = Limits::default().stall;
    let (mut registry, numbers, now) = full(3, stall);
    registry.observe(numbers[0], owed(stall), now);
    registry.newcomers = 0;
    let busy = ended(&mut registry, 1, now);
    assert_eq!(busy, NOBODY, "key exchanges take all there is");
    registry.newcomers = 100;
    registry.identify(numbers[1], A, now);
    assert_eq!(ended(&mut registry, 1, now), NOBODY, "a slot is free");
    assert_eq!(ended(&mut registry, 2, now), [numbers[0]]);
}

#[test]
fn who_waited_long_for_its_session_is_not_blamed_for_it() {
    let (mut registry, numbers, now) = full(1, SECOND);
    registry.observe(numbers[0], owed(Duration::from_secs(60)), now);
    assert_eq!(ended(&mut registry, 1, now), NOBODY);
}

#[test]
fn neither_a_machine_nor_the_health_check_makes_room() {
    let (mut registry, start) = registry();
    let [machine, own] = [false, true].map(|own| registry.begin(own, start));
    registry.identify(machine, A, start);
    let strangers: Vec<_> = (0..2).map(|_| registry.begin(false, start)).collect();
    let stall = registry.limits().stall;
    let now = start + stall;
    for number in [machine, own, strangers[1]] {
        registry.observe(number, owed(stall), now);
    }
    assert_eq!(ended(&mut registry, 100, now), [strangers[1]]);
}

#[test]
fn a_machine_has_four_sessions_and_no_fifth() {
    let (mut registry, now) = registry();
    let numbers: Vec<_> = (0..5).map(|_| registry.begin(false, now)).collect();
    for number in &numbers[..4] {
        assert!(registry.identify(*number, A, now));
    }
    assert!(!registry.identify(numbers[4], A, now));
    assert_eq!(
        registry.due(now),
        [Action::HangUp(numbers[4], Reason::Number)]
    );
    assert_eq!(registry.due(now), []);
    let other = registry.begin(false, now);
    assert!(
        registry.identify(other, B, now),
        "another machine has its own four"
    );
    assert_eq!(registry.ended(numbers[0]), Some(A));
    let sixth = registry.begin(false, now);
    assert!(registry.identify(sixth, A, now), "a place is free again");
}

#[test]
fn sessions_have_deadlines() {
    let (mut registry, now) = registry();
    let limits = registry.limits().clone();
    let stranger = registry.begin(false, now);
    let machine = registry.begin(false, now);
    registry.identify(machine, A, now);
    assert_eq!(registry.next_due(now), Some(now + limits.grace / 4));
    assert_eq!(
        registry.next_due(now + limits.grace / 4),
        Some(now + limits.grace)
    );
    assert_eq!(
        registry.due(now + limits.grace),
        [Action::HangUp(stranger, Reason::Grace)]
    );
    let late = now + limits.grace + limits.hang_up;
    assert_eq!(registry.next_due(now + limits.grace), Some(late));
    assert_eq!(registry.due(late), [Action::Kill(stranger)]);
    assert_eq!(registry.ended(stranger), None);
    assert_eq!(registry.next_due(late), Some(now + limits.session));
    assert_eq!(
        registry.due(now + limits.session),
        [Action::HangUp(machine, Reason::Length)]
    );
    registry.ended(machine);
    assert!(registry.is_empty());
    assert_eq!(registry.next_due(now), None);
}

#[test]
fn who_is_not_enrolled_is_ended_now_or_later() {
    let (mut registry, now) = registry();
    let [open, other, authenticating] = [(); 3].map(|()| registry.begin(false, now));
    registry.identify(open, A, now);
    registry.identify(other, B, now);
    registry.allow([B].into());
    assert_eq!(registry.due(now), [Action::HangUp(open, Reason::Account)]);
    assert!(!registry.identify(authenticating, A, now));
    assert_eq!(
        registry.due(now),
        [Action::HangUp(authenticating, Reason::Account)]
    );
}

#[test]
fn new_keys_end_what_began_with_the_old_ones() {
    let (mut registry, now) = registry();
    let [open, other, authenticating] = [(); 3].map(|()| registry.begin(false, now));
    registry.identify(open, A, now);
    registry.identify(other, B, now);
    registry.end_account(A);
    assert_eq!(registry.due(now), [Action::HangUp(open, Reason::Keys)]);
    assert!(!registry.identify(authenticating, A, now));
    assert_eq!(
        registry.due(now),
        [Action::HangUp(authenticating, Reason::Keys)]
    );
    registry.end_account(B);
    assert_eq!(registry.due(now), [Action::HangUp(other, Reason::Keys)]);
    let renewed = registry.begin(false, now);
    assert!(
        registry.identify(renewed, A, now),
        "it can only have used the new key"
    );
}

#[test]
fn who_leaves_too_much_is_interrupted_and_may_come_again() {
    let (mut registry, now) = registry();
    let [open, other, authenticating] = [(); 3].map(|()| registry.begin(false, now));
    registry.identify(open, A, now);
    registry.identify(other, B, now);
    registry.interrupt(A);
    assert_eq!(registry.due(now), [Action::HangUp(open, Reason::Inbox)]);
    assert!(registry.identify(authenticating, A, now));
}

#[test]
fn an_old_session_is_anybodys_until_it_is_known() {
    let (mut registry, now) = registry();
    let [first, second] = [(); 2].map(|()| registry.begin(false, now));
    assert_eq!(registry.oldest_of(A), Some(first));
    registry.identify(first, B, now);
    assert_eq!(registry.oldest_of(A), Some(second));
    assert_eq!(registry.oldest_of(B), Some(first));
    registry.ended(second);
    assert_eq!(registry.oldest_of(A), None);
    assert_eq!(registry.next(), second + 1);
}

#[test]
fn stopping_ends_all() {
    let (mut registry, now) = registry();
    let [first, second] = [(); 2].map(|()| registry.begin(false, now));
    registry.identify(second, A, now);
    registry.end_all();
    let all = [first, second].map(|number| Action::HangUp(number, Reason::Stop));
    assert_eq!(registry.due(now), all);
}

#[test]
fn sessions_are_counted_but_not_the_appliances_own() {
    let (mut registry, now) = registry();
    registry.begin(true, now);
    let machine = registry.begin(false, now);
    assert!(registry.identify(machine, A, now));
    registry.begin(false, now);
    let tally = registry.tally();
    assert_eq!((tally.unauthenticated, tally.authenticated), (1, 1));
    assert_eq!((tally.accepted, tally.logins), (2, 1));
    assert!(
        tally.ended.values().all(|count| *count == 0) && tally.ended.len() == Reason::ALL.len()
    );

    let late = now + registry.limits().grace;
    registry.due(late);
    // What is asked again isn't another end.
    registry.due(late + registry.limits().hang_up);
    registry.ended(machine);
    let tally = registry.tally();
    assert_eq!(
        tally.ended["grace"], 1,
        "that of the own session isn't counted"
    );
    assert_eq!((tally.authenticated, tally.logins), (0, 1));
    registry.end_all();
    registry.due(late);
    assert_eq!(
        registry.tally().ended["stop"],
        0,
        "it has been ended already"
    );
}
