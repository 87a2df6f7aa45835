//! A host that falls silent. In: processes. Out: they are stopped in their
//! tracks and every packet for them is dropped, so that nobody gets as much as
//! a refusal or the answer to a keepalive; and the undoing of it.
//!
//! A stopped process is not silent: the kernel goes on to accept connections, to
//! acknowledge data and to answer keepalives for it. So each of its TCP sockets
//! is borrowed (`pidfd_getfd`) and given a packet filter that lets nothing in;
//! a listening socket drops the first packet of a connection then. The sockets'
//! own keepalives and timeouts are switched off, as the kernel would otherwise
//! give up the connection after a while and tell the other side.
//!
//! A connection that is made but not yet accepted by the process has no socket to
//! borrow; the kernel goes on to answer for it.
//!
//! Borrowing takes what a debugger needs: root, or processes of one's own where
//! `kernel.yama.ptrace_scope` is 0.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::fd::OwnedFd;
use rustix::process::{
    Pid, PidfdFlags, PidfdGetfdFlags, Signal, kill_process, pidfd_getfd, pidfd_open,
};
use socket2::{Domain, SockFilter, Socket};

use crate::wait::wait_for;

/// `BPF_RET | BPF_K` with 0 bytes to keep: every packet is dropped.
const DROP: SockFilter = SockFilter::new(0x06, 0, 0, 0);
/// A process in the middle of a flush to disk stops when that is done.
const STOP: Duration = Duration::from_secs(10);

/// Makes processes that were sent SIGSTOP silent.
pub(crate) fn silence(pids: &[Pid]) -> Result<()> {
    for pid in pids {
        // Until it has stopped it may open another socket.
        wait_for(&format!("process {pid} to stop"), STOP, || {
            // Again each time: it may have been forked between the signal to its parent and ours.
            let _ = kill_process(*pid, Signal::STOP);
            Ok(!matches!(state(*pid), Some('R' | 'S' | 'D')))
        })?;
    }
    for socket in sockets(pids)? {
        // Without them the kernel would end the connection by and by, and say so. A listening
        // socket has neither; that the filter is there is what counts.
        let _ = socket.set_keepalive(false);
        let _ = socket.set_tcp_user_timeout(None);
        socket
            .attach_filter(&[DROP])
            .context("having packets dropped")?;
    }
    Ok(())
}

/// Lets packets in again. What was sent meanwhile is sent again by its sender,
/// unless that has given up.
pub(crate) fn unsilence(pids: &[Pid]) -> Result<()> {
    for socket in sockets(pids)? {
        match socket.detach_filter() {
            // It has none.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            outcome => outcome.context("letting packets in again")?,
        }
    }
    Ok(())
}

/// The TCP sockets of all these processes. Of processes that are gone: none.
fn sockets(pids: &[Pid]) -> Result<Vec<Socket>> {
    let mut found = Vec::new();
    for pid in pids {
        let Ok(process) = pidfd_open(*pid, PidfdFlags::empty()) else {
            continue;
        };
        for number in socket_numbers(*pid) {
            let socket = borrow(&process, number)
                .with_context(|| format!("borrowing socket {number} of process {pid}: this takes root, or kernel.yama.ptrace_scope = 0"))?;
            if matches!(socket.domain(), Ok(Domain::IPV4 | Domain::IPV6)) {
                found.push(socket);
            }
        }
    }
    Ok(found)
}

fn borrow(process: &OwnedFd, number: i32) -> rustix::io::Result<Socket> {
    pidfd_getfd(process, number, PidfdGetfdFlags::empty()).map(Socket::from)
}

fn socket_numbers(pid: Pid) -> Vec<i32> {
    let Ok(entries) = fs::read_dir(of(pid, "fd")) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| {
            fs::read_link(entry.path()).is_ok_and(|target| {
                target
                    .as_os_str()
                    .as_encoded_bytes()
                    .starts_with(b"socket:")
            })
        })
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// The letter that `/proc` has for what it is doing.
fn state(pid: Pid) -> Option<char> {
    let stat = fs::read_to_string(of(pid, "stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

fn of(pid: Pid, file: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{}/{file}", pid.as_raw_nonzero()))
}
