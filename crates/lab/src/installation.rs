//! The PostgreSQL of this machine to use. In: `/usr/lib/postgresql`. Out: one
//! version's programs, and whether Citus is installed for it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

const PROGRAMS: &str = "/usr/lib/postgresql";
const SHARED: &str = "/usr/share/postgresql";

/// One installed PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    /// The major version.
    pub major: u32,
    /// The folder of `postgres`, `initdb` and the others.
    pub bin: PathBuf,
    /// True when the Citus extension is installed.
    pub has_citus: bool,
}

impl Installation {
    /// The newest one that has Citus, else the newest.
    pub fn find() -> Result<Self> {
        best(Path::new(PROGRAMS), Path::new(SHARED))
            .context("no PostgreSQL server in /usr/lib/postgresql: `apt-get install postgresql`")
    }

    /// One of its programs.
    pub fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }
}

fn best(programs: &Path, shared: &Path) -> Option<Installation> {
    fs::read_dir(programs)
        .ok()?
        .flatten()
        .filter_map(|entry| {
            let major: u32 = entry.file_name().to_str()?.parse().ok()?;
            let bin = entry.path().join("bin");
            let control = shared.join(format!("{major}/extension/citus.control"));
            bin.join("initdb").exists().then(|| Installation {
                major,
                has_citus: control.exists(),
                bin,
            })
        })
        .max_by_key(|found| (found.has_citus, found.major))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_postgresql_with_citus_is_preferred_then_the_newest() {
        let machine = tempfile::tempdir().unwrap();
        let (programs, shared) = (machine.path().join("lib"), machine.path().join("share"));
        let touch = |path: PathBuf| {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        };
        assert_eq!(best(&programs, &shared), None);
        touch(programs.join("9.6/bin/initdb"));
        for major in ["13", "15", "17"] {
            touch(programs.join(major).join("bin/initdb"));
        }
        touch(programs.join("18/bin/psql")); // a client alone
        assert_eq!(best(&programs, &shared).unwrap().major, 17);
        touch(shared.join("15/extension/citus.control"));
        let found = best(&programs, &shared).unwrap();
        assert_eq!((found.major, found.has_citus), (15, true));
    }
}
