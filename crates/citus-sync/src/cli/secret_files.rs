//! Whether the files with secrets are safe from others. In: a configuration. Out: what must be mended
//! before it is used, and what should be.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use citus_core::config::{Config, Origin, Password, Secret};

use crate::files::only_its_owner;

/// Others may write.
const OTHERS_WRITE: u32 = 0o002;
/// Others may read.
const OTHERS_READ: u32 = 0o004;

/// What is wrong with the files that a configuration names, and with itself.
#[derive(Debug, Default)]
pub(super) struct Exposed {
    /// Anybody could put a secret of theirs there, or libpq would not take it either.
    pub(super) problems: Vec<String>,
    /// Anybody can read them.
    pub(super) warnings: Vec<String>,
}

/// Looks at the permissions of each file.
pub(super) fn exposed(config: &Config) -> Exposed {
    let mut exposed = Exposed::default();
    let mut secrets: Vec<&Secret> = config.token.iter().chain(&config.etcd.password).collect();
    for formation in &config.formations {
        match &formation.coordinator.password {
            Password::Literal(secret) => secrets.push(secret),
            Password::Passfile(file) => exposed.passfile(file),
            Password::None => {}
        }
    }
    for secret in secrets {
        match secret.origin() {
            Origin::File(file) | Origin::Key { file, .. } => exposed.secret_file(file),
            Origin::Env(_) => {}
        }
    }
    exposed.configuration(&config.source);
    exposed.problems.dedup();
    exposed.warnings.dedup();
    exposed
}

impl Exposed {
    fn passfile(&mut self, file: &Path) {
        if let Ok(metadata) = fs::metadata(file)
            && let Err(error) = only_its_owner(&metadata)
        {
            self.problems.push(format!("{}: {error}", file.display()));
        }
    }

    fn secret_file(&mut self, file: &Path) {
        let mode = mode_of(file);
        let file = file.display();
        if mode & OTHERS_WRITE != 0 {
            self.problems.push(format!(
                "{file}: anybody on this host may write to it (mode {mode:04o}), and so choose the \
                 secret in it: chmod o= {file}"
            ));
        } else if mode & OTHERS_READ != 0 {
            self.warnings.push(format!(
                "{file}: anybody on this host may read the secret in it (mode {mode:04o}): chmod o= \
                 {file}"
            ));
        }
    }

    fn configuration(&mut self, file: &Path) {
        let mode = mode_of(file);
        if mode & OTHERS_WRITE != 0 {
            let file = file.display();
            self.warnings.push(format!(
                "{file}: anybody on this host may write to it (mode {mode:04o}), and so configure this \
                 program: chmod o-w {file}"
            ));
        }
    }
}

/// The permissions of a plain file; none of what is no plain file (a pipe is nobody's after it was read).
fn mode_of(file: &Path) -> u32 {
    fs::metadata(file)
        .ok()
        .filter(fs::Metadata::is_file)
        .map_or(0, |metadata| metadata.mode() & 0o777)
}
