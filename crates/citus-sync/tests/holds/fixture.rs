//! citus-sync's own sessions on the servers, and what scenarios do with them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use citus_core::config::Password;
use citus_core::outcome::{EntryNodeNews, Finished};
use citus_core::plan::{Move, Rows};
use citus_core::policy::Policy;
use citus_sync::execute::{EntryNodes, StepError, move_reads, row_move};
use citus_sync::session::{Database, Login};
use dcs_watch::{Freshness, HostPort, ScopeId, ScopeView, Versioned};
use lab::Postgres;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use crate::held::{AtEntryNodes, Held, Order, Sessions};
use crate::servers::{Servers, wait_for_nobody};
use crate::session::SOON;

/// This program: its runtime turns only inside [`Fixture::run`].
pub(crate) struct Fixture {
    pub(crate) runtime: Runtime,
    pub(crate) database: Database,
    pub(crate) entry_nodes: EntryNodes,
    pub(crate) changed: watch::Receiver<()>,
    /// Shorter than in life, so that scenarios are short.
    pub(crate) cooldown: Duration,
    /// The entry nodes of holds that were lost, by group.
    pub(crate) kept: RefCell<BTreeMap<i32, AtEntryNodes>>,
    _view: watch::Sender<Arc<ScopeView>>,
}

impl Fixture {
    pub(crate) fn new(servers: &Servers) -> Self {
        Self::of_role(servers, "postgres")
    }

    /// The same as a role that is no superuser.
    pub(crate) fn of_role(servers: &Servers, role: &str) -> Self {
        Self::with(servers, role, &Policy::default())
    }

    /// The same with some other policy.
    pub(crate) fn with(servers: &Servers, role: &str, policy: &Policy) -> Self {
        let cooldown = Duration::from_millis(300);
        let policy = Policy {
            lock_cooldown: cooldown,
            ..policy.clone()
        };
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let login = Login::new(role, &Password::None, &policy);
        let entry_nodes = EntryNodes::new(&login);
        let (tell, mut changed) = watch::channel(());
        let database = Database::new("postgres", Arc::new(login), tell);
        let (view, views) = watch::channel(Arc::new(leader_at(&servers.address(0))));
        runtime.spawn(database.clone().run(views, policy));
        runtime.block_on(async {
            let known = changed.wait_for(|()| matches!(database.rows(), Rows::Known(_)));
            let known = tokio::time::timeout(SOON, known).await;
            known.expect("soon").expect("rows");
        });
        Self {
            runtime,
            database,
            entry_nodes,
            changed,
            cooldown,
            kept: RefCell::default(),
            _view: view,
        }
    }

    /// Turns the runtime until this is done.
    pub(crate) fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime
            .block_on(async { tokio::time::timeout(SOON, future).await })
            .expect("done soon")
    }

    /// Turns the runtime until no session bears this name: a session is closed, and bears its first
    /// name again, by its task.
    pub(crate) fn wait_for_nobody(&self, server: &Postgres, name: &str) {
        let (port, name) = (server.port(), name.to_owned());
        self.run(async move {
            let gone = tokio::task::spawn_blocking(move || wait_for_nobody(port, &name));
            gone.await.expect("it is gone");
        });
    }

    pub(crate) fn order(&self, group: i32, entry_nodes: &[HostPort]) -> Order {
        Order {
            group,
            left: Duration::from_secs(60),
            cooldown: self.cooldown,
            entry_nodes: entry_nodes.to_vec(),
        }
    }

    /// Takes a hold: it is there as soon as the coordinator is held.
    pub(crate) async fn take(&self, order: &Order) -> Result<Held, StepError> {
        let kept = self.kept.borrow_mut().remove(&order.group);
        let kept = kept.unwrap_or_else(|| AtEntryNodes::new(self.sessions(), order.group));
        let taken = Held::take(self.sessions(), kept, order).await;
        taken.map_err(|(error, kept)| {
            let kept = kept.map(|kept| (order.group, kept));
            self.kept.borrow_mut().extend(kept);
            error
        })
    }

    /// The coordinator closes the session of a hold: its entry nodes are kept.
    pub(crate) fn keep_entry_nodes(&self, hold: Held, group: i32) {
        self.kept.borrow_mut().insert(group, hold.lost());
    }

    /// The sessions that holds are taken on.
    pub(crate) fn sessions(&self) -> Sessions<'_> {
        Sessions {
            database: &self.database,
            entry_nodes: &self.entry_nodes,
        }
    }

    /// A hold, once it is known of each entry node whether it is held.
    pub(crate) fn hold(&self, group: i32, entry_nodes: &[HostPort]) -> Held {
        let order = self.order(group, entry_nodes);
        let mut hold = self.run(self.take(&order)).expect("a hold");
        self.run(hold.known());
        hold
    }

    /// Moves reads of group 1 in a hold; no entry node is skipped.
    pub(crate) fn move_reads(&self, hold: &mut Held, entry_nodes: &[HostPort], step: &Move) {
        self.run(hold.move_reads(self.sessions(), entry_nodes, step));
    }

    pub(crate) fn release(&self, hold: Held) -> EntryNodeNews {
        self.run(hold.release(self.sessions()))
    }

    /// Sends the reads of group 1 elsewhere, whatever is held.
    pub(crate) async fn send_reads(
        &self,
        entry_nodes: &[HostPort],
        step: &Move,
        still_right: impl Fn() -> bool,
    ) -> Result<Finished, StepError> {
        let database = &self.database;
        move_reads(
            database,
            &self.entry_nodes,
            entry_nodes,
            1,
            step,
            still_right,
        )
        .await
    }

    /// Moves the row of group 1 outside of a hold.
    pub(crate) async fn move_row(
        &self,
        entry_nodes: &[HostPort],
        step: &Move,
        still_right: impl Fn() -> bool,
    ) -> Result<Finished, StepError> {
        let database = &self.database;
        row_move(
            database,
            &self.entry_nodes,
            entry_nodes,
            1,
            step,
            still_right,
        )
        .await
    }

    /// The rows as this program knows them: where a node points.
    pub(crate) fn known(&self, nodeid: i32) -> String {
        match self.database.rows() {
            Rows::Known(rows) => rows
                .iter()
                .find(|row| row.nodeid == nodeid)
                .map(|row| row.address.to_string())
                .expect("its row"),
            Rows::Unknown(why) => panic!("rows are not known: {why}"),
        }
    }
}

/// What etcd would say of the coordinator's scope.
fn leader_at(address: &HostPort) -> ScopeView {
    let text = format!(
        r#"{{"conn_url":"postgres://{address}/postgres","state":"running","role":"primary"}}"#
    );
    let member = dcs_watch::value::member(text.as_bytes()).expect("as Patroni writes it");
    let mut view = ScopeView::empty(ScopeId::new("cn"));
    view.freshness = Freshness::Fresh;
    view.members = BTreeMap::from([("cn1".to_owned(), versioned(member))]);
    view.leader = Some(versioned("cn1".to_owned()));
    view
}

fn versioned<T>(value: T) -> Versioned<T> {
    Versioned {
        value,
        mod_revision: 1,
        create_revision: 1,
    }
}
