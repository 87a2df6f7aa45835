//! A host that falls silent. In: processes. Out: they are suspended and every packet for
//! them is dropped, so that no peer gets a refusal or an answer to a keepalive. And the same
//! undone.
//!
//! A suspended process is not silent: the kernel still accepts connections, acknowledges
//! data and answers keepalives for it. So each of its TCP sockets is borrowed
//! (`pidfd_getfd`) and gets a packet filter that lets nothing in. A listening socket then
//! drops the first packet of a connection. The sockets' own keepalives and timeouts are
//! switched off, because the kernel would use them to end the connection, and tell the peer.
//!
//! A connection that the process has not yet accepted has no socket to borrow. The
//! kernel still answers for it.
//!
//! Borrowing takes the rights of a debugger: root, or processes of the same user where
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

/// `BPF_RET | BPF_K` with 0 bytes to keep, which drops every packet.
const DROP: SockFilter = SockFilter::new(0x06, 0, 0, 0);
/// A process that flushes to disk stops only after the flush.
const STOP: Duration = Duration::from_secs(10);

/// Silences processes that were sent SIGSTOP.
pub(crate) fn silence(pids: &[Pid]) -> Result<()> {
    for pid in pids {
        // Until it has stopped it may open another socket.
        wait_for(&format!("process {pid} to stop"), STOP, || {
            // Again each time: its parent may have forked it between the two signals.
            let _ = kill_process(*pid, Signal::STOP);
            Ok(!matches!(state(*pid), Some('R' | 'S' | 'D')))
        })?;
    }
    for socket in sockets(pids)? {
        // With these the kernel would end the connection after a while, and tell the peer. A
        // listening socket has neither, so errors do not count.
        let _ = socket.set_keepalive(false);
        let _ = socket.set_tcp_user_timeout(None);
        socket
            .attach_filter(&[DROP])
            .context("having packets dropped")?;
    }
    Ok(())
}

/// Lets packets in again. Peers that have not closed the connection send theirs again.
pub(crate) fn unsilence(pids: &[Pid]) -> Result<()> {
    for socket in sockets(pids)? {
        match socket.detach_filter() {
            // The socket has no filter.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            outcome => outcome.context("letting packets in again")?,
        }
    }
    Ok(())
}

/// The TCP sockets of these processes. A process that is gone has none.
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

/// The state of a process: a letter in `/proc`.
fn state(pid: Pid) -> Option<char> {
    let stat = fs::read_to_string(of(pid, "stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

fn of(pid: Pid, file: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{}/{file}", pid.as_raw_nonzero()))
}
