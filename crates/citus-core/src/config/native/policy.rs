//! The `policy` section: settings on top of those of the section above it, and what must agree
//! among them.

use std::time::Duration;

use super::super::reader::{At, Fields};
use super::super::yaml::Node;
use crate::policy::{Policy, UseSecondaryNodes, Write, limits};

/// What a `policy` may have.
const KEYS: &[&str] = &[
    "hold_timeout",
    "lock_cooldown",
    "read_move",
    "read_move_max_lag",
    "hold_on_request",
    "hold_on_leader_loss",
    "secondaries",
    "use_secondary_nodes",
    "fallback_to_primary",
    "write",
    "connect_timeout",
    "statement_timeout",
    "probe_interval",
    "reconcile_every",
];

/// Settings that are checked and not used yet.
const WITHOUT_EFFECT: [&str; 3] = ["secondaries", "use_secondary_nodes", "fallback_to_primary"];

/// The keys of `policy` on top of `base`. `None` when a problem was noted.
pub(super) fn read(at: &At<'_>, base: &Policy) -> Option<Policy> {
    let fields = at.fields(KEYS, "a mapping of settings")?;
    let mut policy = base.clone();
    // Both, so that all problems are noted.
    let (times, others) = (times(&fields, &mut policy), others(&fields, &mut policy));
    if !times || !others {
        return None;
    }
    agree(&fields, &policy);
    for at in WITHOUT_EFFECT.iter().filter_map(|key| fields.get(key)) {
        let text = format!("{}: accepted, but without effect in this version", at.path);
        at.doc.warn(text);
    }
    Some(policy)
}

/// Reads the settings that are durations. False when a problem was noted.
fn times(fields: &Fields<'_>, p: &mut Policy) -> bool {
    let sound = [
        time(
            fields,
            "hold_timeout",
            limits::HOLD_TIMEOUT,
            &mut p.hold_timeout,
        ),
        time(
            fields,
            "lock_cooldown",
            limits::LOCK_COOLDOWN,
            &mut p.lock_cooldown,
        ),
        time(
            fields,
            "connect_timeout",
            limits::CONNECT_TIMEOUT,
            &mut p.connect_timeout,
        ),
        time(
            fields,
            "statement_timeout",
            limits::STATEMENT_TIMEOUT,
            &mut p.statement_timeout,
        ),
        time(
            fields,
            "probe_interval",
            limits::PROBE_INTERVAL,
            &mut p.probe_interval,
        ),
        time(
            fields,
            "reconcile_every",
            limits::RECONCILE_EVERY,
            &mut p.reconcile_every,
        ),
    ];
    !sound.contains(&false)
}

/// Reads the settings that are switches, words and sizes. False when a problem was noted.
fn others(fields: &Fields<'_>, p: &mut Policy) -> bool {
    let sound = [
        flag(fields, "read_move", &mut p.read_move),
        set(
            fields,
            "read_move_max_lag",
            &mut p.read_move_max_lag,
            max_lag,
        ),
        flag(fields, "hold_on_request", &mut p.hold_on_request),
        flag(fields, "hold_on_leader_loss", &mut p.hold_on_leader_loss),
        flag(fields, "secondaries", &mut p.secondaries),
        set(
            fields,
            "use_secondary_nodes",
            &mut p.use_secondary_nodes,
            secondary_nodes,
        ),
        flag(fields, "fallback_to_primary", &mut p.fallback_to_primary),
        set(fields, "write", &mut p.write, write),
    ];
    !sound.contains(&false)
}

/// Puts a setting that is in the file in the place of the one in `setting`. False when it could
/// not be read and a problem was noted.
fn set<T>(
    fields: &Fields<'_>,
    key: &str,
    setting: &mut T,
    read: impl FnOnce(&At<'_>) -> Option<T>,
) -> bool {
    let Some(at) = fields.get(key) else {
        return true;
    };
    read(&at).map(|value| *setting = value).is_some()
}

fn flag(fields: &Fields<'_>, key: &str, setting: &mut bool) -> bool {
    set(fields, key, setting, on_or_off)
}

fn time(
    fields: &Fields<'_>,
    key: &str,
    range: (Duration, Duration),
    setting: &mut Duration,
) -> bool {
    set(fields, key, setting, |at| at.duration(range))
}

fn on_or_off(at: &At<'_>) -> Option<bool> {
    at.flag()
}

fn secondary_nodes(at: &At<'_>) -> Option<UseSecondaryNodes> {
    at.word(&[UseSecondaryNodes::Off, UseSecondaryNodes::Auto].map(|word| (word.as_str(), word)))
}

fn write(at: &At<'_>) -> Option<Write> {
    at.word(&[Write::Auto, Write::Always, Write::Never].map(|word| (word.as_str(), word)))
}

/// `off`, or a number of bytes as PostgreSQL writes it: `16MB`.
#[expect(
    clippy::option_option,
    reason = "the outer says whether it could be read, the inner whether it is on"
)]
fn max_lag(at: &At<'_>) -> Option<Option<u64>> {
    let expected = "off, or a size such as 16MB (kB, MB and GB as PostgreSQL has them)";
    let size = match at.node {
        Node::Bool(false) => return Some(None),
        Node::Int(bytes) => u64::try_from(*bytes).ok(),
        Node::Text(text) if text.trim() == "off" => return Some(None),
        Node::Text(text) => size(text.trim()),
        _ => None,
    };
    if size.is_none() {
        at.bad(expected, "");
    }
    size.map(Some)
}

fn size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim() {
        "B" => 1,
        "kB" => 1 << 10,
        "MB" => 1 << 20,
        "GB" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// Settings that are right one by one and wrong together.
fn agree(fields: &Fields<'_>, policy: &Policy) {
    let cooldown = policy.lock_cooldown;
    let others = [
        (
            "hold_timeout",
            policy.hold_timeout,
            "sessions in the way would outlast the hold, and every hold would end in vain",
        ),
        (
            "statement_timeout",
            policy.statement_timeout,
            "the move would be cancelled before the sessions in its way are ended",
        ),
    ];
    for (key, limit, why) in others {
        if cooldown < limit {
            continue;
        }
        let found = format!(
            "lock_cooldown {} and {key} {}",
            humantime::format_duration(cooldown),
            humantime::format_duration(limit)
        );
        if let Some(at) = fields.get("lock_cooldown").or_else(|| fields.get(key)) {
            at.bad_found(
                &found,
                &format!("lock_cooldown to be shorter than {key}"),
                why,
            );
        }
    }
}
