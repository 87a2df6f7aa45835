//! Moves by a plain UPDATE: seen at once by every session of the node it is made on, told to no
//! other node, and without a lock on any shard. So a row can be moved under a hold, on any node.

use dcs_watch::HostPort;

use super::{Dialect, quote};
use crate::plan::{Exchange, ExchangePart, MakeWay, Move};

impl Dialect {
    /// The updates of a move, in the order that keeps every name unique at every moment. A row that
    /// is right already stays untouched; rows of other nodes and groups do in any case.
    pub fn plain_updates(&self, group: i32, step: &Move) -> Vec<String> {
        let primary = format!(
            "UPDATE pg_catalog.pg_dist_node SET {} WHERE nodeid = {} AND groupid = {group} \
             AND NOT ({})",
            assign(&step.to),
            step.nodeid,
            bears(&step.to)
        );
        match &step.make_way {
            None => vec![primary],
            Some(MakeWay {
                nodeid,
                temporary,
                then,
            }) => {
                // Which spelling of its address this node's copy of the row has is not asked: only
                // where it is to be, and where it is on the way there. A clone's row has a group
                // of its own.
                let rename = |to: &HostPort, while_it: &str| {
                    format!(
                        "UPDATE pg_catalog.pg_dist_node SET {} WHERE nodeid = {nodeid} \
                         AND (groupid = {group} OR noderole = 'unavailable') AND {while_it}",
                        assign(to),
                    )
                };
                vec![
                    rename(temporary, &format!("NOT ({})", bears(then))),
                    primary,
                    rename(then, &bears(temporary)),
                ]
            }
        }
    }

    /// The updates of an exchange, as those of a move.
    pub fn plain_exchange(&self, step: &Exchange) -> Vec<String> {
        let rename = |part: &ExchangePart, to: &HostPort| {
            format!(
                "UPDATE pg_catalog.pg_dist_node SET {} WHERE nodeid = {} AND groupid = {}",
                assign(to),
                part.nodeid,
                part.group
            )
        };
        let away = (step.parts.iter()).map(|part| rename(part, &part.temporary));
        let home = step.parts.iter().map(|part| rename(part, &part.to));
        away.chain(home).collect()
    }

    /// Whether the move is made, as far as this node's own copy of the row goes: one boolean.
    pub fn is_moved(&self, group: i32, step: &Move) -> String {
        format!(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_dist_node WHERE nodeid = {} \
             AND groupid = {group} AND {})",
            step.nodeid,
            bears(&step.to)
        )
    }
}

fn assign(to: &HostPort) -> String {
    format!("nodename = {}, nodeport = {}", quote(&to.host), to.port)
}

fn bears(address: &HostPort) -> String {
    format!(
        "nodename = {} AND nodeport = {}",
        quote(&address.host),
        address.port
    )
}
