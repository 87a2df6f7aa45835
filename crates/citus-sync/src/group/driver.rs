//! The task of one group. Waits for news: a new view of the scope, new rows in some database, a member's
//! answer, a command, the end of an order or of a holding session, or a moment that was waited for. Feeds
//! it to the group reconciler, and carries out what that says.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use citus_core::entry_node::EntryNodeEnd;
use citus_core::event::Whose;
use citus_core::group::{
    Action, DatabaseFacts, Done, Effect, Group, Input, Now, Order, RequestId, Settings,
};
use citus_core::plan::{Rows, Step};
use citus_core::report::HoldAnswer;
use dcs_watch::{HostPort, ScopeId, ScopeView};
use futures_util::StreamExt as _;
use futures_util::future::AbortHandle;
use futures_util::stream::FuturesUnordered;
use time::OffsetDateTime;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep_until;

use super::context::Context;
use super::neighbourhood::Neighbours;
use super::orders::{self, Executed, Execution, Finished, OpenHold, Tools};
use super::questions;
use crate::execute::{EntryNodeHolds, Hold};
use crate::reporting::Reporting;
use crate::session::{Database, Probes, SqlError};
use crate::state::Command;

type Future<T> = Pin<Box<dyn std::future::Future<Output = T> + Send>>;

/// The task of one group.
pub struct GroupDriver {
    context: Arc<Context>,
    reporting: Reporting,
    group: Group,
    number: i32,
    scope: ScopeId,
    view: watch::Receiver<Arc<ScopeView>>,
    /// The last view, and the same with registered addresses.
    registered: (Arc<ScopeView>, Arc<ScopeView>),
    rows_changed: watch::Receiver<()>,
    neighbours: watch::Receiver<Neighbours>,
    /// What the other groups say next matters.
    listens: bool,
    commands: mpsc::Receiver<Command>,
    probes: Probes,
    /// Orders that are under way.
    running: FuturesUnordered<Future<Finished>>,
    /// What is under way beside the orders.
    beside: FuturesUnordered<Future<Beside>>,
    /// The holds that are open on the coordinator, by database.
    holds: BTreeMap<String, WatchedHold>,
    /// The entry nodes of these holds, and of those that are being taken or were lost.
    entry_node_holds: EntryNodeHolds,
    /// What calls off the holds that are being taken, by database.
    taking: BTreeMap<String, AbortHandle>,
    /// Requests that wait for an answer.
    replies: BTreeMap<RequestId, oneshot::Sender<HoldAnswer>>,
    requests: RequestId,
    /// Tells the watch for statements at the leader that reads are moved.
    readers: Option<watch::Sender<bool>>,
}

struct WatchedHold {
    /// The order that took it.
    order: u64,
    hold: Box<Hold>,
    /// Its end ends the watch for the coordinator closing the session.
    _alive: oneshot::Sender<()>,
}

/// News from beside the orders.
enum Beside {
    /// For the group.
    Input(Input),
    /// What there is to decide may have changed.
    Over,
}

impl GroupDriver {
    /// A driver whose group knows nothing yet.
    pub fn new(
        context: Arc<Context>,
        number: i32,
        scope: &ScopeId,
        view: watch::Receiver<Arc<ScopeView>>,
        probes: Probes,
    ) -> Self {
        let whose = Whose {
            formation: context.name.clone(),
            group: number,
            scope: scope.to_string(),
        };
        let databases = context.databases.iter();
        let settings = Settings {
            whose: whose.clone(),
            policy: context.policy.clone(),
            register: context.register,
            fixed: context.fixed.contains(&number),
            writes: context.writes,
            databases: databases
                .map(|database| database.name.to_string())
                .collect(),
        };
        context.neighbourhood.join(number, view.clone());
        let seen = view.borrow().clone();
        let entry_node_holds = EntryNodeHolds::new(number, context.entry_nodes.clone());
        Self {
            registered: (seen.clone(), context.addresses.register(&seen)),
            neighbours: context.neighbourhood.listen(),
            listens: false,
            rows_changed: context.rows_changed.clone(),
            commands: context.store.listen(&context.name, number, &whose.scope),
            reporting: Reporting::new(context.store.clone(), whose),
            group: Group::new(settings),
            context,
            number,
            scope: scope.clone(),
            view,
            probes,
            running: FuturesUnordered::new(),
            beside: FuturesUnordered::new(),
            holds: BTreeMap::new(),
            entry_node_holds,
            taking: BTreeMap::new(),
            replies: BTreeMap::new(),
            requests: 0,
            readers: None,
        }
    }

    /// Runs until `shutdown` turns true and what was under way has ended.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        let mut stopping = false;
        let mut news = Vec::new();
        loop {
            let Some(again) = self.step(news) else {
                return;
            };
            news = Vec::new();
            tokio::select! {
                // The watcher is gone only when the daemon is stopping.
                changed = self.view.changed() => match changed {
                    Ok(()) => {}
                    Err(_) => return,
                },
                changed = self.rows_changed.changed() => if changed.is_err() { return },
                () = self.probes.changed() => {}
                // The context has the other end.
                _ = self.neighbours.changed(), if self.listens => {}
                Some(finished) = self.running.next(), if !self.running.is_empty() => {
                    news.push(self.finished(finished));
                }
                Some(beside) = self.beside.next(), if !self.beside.is_empty() => {
                    if let Beside::Input(input) = beside {
                        news.push(input);
                    }
                }
                heard = self.entry_node_holds.next(), if !self.entry_node_holds.is_idle() => {
                    news.extend(heard.map(Input::EntryNode));
                }
                Some(command) = self.commands.recv() => news.push(self.command(command)),
                () = sleep_until(again.unwrap_or_else(Instant::now).into()), if again.is_some() => {}
                _ = shutdown.wait_for(|stop| *stop), if !stopping => {
                    stopping = true;
                    news.push(Input::Stop);
                }
            }
        }
    }

    /// One step of the group, with all that is known now; when to step again, or none when it is done.
    #[expect(
        clippy::option_option,
        reason = "done, nothing to wait for, or a moment"
    )]
    fn step(&mut self, news: Vec<Input>) -> Option<Option<Instant>> {
        let now = Now {
            instant: Instant::now(),
            utc: OffsetDateTime::now_utc(),
        };
        let mut all = self.facts();
        all.extend(news);
        let effects = self.group.step(all, now);
        self.listens = effects.neighbours;
        for effect in effects.all {
            self.carry_out(effect);
        }
        (!effects.finished).then_some(effects.again)
    }

    /// What is known now, whether it changed or not.
    fn facts(&mut self) -> Vec<Input> {
        let view = self.registered_view();
        let databases = self.context.databases.iter();
        let databases = databases.map(|database| {
            let facts = DatabaseFacts {
                rows: database.rows(),
                may_update: database.may_update(),
            };
            (database.name.to_string(), facts)
        });
        vec![
            Input::View(view),
            Input::Databases(databases.collect()),
            Input::Answers(self.probes.answers()),
            Input::Neighbours(self.neighbours.borrow_and_update().clone()),
            Input::OthersHeld(self.context.others_are_held(self.number)),
        ]
    }

    /// The scope's view, with the addresses that rows have.
    fn registered_view(&mut self) -> Arc<ScopeView> {
        let view = self.view.borrow_and_update().clone();
        if !Arc::ptr_eq(&self.registered.0, &view) {
            let registered = self.context.addresses.register(&view);
            self.registered = (view, registered);
        }
        self.registered.1.clone()
    }

    fn command(&mut self, command: Command) -> Input {
        self.requests += 1;
        let id = self.requests;
        let (input, reply) = match command {
            Command::Hold { request, reply } => (Input::Hold { id, request }, reply),
            Command::Release { reply } => (Input::Release { id }, reply),
        };
        self.replies.insert(id, reply);
        input
    }

    /// Takes in the end of an order; a hold that was taken is kept here.
    fn finished(&mut self, finished: Finished) -> Input {
        let Finished {
            database,
            order,
            step,
            started,
            result,
        } = finished;
        let result = match result {
            Ok(Executed::Held(hold)) => Ok(self.keep(&database, order, hold)),
            Ok(Executed::Done(done)) => Ok(done),
            Ok(Executed::Kept(open, error)) => {
                self.keep_on(&database, open);
                Err((error, true))
            }
            Err(error) => Err((error, false)),
        };
        if matches!(step, Step::Hold(_)) {
            self.taking.remove(&database);
        }
        Input::Ended(orders::ended(database, order, started, result))
    }

    /// Keeps a hold that was taken, and listens to it.
    fn keep(&mut self, database: &str, order: u64, hold: Box<Hold>) -> Done {
        let terminated = hold.terminated().to_vec();
        let (alive, over) = oneshot::channel::<()>();
        let (closing, name) = (hold.closing(), database.to_owned());
        self.beside.push(Box::pin(async move {
            tokio::select! {
                () = closing => Beside::Input(Input::HoldLost { database: name, order }),
                _ = over => Beside::Over,
            }
        }));
        let watched = WatchedHold {
            order,
            hold,
            _alive: alive,
        };
        self.holds.insert(database.to_owned(), watched);
        Done::Held { terminated }
    }

    /// A hold stands on whose end came to nothing.
    fn keep_on(&mut self, database: &str, open: OpenHold) {
        self.entry_node_holds.keep(database, open.held);
        self.keep(database, open.order, open.hold);
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Execute(order) => self.execute(order),
            Effect::CallOff { database } => {
                if let Some(taking) = self.taking.remove(&database) {
                    taking.abort();
                }
            }
            Effect::Discard {
                database,
                entry_nodes,
            } => self.discard(database, entry_nodes),
            Effect::ForgetHold { database } => {
                self.holds.remove(&database);
            }
            Effect::AtEntryNode { database, order } => {
                if let Some(database) = self.context.database(&database) {
                    self.entry_node_holds.carry_out(&database, order);
                }
            }
            Effect::LetEntryNodesGo { database } => drop(self.entry_node_holds.end(&database)),
            Effect::AskMembers {
                questions,
                leader_revision,
                round,
            } => self.probes.ask(&questions, leader_revision, round),
            Effect::Answer { id, answer } => {
                if let Some(reply) = self.replies.remove(&id) {
                    // A receiver that is gone gave up waiting, which is its to do.
                    let _ = reply.send(answer);
                }
            }
            Effect::TellNeighbours(said) => self.context.neighbourhood.tell(self.number, said),
            Effect::HoldStands(stands) => self.context.note_held(self.number, stands),
            Effect::Publish(event) => self.reporting.publish(event),
            Effect::Report(report) => self.reporting.report(*report),
            effect => self.ask(effect),
        }
    }

    /// What is asked and done beside the orders.
    fn ask(&mut self, effect: Effect) {
        let entry_nodes = self.context.entry_nodes.clone();
        match effect {
            Effect::AskCoordinator {
                address,
                round,
                attempt,
            } => {
                if let Some(database) = self.connected(attempt) {
                    self.inquire(questions::ask_coordinator(database, address, round));
                } else {
                    let answer = Err("no database is connected".to_owned());
                    self.inquire(async move {
                        Input::CoordinatorSaid {
                            address,
                            round,
                            answer,
                        }
                    });
                }
            }
            Effect::AskReach {
                database,
                address,
                number,
            } => {
                let database = self.context.database(&database);
                let turn = self.context.asking.clone();
                self.inquire(questions::ask_reach(database, address, number, turn));
            }
            Effect::ReadKeys { number } => {
                let (confirm, scope) = (self.context.confirm.clone(), self.scope.clone());
                self.inquire(questions::read_keys(confirm, scope, number));
            }
            Effect::CountShards {
                database,
                address,
                number,
            } => {
                if let Some(database) = self.context.database(&database) {
                    let group = self.number;
                    self.inquire(questions::count_shards(
                        database,
                        entry_nodes,
                        address,
                        group,
                        number,
                    ));
                }
            }
            Effect::FlushLog { database, leader } => {
                if let Some(database) = self.context.database(&database) {
                    self.attend(questions::flush(database, entry_nodes, leader));
                }
            }
            Effect::RecoverPrepared { database } => {
                if let Some(database) = self.context.database(&database) {
                    self.inquire(questions::recover(database));
                }
            }
            Effect::WatchReaders { number, leader } => self.watch_readers(number, &leader),
            Effect::ReadersMoved => {
                if let Some(readers) = &self.readers {
                    readers.send_replace(true);
                }
            }
            Effect::ForgetReaders => self.readers = None,
            Effect::QueryMetadata { database, targets } => {
                if let Some(database) = self.context.database(&database) {
                    let group = self.number;
                    self.inquire(questions::query_metadata(
                        database,
                        entry_nodes,
                        targets,
                        group,
                    ));
                }
            }
            Effect::Prewarm { database, node } => {
                if let Some(database) = self.context.database(&database) {
                    self.attend(questions::prewarm(database, entry_nodes, node));
                }
            }
            // Carried out by `carry_out`.
            _ => {}
        }
    }

    fn inquire(&mut self, question: impl std::future::Future<Output = Input> + Send + 'static) {
        self.beside
            .push(Box::pin(async move { Beside::Input(question.await) }));
    }

    fn attend(&mut self, work: impl std::future::Future<Output = ()> + Send + 'static) {
        self.beside.push(Box::pin(async move {
            work.await;
            Beside::Over
        }));
    }

    /// A database that is connected to the coordinator, another one with each attempt.
    fn connected(&self, attempt: u32) -> Option<Database> {
        let connected = |database: &&Database| matches!(database.rows(), Rows::Known(_));
        let databases: Vec<_> = self.context.databases.iter().filter(connected).collect();
        let number = usize::try_from(attempt).ok()? % databases.len().max(1);
        databases.get(number).map(|database| (*database).clone())
    }

    fn watch_readers(&mut self, number: u64, leader: &HostPort) {
        let (moved, listens) = watch::channel(false);
        self.readers = Some(moved);
        for database in self.context.databases.clone() {
            let (entry_nodes, leader) = (self.context.entry_nodes.clone(), leader.clone());
            let listens = listens.clone();
            self.inquire(questions::watch_readers(
                database,
                entry_nodes,
                leader,
                listens,
                number,
            ));
        }
    }

    fn discard(&mut self, name: String, ends: Vec<EntryNodeEnd>) {
        let (open, database) = (self.end_of_hold(&name), self.context.database(&name));
        let entry_nodes = self.context.entry_nodes.clone();
        self.inquire(async move {
            if let (Some(OpenHold { hold, held, .. }), Some(database)) = (open, database) {
                hold.release(&database, &entry_nodes, held, &ends).await;
            }
            Input::Discarded { database: name }
        });
    }

    /// What is open in a database, to be ended.
    fn end_of_hold(&mut self, database: &str) -> Option<OpenHold> {
        let held = self.entry_node_holds.end(database);
        let watched = self.holds.remove(database)?;
        Some(OpenHold {
            order: watched.order,
            hold: watched.hold,
            held,
        })
    }

    fn execute(&mut self, order: Order) {
        let Some(database) = self.context.database(&order.database) else {
            let unknown = SqlError::Io(format!("no database {} is configured", order.database));
            self.running.push(Box::pin(async move {
                Finished {
                    database: order.database,
                    order: order.id,
                    step: order.step,
                    started: Instant::now(),
                    result: Err(unknown.into()),
                }
            }));
            return;
        };
        let tools = Tools {
            group: self.number,
            database: database.clone(),
            entry_nodes: self.context.entry_nodes.clone(),
            view: self.view.clone(),
            answers: self.probes.listen(),
            neighbourhood: self.context.neighbourhood.clone(),
        };
        let name = order.database.clone();
        let hold = match order.action {
            Action::Release { .. } | Action::Finish { .. } => self.end_of_hold(&name),
            _ => None,
        };
        let Execution { run, call_off } = orders::prepare(order, tools, hold);
        if let Some(call_off) = call_off {
            self.taking.insert(name, call_off);
        }
        self.running.push(run);
    }
}
