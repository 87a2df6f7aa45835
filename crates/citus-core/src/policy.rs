//! How a formation is to be treated: deadlines, what may be held or moved, and whether rows may be
//! written.
//!
//! Pure values. They enter from [`crate::config`] and are handed to what decides and what executes;
//! nothing here reads a clock or a file. Every duration is checked against [`limits`] when it
//! is read, so the rest of the program need not ask whether one is zero or absurd.

use std::time::Duration;

use crate::plan::Limits;

/// The settings of one formation that shape decisions and deadlines.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of its own in the file"
)]
pub struct Policy {
    /// How long writes to a group may be made to wait, at the very most.
    pub hold_timeout: Duration,
    /// How long `citus_update_node` waits for conflicting sessions before it terminates them.
    pub lock_cooldown: Duration,
    /// Whether reads may be sent to a caught-up standby while writes are held or the primary is
    /// gone.
    pub read_move: bool,
    /// How many bytes of the log an *asynchronous* standby may lack for reads to be sent to it after
    /// a crash, when no synchronous one is to be had; `None` sends none there.
    pub read_move_max_lag: Option<u64>,
    /// Whether a failover request in etcd is a reason to hold. Where every member waits for
    /// `citus-sync hold` before it stops, it need not be: Patroni writes a checkpoint between the
    /// two.
    pub hold_on_request: bool,
    /// Whether writes are held as soon as the leader is lost, without a planned request.
    pub hold_on_leader_loss: bool,
    /// Whether standbys are kept as secondary rows.
    pub secondaries: bool,
    /// Whether `citus.use_secondary_nodes` is looked after on the coordinator's members.
    pub use_secondary_nodes: UseSecondaryNodes,
    /// Whether a group without a usable standby lets its primary serve as the secondary.
    pub fallback_to_primary: bool,
    /// Whether this program may write to `pg_dist_node`.
    pub write: Write,
    /// The deadline of one connection attempt, handshake and authentication included.
    pub connect_timeout: Duration,
    /// The deadline of one statement, lock waits included.
    pub statement_timeout: Duration,
    /// How often a new leader is asked whether it takes writes yet, while it is being promoted.
    pub probe_interval: Duration,
    /// How often everything is compared afresh although no event came.
    pub reconcile_every: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            hold_timeout: Duration::from_secs(30),
            lock_cooldown: Duration::from_secs(2),
            read_move: true,
            read_move_max_lag: None,
            hold_on_request: true,
            hold_on_leader_loss: false,
            secondaries: true,
            use_secondary_nodes: UseSecondaryNodes::Off,
            fallback_to_primary: true,
            write: Write::Auto,
            connect_timeout: Duration::from_secs(3),
            statement_timeout: Duration::from_secs(10),
            probe_interval: Duration::from_millis(5),
            reconcile_every: Duration::from_secs(60),
        }
    }
}

impl Policy {
    /// What decisions may do beyond following a leader.
    pub fn limits(&self) -> Limits {
        Limits {
            read_move: self.read_move,
            max_lag: self.read_move_max_lag,
            hold_on_request: self.hold_on_request,
            hold_on_leader_loss: self.hold_on_leader_loss,
        }
    }
}

/// Whether `citus.use_secondary_nodes` of the coordinator's members is looked after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UseSecondaryNodes {
    /// Leave the setting alone.
    #[default]
    Off,
    /// `never` on the leader, `always` on the standbys.
    Auto,
}

impl UseSecondaryNodes {
    /// The word that stands for this value in a configuration file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Auto => "auto",
        }
    }
}

/// Whether this program may write to `pg_dist_node` of a formation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Write {
    /// We do, unless Patroni's own Citus integration manages the formation: then it is only
    /// observed, because two writers would undo each other's moves.
    #[default]
    Auto,
    /// We do, even beside Patroni's own integration.
    Always,
    /// Never: the formation is only observed.
    Never,
}

impl Write {
    /// The word that stands for this value in a configuration file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Always => "always",
            Self::Never => "never",
        }
    }
}

/// The least and the greatest value each duration may take, both included.
///
/// The least values keep a typing mistake (`5ms` for `5s`) from turning every healthy answer into a
/// timeout; the greatest keep one from making a hung host look patient for hours.
pub mod limits {
    use std::time::Duration;

    /// A least and a greatest value, both allowed.
    pub type Range = (Duration, Duration);

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }
    const fn s(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    /// Of [`hold_timeout`](super::Policy::hold_timeout). Clients wait for the whole of it.
    pub const HOLD_TIMEOUT: Range = (s(1), s(600));
    /// Of [`lock_cooldown`](super::Policy::lock_cooldown). Citus counts it in milliseconds.
    pub const LOCK_COOLDOWN: Range = (ms(1), s(60));
    /// Of [`connect_timeout`](super::Policy::connect_timeout).
    pub const CONNECT_TIMEOUT: Range = (ms(50), s(60));
    /// Of [`statement_timeout`](super::Policy::statement_timeout).
    pub const STATEMENT_TIMEOUT: Range = (ms(100), s(600));
    /// Of [`probe_interval`](super::Policy::probe_interval). Faster than 1ms only burns CPU.
    pub const PROBE_INTERVAL: Range = (ms(1), s(1));
    /// Of [`reconcile_every`](super::Policy::reconcile_every).
    pub const RECONCILE_EVERY: Range = (s(1), s(86_400));
    /// Of the election's lease.
    pub const ELECTION_TTL: Range = (s(2), s(300));
}
