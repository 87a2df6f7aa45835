//! `citus-sync hold` and `citus-sync release`: for Patroni's `before_stop`, and for people.
//!
//! Patroni waits for the script before it stops a PostgreSQL, so the first duty is to end in time
//! whatever happens; the second to say in one line of Patroni's log what came of it.

mod ancestors;
mod ask;
mod bound;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;

use self::ask::Daemons;
use self::bound::Bound;
use super::address::{DEFAULT_URL, url_of};
use super::outcome::{Done, Failed, Outcome};
use super::runtime::block_on;
use super::source::load;
use super::stdout::{print, print_error, print_json};
use crate::files::read;
use crate::http::{Order, is_address};
use citus_core::config::{Config, Member, Origin, Secret, TOKEN_VARIABLE, token};
use citus_core::render;
use citus_core::report::{HoldAnswer, HoldOutcome, HoldRequest, Refusal, RefusalKind};

/// What stands below `hold --help`. One line a paragraph: the terminal's width breaks them.
pub(super) const HOLD_HELP: &str = "\
From now on writes of the group wait, in every database and on every node that clients use, and \
reads go to a standby as soon as one has caught up. The hold ends by itself when the group has a \
writable leader again; or when `citus-sync release` says so; or at its timeout.

As a script of Patroni, in the patroni.yml of each worker. No configuration of citus-sync is needed \
there, only the token in a file that the user who runs Patroni may read:

  postgresql:
    before_stop: citus-sync hold --url http://10.0.0.1:8009 --token-file /etc/citus-sync/token

Patroni runs it before it stops a PostgreSQL, waits for it, and stops whatever it says; it never \
takes longer than --wait. It finds out by itself which member is about to stop, from PATRONI_NAME and \
PATRONI_SCOPE or from the configuration of the Patroni that runs it, and nothing is held when that \
member does not lead, as when a standby is restarted. Without a Patroni above it, it is a person's \
hold, and needs --group or --scope.

Exit codes: 0 held, or nothing to hold; 1 not held, or not in every database; 2 usage, or no token.";

/// What stands below `release --help`.
pub(super) const RELEASE_HELP: &str = "\
Exit codes: 0 nothing is held any more; 1 not released; 2 usage, or no token.";

/// The shortest wait that leaves time for anything.
const SHORTEST_WAIT: Duration = Duration::from_millis(100);

/// The longest: no daemon lets a request wait for longer.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What both commands take: which daemons to ask, and about which group.
#[derive(Debug, Args)]
struct CommonOptions {
    /// The group, by its Citus groupid
    #[arg(long, value_name = "N", conflicts_with = "scope")]
    group: Option<u32>,
    /// The group, by its Patroni scope (citus/1 where Patroni itself manages Citus) [default: that of
    /// the Patroni that runs this]
    #[arg(long, value_name = "NAME")]
    scope: Option<String>,
    /// The formation, where several have a group of this number
    #[arg(long, value_name = "NAME")]
    formation: Option<String>,
    #[arg(
        long = "url",
        value_name = "URL",
        help = format!(
            "The daemon's address; give it once for each instance, they are asked in turn \
             [default: {DEFAULT_URL}]"
        )
    )]
    urls: Vec<String>,
    #[arg(
        long,
        value_name = "FILE",
        help = format!(
            "A file with the daemon's token on its only line [default: {TOKEN_VARIABLE} in the \
             environment]"
        )
    )]
    token_file: Option<PathBuf>,
    /// The daemon's configuration, for its address and its token
    #[arg(
        short = 'c',
        long = "config",
        value_name = "FILE",
        conflicts_with = "urls"
    )]
    file: Option<PathBuf>,
    /// This command ends by then, whatever happens
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = wait)]
    wait: Duration,
    /// Print the daemon's answer as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct HoldOptions {
    #[command(flatten)]
    common: CommonOptions,
    /// The member that is about to stop: nothing is held when it does not lead. Empty to hold
    /// whichever member leads [default: that of the Patroni that runs this]
    #[arg(long, value_name = "NAME")]
    member: Option<String>,
    /// How long to hold at most [default and maximum: `policy.hold_timeout` of the daemon]
    #[arg(long, value_name = "DURATION", value_parser = timeout)]
    timeout: Option<Duration>,
}

#[derive(Debug, Args)]
pub(super) struct ReleaseOptions {
    #[command(flatten)]
    common: CommonOptions,
}

fn wait(text: &str) -> Result<Duration, String> {
    within(text, SHORTEST_WAIT, LONGEST_WAIT)
}

fn timeout(text: &str) -> Result<Duration, String> {
    within(text, Duration::from_millis(1), Duration::from_secs(600))
}

fn within(text: &str, least: Duration, greatest: Duration) -> Result<Duration, String> {
    let expected = format!(
        "expected a duration from {} to {}, such as 5s or 500ms",
        humantime::format_duration(least),
        humantime::format_duration(greatest)
    );
    match humantime::parse_duration(text) {
        Ok(duration) if (least..=greatest).contains(&duration) => Ok(duration),
        Ok(_) => Err(expected),
        Err(error) => Err(format!("{error}; {expected}")),
    }
}

/// `citus-sync hold`.
pub(super) fn hold(options: &HoldOptions, started: Instant) -> Outcome {
    let common = &options.common;
    let bound = Bound::new(started, common.wait, "not held");
    let patroni = if options.member.is_some() && common.names_a_group() {
        Member::default()
    } else {
        ancestors::member_above()?
    };
    let target = common.target(patroni.scope)?;
    let member = options.member.clone().or(patroni.name);
    let member = member.filter(|name| !name.is_empty());
    let request = HoldRequest {
        member: member.clone(),
        timeout_ms: options.timeout.map(millis),
        wait_ms: None,
    };
    common.ask(&bound, &target, &Order::Hold(request), member.as_deref())
}

/// `citus-sync release`.
pub(super) fn release(options: &ReleaseOptions, started: Instant) -> Outcome {
    let common = &options.common;
    let bound = Bound::new(started, common.wait, "not released");
    let patroni = if common.names_a_group() {
        Member::default()
    } else {
        ancestors::member_above()?
    };
    let target = common.target(patroni.scope)?;
    let order = Order::Release(HoldRequest::default());
    common.ask(&bound, &target, &order, None)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Which group.
#[derive(Debug)]
enum Target {
    Group(String),
    Scope(String),
}

impl Target {
    /// As the request names it.
    fn name(&self) -> &str {
        let (Self::Group(name) | Self::Scope(name)) = self;
        name
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group(group) => write!(f, "group {group}"),
            Self::Scope(scope) => write!(f, "scope {scope}"),
        }
    }
}

impl CommonOptions {
    fn names_a_group(&self) -> bool {
        self.group.is_some() || self.scope.is_some()
    }

    /// The group that was named, or that of the Patroni above us.
    fn target(&self, patronis_scope: Option<String>) -> Result<Target, Failed> {
        if let Some(group) = self.group {
            return Ok(Target::Group(group.to_string()));
        }
        self.scope
            .clone()
            .or(patronis_scope)
            .map(Target::Scope)
            .ok_or_else(|| {
                usage(
                    "which group? Name it with --group N or --scope NAME (only a script that \
                     Patroni runs may leave both out)",
                )
            })
    }

    fn ask(&self, bound: &Bound, target: &Target, order: &Order, member: Option<&str>) -> Outcome {
        let config = self.file.as_deref().map(load).transpose()?;
        let token = self.token(config.as_ref())?;
        let daemons = Daemons {
            urls: self.urls(config.as_ref())?,
            token,
            group: target.name().to_owned(),
            formation: self.formation.clone(),
        };
        let asked = block_on(ask::ask(&daemons, order, bound.last_answer()))?;
        for failure in &asked.failures {
            print_error(&format!("citus-sync: {failure}"));
        }
        self.print(bound, target, &asked.answer, member)
    }

    /// One line on stdout in every case; what to fix on stderr.
    fn print(
        &self,
        bound: &Bound,
        target: &Target,
        answer: &Result<HoldAnswer, Option<Refusal>>,
        member: Option<&str>,
    ) -> Outcome {
        let what = bound.failed();
        let line = match answer {
            Ok(answer) if self.json => {
                print_json(answer)?;
                return Ok(done(answer));
            }
            Ok(answer) => render::hold_answer(answer, member),
            Err(Some(refusal)) => {
                let fix = match refusal.error {
                    RefusalKind::NotActive => "; name every instance with --url",
                    _ => "",
                };
                print_error(&format!("citus-sync: {}{fix}", refusal.message));
                format!("{target}: {what}, the daemon refused")
            }
            Err(None) => {
                print_error(
                    "citus-sync: is the daemon running there, and is `listen` in its \
                     configuration an address that this host reaches?",
                );
                format!("{target}: {what}, no daemon answered in time")
            }
        };
        if !self.json {
            print(&format!("citus-sync: {line}\n"))?;
        }
        Ok(answer.as_ref().map_or(Done::No, done))
    }

    fn urls(&self, config: Option<&Config>) -> Result<Vec<String>, Failed> {
        let mut urls: Vec<String> = match config {
            Some(config) => vec![url_of(config.listen)],
            None if self.urls.is_empty() => vec![DEFAULT_URL.to_owned()],
            None => self.urls.clone(),
        };
        for url in &urls {
            is_address(url).map_err(|error| usage(&error.to_string()))?;
        }
        let mut seen = Vec::new();
        urls.retain(|url| {
            let new = !seen.contains(url);
            seen.push(url.clone());
            new
        });
        Ok(urls)
    }

    fn token(&self, config: Option<&Config>) -> Result<Secret, Failed> {
        if let Some(file) = &self.token_file {
            return token_file(file);
        }
        if let Some(secret) = config.and_then(|config| config.token.clone()) {
            return Ok(secret);
        }
        let fix = match &self.file {
            Some(file) => format!("name one with `token_file` in {}", file.display()),
            None => "name its file with --token-file".to_owned(),
        };
        let value = std::env::var(TOKEN_VARIABLE).unwrap_or_default();
        if value.is_empty() {
            return Err(usage(&format!(
                "no API token was given: {fix}, or set {TOKEN_VARIABLE}"
            )));
        }
        let value = token(&value)
            .map_err(|wrong| usage(&format!("{TOKEN_VARIABLE} in the environment {wrong}")))?;
        Ok(Secret::new(value, Origin::Env(TOKEN_VARIABLE)))
    }
}

fn token_file(file: &Path) -> Result<Secret, Failed> {
    let wrong = |what: String| usage(&format!("--token-file {}: {what}", file.display()));
    let text = read(file).map_err(|error| {
        wrong(format!(
            "cannot be read: {error}; it must be readable for the user that runs Patroni"
        ))
    })?;
    let value = token(&text).map_err(|what| wrong(format!("it {what}")))?;
    Ok(Secret::new(value, Origin::File(file.to_owned())))
}

fn done(answer: &HoldAnswer) -> Done {
    match answer.outcome {
        HoldOutcome::Held
        | HoldOutcome::NotTheLeader
        | HoldOutcome::Released
        | HoldOutcome::NothingHeld => Done::Yes,
        HoldOutcome::Partly | HoldOutcome::NotHeld | HoldOutcome::Refused => Done::No,
    }
}

fn usage(text: &str) -> Failed {
    Failed::Configuration(format!("citus-sync: {text}"))
}
