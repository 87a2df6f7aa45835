//! Executes one order of a group in one database. Enters: the order, and the open hold if it is about one.
//! Leaves: what came of it. Whether the order is still right is asked once more right before rows change.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::Arc;
use std::time::Instant;

use citus_core::group::{
    Action, Done, Ended, Failure, FailureKind, Order, Precondition, ReadPrecondition,
};
use citus_core::plan::{Move, Step};
use dcs_watch::{HostPort, ScopeView};
use futures_util::future::{AbortHandle, Aborted, abortable};
use tokio::sync::watch;

use super::neighbourhood::Neighbourhood;
use crate::execute::{
    EntryNodes, Finish, HeldSessions, Hold, HoldOrder, NotFinished, StepError, exchange,
    move_reads, register, repair, resync, row_move,
};
use crate::session::{Database, Listener, SqlError};

/// What an order needs beside itself.
pub(super) struct Tools {
    pub(super) group: i32,
    pub(super) database: Database,
    pub(super) entry_nodes: EntryNodes,
    pub(super) view: watch::Receiver<Arc<ScopeView>>,
    pub(super) answers: Listener,
    pub(super) neighbourhood: Neighbourhood,
}

/// What an order that succeeded leaves: news for the group, or a hold for the driver to keep.
pub(super) enum Executed {
    Done(Done),
    Held(Box<Hold>),
    /// The move inside a hold failed, and the hold stands on.
    Kept(OpenHold, StepError),
}

/// An open hold whose end an order is.
pub(super) struct OpenHold {
    /// The order that took it.
    pub(super) order: u64,
    pub(super) hold: Box<Hold>,
    /// What holds its entry nodes.
    pub(super) held: HeldSessions,
}

/// An order that came to its end.
pub(super) struct Finished {
    pub(super) database: String,
    pub(super) order: u64,
    pub(super) step: Step,
    pub(super) started: Instant,
    pub(super) result: Result<Executed, StepError>,
}

/// An order, ready to run, and what calls it off.
pub(super) struct Execution {
    pub(super) run: std::pin::Pin<Box<dyn Future<Output = Finished> + Send>>,
    /// Only a hold that is being taken can be called off.
    pub(super) call_off: Option<AbortHandle>,
}

/// Makes an order ready to run. `hold` is what is open in its database, where the order ends it.
pub(super) fn prepare(order: Order, tools: Tools, hold: Option<OpenHold>) -> Execution {
    let Order {
        id,
        database,
        step,
        entry_nodes,
        action,
    } = order;
    let is_hold = matches!(action, Action::Hold { .. });
    let executed = execute(tools, entry_nodes, action, hold);
    let (executed, call_off) = abortable(executed);
    let run = async move {
        let started = Instant::now();
        let result = executed
            .await
            .unwrap_or_else(|Aborted| Err(StepError::Superseded));
        Finished {
            database,
            order: id,
            step,
            started,
            result,
        }
    };
    Execution {
        run: Box::pin(run),
        call_off: is_hold.then_some(call_off),
    }
}

async fn execute(
    tools: Tools,
    targets: Vec<HostPort>,
    action: Action,
    open: Option<OpenHold>,
) -> Result<Executed, StepError> {
    let (database, entry_nodes, group) = (&tools.database, &tools.entry_nodes, tools.group);
    let done = match action {
        Action::Hold { left, cooldown } => {
            let order = HoldOrder {
                group,
                left,
                cooldown,
            };
            let hold = Hold::take(database, &order).await?;
            return Ok(Executed::Held(Box::new(hold)));
        }
        Action::Release { entry_nodes: ends } => Done::Released {
            not_followed: match open {
                Some(OpenHold { hold, held, .. }) => {
                    hold.release(database, entry_nodes, held, &ends).await
                }
                None => Vec::new(),
            },
        },
        Action::ReadMove { step, precondition } => {
            move_reads_to(&tools, &targets, &step, precondition).await?
        }
        Action::Resync(precondition) => {
            let leads = leads(&tools, precondition);
            resync(database, group, leads).await?;
            Done::Resynced
        }
        Action::Finish {
            step,
            keep,
            precondition,
        } => {
            let leads = leads(&tools, precondition);
            let Some(OpenHold { order, hold, held }) = open else {
                return Err(SqlError::Io("the hold is gone".to_owned()).into());
            };
            let finish = Finish {
                targets: &targets,
                step: &step,
                keep,
            };
            let finished = hold.finish(database, entry_nodes, held, finish, leads);
            match finished.await {
                Ok(finished) => Done::Changed(finished),
                Err(NotFinished { error, kept: None }) => return Err(error),
                Err(NotFinished {
                    error,
                    kept: Some((standing, nodes)),
                }) => {
                    let hold = Box::new(standing);
                    let open = OpenHold {
                        order,
                        hold,
                        held: nodes,
                    };
                    return Ok(Executed::Kept(open, error));
                }
            }
        }
        Action::Exchange { step, precondition } => {
            let leads = leads(&tools, precondition);
            let (neighbourhood, exchanged) = (tools.neighbourhood.clone(), step.clone());
            let still_right = move || leads() && neighbourhood.still_stand(&exchanged);
            Done::Changed(exchange(database, &step, still_right).await?)
        }
        Action::Move { step, precondition } => {
            let leads = leads(&tools, precondition);
            let moved = row_move(database, entry_nodes, &targets, group, &step, leads);
            Done::Changed(moved.await?)
        }
        Action::Register { step, precondition } => {
            let leads = leads(&tools, precondition);
            Done::Changed(register(database, &step, leads).await?)
        }
        Action::Repair { step, precondition } => {
            let leads = leads(&tools, precondition);
            Done::Changed(repair(database, &step, leads).await?)
        }
    };
    Ok(Executed::Done(done))
}

async fn move_reads_to(
    tools: &Tools,
    targets: &[HostPort],
    step: &Move,
    precondition: ReadPrecondition,
) -> Result<Done, StepError> {
    let (view, answers, from) = (tools.view.clone(), tools.answers.clone(), step.from.clone());
    let still_right =
        move || precondition.still_stands(&view.borrow(), answers.is_lost(&from), Instant::now());
    let (database, entry_nodes, group) = (&tools.database, &tools.entry_nodes, tools.group);
    let moved = move_reads(database, entry_nodes, targets, group, step, still_right);
    Ok(Done::Changed(moved.await?))
}

/// Whether the leader that an order was given for still has its key.
fn leads(tools: &Tools, precondition: Precondition) -> impl Fn() -> bool + use<> {
    let view = tools.view.clone();
    move || precondition.still_leads(&view.borrow())
}

/// The end of an order, as the group is told; with an error, whether its hold stands on.
pub(super) fn ended(
    database: String,
    order: u64,
    started: Instant,
    result: Result<Done, (StepError, bool)>,
) -> Ended {
    Ended {
        database,
        order,
        started,
        result: result.map_err(|(error, hold_kept)| failure(&error, hold_kept)),
        jitter: chance(),
    }
}

fn failure(error: &StepError, hold_kept: bool) -> Failure {
    let kind = match error {
        StepError::Superseded => FailureKind::Superseded,
        StepError::Ambiguous(_) => FailureKind::Ambiguous,
        StepError::Sql(error) if error.is_lock_timeout() => FailureKind::LockTimeout,
        _ => FailureKind::Other,
    };
    Failure {
        kind,
        text: error.to_string(),
        hold_kept,
    }
}

/// A number from 0 to 1, another one each time.
fn chance() -> f64 {
    let random = RandomState::new().build_hasher().finish() >> 11;
    #[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
    let fraction = random as f64 / (1_u64 << 53) as f64;
    fraction
}
