//! What the numbers were measured on, for comparison with other machines.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use lab::postgres::Client;
use serde::Serialize;

/// Machine and versions.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    cpu: String,
    cores: usize,
    memory_mib: u64,
    kernel: String,
    /// Half of the flushes of one page to the disk of the lab took at most this: the price of a
    /// commit. Next to nothing in memory, where a bench says little about a server.
    flush_ms: f64,
    postgres: String,
    etcd: String,
    /// Citus, or its stand-in.
    pub(crate) flavour: String,
    /// One-minute load average when the bench began: other work shows here.
    load_before: f64,
    /// And when it ended, which includes the bench itself.
    pub(crate) load_after: f64,
}

impl Machine {
    /// Looks around; `server` and `etcd` are those of the bench, `folder` is where they live.
    pub(crate) fn look(
        server: &mut Client,
        etcd: &str,
        folder: &Path,
        flavour: String,
    ) -> Result<Self> {
        let cpu = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".to_owned());
        let memory = field("/proc/meminfo", "MemTotal").unwrap_or_default();
        let kilobytes: u64 = memory.trim_end_matches(" kB").parse().unwrap_or(0);
        let mut answer = ureq::get(format!("{etcd}/version"))
            .call()
            .context("etcd's version")?;
        let versions: serde_json::Value =
            serde_json::from_str(&answer.body_mut().read_to_string()?)?;
        let postgres: String = server.query_one("SHOW server_version", &[])?.get(0);
        Ok(Self {
            cpu,
            cores: thread::available_parallelism()?.get(),
            memory_mib: kilobytes / 1024,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?
                .trim()
                .to_owned(),
            flush_ms: flush(folder)?,
            postgres,
            etcd: versions["etcdserver"]
                .as_str()
                .unwrap_or("unknown")
                .to_owned(),
            flavour,
            load_before: load(),
            load_after: 0.0,
        })
    }

    /// The bench is over.
    pub(crate) fn finish(&mut self) {
        self.load_after = load();
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "{} x {}, {} MiB, Linux {}; PostgreSQL {}, {}, etcd {}",
            self.cores,
            self.cpu,
            self.memory_mib,
            self.kernel,
            self.postgres,
            self.flavour,
            self.etcd
        )?;
        write!(
            f,
            "a flush to disk {:.2} ms (p50); load average {:.2} before, {:.2} after",
            self.flush_ms, self.load_before, self.load_after
        )
    }
}

fn flush(folder: &Path) -> Result<f64> {
    let path = folder.join("flush");
    let mut file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    let mut times = Vec::new();
    for _ in 0..101 {
        // As seldom as commits are here: a disk that was quiet answers later than a busy one.
        thread::sleep(Duration::from_millis(20));
        file.write_all(&[0; 8192])?;
        let began = Instant::now();
        file.sync_data()?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    Ok(times[50].as_secs_f64() * 1e3)
}

fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ')
        .next()
        .and_then(|first| first.parse().ok())
        .unwrap_or(f64::NAN)
}
