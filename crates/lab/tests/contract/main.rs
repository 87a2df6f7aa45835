//! What citus-sync relies on in Citus, as cases that run on Citus itself
//! and on its stand-in (testdata/citus-stand-in.sql). In: a coordinator and two
//! workers of each flavour. Out: one test of each flavour, which names every case
//! that fails. docs/citus.md describes the same in prose.

#![allow(clippy::unwrap_used)]

mod catalogue;
mod fixture;
mod holds;
mod locks;
mod moves;
mod nodes;
mod reach;

use fixture::{Case, Fixture};
use lab::installation::Installation;

fn cases() -> impl Iterator<Item = Case> {
    [
        catalogue::CASES,
        nodes::CASES,
        locks::CASES,
        holds::CASES,
        moves::CASES,
        reach::CASES,
    ]
    .into_iter()
    .flatten()
    .copied()
}

/// Runs every case from the same state, and fails with the names of those that failed.
fn keeps_the_contract(stand_in: bool) {
    let fixture = Fixture::prepare(stand_in).unwrap();
    let only = std::env::var("CONTRACT_CASE").unwrap_or_default();
    let mut failed = Vec::new();
    for (name, case) in cases().filter(|(name, _)| name.contains(&only)) {
        let outcome = fixture.restore().and_then(|()| case(&fixture));
        match &outcome {
            Ok(()) => println!("{}: {name}", fixture.flavour),
            Err(error) => {
                println!("{}: FAILED: {name}: {error:#}", fixture.flavour);
                failed.push(name);
            }
        }
    }
    assert!(
        failed.is_empty(),
        "{}: these cases failed: {failed:#?}",
        fixture.flavour
    );
}

#[test]
fn the_stand_in_keeps_the_contract() {
    keeps_the_contract(true);
}

#[test]
fn citus_keeps_the_contract() {
    if lab::citus::stand_in_forced() || !Installation::find().unwrap().has_citus {
        println!("skipped: Citus is not used here");
        return;
    }
    keeps_the_contract(false);
}
