use std::time::Duration;

use super::*;

const A: u32 = 10_000;
const B: u32 = 10_001;

fn table() -> (SessionTable, Instant) {
    let mut table = SessionTable::new(SessionLimits {
        unauthenticated: 2,
        ..SessionLimits::default()
    });
    table.allow([A, B].into());
    (table, Instant::now())
}

#[test]
fn a_session_takes_a_slot_until_it_has_authenticated() {
    let (mut table, now) = table();
    let first = table.begin(false, now);
    assert!(table.has_free_slot(false));
    table.begin(false, now);
    assert!(!table.has_free_slot(false));
    assert!(!table.identify(first, 0, now));
    assert!(!table.identify(first, SSHD_UID, now));
    assert!(!table.has_free_slot(false));
    assert!(table.identify(first, A, now));
    assert!(!table.identify(first, A, now), "once is enough");
    assert!(table.has_free_slot(false));
    for _ in 0..OWN_SLOTS {
        assert!(table.has_free_slot(true));
        table.begin(true, now);
    }
    assert!(!table.has_free_slot(true));
    assert!(
        table.has_free_slot(false),
        "the health check takes no slot of others"
    );
}

const NONE: [u64; 0] = [];

/// The sessions that are ended for so many pending connections.
fn evicted(table: &mut SessionTable, pending: usize, now: Instant) -> Vec<u64> {
    let number = |action| match action {
        Action::HangUp(number, reason) => {
            assert_eq!(reason, Reason::Room);
            number
        }
        Action::Kill(number) => panic!("{number} is killed"),
    };
    table.due(pending, now).into_iter().map(number).collect()
}

#[test]
fn the_oldest_goes_first_and_only_for_a_pending_connection_without_a_slot() {
    let (mut table, start) = table();
    let second = Duration::from_secs(1);
    let [first, next] = [0, 1].map(|seconds| table.begin(false, start + seconds * second));
    let due = start + table.limits().evict_after;
    assert_eq!(table.next_due(0), Some(start + table.limits().grace));
    assert_eq!(table.next_due(1), Some(due));
    assert_eq!(evicted(&mut table, 100, due - second), NONE, "too early");
    assert_eq!(evicted(&mut table, 0, due), NONE, "no connection waits");
    assert_eq!(
        evicted(&mut table, 100, due),
        [first],
        "the other is too young"
    );
    let killed = due + table.limits().hang_up;
    let late = due + second - Duration::from_millis(1);
    assert_eq!(
        evicted(&mut table, 1, late),
        NONE,
        "a slot is about to be free"
    );
    assert_eq!(table.next_due(1), Some(killed));
    table.remove(first);
    assert_eq!(evicted(&mut table, 1, due + second), NONE, "a slot is free");
    assert_eq!(evicted(&mut table, 2, due + second), [next]);
}

#[test]
fn as_many_are_evicted_as_connections_are_pending() {
    let limits = SessionLimits {
        unauthenticated: 5,
        ..SessionLimits::default()
    };
    let due = Instant::now() + limits.evict_after;
    let start = due - limits.evict_after;
    let mut table = SessionTable::new(limits);
    let numbers: Vec<_> = (0..5).map(|_| table.begin(false, start)).collect();
    assert_eq!(evicted(&mut table, 2, due), numbers[..2]);
    assert_eq!(evicted(&mut table, 3, due), numbers[2..3]);
    assert_eq!(evicted(&mut table, 100, due), numbers[3..]);
}

#[test]
fn neither_a_machine_nor_the_health_check_is_evicted() {
    let (mut table, start) = table();
    let [machine, own] = [false, true].map(|own| table.begin(own, start));
    table.identify(machine, A, start);
    let strangers = [(); 2].map(|()| table.begin(false, start));
    let due = start + table.limits().evict_after;
    assert_eq!(evicted(&mut table, 100, due), strangers);
    assert!(
        !table.has_free_slot(false),
        "they hold their slots until they end"
    );
    assert_eq!(table.remove(own), None);
}

#[test]
fn a_machine_has_four_sessions_and_no_fifth() {
    let (mut table, now) = table();
    let numbers: Vec<_> = (0..5).map(|_| table.begin(false, now)).collect();
    for number in &numbers[..4] {
        assert!(table.identify(*number, A, now));
    }
    assert!(!table.identify(numbers[4], A, now));
    assert_eq!(
        table.due(0, now),
        [Action::HangUp(numbers[4], Reason::Number)]
    );
    assert_eq!(table.due(0, now), []);
    let other = table.begin(false, now);
    assert!(
        table.identify(other, B, now),
        "another machine has its own four"
    );
    assert_eq!(table.remove(numbers[0]), Some(A));
    let sixth = table.begin(false, now);
    assert!(table.identify(sixth, A, now), "one has ended");
}

#[test]
fn sessions_have_deadlines() {
    let (mut table, now) = table();
    let limits = table.limits().clone();
    let stranger = table.begin(false, now);
    let machine = table.begin(false, now);
    table.identify(machine, A, now);
    assert_eq!(table.next_due(0), Some(now + limits.grace));
    assert_eq!(
        table.due(0, now + limits.grace),
        [Action::HangUp(stranger, Reason::Grace)]
    );
    let late = now + limits.grace + limits.hang_up;
    assert_eq!(table.next_due(0), Some(late));
    assert_eq!(table.due(0, late), [Action::Kill(stranger)]);
    assert_eq!(table.remove(stranger), None);
    assert_eq!(table.next_due(0), Some(now + limits.session));
    assert_eq!(
        table.due(0, now + limits.session),
        [Action::HangUp(machine, Reason::Length)]
    );
    table.remove(machine);
    assert!(table.is_empty());
    assert_eq!(table.next_due(0), None);
}

#[test]
fn a_session_of_an_account_that_is_not_allowed_is_ended_now_or_later() {
    let (mut table, now) = table();
    let [open, other, authenticating] = [(); 3].map(|()| table.begin(false, now));
    table.identify(open, A, now);
    table.identify(other, B, now);
    table.allow([B].into());
    assert_eq!(table.due(0, now), [Action::HangUp(open, Reason::Account)]);
    assert!(!table.identify(authenticating, A, now));
    assert_eq!(
        table.due(0, now),
        [Action::HangUp(authenticating, Reason::Account)]
    );
}

#[test]
fn new_keys_end_sessions_that_began_with_the_old_ones() {
    let (mut table, now) = table();
    let [open, other, authenticating] = [(); 3].map(|()| table.begin(false, now));
    table.identify(open, A, now);
    table.identify(other, B, now);
    table.end_account(A);
    assert_eq!(table.due(0, now), [Action::HangUp(open, Reason::Keys)]);
    assert!(!table.identify(authenticating, A, now));
    assert_eq!(
        table.due(0, now),
        [Action::HangUp(authenticating, Reason::Keys)]
    );
    table.end_account(B);
    assert_eq!(table.due(0, now), [Action::HangUp(other, Reason::Keys)]);
    let renewed = table.begin(false, now);
    assert!(
        table.identify(renewed, A, now),
        "it can only have used the new key"
    );
}

#[test]
fn a_machine_that_leaves_too_much_is_interrupted_and_may_connect_again() {
    let (mut table, now) = table();
    let [open, other, authenticating] = [(); 3].map(|()| table.begin(false, now));
    table.identify(open, A, now);
    table.identify(other, B, now);
    table.interrupt(A);
    assert_eq!(table.due(0, now), [Action::HangUp(open, Reason::Inbox)]);
    assert!(table.identify(authenticating, A, now));
}

#[test]
fn an_old_session_may_be_of_any_account_until_its_login() {
    let (mut table, now) = table();
    let [first, second] = [(); 2].map(|()| table.begin(false, now));
    assert_eq!(table.oldest_of(A), Some(first));
    table.identify(first, B, now);
    assert_eq!(table.oldest_of(A), Some(second));
    assert_eq!(table.oldest_of(B), Some(first));
    table.remove(second);
    assert_eq!(table.oldest_of(A), None);
    assert_eq!(table.next(), second + 1);
}

#[test]
fn stopping_ends_all() {
    let (mut table, now) = table();
    let [first, second] = [(); 2].map(|()| table.begin(false, now));
    table.identify(second, A, now);
    table.end_all();
    let all = [first, second].map(|number| Action::HangUp(number, Reason::Stop));
    assert_eq!(table.due(0, now), all);
}

#[test]
fn sessions_are_counted_but_not_the_appliances_own() {
    let (mut table, now) = table();
    table.begin(true, now);
    let machine = table.begin(false, now);
    assert!(table.identify(machine, A, now));
    table.begin(false, now);
    let counters = table.counters();
    assert_eq!((counters.unauthenticated, counters.authenticated), (1, 1));
    assert_eq!((counters.accepted, counters.logins), (2, 1));
    assert!(
        counters.ended.values().all(|count| *count == 0)
            && counters.ended.len() == Reason::ALL.len()
    );

    let late = now + table.limits().grace;
    table.due(0, late);
    // A second action isn't another end.
    table.due(0, late + table.limits().hang_up);
    table.remove(machine);
    let counters = table.counters();
    assert_eq!(
        counters.ended["grace"], 1,
        "that of the own session isn't counted"
    );
    assert_eq!((counters.authenticated, counters.logins), (0, 1));
    table.end_all();
    table.due(0, late);
    assert_eq!(
        table.counters().ended["stop"],
        0,
        "it has been ended already"
    );
}
