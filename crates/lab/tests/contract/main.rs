//! What citus-sync relies on in Citus, as cases that run against Citus itself
//! and against its stand-in (testdata/citus-stand-in.sql). In: two workers and
//! a coordinator per flavour. Out: one test per flavour that names every case
//! that does not hold. docs/citus.md tells the same in prose.

#![allow(clippy::unwrap_used)]

mod catalogue;
mod ground;
mod holds;
mod locks;
mod moves;
mod nodes;
mod reach;

use anyhow::Result;
use ground::Ground;
use lab::installation::Installation;

/// A story and its proof.
type Case = (&'static str, fn(&Ground) -> Result<()>);

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

/// Runs every case, each from the same beginning, and fails with all that did
/// not hold.
fn keeps_the_contract(stand_in: bool) {
    let ground = Ground::prepare(stand_in).unwrap();
    let only = std::env::var("CONTRACT_CASE").unwrap_or_default();
    let mut failed = Vec::new();
    for (name, case) in cases().filter(|(name, _)| name.contains(&only)) {
        let outcome = ground.restore().and_then(|()| case(&ground));
        match &outcome {
            Ok(()) => println!("{}: {name}", ground.flavour),
            Err(error) => {
                println!("{}: NOT SO: {name}: {error:#}", ground.flavour);
                failed.push(name);
            }
        }
    }
    assert!(failed.is_empty(), "{}: not so: {failed:#?}", ground.flavour);
}

#[test]
fn the_stand_in_keeps_the_contract() {
    keeps_the_contract(true);
}

#[test]
fn citus_keeps_the_contract() {
    if lab::citus::stand_in_forced() || !Installation::find().unwrap().has_citus {
        println!("Citus is not used here: only the stand-in was put to the test");
        return;
    }
    keeps_the_contract(false);
}
