//! Connections that have no sshd yet.
//!
//! An SSH client introduces itself as soon as it is connected. Whoever doesn't is cheap here: it takes no slot away
//! from those who do, and is sent away after a while.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::limits::Limits;
use super::session_table::Slots;

/// The longest identification line in bytes, its end included (RFC 4253, section 4.2).
pub(super) const IDENTIFICATION_BYTES: usize = 255;

/// What a guest has said so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Introduction {
    /// Nothing.
    Silent,
    /// The start of an identification line.
    Partial,
    /// A whole identification line.
    Complete,
    /// Something that no SSH client says.
    Foreign,
}

impl Introduction {
    /// Judges the first bytes of a connection.
    pub fn of(bytes: &[u8]) -> Self {
        let line = bytes
            .split(|byte| *byte == b'\n')
            .next()
            .unwrap_or_default();
        let ended = line.len() < bytes.len();
        let known = [b"SSH-2.0-".as_slice(), b"SSH-1.99-"];
        let fits = |start: &&[u8]| line.starts_with(start) || (!ended && start.starts_with(line));
        if bytes.is_empty() {
            Introduction::Silent
        } else if !known.iter().any(fits) || line.len() >= IDENTIFICATION_BYTES {
            Introduction::Foreign
        } else if ended {
            Introduction::Complete
        } else {
            Introduction::Partial
        }
    }
}

/// A connection that has no sshd yet.
#[derive(Debug)]
pub(super) struct PendingConnection<C> {
    pub(super) connection: C,
    /// Whether it comes from the appliance itself.
    pub(super) own: bool,
    arrived: Instant,
    introduction: Introduction,
}

/// The guests, each known by a number that only grows.
#[derive(Debug)]
pub(super) struct PendingConnections<C = TcpStream> {
    next: u64,
    guests: BTreeMap<u64, PendingConnection<C>>,
    /// Those who have introduced themselves, by when they did: the place in the queue.
    queue: BTreeMap<u64, u64>,
}

impl<C> PendingConnections<C> {
    pub(super) fn new() -> Self {
        PendingConnections {
            next: 0,
            guests: BTreeMap::new(),
            queue: BTreeMap::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.guests.len()
    }

    /// How many have introduced themselves and need a slot.
    pub(super) fn waiting(&self) -> usize {
        let queue = self.queue.values().filter_map(|number| self.find(*number));
        queue.filter(|(_, guest)| !guest.own).count()
    }

    pub(super) fn get(&self, number: u64) -> Option<&C> {
        self.guests.get(&number).map(|guest| &guest.connection)
    }

    pub(super) fn enter(&mut self, connection: C, own: bool, now: Instant) -> u64 {
        let number = self.next;
        self.next += 1;
        let introduction = Introduction::Silent;
        self.guests.insert(
            number,
            PendingConnection {
                connection,
                own,
                arrived: now,
                introduction,
            },
        );
        number
    }

    /// A guest has said this so far.
    pub(super) fn hear(&mut self, number: u64, introduction: Introduction) {
        let Some(guest) = self.guests.get_mut(&number) else {
            return;
        };
        if introduction == Introduction::Complete && guest.introduction != introduction {
            self.queue.insert(self.next, number);
            self.next += 1;
        }
        guest.introduction = introduction;
    }

    pub(super) fn leave(&mut self, number: u64) -> Option<PendingConnection<C>> {
        self.queue.retain(|_, other| *other != number);
        self.guests.remove(&number)
    }

    /// Who gets an sshd next: the appliance itself, then who has introduced itself, in turn, and then who waits for the
    /// server to speak first.
    pub(super) fn next_guest(
        &self,
        slots: Slots,
        patience: Duration,
        now: Instant,
    ) -> Option<(u64, &PendingConnection<C>)> {
        let mut queue = self.queue.values().filter_map(|number| self.find(*number));
        let own = queue.clone().find(|(_, guest)| guest.own && slots.own);
        let waits =
            |guest: &PendingConnection<C>| guest.is_silent() && guest.arrived + patience <= now;
        let mut guests = self.guests.iter().map(|(number, guest)| (*number, guest));
        own.or_else(|| queue.next().filter(|_| slots.free))
            .or_else(|| guests.find(|(_, guest)| slots.silent && waits(guest)))
    }

    fn find(&self, number: u64) -> Option<(u64, &PendingConnection<C>)> {
        self.guests.get(&number).map(|guest| (number, guest))
    }

    /// Those who took too long to introduce themselves.
    pub(super) fn overdue(&self, grace: Duration, now: Instant) -> Vec<u64> {
        let late =
            |guest: &PendingConnection<C>| guest.must_hurry() && guest.arrived + grace <= now;
        self.guests
            .iter()
            .filter(|(_, guest)| late(guest))
            .map(|(number, _)| *number)
            .collect()
    }

    /// When something changes here by the passing of time alone.
    pub(super) fn next_due(&self, slots: Slots, limits: &Limits, now: Instant) -> Option<Instant> {
        let hurried = self.guests.values().filter(|guest| guest.must_hurry());
        let silent = self
            .guests
            .values()
            .filter(|guest| guest.is_silent() && slots.silent);
        let patience = silent
            .map(|guest| guest.arrived + limits.patience)
            .filter(|due| *due > now);
        hurried
            .map(|guest| guest.arrived + limits.grace)
            .chain(patience)
            .min()
    }
}

impl<C> PendingConnection<C> {
    fn is_silent(&self) -> bool {
        self.introduction == Introduction::Silent
    }

    /// Who has introduced itself waits for us, not we for it.
    fn must_hurry(&self) -> bool {
        self.introduction != Introduction::Complete
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: Slots = Slots {
        free: true,
        silent: true,
        own: true,
    };
    const HALF: Slots = Slots {
        silent: false,
        ..FREE
    };
    const FULL: Slots = Slots {
        free: false,
        silent: false,
        own: true,
    };

    fn next<C>(lobby: &PendingConnections<C>, slots: Slots, now: Instant) -> Option<u64> {
        lobby
            .next_guest(slots, Limits::default().patience, now)
            .map(|(number, _)| number)
    }

    #[test]
    fn only_a_whole_identification_is_an_introduction() {
        for (bytes, introduction) in [
            ("", Introduction::Silent),
            ("S", Introduction::Partial),
            ("SSH-1.", Introduction::Partial),
            ("SSH-2.0-OpenSSH_9.2", Introduction::Partial),
            ("SSH-2.0-OpenSSH_9.2\r\n", Introduction::Complete),
            ("SSH-1.99-x\n\0\0\0", Introduction::Complete),
            ("SSH-1.5-x\n", Introduction::Foreign),
            ("SSH-2\n", Introduction::Foreign),
            ("\n", Introduction::Foreign),
            ("GET / HTTP/1.1\r\n", Introduction::Foreign),
            ("\u{16}\u{3}", Introduction::Foreign),
        ] {
            assert_eq!(
                Introduction::of(bytes.as_bytes()),
                introduction,
                "{bytes:?}"
            );
        }
        let endless = format!("SSH-2.0-{}", "x".repeat(IDENTIFICATION_BYTES));
        assert_eq!(Introduction::of(endless.as_bytes()), Introduction::Foreign);
    }

    #[test]
    fn who_speaks_first_is_served_first() {
        let (mut lobby, now) = (PendingConnections::new(), Instant::now());
        let [first, second] = ["first", "second"].map(|name| lobby.enter(name, false, now));
        assert_eq!(next(&lobby, FREE, now), None);
        lobby.hear(second, Introduction::Complete);
        lobby.hear(first, Introduction::Partial);
        lobby.hear(first, Introduction::Complete);
        lobby.hear(second, Introduction::Complete);
        assert_eq!(next(&lobby, FULL, now), None, "no slot is free");
        assert_eq!(next(&lobby, HALF, now), Some(second));
        assert_eq!(lobby.leave(second).unwrap().connection, "second");
        assert_eq!(next(&lobby, HALF, now), Some(first));
        lobby.leave(first);
        assert_eq!(next(&lobby, FREE, now), None);
        assert_eq!(lobby.len(), 0);
    }

    #[test]
    fn the_appliance_itself_needs_no_slot() {
        let (mut lobby, now) = (PendingConnections::new(), Instant::now());
        let [other, own] = [false, true].map(|own| lobby.enter((), own, now));
        lobby.hear(other, Introduction::Complete);
        lobby.hear(own, Introduction::Complete);
        assert_eq!(next(&lobby, FULL, now), Some(own));
        assert_eq!(next(&lobby, Slots { own: false, ..FULL }, now), None);
        assert_eq!(next(&lobby, Slots { own: false, ..HALF }, now), Some(other));
    }

    #[test]
    fn who_says_nothing_gets_at_most_half_of_the_slots() {
        let (mut lobby, now, limits) =
            (PendingConnections::new(), Instant::now(), Limits::default());
        let silent = lobby.enter((), false, now);
        let slow = lobby.enter((), false, now);
        lobby.hear(slow, Introduction::Partial);
        let later = now + limits.patience;
        assert_eq!(lobby.next_due(FREE, &limits, now), Some(later));
        assert_eq!(next(&lobby, FREE, now), None);
        assert_eq!(next(&lobby, FREE, later), Some(silent));
        assert_eq!(next(&lobby, HALF, later), None);
        assert_eq!(lobby.next_due(HALF, &limits, now), Some(now + limits.grace));
    }

    #[test]
    fn only_who_waits_for_us_has_no_deadline() {
        let (mut lobby, now, limits) =
            (PendingConnections::new(), Instant::now(), Limits::default());
        let [silent, slow, waiting] = [(); 3].map(|()| lobby.enter((), false, now));
        lobby.hear(slow, Introduction::Partial);
        lobby.hear(waiting, Introduction::Complete);
        let late = now + limits.grace;
        assert!(lobby.overdue(limits.grace, now).is_empty());
        assert_eq!(lobby.overdue(limits.grace, late), [silent, slow]);
        lobby.leave(silent);
        lobby.leave(slow);
        assert_eq!(lobby.next_due(FULL, &limits, late), None);
    }
}
