//! Which connections may stay when more come than there is room for.
//!
//! In: a connection from a peer, and what is learnt of it: that it asks something, that it showed the
//! token. Out: its place; and for a connection that must go, the word to go.
//!
//! A newcomer always gets in, because only the head of its request tells whether it has the token. The
//! room is made by those who show no token: the one that has been silent for longest goes, of the peer
//! with the most connections. So connections on which nothing is asked keep nobody out.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tracing::warn;

/// Connections at once that showed no token. Each costs memory and a file descriptor, and no
/// monitoring opens so many.
pub(super) const CONNECTIONS: usize = 128;

/// Of those, from one peer. Several scrapers and hooks behind one address need fewer.
pub(super) const PER_PEER: usize = 64;

/// Connections at once that showed the token, beside the others. One more than these counts as one of
/// the others. A hook has one for each group that stops.
pub(super) const AUTHORISED: usize = 256;

/// How often the log says that connections were closed, at most.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// The places; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Room {
    places: Arc<Mutex<Places>>,
}

#[derive(Debug, Default)]
struct Places {
    next: u64,
    taken: BTreeMap<u64, Taken>,
    /// Closed since the log last said so.
    closed: usize,
    told: Option<Instant>,
}

#[derive(Debug)]
struct Taken {
    peer: IpAddr,
    /// When it came, or its last answer was written.
    silent_since: Instant,
    /// A request of it is being answered.
    busy: bool,
    authorised: bool,
    leave: Arc<Notify>,
}

/// The place of one connection; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    room: Room,
    id: u64,
    leave: Arc<Notify>,
}

impl Room {
    /// A place for a newcomer. Another connection has to leave if there is none.
    pub(super) fn enter(&self, peer: IpAddr, now: Instant) -> Place {
        let peer = network_of(peer);
        let mut places = self.places();
        places.make_room(peer, now);
        let leave = Arc::new(Notify::new());
        let id = places.next;
        places.next += 1;
        let taken = Taken {
            peer,
            silent_since: now,
            busy: false,
            authorised: false,
            leave: leave.clone(),
        };
        places.taken.insert(id, taken);
        Place {
            room: self.clone(),
            id,
            leave,
        }
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Places {
    fn make_room(&mut self, newcomer: IpAddr, now: Instant) {
        let mut crowd: BTreeMap<IpAddr, usize> = BTreeMap::new();
        for taken in self.taken.values().filter(|taken| !taken.authorised) {
            *crowd.entry(taken.peer).or_default() += 1;
        }
        let own = crowd.get(&newcomer).copied().unwrap_or_default();
        let peer = if own >= PER_PEER {
            Some(newcomer)
        } else if crowd.values().sum::<usize>() >= CONNECTIONS {
            let largest = crowd.iter().max_by_key(|(_, connections)| **connections);
            largest.map(|(peer, _)| *peer)
        } else {
            None
        };
        let Some(peer) = peer else { return };
        let leaving = (self.taken.iter())
            .filter(|(_, taken)| !taken.authorised && taken.peer == peer)
            .min_by_key(|(_, taken)| (taken.busy, taken.silent_since))
            .map(|(id, _)| *id);
        if let Some(taken) = leaving.and_then(|id| self.taken.remove(&id)) {
            taken.leave.notify_one();
            self.tell(peer, now);
        }
    }

    fn tell(&mut self, peer: IpAddr, now: Instant) {
        self.closed += 1;
        if self.told.is_some_and(|told| now < told + TELL_EVERY) {
            return;
        }
        warn!(
            %peer,
            closed = self.closed,
            "HTTP: too many connections that ask nothing: the oldest are closed to make room (at most \
             {PER_PEER} from one peer, {CONNECTIONS} in all, {AUTHORISED} more with the token)"
        );
        self.closed = 0;
        self.told = Some(now);
    }
}

impl Place {
    /// Waits until the connection has to leave.
    pub(super) async fn must_leave(&self) {
        self.leave.notified().await;
    }

    /// A request is being answered until the guard is dropped.
    pub(super) fn answering(self: &Arc<Self>) -> Answering {
        self.change(|taken| taken.busy = true);
        Answering(self.clone())
    }

    /// A request showed the token: this connection makes room for no other any more.
    pub(super) fn authorise(&self) {
        let mut places = self.room.places();
        let others = places.taken.iter().filter(|(id, _)| **id != self.id);
        let authorised = others.filter(|(_, taken)| taken.authorised).count();
        if let Some(taken) = places.taken.get_mut(&self.id) {
            taken.authorised = authorised < AUTHORISED;
        }
    }

    fn change(&self, change: impl FnOnce(&mut Taken)) {
        if let Some(taken) = self.room.places().taken.get_mut(&self.id) {
            change(taken);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.places().taken.remove(&self.id);
    }
}

/// A request is being answered.
pub(super) struct Answering(Arc<Place>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.change(|taken| {
            taken.busy = false;
            taken.silent_since = Instant::now();
        });
    }
}

/// The peer that is counted: of IPv6 the /64, which one host has to itself.
fn network_of(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    fn has_to_leave(place: &Place) -> bool {
        place.must_leave().now_or_never().is_some()
    }

    fn peer(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    #[test]
    fn the_longest_silent_connection_of_a_crowded_peer_makes_room() {
        let (room, start) = (Room::default(), Instant::now());
        let at = |second| start + Duration::from_secs(second);
        let places: Vec<_> = (0..PER_PEER as u64)
            .map(|second| Arc::new(room.enter(peer(1), at(second))))
            .collect();
        let other = room.enter(peer(2), start);
        // The oldest is being answered, the second oldest showed the token.
        let _answering = places[0].answering();
        places[1].authorise();
        let first = room.enter(peer(1), at(100));
        assert!(
            !places.iter().any(|place| has_to_leave(place)),
            "there was room"
        );
        let second = room.enter(peer(1), at(101));
        let left: Vec<usize> = (0..places.len())
            .filter(|number| has_to_leave(&places[*number]))
            .collect();
        assert_eq!(left, [2]);
        assert!(![other, first, second].iter().any(has_to_leave));
    }

    #[test]
    fn a_full_room_is_emptied_by_the_peer_with_the_most_connections() {
        let (room, now) = (Room::default(), Instant::now());
        let mut places = Vec::new();
        for number in 0..CONNECTIONS {
            let crowd = if number % 3 == 0 { 1 } else { 3 + number % 50 };
            places.push((crowd, room.enter(peer(u8::try_from(crowd).unwrap()), now)));
        }
        let newcomer = room.enter(peer(200), now);
        let left = places.iter().filter(|(_, place)| has_to_leave(place));
        assert_eq!(left.map(|(crowd, _)| *crowd).collect::<Vec<_>>(), [1]);
        assert!(!has_to_leave(&newcomer));
    }

    #[test]
    fn more_authorised_connections_than_their_room_count_as_the_others() {
        let (room, start) = (Room::default(), Instant::now());
        let places: Vec<_> = (0..=AUTHORISED as u64)
            .map(|second| {
                let place = room.enter(peer(1), start + Duration::from_secs(second));
                place.authorise();
                place
            })
            .collect();
        let unknown: Vec<_> = (0..PER_PEER as u64)
            .map(|second| room.enter(peer(1), start + Duration::from_secs(1000 + second)))
            .collect();
        let left = places.iter().filter(|place| has_to_leave(place)).count();
        assert_eq!(left, 1);
        assert!(!unknown.iter().any(has_to_leave));
    }

    #[test]
    fn a_place_is_free_again_when_its_connection_ends() {
        let (room, now) = (Room::default(), Instant::now());
        for _ in 0..10 {
            let places: Vec<_> = (0..PER_PEER).map(|_| room.enter(peer(1), now)).collect();
            assert!(!places.iter().any(has_to_leave));
        }
        assert!(room.places().taken.is_empty());
    }

    #[test]
    fn one_ipv6_network_is_one_peer() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(
            network_of(ip("2001:db8::1")),
            network_of(ip("2001:db8::ffff:2"))
        );
        assert_ne!(
            network_of(ip("2001:db8::1")),
            network_of(ip("2001:db8:0:1::1"))
        );
        assert_eq!(network_of(ip("::ffff:10.0.0.1")), peer(1));
    }
}
