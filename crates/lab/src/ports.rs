//! Loopback ports that two labs on one machine never share. In: nothing. Out:
//! port numbers below the kernel's ephemeral range, so that no outgoing
//! connection takes one while its server is down.
//!
//! Ports come in blocks. A block is taken by a lock on a file; the reaper holds
//! the same lock, so a block is free again only when the last process that
//! used it is dead. Each port is also tried with a bind, which finds what does
//! not know of these locks.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};

const FIRST: u16 = 10_400;
/// Ports per block: a coordinator and nine workers of three members need 60
/// and etcd a few.
const BLOCK: u16 = 128;
/// Up to 31,904: the default ephemeral range begins at 32,768.
const BLOCKS: u16 = 168;

/// One block of ports.
#[derive(Debug)]
pub struct Ports {
    lock: File,
    next: AtomicU16,
    end: u16,
}

impl Ports {
    /// Takes a free block.
    pub fn reserve() -> Result<Self> {
        let uid = rustix::process::geteuid().as_raw();
        let folder = std::env::temp_dir().join(format!("citus-sync-ports-{uid}"));
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        // Different processes begin at different places, so that they seldom
        // meet; the lock decides when they do.
        let start = u16::try_from(std::process::id() % u32::from(BLOCKS)).unwrap_or(0);
        for step in 0..BLOCKS {
            let block = (start + step) % BLOCKS;
            let path: PathBuf = folder.join(format!("block-{block}"));
            let lock = File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)
                .with_context(|| format!("opening {}", path.display()))?;
            if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
                let first = FIRST + block * BLOCK;
                return Ok(Self {
                    lock,
                    next: AtomicU16::new(first),
                    end: first + BLOCK,
                });
            }
        }
        bail!(
            "all {BLOCKS} blocks of lab ports are taken; is something left running? see `ls {}`",
            folder.display()
        );
    }

    /// The next port of the block that nobody listens on.
    pub fn take(&self) -> Result<u16> {
        loop {
            let port = self.next.fetch_add(1, Ordering::Relaxed);
            if port >= self.end {
                self.next.store(self.end, Ordering::Relaxed);
                bail!("this lab has used up its block of {BLOCK} ports");
            }
            if TcpListener::bind(("127.0.0.1", port)).is_ok() {
                return Ok(port);
            }
        }
    }

    /// Another handle on the lock, to be held by a process that may outlive us.
    pub(crate) fn share_lock(&self) -> Result<Stdio> {
        Ok(Stdio::from(
            self.lock.try_clone().context("sharing the port lock")?,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_blocks_share_nothing() {
        let (one, other) = (Ports::reserve().unwrap(), Ports::reserve().unwrap());
        let mine: Vec<u16> = (0..20).map(|_| one.take().unwrap()).collect();
        for _ in 0..20 {
            assert!(!mine.contains(&other.take().unwrap()));
        }
        assert!(mine.iter().all(|port| *port < 32_768));
    }

    #[test]
    fn a_port_that_is_in_use_is_passed_over() {
        let ports = Ports::reserve().unwrap();
        let first = ports.take().unwrap();
        let _held = TcpListener::bind(("127.0.0.1", first + 1));
        assert_ne!(ports.take().unwrap(), first + 1);
    }

    #[test]
    fn a_block_ends() {
        let ports = Ports::reserve().unwrap();
        let taken = (0..=BLOCK).filter_map(|_| ports.take().ok()).count();
        assert!(taken <= usize::from(BLOCK));
        assert!(ports.take().is_err());
    }
}
