//! The `dcs-watch` command: prints what happens to Patroni's keys in etcd.

fn main() -> std::process::ExitCode {
    dcs_watch::cli::main()
}
