//! `cargo xtask lab`. In: what to do to the lab. Out: a lab that outlives the
//! command, until `down`. The file `.lab/folder` has the name of its folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lab::{Lab, Scope, Version};

use crate::{screen, setup, shell, traffic_command};

/// A crashed leader's key lives for `ttl` (20 s) before another member can lead.
const NEW_LEADER: Duration = Duration::from_secs(90);

/// The lab to start.
#[derive(clap::Args)]
pub(crate) struct UpArguments {
    /// Number of worker groups
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=9))]
    workers: u32,
    /// Number of members of each Patroni cluster
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=3))]
    members: u32,
    /// Patroni: 3 (Debian's) or 4 (4.1)
    #[arg(long, default_value = "3")]
    patroni: Version,
    /// Citus databases
    #[arg(long, value_delimiter = ',', default_value = "postgres")]
    databases: Vec<String>,
    /// Use the Citus stand-in even where Citus is installed
    #[arg(long)]
    stand_in: bool,
    /// Make Patroni run `citus-sync hold` before it stops PostgreSQL; needs --patroni 4
    #[arg(long)]
    hook: bool,
}

/// What to do.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Starts a lab that runs until `down`
    Up(UpArguments),
    /// Writes and reads for a while, and prints every second what failed and how long clients waited
    Traffic(traffic_command::Arguments),
    /// Shows leaders, members and rows
    Status,
    /// Asks Patroni for a switchover of a scope, and waits for it
    Switchover {
        /// cn, wk1, wk2, …
        scope: String,
        /// The next leader
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
    /// Suspends the leader's Patroni and PostgreSQL with SIGSTOP
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
        /// Port for citus-sync to listen on [default: the hook's, or 8009]
        #[arg(long)]
        listen: Option<u16>,
    },
    /// Ends the lab and removes all of it
    Down,
}

pub(crate) fn run(command: &Command) -> Result<ExitCode> {
    match command {
        Command::Up(arguments) => up(arguments)?,
        Command::Traffic(arguments) => traffic_command::run(&attach()?, arguments)?,
        Command::Status => status(&attach()?)?,
        Command::Switchover { scope, candidate } => {
            switchover(attach()?.scope(scope)?, candidate.as_deref())?;
        }
        Command::Restart { scope } => {
            screen::line(attach()?.scope(scope)?.restart()?.trim());
        }
        Command::Crash { scope } => {
            let lab = attach()?;
            let victim = lab.scope(scope)?.crash()?;
            screen::line(&format!(
                "killed {}; its leader key lives for up to 20 s. `cargo xtask lab revive {scope}` starts it again",
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
        Command::Config { listen } => config(&attach()?, *listen)?,
        Command::Down => down()?,
    }
    Ok(ExitCode::SUCCESS)
}

fn switchover(scope: &Scope, candidate: Option<&str>) -> Result<()> {
    let former = scope.leader()?.name().to_owned();
    screen::line(scope.switchover(candidate)?.trim());
    let successor = scope.wait_new_leader(&former, NEW_LEADER)?;
    screen::line(&format!(
        "{former} -> {}, which takes writes",
        successor.name()
    ));
    Ok(())
}

fn config(lab: &Lab, listen: Option<u16>) -> Result<()> {
    let hooked = lab.hook().map(lab::Hook::listen);
    let listen = listen.or(hooked).unwrap_or(8009);
    screen::put(&format!("{}\n", lab.daemon_configuration(listen)?));
    Ok(())
}

fn up(arguments: &UpArguments) -> Result<()> {
    if let Some(root) = known()? {
        bail!(
            "a lab is up already, in {}: `cargo xtask lab down` ends it",
            root.display()
        );
    }
    setup::for_lab(arguments.patroni)?;
    let mut builder = Lab::builder()
        .workers(arguments.workers)
        .members(arguments.members)
        .patroni(arguments.patroni)
        .databases(&arguments.databases)
        .stand_in(arguments.stand_in);
    if arguments.hook {
        builder = builder.hook(&setup::build_citus_sync("building citus-sync")?);
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
    // This removes the processes and the folder even if the start of the lab had failed.
    lab::Sandbox::attach(&root)?.remove()?;
    fs::remove_file(pointer()).context("removing the name of the lab's folder")?;
    screen::line("the lab is gone");
    Ok(())
}

fn attach() -> Result<Lab> {
    let root = known()?.context("no lab is up: `cargo xtask lab up` starts one")?;
    Lab::attach(&root)
}

/// The folder of the lab that is up, if any. After a restart of the machine it may be gone.
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
