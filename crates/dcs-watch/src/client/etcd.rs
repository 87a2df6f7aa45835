//! Connections, lists and watches of etcd, in the crate's own types.
//!
//! The only file that names `etcd_client`. Every call in here has a deadline, except for waiting
//! for the next event: [`crate::machine`] decides how long a watch may be silent.

use std::error::Error as _;
use std::fmt;
use std::time::Duration;

use etcd_client::{
    Client, ConnectOptions, EventType, GetOptions, KeyValue, KvClient, ResponseHeader, Txn, TxnOp,
    TxnOpResponse, WatchClient, WatchOptions, WatchRequestSender, WatchResponseStream,
};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::settings::Settings;
use crate::event::{Event, Record};
use crate::key::Namespace;
use crate::machine::{Header, Input};
use crate::text::excerpt;

/// Largest answer that is accepted, in bytes. A page of a thousand keys of the usual size is well
/// under one MiB; etcd itself takes no value above 1.5 MiB unless configured to.
const LARGEST_ANSWER: usize = 256 * 1024 * 1024;

// Status codes of gRPC; the numbers are part of the protocol.
const INVALID_ARGUMENT: i32 = 3;
const PERMISSION_DENIED: i32 = 7;
const FAILED_PRECONDITION: i32 = 9;
const UNAUTHENTICATED: i32 = 16;

/// Bytes of what the client or etcd says of an error: the message may hold any text.
const REASON_BYTES: usize = 400;

/// What went wrong with one endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EtcdError {
    /// etcd answered and refused the user, or the lack of one.
    pub(super) refused: bool,
    /// For people, without the endpoint: escaped, and cut to a bound.
    pub(super) what: String,
}

impl fmt::Display for EtcdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl EtcdError {
    fn failed(doing: &str, reason: &str) -> Self {
        Self {
            refused: false,
            what: format!("{doing}: {}", excerpt(reason, REASON_BYTES)),
        }
    }

    fn silent(doing: &str, limit: Duration) -> Self {
        Self::failed(doing, &format!("no answer within {limit:?}"))
    }

    fn new(doing: &str, error: &etcd_client::Error) -> Self {
        let etcd_client::Error::GRpcStatus(status) = error else {
            return Self::failed(doing, &innermost(error));
        };
        let code = i32::from(status.code());
        let message = status.message();
        let refused = matches!(code, UNAUTHENTICATED | PERMISSION_DENIED)
            || (code == INVALID_ARGUMENT
                && [
                    "authentication failed",
                    "auth store is old",
                    "user name is empty",
                ]
                .iter()
                .any(|refusal| message.contains(refusal)));
        let reason = match status.source() {
            Some(source) => innermost(source),
            None if message.is_empty() => status.code().description().to_owned(),
            None => message.to_owned(),
        };
        Self {
            refused,
            ..Self::failed(doing, &reason)
        }
    }
}

/// The message of the innermost cause: `Connection refused` says more than `transport error`.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// A connection to one endpoint. Cheap to clone; gone when the last clone is.
#[derive(Clone)]
pub(super) struct Connection {
    kv: KvClient,
    watch: WatchClient,
}

/// A page of a list.
pub(super) struct Page {
    pub(super) header: Header,
    pub(super) records: Vec<Record>,
    pub(super) more: bool,
}

impl Connection {
    /// Connects, and authenticates where there is a user: tokens expire and are invalidated by any
    /// change of users or roles, so every connection begins with a new one.
    pub(super) async fn open(settings: &Settings, endpoint: &str) -> Result<Self, EtcdError> {
        reach(endpoint, settings.request_timeout).await?;
        let client = log_in(settings, endpoint).await?;
        Ok(Self {
            kv: client.kv_client().max_decoding_message_size(LARGEST_ANSWER),
            watch: client
                .watch_client()
                .max_decoding_message_size(LARGEST_ANSWER),
        })
    }

    /// Reads one page: from the start at the newest revision, or after a key at the revision of the
    /// first page. Linearizable, so that a member that is behind cannot answer.
    pub(super) async fn page(
        &mut self,
        settings: &Settings,
        on: Option<(i64, Vec<u8>)>,
    ) -> Result<Page, EtcdError> {
        let mut options = GetOptions::new()
            .with_range(range_end(&settings.namespace))
            .with_limit(i64::from(settings.page.max(1)));
        let from = match on {
            None => settings.namespace.as_str().as_bytes().to_vec(),
            Some((revision, mut after)) => {
                options = options.with_revision(revision);
                after.push(0);
                after
            }
        };
        let limit = settings.request_timeout;
        let mut answer = timeout(limit, self.kv.get(from, Some(options)))
            .await
            .map_err(|_| EtcdError::silent("list", limit))?
            .map_err(|error| EtcdError::new("list", &error))?;
        Ok(Page {
            header: header(answer.header()),
            more: answer.more(),
            records: answer.take_kvs().into_iter().map(into_record).collect(),
        })
    }

    /// The revisions at which keys were last put, none for one that is not there; all of one moment.
    /// Linearizable, so that a member that is behind cannot answer.
    pub(super) async fn revisions<const N: usize>(
        &mut self,
        settings: &Settings,
        keys: [String; N],
    ) -> Result<[Option<i64>; N], EtcdError> {
        let options = || Some(GetOptions::new().with_keys_only());
        let gets = keys.map(|key| TxnOp::get(key, options()));
        let limit = settings.request_timeout;
        let answer = timeout(limit, self.kv.txn(Txn::new().and_then(gets)))
            .await
            .map_err(|_| EtcdError::silent("read", limit))?
            .map_err(|error| EtcdError::new("read", &error))?;
        let mut revisions = [None; N];
        for (revision, answer) in revisions.iter_mut().zip(answer.op_responses()) {
            if let TxnOpResponse::Get(answer) = answer {
                *revision = answer.kvs().first().map(KeyValue::mod_revision);
            }
        }
        Ok(revisions)
    }

    /// Opens a watch, and reads its first answer: only that confirms the watch.
    pub(super) async fn watch(
        &mut self,
        settings: &Settings,
        from: i64,
    ) -> Result<(Stream, Input), EtcdError> {
        let options = WatchOptions::new()
            .with_range(range_end(&settings.namespace))
            .with_start_revision(from)
            .with_progress_notify();
        let limit = settings.request_timeout;
        let open = async {
            let stream = self
                .watch
                .watch(settings.namespace.as_str(), Some(options))
                .await?;
            let (ask, answers) = stream.split();
            let mut stream = Stream { ask, answers };
            let first = stream.message().await?;
            Ok((stream, first))
        };
        timeout(limit, open)
            .await
            .map_err(|_| EtcdError::silent("open the watch", limit))?
            .map_err(|error: etcd_client::Error| EtcdError::new("open the watch", &error))
    }
}

/// An open watch.
pub(super) struct Stream {
    ask: WatchRequestSender,
    answers: WatchResponseStream,
}

impl Stream {
    /// Waits for the next message of the watch. Cancel-safe: a message is not lost when the wait is
    /// dropped.
    pub(super) async fn next(&mut self) -> Result<Input, EtcdError> {
        self.message()
            .await
            .map_err(|error| EtcdError::new("watch", &error))
    }

    /// Asks for progress, a sign of life. Does not wait: if the request cannot even be queued, the
    /// silence that follows is noticed.
    pub(super) async fn ask_progress(&mut self) {
        let _ = timeout(Duration::ZERO, self.ask.request_progress()).await;
    }

    async fn message(&mut self) -> Result<Input, etcd_client::Error> {
        let Some(answer) = self.answers.message().await? else {
            return Ok(Input::Failed {
                error: "watch: etcd closed the stream".to_owned(),
            });
        };
        let header = header(answer.header());
        Ok(if answer.canceled() {
            // Also a watch that was refused: one answer says created and canceled.
            Input::Canceled {
                compact_revision: answer.compact_revision(),
                reason: answer.cancel_reason().to_owned(),
            }
        } else if answer.created() {
            Input::Opened { header }
        } else if answer.events().is_empty() {
            // Requested progress has no watch's id; progress that etcd sends by itself has this
            // one's.
            Input::Progress {
                header,
                ordered: answer.watch_id() >= 0,
            }
        } else {
            let event = |event: &etcd_client::Event| {
                let record = copy_record(event.kv()?);
                Some(match event.event_type() {
                    EventType::Put => Event::Put(record),
                    EventType::Delete => Event::Delete(record),
                })
            };
            Input::Events {
                header,
                events: answer.events().iter().filter_map(event).collect(),
            }
        })
    }
}

/// Checks that the endpoint accepts connections. The client connects when it is first used, and
/// says little about a failure; this attempt fails at once, with the system's own message.
async fn reach(endpoint: &str, limit: Duration) -> Result<(), EtcdError> {
    let address = endpoint
        .trim_start_matches("http://")
        .trim_end_matches('/')
        .to_owned();
    match timeout(limit, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(EtcdError::failed("connect", &error.to_string())),
        Err(_) => Err(EtcdError::silent("connect", limit)),
    }
}

/// A client, authenticated where there is a user and etcd asks for one.
async fn log_in(settings: &Settings, endpoint: &str) -> Result<Client, EtcdError> {
    let limit = settings.request_timeout;
    let options = ConnectOptions::new()
        .with_connect_timeout(limit)
        .with_keep_alive(settings.keepalive_every, settings.keepalive_timeout)
        // etcd hangs up on pings without a stream.
        .with_keep_alive_while_idle(false)
        .with_tcp_keepalive(settings.keepalive_every)
        .with_require_leader(true);
    let with_user = match (&settings.username, &settings.password) {
        (Some(user), Some(password)) => options.clone().with_user(user, password.get()),
        _ => options.clone(),
    };
    match timeout(limit, Client::connect([endpoint], Some(with_user))).await {
        Err(_) => Err(EtcdError::silent("authenticate", limit)),
        Ok(Ok(client)) => Ok(client),
        // Credentials for an etcd that asks for none do no harm, as in Patroni.
        Ok(Err(etcd_client::Error::GRpcStatus(status)))
            if i32::from(status.code()) == FAILED_PRECONDITION
                && status.message().contains("authentication is not enabled") =>
        {
            timeout(limit, Client::connect([endpoint], Some(options)))
                .await
                .map_err(|_| EtcdError::silent("connect", limit))?
                .map_err(|error| EtcdError::new("connect", &error))
        }
        Ok(Err(error)) => Err(EtcdError::new("authenticate", &error)),
    }
}

/// The first key after all keys of the namespace, which ends with a slash.
fn range_end(namespace: &Namespace) -> Vec<u8> {
    let mut end = namespace.as_str().as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

fn header(header: Option<&ResponseHeader>) -> Header {
    header.map_or_else(Header::default, |header| Header {
        cluster_id: header.cluster_id(),
        member_id: header.member_id(),
        revision: header.revision(),
        raft_term: header.raft_term(),
    })
}

fn into_record(kv: KeyValue) -> Record {
    let record = Record {
        key: Vec::new(),
        value: Vec::new(),
        mod_revision: kv.mod_revision(),
        create_revision: kv.create_revision(),
        version: kv.version(),
        lease: kv.lease(),
    };
    let (key, value) = kv.into_key_value();
    Record {
        key,
        value,
        ..record
    }
}

fn copy_record(kv: &KeyValue) -> Record {
    Record {
        key: kv.key().to_vec(),
        value: kv.value().to_vec(),
        mod_revision: kv.mod_revision(),
        create_revision: kv.create_revision(),
        version: kv.version(),
        lease: kv.lease(),
    }
}
