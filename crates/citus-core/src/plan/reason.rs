//! Why writes to a group are held. A leaf type.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why writes to a group are held. Each names the fact it comes from, so that after a hold
/// has reached its deadline no other hold is taken for the same fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Reason {
    /// Patroni was asked for a switchover or a failover.
    Request {
        /// `mod_revision` of the failover key.
        revision: i64,
    },
    /// A hold was asked for with `citus-sync hold`, by a person or by Patroni's `before_stop`.
    HoldRequest {
        /// Counts the holds that were asked for since this program started.
        id: u64,
    },
    /// The leader key names a member that is still in recovery.
    Promotion {
        /// `mod_revision` of the leader key.
        revision: i64,
    },
    /// The leader is gone, and the policy wants writes to wait for the next.
    Loss {
        /// `mod_revision` of the leader key; 0 once it is gone.
        revision: i64,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request { .. } => f.write_str("a switchover was asked for"),
            Self::HoldRequest { .. } => f.write_str("`citus-sync hold` asked for it"),
            Self::Promotion { .. } => f.write_str("the new leader is being promoted"),
            Self::Loss { .. } => f.write_str("the leader is lost"),
        }
    }
}
