//! The hook: the script that Patroni runs, and waits for, before it stops PostgreSQL. In: the
//! program `citus-sync`. Out: a `before_stop` line for each scope, which runs
//! `citus-sync hold`, and the ports and the token of the daemons that it asks.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::sandbox::Sandbox;

/// The first Patroni with `before_stop`. An older one ignores the setting silently.
const SINCE: [u32; 3] = [3, 0, 3];

/// What a later command needs to find a hook again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct HookRecord {
    ports: Vec<u16>,
}

/// A lab's hook. It is on from the start.
#[derive(Debug)]
pub struct Hook {
    folder: PathBuf,
    record: HookRecord,
}

impl Hook {
    /// Copies `program` to where the servers' account can run it, makes a token, and reserves a port
    /// for each daemon.
    pub(crate) fn prepare(
        sandbox: &Sandbox,
        program: &Path,
        patroni: &Path,
        daemons: usize,
    ) -> Result<Self> {
        ensure_has_before_stop(patroni)?;
        let folder = sandbox.folder("hook")?;
        let own = folder.join("citus-sync");
        fs::copy(program, &own).with_context(|| format!("copying {}", program.display()))?;
        sandbox.user().own(&own)?;
        let ports: Result<Vec<u16>> = (0..daemons).map(|_| sandbox.port()).collect();
        let hook = Self {
            folder,
            record: HookRecord { ports: ports? },
        };
        sandbox.write(&hook.token_file(), &format!("{}\n", token()?))?;
        sandbox.write(&hook.log_file(), "")?;
        sandbox.write(&hook.script(), &hook.text())?;
        Ok(hook)
    }

    pub(crate) fn attach(sandbox: &Sandbox, record: HookRecord) -> Result<Self> {
        let folder = sandbox.folder("hook")?;
        Ok(Self { folder, record })
    }

    pub(crate) fn record(&self) -> &HookRecord {
        &self.record
    }

    /// The line for `before_stop` in the `patroni.yml` of a scope's members.
    pub(crate) fn line(&self, scope: &str) -> String {
        format!("/bin/sh {} {scope}", self.script().display())
    }

    /// The port on 127.0.0.1 of the daemon that it asks first.
    pub fn listen(&self) -> u16 {
        self.record.ports.first().copied().unwrap_or(0)
    }

    /// The ports on 127.0.0.1 of the daemons that it asks.
    pub fn ports(&self) -> &[u16] {
        &self.record.ports
    }

    /// The file with the daemons' token.
    pub fn token_file(&self) -> PathBuf {
        self.folder.join("token")
    }

    /// The daemons' token.
    pub fn token(&self) -> Result<String> {
        let text = fs::read_to_string(self.token_file()).context("reading the token")?;
        Ok(text.trim().to_owned())
    }

    /// From now on the hook asks, and Patroni waits for the answer.
    pub fn turn_on(&self) -> Result<()> {
        match fs::remove_file(self.off()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).context("turning the hook on")
            }
            _ => Ok(()),
        }
    }

    /// From now on the hook does nothing.
    pub fn turn_off(&self) -> Result<()> {
        fs::write(self.off(), "").context("turning the hook off")
    }

    /// The output of `citus-sync hold` so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn script(&self) -> PathBuf {
        self.folder.join("hold.sh")
    }

    fn log_file(&self) -> PathBuf {
        self.folder.join("log")
    }

    fn off(&self) -> PathBuf {
        self.folder.join("off")
    }

    /// The script. `exec` makes Patroni the parent of `citus-sync hold`, as it is without a script.
    fn text(&self) -> String {
        let folder = self.folder.display();
        let mut urls = String::new();
        for port in &self.record.ports {
            urls.push_str(" --url http://127.0.0.1:");
            urls.push_str(&port.to_string());
        }
        format!(
            "[ -e '{folder}/off' ] && exit 0\n\
             exec '{folder}/citus-sync' hold --scope \"$1\"{urls} --token-file '{folder}/token' \
             >>'{folder}/log' 2>&1\n"
        )
    }
}

/// 32 random hexadecimal digits.
fn token() -> Result<String> {
    let mut bytes = [0; 16];
    let mut source = File::open("/dev/urandom").context("opening /dev/urandom")?;
    source.read_exact(&mut bytes).context("making a token")?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

fn ensure_has_before_stop(patroni: &Path) -> Result<()> {
    let output = Command::new(patroni)
        .arg("--version")
        .output()
        .with_context(|| format!("running {} --version", patroni.display()))?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(
        has_before_stop(&said)?,
        "{} is {}; a hook needs `before_stop`, which came with 3.0.3",
        patroni.display(),
        said.trim()
    );
    Ok(())
}

/// Reads the output of `patroni --version`, for example `patroni 3.0.2`.
fn has_before_stop(said: &str) -> Result<bool> {
    let numbers: Vec<u32> = said
        .trim()
        .rsplit(' ')
        .next()
        .unwrap_or_default()
        .split('.')
        .map_while(|part| part.parse().ok())
        .collect();
    if numbers.len() < 2 {
        bail!("no version in the output of `patroni --version`: {said:?}");
    }
    Ok(numbers.as_slice() >= SINCE.as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_takes_patroni_3_0_3_or_later() {
        for (said, has) in [
            ("patroni 3.0.2\n", false),
            ("patroni 2.1.7\n", false),
            ("patroni 3.0.3\n", true),
            ("patroni 3.1\n", true),
            ("patroni 4.1.5\n", true),
        ] {
            assert_eq!(has_before_stop(said).unwrap(), has, "{said}");
        }
        assert!(has_before_stop("usage: patroni").is_err());
    }

    #[test]
    fn a_token_has_32_digits_and_no_two_are_the_same() {
        let (one, other) = (token().unwrap(), token().unwrap());
        assert_eq!(one.len(), 32);
        assert_ne!(one, other);
    }
}
