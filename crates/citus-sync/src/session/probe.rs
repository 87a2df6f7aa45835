//! One session to each member that matters, asked whether it takes writes.
//!
//! An idle session is the fastest messenger there is: it closes the moment its server dies. While
//! a new leader is being promoted, or a standby replays what is left, it is asked every few
//! milliseconds; otherwise only when the leader key changes, and rarely in between.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dcs_watch::HostPort;
use dcs_watch::client::Retry;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::connect::Connection;
use super::error::SqlError;
use super::login::SharedLogin;
use super::member::{MemberAnswer, ask_again, ask_first};
use super::warm::LINGER;
use citus_core::plan::{Ask, Identity, Position, Probe, ProbeState};

/// The latest answer of each member, and a signal for a new one. Small on purpose: there is one for
/// each of hundreds of groups.
#[derive(Debug, Default)]
struct Answers {
    latest: Mutex<BTreeMap<HostPort, Probe>>,
    news: Notify,
}

impl Answers {
    fn latest(&self) -> MutexGuard<'_, BTreeMap<HostPort, Probe>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an answer, and wakes the reconciler if it says something new.
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
    round: u64,
    eager: bool,
    hurry: bool,
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

    /// Puts a decision's questions, for the leader key of this revision and in this round.
    pub fn ask(&mut self, questions: &[Ask], leader_revision: i64, round: u64) {
        let now = Instant::now();
        for question in questions {
            let address = &question.address;
            let order = Order {
                leader_revision,
                round,
                eager: question.eager,
                hurry: question.hurry,
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
        // A member that no decision asked for in this time is not kept connected any more.
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

    /// A look at the answers from elsewhere, as they come in.
    pub fn listen(&self) -> Listener {
        Listener(self.answers.clone())
    }

    /// The latest answers of all members asked, whatever they were asked for.
    pub fn answers(&self) -> BTreeMap<HostPort, Probe> {
        self.answers.latest().clone()
    }
}

/// Sees the answers of one group's members as they come in.
#[derive(Clone, Debug)]
pub struct Listener(Arc<Answers>);

impl Listener {
    /// Whether the member does not answer us now.
    pub fn is_lost(&self, address: &HostPort) -> bool {
        self.0
            .latest()
            .get(address)
            .is_some_and(|probe| matches!(probe.state, ProbeState::Unreachable(_)))
    }
}

struct Asker {
    login: SharedLogin,
    databases: Arc<[String]>,
    address: HostPort,
    interval: Duration,
    answers: Arc<Answers>,
}

/// The longest pause before a member is connected to again while writers wait for it: a refused
/// connection costs a fraction of a millisecond, a long pause is added to every writer's wait.
const HURRIED_PAUSE: Duration = Duration::from_millis(20);

/// A member about which no decision is eager is asked again this often. Rarely: a PostgreSQL does
/// not turn from writable to standby without a restart, which closes its sessions, and keepalives
/// find a host that is gone. Five hundred idle groups must cost nothing.
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
            let order = orders.borrow_and_update().clone();
            let state = if error.is_a_refusal() {
                ProbeState::Refuses(error.to_string())
            } else {
                ProbeState::Unreachable(error.to_string())
            };
            self.say(&order, state, None);
            let pause = retry.pause();
            let pause = if order.hurry {
                pause.min(HURRIED_PAUSE)
            } else {
                pause
            };
            tokio::select! {
                () = sleep(pause) => {}
                gone = orders.changed() => if gone.is_err() { return },
            }
        }
    }

    /// Asks on one session until it breaks (an error) or no answer is wanted any more (`Ok`).
    async fn connected(
        &self,
        database: usize,
        orders: &mut watch::Receiver<Order>,
        retry: &mut Retry,
    ) -> Result<(), SqlError> {
        let name = &self.databases[database];
        let mut session = Connection::open(&self.login, &self.address, name).await?;
        let mut last: Option<MemberAnswer> = None;
        loop {
            let order = orders.borrow_and_update().clone();
            let answer = match &last {
                None => ask_first(&mut session).await?,
                Some(last) => ask_again(&mut session, last).await?,
            };
            last = Some(answer);
            retry.succeeded();
            let state = if answer.in_recovery {
                ProbeState::InRecovery
            } else {
                ProbeState::Writable
            };
            self.say(&order, state, Some(&answer));
            let pause = if answer.in_recovery && order.eager {
                self.interval
            } else {
                IDLE_INTERVAL
            };
            tokio::select! {
                () = session.closing() => {
                    return Err(session.why_closed());
                }
                gone = orders.changed() => if gone.is_err() { return Ok(()) },
                () = sleep(pause) => {}
            }
        }
    }

    fn say(&self, order: &Order, state: ProbeState, answer: Option<&MemberAnswer>) {
        self.answers.put(Probe {
            address: self.address.clone(),
            leader_revision: order.leader_revision,
            round: order.round,
            state,
            position: answer.map_or_else(Position::default, |answer| answer.position),
            started: answer.and_then(|answer| answer.started),
            identity: answer.map_or_else(Identity::default, |answer| answer.identity),
        });
    }
}
