//! The lock by which one daemon is the only writer of a database's rows, for as long as its session
//! lasts.

/// Tries to take it; one boolean. An advisory lock is of one database, so each has its own. The two
/// numbers are `citu` and `sync` in ASCII: no other program takes these by chance.
pub const TAKE_WRITER_LOCK: &str = "SELECT pg_catalog.pg_try_advisory_lock(1667855477, 1937337955)";

/// Who has it: process, address, name and since when.
pub const WRITER: &str = "SELECT holder.pid, activity.client_addr, activity.application_name, \
                          activity.backend_start FROM pg_catalog.pg_locks AS holder LEFT JOIN \
                          pg_catalog.pg_stat_activity AS activity ON activity.pid = holder.pid JOIN \
                          pg_catalog.pg_database AS base ON base.oid = holder.database WHERE \
                          holder.locktype = 'advisory' AND base.datname = \
                          pg_catalog.current_database() AND holder.classid = 1667855477 AND \
                          holder.objid = 1937337955 AND holder.objsubid = 2 AND holder.granted";

/// Has the server end this session once it was idle for so long, where the server can (PostgreSQL 14 and
/// later): a frozen daemon does not stay the writer.
pub fn end_when_idle(milliseconds: u128) -> String {
    format!(
        "SELECT pg_catalog.set_config(name, '{milliseconds}', false) FROM pg_catalog.pg_settings WHERE \
         name = 'idle_session_timeout'"
    )
}

/// The other writer in words: process of the server, client address, name of the session, and since when
/// it is connected. Without the rights to see another role's sessions most of it is not known.
pub fn writer_in_words([pid, address, name, since]: [Option<&str>; 4]) -> String {
    let pid = pid.map_or(String::new(), |pid| {
        format!(", process {pid} of the server")
    });
    let address = address.map_or(String::new(), |address| format!(", from {address}"));
    let name = name.map_or(String::new(), |name| format!(", \"{name}\""));
    let since = since.map_or(String::new(), |since| format!(", since {since}"));
    format!("another citus-sync writes to this database{pid}{address}{name}{since}")
}

#[cfg(test)]
mod tests {
    use super::writer_in_words;

    #[test]
    fn what_is_known_of_the_other_writer_is_said() {
        let all = [
            "71",
            "10.0.0.5",
            "citus-sync writer",
            "2026-11-27 10:00:00+00",
        ]
        .map(Some);
        assert_eq!(
            writer_in_words(all),
            "another citus-sync writes to this database, process 71 of the server, from 10.0.0.5, \
             \"citus-sync writer\", since 2026-11-27 10:00:00+00"
        );
        let little = [Some("71"), None, None, None];
        assert_eq!(
            writer_in_words(little),
            "another citus-sync writes to this database, process 71 of the server"
        );
    }
}
