//! All that is read from the workspace's sources. In: its root. Out: what fails the check, and what
//! is worth a look.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::circles::{circles, knots};
use super::homes::{self, Breach};
use super::lengths;
use super::modules::Files;
use super::references::graph;

/// The crates whose libraries have homes.
const PRODUCT: &[&str] = &["dcs-watch", "citus-core", "citus-sync"];

/// What a scan found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Libraries named away from their homes. They fail the check.
    pub breaches: Vec<Breach>,
    /// Circles of files of a crate, shortest first, each with its crate. They fail the check.
    pub circles: Vec<String>,
    /// The files that circles tie together, a line for each knot.
    pub knots: Vec<String>,
    /// Long files and functions, and circles of files of a test or bench.
    pub warnings: Vec<String>,
    /// How many files were read: none would be no proof of anything.
    pub files: usize,
}

/// Reads every source file of the workspace at `root`.
pub fn scan(root: &Path) -> Result<Findings> {
    let mut findings = Findings::default();
    let mut targets: BTreeMap<String, Files> = BTreeMap::new();
    for path in sources(&root.join("crates"))? {
        let text =
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let below = path.strip_prefix(root).unwrap_or(&path);
        let file = below.to_string_lossy().replace('\\', "/");
        let parsed = syn::parse_file(&text).with_context(|| format!("reading {file}"))?;
        findings.files += 1;
        findings.warnings.extend(lengths::long_file(&file, &text));
        findings
            .warnings
            .extend(lengths::long_functions(&file, &parsed));
        if in_product(&file) {
            findings.breaches.extend(homes::breaches(&file, &text)?);
        }
        if let Some((target, inside)) = inside_target(&file) {
            let files = targets.entry(target).or_default();
            files.insert(inside.to_owned(), parsed);
        }
    }
    findings.breaches.sort();
    for (name, files) in &targets {
        let graph = graph(files).with_context(|| format!("reading the modules of {name}"))?;
        let circles = circles(&graph);
        let named = circles.iter().map(|circle| format!("{name}: {circle}"));
        if is_test_or_bench(name) {
            findings.warnings.extend(named);
            continue;
        }
        findings.circles.extend(named);
        findings.knots.extend(knots(&graph).iter().map(|knot| {
            let files = knot.join(", ");
            format!("{name}: {} files in one knot: {files}", knot.len())
        }));
    }
    findings
        .circles
        .sort_by_key(|one| one.matches("->").count());
    Ok(findings)
}

/// Whether a file is source code of the product, tests and benches left out.
fn in_product(file: &str) -> bool {
    let mut sources = PRODUCT.iter().map(|name| format!("crates/{name}/src/"));
    sources.any(|source| file.starts_with(&source))
}

/// The target that a file belongs to, and the file's name below the target's folder: `citus-sync`
/// and `config/mod.rs` for `crates/citus-sync/src/config/mod.rs`, `citus-sync/tests/e2e` and
/// `main.rs` for `crates/citus-sync/tests/e2e/main.rs`. Tests that are files of their own have no
/// folder.
fn inside_target(file: &str) -> Option<(String, &str)> {
    let (name, rest) = file.strip_prefix("crates/")?.split_once('/')?;
    if let Some(inside) = rest.strip_prefix("src/") {
        return Some((name.to_owned(), inside));
    }
    let (kind, rest) = rest.split_once('/')?;
    let (target, inside) = rest.split_once('/')?;
    Some((format!("{name}/{kind}/{target}"), inside))
}

/// Whether a target, as [`inside_target`] names it, is a test or a bench.
fn is_test_or_bench(target: &str) -> bool {
    target.contains('/')
}

fn sources(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries = fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))?;
    for entry in entries {
        let path = entry
            .with_context(|| format!("listing {}", folder.display()))?
            .path();
        if path.is_dir() {
            found.extend(sources(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
