//! The wall stands in this workspace, and a workspace where it does not is
//! found out.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::fs;
use std::path::Path;

use xtask::wall::scan;

#[test]
fn it_stands_here() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap();
    let findings = scan(root).unwrap();
    assert!(
        findings.files > 30,
        "only {} files were read",
        findings.files
    );
    let told: Vec<String> = findings.breaches.iter().map(ToString::to_string).collect();
    assert!(told.is_empty(), "{}", told.join("\n"));
}

#[test]
fn a_broken_sample_is_found_out() {
    let sample = std::env::temp_dir().join(format!("wall-sample-{}", std::process::id()));
    let folder = sample.join("crates/citus-sync/src/plan");
    fs::create_dir_all(&folder).unwrap();
    fs::write(
        folder.join("decide.rs"),
        "//! Pure.\n\nuse tokio::time::sleep;\n",
    )
    .unwrap();
    let findings = scan(&sample);
    fs::remove_dir_all(&sample).unwrap();
    let findings = findings.unwrap();
    let told: Vec<String> = findings.breaches.iter().map(ToString::to_string).collect();
    assert_eq!(findings.files, 1);
    assert_eq!(
        told,
        [
            "crates/citus-sync/src/plan/decide.rs:3: `tokio` in a pure file; edges live under src/edge/"
        ]
    );
}
