//! How much of the coordinator's connections holds may take, and that they take nothing from others.

use crate::fixture::Fixture;
use crate::held::Held;
use crate::servers::{DEAD_PORT, servers};

/// A group without shards: as many holds of it as one likes stand side by side.
const NO_SHARDS: i32 = 77;

#[test]
fn holds_have_a_limit_of_their_own_and_moves_do_not_wait_for_them() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    let order = fixture.order(NO_SHARDS, &[]);
    let take = || fixture.run(fixture.take(&order));
    let mut holds: Vec<Held> = (0..64).map(|_| take().expect("a hold")).collect();
    let error = take().expect_err("one too many").to_string();
    assert_eq!(
        error,
        "64 holds are open in this database already, no more are allowed"
    );
    let step = servers.a_move(1, DEAD_PORT);
    let moved = fixture.move_row(&[], &step, || true);
    fixture.run(moved).expect("a move beside all of them");
    holds.pop();
    holds.push(take().expect("a place is free again"));
}

#[test]
fn a_hold_that_is_called_off_gives_its_place_back() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    let order = fixture.order(NO_SHARDS, &[]);
    for _ in 0..65 {
        // Polled once: it has a place, and no session yet.
        let take = fixture.take(&order);
        fixture.run(async {
            tokio::select! {
                biased;
                taken = take => drop(taken),
                () = std::future::ready(()) => {}
            }
        });
    }
    fixture.hold(NO_SHARDS, &[]);
}
