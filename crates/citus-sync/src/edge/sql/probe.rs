//! One session to each member that matters, asked whether it takes writes.
//!
//! An idle session is the fastest messenger there is: it closes the moment its server dies. While
//! a new leader is being promoted it is asked every few milliseconds; otherwise only when the
//! leader key changes, and rarely in between.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dcs_watch::HostPort;
use dcs_watch::edge::retry::Retry;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::connect::SharedLogin;
use super::{Connection, SqlError};
use crate::plan::{Ask, Probe, ProbeState};
use crate::statements::IN_RECOVERY;

/// A member that no decision asked for in this time is not kept connected any more. Long enough
/// for a switchover there and back.
const LINGER: Duration = Duration::from_secs(120);

/// The latest answer of each member, and who is told of a new one. Small on purpose: there is one
/// for each of hundreds of groups.
#[derive(Debug, Default)]
struct Answers {
    latest: Mutex<BTreeMap<HostPort, Probe>>,
    news: Notify,
}

impl Answers {
    fn latest(&self) -> MutexGuard<'_, BTreeMap<HostPort, Probe>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an answer, and tells of it if it says something new.
    fn put(&self, answer: Probe) {
        let mut latest = self.latest();
        if latest.get(&answer.address) != Some(&answer) {
            latest.insert(answer.address.clone(), answer);
            self.news.notify_one();
        }
    }
}

/// What is wanted of a member now.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Order {
    leader_revision: i64,
    eager: bool,
}

#[derive(Debug)]
struct Member {
    order: watch::Sender<Order>,
    wanted: Instant,
    task: JoinHandle<()>,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The probes of one group.
#[derive(Debug)]
pub struct Probes {
    login: SharedLogin,
    databases: Arc<[String]>,
    interval: Duration,
    members: BTreeMap<HostPort, Member>,
    answers: Arc<Answers>,
}

impl Probes {
    /// No member is asked yet. `databases` are tried in turn when one of them is at fault: a probe
    /// is about the server, and a broken database must not hide it (rule 8).
    pub fn new(login: SharedLogin, databases: Arc<[String]>, interval: Duration) -> Self {
        Self {
            login,
            databases,
            interval,
            members: BTreeMap::new(),
            answers: Arc::default(),
        }
    }

    /// Puts a decision's questions, for the leader key of this revision.
    pub fn ask(&mut self, questions: &[Ask], leader_revision: i64) {
        let now = Instant::now();
        for Ask { address, eager } in questions {
            let order = Order {
                leader_revision,
                eager: *eager,
            };
            match self.members.get_mut(address) {
                Some(member) => {
                    member.wanted = now;
                    member.order.send_if_modified(|present| {
                        let news = *present != order;
                        *present = order;
                        news
                    });
                }
                None => self.start(address, order),
            }
        }
        let answers = &self.answers;
        self.members.retain(|address, member| {
            let keep = now.duration_since(member.wanted) < LINGER
                || questions.iter().any(|ask| ask.address == *address);
            if !keep {
                answers.latest().remove(address);
            }
            keep
        });
    }

    fn start(&mut self, address: &HostPort, order: Order) {
        let (order, orders) = watch::channel(order);
        let asker = Asker {
            login: self.login.clone(),
            databases: self.databases.clone(),
            address: address.clone(),
            interval: self.interval,
            answers: self.answers.clone(),
        };
        let task = tokio::spawn(asker.run(orders));
        self.members.insert(
            address.clone(),
            Member {
                order,
                wanted: Instant::now(),
                task,
            },
        );
    }

    /// Waits for the next answer that says something new.
    pub async fn changed(&self) {
        self.answers.news.notified().await;
    }

    /// The latest answer of one member.
    pub fn answer(&self, address: &HostPort) -> Option<Probe> {
        self.answers.latest().get(address).cloned()
    }

    /// The latest answers of all members asked, whatever leader key they were asked for.
    pub fn states(&self) -> BTreeMap<HostPort, ProbeState> {
        let answers = self.answers.latest();
        answers
            .iter()
            .map(|(address, probe)| (address.clone(), probe.state.clone()))
            .collect()
    }
}

struct Asker {
    login: SharedLogin,
    databases: Arc<[String]>,
    address: HostPort,
    interval: Duration,
    answers: Arc<Answers>,
}

/// A member that nobody is eager about is asked again this often. Rarely: a PostgreSQL does not turn
/// from writable to standby without a restart, which closes its sessions, and keepalives find a host
/// that is gone. Five hundred idle groups must cost nothing.
const IDLE_INTERVAL: Duration = Duration::from_secs(300);

impl Asker {
    async fn run(self, mut orders: watch::Receiver<Order>) {
        let mut retry = Retry::new(Duration::from_millis(20), Duration::from_secs(1));
        let mut database = 0;
        loop {
            let error = match self.connected(database, &mut orders, &mut retry).await {
                Ok(()) => return,
                Err(error) => error,
            };
            if error.is_about_the_database() {
                database = (database + 1) % self.databases.len();
            }
            self.say(
                &orders.borrow_and_update(),
                ProbeState::Unreachable(error.to_string()),
            );
            tokio::select! {
                () = sleep(retry.pause()) => {}
                gone = orders.changed() => if gone.is_err() { return },
            }
        }
    }

    /// Asks on one session until it breaks (an error) or nobody wants to know (`Ok`).
    async fn connected(
        &self,
        database: usize,
        orders: &mut watch::Receiver<Order>,
        retry: &mut Retry,
    ) -> Result<(), SqlError> {
        let name = &self.databases[database];
        let mut session = Connection::open(&self.login, &self.address, name).await?;
        loop {
            let order = orders.borrow_and_update().clone();
            let in_recovery = session.boolean(IN_RECOVERY).await?;
            retry.succeeded();
            let state = if in_recovery {
                ProbeState::InRecovery
            } else {
                ProbeState::Writable
            };
            self.say(&order, state);
            let pause = if in_recovery && order.eager {
                self.interval
            } else {
                IDLE_INTERVAL
            };
            tokio::select! {
                () = session.closing() => {
                    return Err(SqlError::Io("the server closed the session".to_owned()));
                }
                gone = orders.changed() => if gone.is_err() { return Ok(()) },
                () = sleep(pause) => {}
            }
        }
    }

    fn say(&self, order: &Order, state: ProbeState) {
        self.answers.put(Probe {
            address: self.address.clone(),
            leader_revision: order.leader_revision,
            state,
        });
    }
}
