//! Asks several daemons in turn until one answers. A slow one is not waited for while another could
//! answer.

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::sleep_until;

use crate::http::{Called, ClientError, Order, call};
use citus_core::config::Secret;
use citus_core::report::{HoldAnswer, Refusal, RefusalKind};

/// After this long without an answer the next daemon is asked as well. Taking a hold is a matter of
/// milliseconds, but for sessions that are in its way.
const NEXT_AFTER: Duration = Duration::from_secs(1);

/// How much earlier than we end a daemon should answer, at most.
const HEAD_START: Duration = Duration::from_millis(100);

/// The daemons, and the group.
pub(super) struct Daemons {
    pub(super) urls: Vec<String>,
    pub(super) token: Secret,
    pub(super) group: String,
    pub(super) formation: Option<String>,
}

/// What the daemons answered.
pub(super) struct Asked {
    /// A reconciler's answer; else a refusal, if any daemon answered.
    pub(super) answer: Result<HoldAnswer, Option<Refusal>>,
    /// What went wrong with each daemon that could not be asked.
    pub(super) failures: Vec<String>,
}

type Call<'a> = Pin<Box<dyn Future<Output = Result<Called, ClientError>> + 'a>>;

/// Asks until the active daemon answers, or until `ends`. A daemon that is not active may name the
/// one that is: that one is asked at once, whether it was given or not.
pub(super) async fn ask(daemons: &Daemons, order: &Order, ends: Instant) -> Asked {
    let mut waiting: VecDeque<String> = daemons.urls.iter().cloned().collect();
    let mut asked: Vec<String> = Vec::new();
    let mut calls: FuturesUnordered<Call<'_>> = FuturesUnordered::new();
    let mut next = Instant::now();
    let mut failures = Vec::new();
    let mut not_active = None;
    loop {
        let due = calls.is_empty() || Instant::now() >= next;
        if due && let Some(url) = waiting.pop_front() {
            next = Instant::now() + next_after(ends, waiting.len() + 1);
            asked.push(host_of(&url).to_owned());
            calls.push(Box::pin(one(daemons, url, order, ends)));
        }
        let answer = tokio::select! {
            // Each call ends at `ends`, so that this loop does, too.
            answer = calls.next() => match answer {
                None => Err(not_active),
                Some(Ok(Called::Answer(answer))) => Ok(answer),
                Some(Ok(Called::Refused(refusal))) if refusal.error == RefusalKind::NotActive => {
                    if let Some(active) = refusal.active.as_ref().map(ToString::to_string)
                        && !asked.contains(&active)
                    {
                        waiting.retain(|url| host_of(url) != active);
                        waiting.push_front(active);
                        next = Instant::now();
                    }
                    not_active = Some(refusal);
                    continue;
                }
                Some(Ok(Called::Refused(refusal))) => Err(Some(refusal)),
                Some(Err(error)) => {
                    failures.push(error.to_string());
                    continue;
                }
            },
            () = sleep_until(next.into()), if !waiting.is_empty() => continue,
        };
        return Asked { answer, failures };
    }
}

async fn one(
    daemons: &Daemons,
    url: String,
    order: &Order,
    ends: Instant,
) -> Result<Called, ClientError> {
    let left = ends.saturating_duration_since(Instant::now());
    let wait = left.saturating_sub(HEAD_START.min(left / 10));
    let mut order = order.clone();
    let (Order::Hold(request) | Order::Release(request)) = &mut order;
    request.wait_ms = u64::try_from(wait.as_millis()).ok();
    let group = (daemons.formation.as_deref(), daemons.group.as_str());
    call(&url, &daemons.token, group, &order, left).await
}

/// How long to wait for a daemon before the next is asked as well: `remaining` of them, this one
/// included, share what is left.
fn next_after(ends: Instant, remaining: usize) -> Duration {
    let left = ends.saturating_duration_since(Instant::now());
    let shares = u32::try_from(remaining).unwrap_or(u32::MAX);
    (left / shares.max(1)).min(NEXT_AFTER)
}

/// `host:port` of a URL.
fn host_of(url: &str) -> &str {
    let rest = url.strip_prefix("http://").unwrap_or(url);
    rest.split('/').next().unwrap_or_default()
}
