//! The `citus-sync` command: keeps `pg_dist_node` of a Citus cluster true to what Patroni decided.

fn main() -> std::process::ExitCode {
    citus_sync::cli::main()
}
