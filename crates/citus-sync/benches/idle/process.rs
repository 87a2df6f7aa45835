//! What the kernel says of a process.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// Clock ticks a second in `/proc`, the same on every Linux that Rust runs on (`USER_HZ`).
const TICKS: u64 = 100;

/// CPU time and memory up to now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// In the program and in the kernel together.
    pub(crate) cpu: Duration,
    /// In the kernel.
    pub(crate) system: Duration,
    /// Times that a thread went to sleep.
    pub(crate) switches: u64,
    /// `VmRSS`.
    pub(crate) resident_mib: f64,
    /// `RssAnon`.
    pub(crate) anonymous_mib: f64,
    /// `VmHWM`.
    pub(crate) peak_mib: f64,
    /// `Threads`.
    pub(crate) threads: u64,
}

impl Usage {
    /// Of a process.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let stat = read(pid, "stat")?;
        // The name in parentheses may contain anything; 14 and 15 in proc(5) are user and system
        // time, and the first field after the name is the third.
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .map(|(_, rest)| rest.split_whitespace().collect())
            .unwrap_or_default();
        let ticks = |field: usize| -> Result<Duration> {
            let ticks: u64 = fields.get(field - 3).context("too few fields")?.parse()?;
            Ok(Duration::from_millis(ticks * (1000 / TICKS)))
        };
        let (user, system) = (ticks(14)?, ticks(15)?);
        let status = read(pid, "status")?;
        let mib = |name: &str| -> Result<f64> {
            let kilobytes = u32::try_from(number(&status, name)?)?;
            Ok(f64::from(kilobytes) / 1024.0)
        };
        let mut switches = 0;
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let status = fs::read_to_string(task?.path().join("status"))?;
            switches += number(&status, "voluntary_ctxt_switches")?;
        }
        Ok(Self {
            cpu: user + system,
            system,
            switches,
            resident_mib: mib("VmRSS")?,
            anonymous_mib: mib("RssAnon")?,
            peak_mib: mib("VmHWM")?,
            threads: number(&status, "Threads")?,
        })
    }
}

fn read(pid: u32, file: &str) -> Result<String> {
    fs::read_to_string(format!("/proc/{pid}/{file}")).with_context(|| format!("process {pid}"))
}

fn number(status: &str, name: &str) -> Result<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let value = line.with_context(|| format!("no {name} in /proc"))?;
    value
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .with_context(|| format!("{name}: {value}"))
}
