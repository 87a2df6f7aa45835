//! The account of the servers. In: the effective user and `/etc/passwd`. Out: the
//! account to start servers under, and ownership of their files.
//!
//! PostgreSQL refuses to run as root. So root starts every server as the `postgres`
//! account that Debian's package creates. Other users start servers under their own
//! account.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;

use anyhow::{Context, Result};

/// The account that servers run under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// `Some((uid, gid))` when the caller is root.
    switch_to: Option<(u32, u32)>,
}

/// True for root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

impl User {
    /// `postgres` for root, the caller's own account otherwise.
    pub fn for_servers() -> Result<Self> {
        if !is_root() {
            return Ok(Self { switch_to: None });
        }
        let passwd = fs::read_to_string("/etc/passwd").context("reading /etc/passwd")?;
        let ids = lookup(&passwd, "postgres").context(
            "no `postgres` account in /etc/passwd, and PostgreSQL refuses to run as root: \
             install it with `apt-get install postgresql`, or run as a normal user",
        )?;
        Ok(Self {
            switch_to: Some(ids),
        })
    }

    /// Options that make `unshare` run a program under this account.
    pub(crate) fn unshare_options(&self) -> Vec<String> {
        let options = self
            .switch_to
            .map(|(uid, gid)| vec![format!("--setuid={uid}"), format!("--setgid={gid}")]);
        options.unwrap_or_default()
    }

    /// Makes this account the owner of a file or folder.
    pub fn own(&self, path: &Path) -> Result<()> {
        if let Some((uid, gid)) = self.switch_to {
            chown(path, Some(uid), Some(gid))
                .with_context(|| format!("making uid {uid} the owner of {}", path.display()))?;
        }
        Ok(())
    }
}

fn lookup(passwd: &str, name: &str) -> Option<(u32, u32)> {
    let line = passwd
        .lines()
        .find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\n\
                      postgres2:x:1:2::/:/bin/sh\n\
                      postgres:x:104:113:PostgreSQL,,,:/var/lib/postgresql:/bin/bash\n";
        assert_eq!(lookup(passwd, "postgres"), Some((104, 113)));
        assert_eq!(lookup(passwd, "nobody"), None);
        assert_eq!(lookup("postgres:x:many:1::/:", "postgres"), None);
    }
}
