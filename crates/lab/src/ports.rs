//! Loopback ports that two labs on one machine never share. In: nothing. Out:
//! port numbers below the kernel's ephemeral range, so that no outgoing
//! connection takes one while its server is down.
//!
//! Ports come in blocks. A lab locks a block by listening on an abstract socket with
//! its name. Such a lock holds for all users of the network namespace, as the ports do,
//! and leaves nothing on disk. The lab's init holds the socket too, so a block is free only
//! when the lab has ended. Each port is also tried with a bind, because other programs do
//! not know of the locks.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::Stdio;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result, bail};

const FIRST: u16 = 10_400;
/// Ports of a block. A coordinator and nine workers of three members take 60, and etcd a few.
const BLOCK: u16 = 128;
/// The last port is 31,903; the default ephemeral range begins at 32,768.
const BLOCKS: u16 = 168;

/// One block of ports.
#[derive(Debug)]
pub struct Ports {
    lock: UnixListener,
    next: AtomicU16,
    end: u16,
}

impl Ports {
    /// Takes a free block.
    pub fn reserve() -> Result<Self> {
        // Processes begin at different blocks, so that they seldom try the same one.
        let start = u16::try_from(std::process::id() % u32::from(BLOCKS)).unwrap_or(0);
        for step in 0..BLOCKS {
            let block = (start + step) % BLOCKS;
            let name = format!("citus-sync-lab-ports-{block}");
            let name = SocketAddr::from_abstract_name(name).context("naming a block of ports")?;
            if let Ok(lock) = UnixListener::bind_addr(&name) {
                let first = FIRST + block * BLOCK;
                return Ok(Self {
                    lock,
                    next: AtomicU16::new(first),
                    end: first + BLOCK,
                });
            }
        }
        bail!("all {BLOCKS} blocks of lab ports are taken; is something left running?");
    }

    /// The next port of the block that is not in use.
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

    /// Another handle of the lock, for a process that may outlive this one.
    pub(crate) fn share_lock(&self) -> Result<Stdio> {
        let lock = self.lock.try_clone().context("sharing the port lock")?;
        Ok(Stdio::from(OwnedFd::from(lock)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_blocks_have_no_port_in_common() {
        let (one, other) = (Ports::reserve().unwrap(), Ports::reserve().unwrap());
        let mine: Vec<u16> = (0..20).map(|_| one.take().unwrap()).collect();
        for _ in 0..20 {
            assert!(!mine.contains(&other.take().unwrap()));
        }
        assert!(mine.iter().all(|port| *port < 32_768));
    }

    #[test]
    fn a_port_that_is_in_use_is_not_taken() {
        let ports = Ports::reserve().unwrap();
        let first = ports.take().unwrap();
        let _held = TcpListener::bind(("127.0.0.1", first + 1));
        assert_ne!(ports.take().unwrap(), first + 1);
    }

    #[test]
    fn a_block_is_free_when_its_last_holder_is_gone() {
        let ports = Ports::reserve().unwrap();
        let name = ports.lock.local_addr().unwrap();
        let held = ports.share_lock().unwrap();
        drop(ports);
        assert!(UnixListener::bind_addr(&name).is_err());
        drop(held);
        assert!(UnixListener::bind_addr(&name).is_ok());
    }

    #[test]
    fn taking_more_ports_than_a_block_has_is_an_error() {
        let ports = Ports::reserve().unwrap();
        let taken = (0..=BLOCK).filter_map(|_| ports.take().ok()).count();
        assert!(taken <= usize::from(BLOCK));
        assert!(ports.take().is_err());
    }
}
