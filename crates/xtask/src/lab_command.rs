//! `cargo xtask lab`. In: what to do to the lab. Out: a lab that outlives the
//! command, until `down`. A file in `.lab/` says where it is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lab::{Lab, Scope, Version};

use crate::{screen, setup, shell, traffic_command};

/// A crashed leader's key lives for `ttl` (20 s) before anybody else can lead.
const SETTLE: Duration = Duration::from_secs(90);

/// What to do.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Starts a lab that runs until `down`
    Up {
        /// Worker groups
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=9))]
        workers: u32,
        /// Members of each Patroni cluster
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=3))]
        members: u32,
        /// 3 (Debian's) or 4 (4.1)
        #[arg(long, default_value = "3")]
        patroni: Version,
        /// Citus databases
        #[arg(long, value_delimiter = ',', default_value = "postgres")]
        databases: Vec<String>,
        /// The Citus stand-in even where Citus is installed
        #[arg(long)]
        stand_in: bool,
        /// Have Patroni run `citus-sync hold` before it stops a PostgreSQL; needs --patroni 4
        #[arg(long)]
        hook: bool,
    },
    /// Writes and reads for a while, and says each second what failed and how long it waited
    Traffic(traffic_command::Arguments),
    /// Shows leaders, members and rows
    Status,
    /// Plans a switchover of a scope's leader and waits for it
    Switchover {
        /// cn, wk1, wk2, …
        scope: String,
        /// The member to lead next
        #[arg(long)]
        candidate: Option<String>,
    },
    /// Restarts the leader's PostgreSQL through Patroni
    Restart {
        /// cn, wk1, wk2, …
        scope: String,
    },
    /// Kills the leader's Patroni and PostgreSQL with SIGKILL
    Crash {
        /// cn, wk1, wk2, …
        scope: String,
    },
    /// Stops the leader's Patroni and PostgreSQL in their tracks (SIGSTOP)
    Freeze {
        /// cn, wk1, wk2, …
        scope: String,
    },
    /// Undoes `freeze`
    Thaw {
        /// cn, wk1, wk2, …
        scope: String,
    },
    /// Starts the members of a scope that are not running
    Revive {
        /// cn, wk1, wk2, …
        scope: String,
    },
    /// Prints the smallest configuration of citus-sync for this lab
    Config {
        /// Port that citus-sync shall listen on: 8009, or where the hook asks for it
        #[arg(long)]
        listen: Option<u16>,
    },
    /// Ends the lab and removes all of it
    Down,
}

pub(crate) fn run(command: &Command) -> Result<ExitCode> {
    match command {
        Command::Up {
            workers,
            members,
            patroni,
            databases,
            stand_in,
            hook,
        } => {
            setup::for_lab(*patroni)?;
            let mut builder = Lab::builder()
                .workers(*workers)
                .members(*members)
                .patroni(*patroni)
                .databases(databases)
                .stand_in(*stand_in);
            if *hook {
                builder = builder.hook(&build()?);
            }
            up(builder)?;
        }
        Command::Traffic(arguments) => traffic_command::run(&attach()?, arguments)?,
        Command::Status => status(&attach()?)?,
        Command::Switchover { scope, candidate } => {
            let lab = attach()?;
            let scope = lab.scope(scope)?;
            let former = scope.leader()?.name().to_owned();
            screen::line(scope.switchover(candidate.as_deref())?.trim());
            let heir = scope.wait_new_leader(&former, SETTLE)?;
            screen::line(&format!("{former} -> {}, which takes writes", heir.name()));
        }
        Command::Restart { scope } => {
            let lab = attach()?;
            let scope = lab.scope(scope)?;
            screen::line(scope.restart()?.trim());
        }
        Command::Crash { scope } => {
            let lab = attach()?;
            let victim = lab.scope(scope)?.crash()?;
            screen::line(&format!(
                "killed {}; its leader key lives on for up to 20 s. `cargo xtask lab revive {scope}` brings it back",
                victim.name()
            ));
        }
        Command::Freeze { scope } => {
            let lab = attach()?;
            screen::line(&format!("froze {}", lab.scope(scope)?.freeze()?.name()));
        }
        Command::Thaw { scope } => attach()?.scope(scope)?.thaw(),
        Command::Revive { scope } => {
            let lab = attach()?;
            let revived = lab.scope(scope)?.revive()?;
            screen::line(&format!("started: {}", revived.join(", ")));
        }
        Command::Config { listen } => {
            let lab = attach()?;
            let hooked = lab.hook().map(lab::Hook::listen);
            let listen = listen.or(hooked).unwrap_or(8009);
            screen::put(&format!("{}\n", lab.daemon_configuration(listen)?));
        }
        Command::Down => down()?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The program, for the hook.
fn build() -> Result<PathBuf> {
    setup::for_build()?;
    screen::step("building citus-sync", || {
        shell::run_quietly(&mut shell::cargo(&["build", "--quiet", "-p", "citus-sync"]))
    })?;
    Ok(shell::target().join("debug/citus-sync"))
}

fn up(builder: lab::LabBuilder) -> Result<()> {
    if let Some(root) = known()? {
        bail!(
            "a lab is up already, in {}: `cargo xtask lab down` ends it",
            root.display()
        );
    }
    let lab = screen::step("starting etcd, Patroni and PostgreSQL", || builder.start())?;
    let file = pointer();
    fs::create_dir_all(file.parent().unwrap_or(Path::new(".")))?;
    let root = lab.detach()?;
    fs::write(&file, root.display().to_string())
        .with_context(|| format!("writing {}", file.display()))?;
    status(&attach()?)?;
    screen::line("");
    screen::line(
        "cargo xtask lab status | traffic | switchover wk1 | restart wk1 | crash wk1 | config | down",
    );
    Ok(())
}

fn status(lab: &Lab) -> Result<()> {
    screen::line(&format!("{}, {}", lab.version(), lab.flavour()));
    screen::line(&format!("etcd  {}", lab.etcd().endpoint()));
    for scope in lab.scopes() {
        show(scope)?;
    }
    for database in lab.databases() {
        let shown = match lab.rows(database) {
            Ok(rows) => rows
                .iter()
                .map(|(group, address)| format!("{group} = {address}"))
                .collect::<Vec<_>>()
                .join(", "),
            Err(error) => format!("not known: {error:#}"),
        };
        screen::line(&format!("pg_dist_node in {database}: {shown}"));
    }
    Ok(())
}

fn show(scope: &Scope) -> Result<()> {
    let leader = scope.try_leader()?.map(lab::Member::name);
    for member in scope.members() {
        let role = match (member.is_running(), leader == Some(member.name())) {
            (false, true) => "not running, and still holds the leader key",
            (false, false) => "not running",
            (true, true) => "leader",
            (true, false) => "replica",
        };
        screen::line(&format!(
            "{:<5} group {}  {:<7} {}  {role}",
            scope.name(),
            scope.group(),
            member.name(),
            member.address()
        ));
    }
    Ok(())
}

fn down() -> Result<()> {
    let Some(root) = known()? else {
        screen::line("no lab is up");
        return Ok(());
    };
    // The processes and the folder, even if the lab never came up whole.
    lab::Sandbox::attach(&root)?.remove()?;
    fs::remove_file(pointer()).context("removing the note where the lab is")?;
    screen::line("the lab is gone");
    Ok(())
}

fn attach() -> Result<Lab> {
    let root = known()?.context("no lab is up: `cargo xtask lab up` starts one")?;
    Lab::attach(&root)
}

/// The lab's folder, if one is up. A note about a lab that is no more (the
/// machine was restarted) counts as none.
fn known() -> Result<Option<PathBuf>> {
    let file = pointer();
    if !file.exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    let root = PathBuf::from(text.trim());
    Ok(root.exists().then_some(root))
}

fn pointer() -> PathBuf {
    shell::root().join(".lab/folder")
}
