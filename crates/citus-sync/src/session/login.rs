//! A login: the role, its password, and what each session sets in its first packet.
//!
//! In: the configuration of a formation. Out: the settings that bound every session and that our
//! statements rely on.

use std::sync::Arc;
use std::time::Duration;

use citus_core::config::Password;
use citus_core::policy::Policy;
use citus_core::sql::APPLICATION;

use super::address_book::AddressBook;
use super::bounded::Bounds;
use super::password::SharedPassword;
use super::socket::Keepalive;

/// The role that logs in, and the deadlines of its sessions.
#[derive(Clone, Debug)]
pub struct Login {
    /// The role.
    pub user: String,
    /// Its password, or where to find it.
    pub password: SharedPassword,
    /// Shown in `pg_stat_activity`.
    pub application_name: String,
    /// Overall deadline of one connect.
    pub connect_timeout: Duration,
    /// `statement_timeout` of the session, and our own deadline a little later.
    pub statement_timeout: Duration,
    /// `lock_timeout` of the session.
    pub lock_timeout: Duration,
    /// `idle_in_transaction_session_timeout` of the session: so long are locks kept if we fall
    /// silent, and by a move at all.
    pub silence: Duration,
    /// How soon a host that says nothing any more is dead to us.
    pub keepalive: Keepalive,
    /// How much a server may send.
    pub bounds: Bounds,
    /// Where to find members that are registered under other addresses.
    pub addresses: AddressBook,
}

/// A login shared by the sessions of one formation.
pub(crate) type SharedLogin = Arc<Login>;

/// The longest `idle_in_transaction_session_timeout` of a session: a frozen or vanished daemon must
/// not keep a group's locks. A healthy one is never idle in a transaction for more than a round
/// trip and the turn of a few others. Where a hold may last less, so may every lock (rule 2).
const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(10);

/// How long we may be silent before our sessions are dead to a server: keepalive after 5 s, then
/// every 2 s, three times.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(10);

impl Login {
    /// From the configuration of a formation.
    pub fn new(user: &str, password: &Password, policy: &Policy) -> Self {
        Self {
            user: user.to_owned(),
            password: SharedPassword::new(password.clone()),
            application_name: APPLICATION.to_owned(),
            connect_timeout: policy.connect_timeout,
            statement_timeout: policy.statement_timeout,
            lock_timeout: policy.lock_cooldown,
            silence: policy.hold_timeout.min(IDLE_IN_TRANSACTION),
            keepalive: Keepalive::PATIENT,
            bounds: Bounds::CATALOGUE,
            addresses: AddressBook::default(),
        }
    }

    /// The same for a session that only asks whether its server takes writes: an answer that takes
    /// longer than a connect is none.
    #[must_use]
    pub fn for_probes(&self) -> Self {
        Self {
            statement_timeout: self.connect_timeout,
            keepalive: Keepalive::WATCHFUL,
            bounds: Bounds::SMALL,
            ..self.clone()
        }
    }

    /// What each session sets in its first packet, which no setting of a role or a database
    /// overrides.
    pub(super) fn settings(&self) -> String {
        let user_timeout = TCP_USER_TIMEOUT.as_millis();
        let deadlines = [
            ("statement_timeout", self.statement_timeout.as_millis()),
            ("lock_timeout", self.lock_timeout.as_millis()),
            (
                "idle_in_transaction_session_timeout",
                self.silence.as_millis(),
            ),
            ("tcp_keepalives_idle", 5),
            ("tcp_keepalives_interval", 2),
            ("tcp_keepalives_count", 3),
            ("tcp_user_timeout", user_timeout),
        ];
        let deadlines = deadlines.map(|(name, value)| (name, value.to_string()));
        let relied_on = RELIED_ON.map(|(name, value)| (name, value.to_owned()));
        let all = relied_on.into_iter().chain(deadlines);
        all.map(|(name, value)| format!("-c {name}={value}"))
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// What our statements rely on, whatever `ALTER ROLE … SET` or `ALTER DATABASE … SET` say.
///
/// - Our statements qualify functions, but operators and casts are looked up in `search_path`. With
///   any other schema in it, an ordinary role that may create an operator there would have its own
///   function called with our rights.
/// - A standby refuses a serializable transaction (0A000), and no row can be moved in one that is
///   read-only.
/// - Row security that is off turns a policy into an error.
const RELIED_ON: [(&str, &str); 5] = [
    ("search_path", "pg_catalog,pg_temp"),
    ("default_transaction_isolation", r"read\ committed"),
    ("default_transaction_read_only", "off"),
    ("default_transaction_deferrable", "off"),
    ("row_security", "on"),
];
