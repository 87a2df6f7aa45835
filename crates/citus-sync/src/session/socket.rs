//! A TCP connection to a server, with keepalives. In: an address. Out: a stream, or why there
//! is none. Without a deadline of its own: the caller has one for all that opening a session takes.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use dcs_watch::HostPort;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, lookup_host};

use super::error::SqlError;

/// How TCP asks a silent host whether it is still there. Costs one small packet each `idle`, which
/// the kernel sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence after which it asks, and between its questions.
    idle: Duration,
    /// How long data or questions may stay unanswered (`TCP_USER_TIMEOUT`).
    user_timeout: Duration,
}

impl Keepalive {
    /// Sessions that work: asked after 5 s, given up 10 s after the last sign.
    pub(super) const PATIENT: Self = Self {
        idle: Duration::from_secs(5),
        user_timeout: Duration::from_secs(10),
    };

    /// Sessions that watch a leader: the least that Linux does, whole seconds. A host that is gone
    /// is noticed between one and two seconds after its last sign.
    pub(super) const WATCHFUL: Self = Self {
        idle: Duration::from_secs(1),
        user_timeout: Duration::from_millis(900),
    };
}

/// Questions that stay unanswered before the host is given up, where `user_timeout` is not known.
const RETRIES: u32 = 3;

/// The addresses of a host, in the resolver's order.
///
/// # Errors
///
/// The resolver's, or that there are none.
pub(super) async fn resolve(address: &HostPort) -> Result<Vec<SocketAddr>, SqlError> {
    let found = lookup_host((address.bare_host(), address.port));
    let found: Vec<_> = found.await.map_err(cannot_connect)?.collect();
    if found.is_empty() {
        let none = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        return Err(cannot_connect(none));
    }
    Ok(found)
}

/// Connects to one address.
///
/// # Errors
///
/// What the system says.
pub(super) async fn connect(peer: SocketAddr, keepalive: Keepalive) -> Result<TcpStream, SqlError> {
    let stream = TcpStream::connect(peer).await.map_err(cannot_connect)?;
    tune(&stream, keepalive).map_err(cannot_connect)?;
    Ok(stream)
}

fn tune(stream: &TcpStream, keepalive: Keepalive) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_user_timeout(Some(keepalive.user_timeout))?;
    let questions = TcpKeepalive::new()
        .with_time(keepalive.idle)
        .with_interval(keepalive.idle)
        .with_retries(RETRIES);
    socket.set_tcp_keepalive(&questions)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn cannot_connect(error: io::Error) -> SqlError {
    SqlError::Io(format!("error connecting to server: {error}"))
}
