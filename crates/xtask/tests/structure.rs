//! The structure of this workspace, and of one where everything is wrong.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::fs;
use std::path::Path;

use xtask::structure::findings::scan;

#[test]
fn libraries_are_at_home_in_this_workspace() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let findings = scan(root.ancestors().nth(2).unwrap()).unwrap();
    assert!(
        findings.files > 30,
        "only {} files were read",
        findings.files
    );
    let breaches: Vec<String> = findings.breaches.iter().map(ToString::to_string).collect();
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

#[test]
fn a_workspace_where_everything_is_wrong_is_found_out() {
    let sample = std::env::temp_dir().join(format!("structure-sample-{}", std::process::id()));
    let source = sample.join("crates/citus-sync/src");
    fs::create_dir_all(source.join("plan")).unwrap();
    fs::create_dir_all(sample.join("crates/citus-sync/tests/holds")).unwrap();
    let write = |name: &str, text: &str| fs::write(source.join(name), text).unwrap();
    write("lib.rs", "//! Root.\nmod long;\nmod plan;\n");
    write("long.rs", &"fn f() {}\n".repeat(501));
    write("plan/mod.rs", "mod decide;\nmod hold;\n");
    write(
        "plan/decide.rs",
        "use tokio_postgres::Client;\nuse super::hold::Hold;\npub struct Decision(Hold, Client);\n",
    );
    write(
        "plan/hold.rs",
        "pub struct Hold(Box<super::decide::Decision>);\n",
    );
    // Tests may name what they like.
    write("../tests/e2e.rs", "use etcd_client::Client;\n");
    write("../tests/holds/main.rs", "mod ending;\nmod taking;\n");
    write(
        "../tests/holds/ending.rs",
        "pub fn end() { crate::taking::take() }\n",
    );
    write(
        "../tests/holds/taking.rs",
        "#[path = \"../elsewhere.rs\"]\nmod elsewhere;\npub fn take() { crate::ending::end() }\n",
    );
    let findings = scan(&sample);
    fs::remove_dir_all(&sample).unwrap();
    let findings = findings.unwrap();
    assert_eq!(findings.files, 9);
    let breaches: Vec<String> = findings.breaches.iter().map(ToString::to_string).collect();
    assert_eq!(
        breaches,
        [
            "crates/citus-sync/src/plan/decide.rs:1: `tokio_postgres` is for \
             crates/citus-sync/src/session/ alone"
        ]
    );
    assert_eq!(
        findings.circles,
        ["citus-sync: plan/decide.rs:2 -> plan/hold.rs:1 -> plan/decide.rs"]
    );
    assert_eq!(
        findings.knots,
        ["citus-sync: 2 files in one knot: plan/decide.rs, plan/hold.rs"]
    );
    assert_eq!(
        findings.warnings,
        [
            "crates/citus-sync/src/long.rs: 501 lines, and its head comment does not say why",
            "citus-sync/tests/holds: ending.rs:1 -> taking.rs:3 -> ending.rs"
        ]
    );
}
