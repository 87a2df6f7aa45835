//! Values of etcd keys, in Patroni's own words (as Patroni 3 and 4 write them).

use serde_json::json;

/// Of `/service/<scope>/leader`, under Patroni's default namespace.
pub(crate) fn leader_key(scope: &str) -> String {
    format!("/service/{scope}/leader")
}

/// Of `/service/<scope>/members/<name>`.
pub(crate) fn member_key(scope: &str, name: &str) -> String {
    format!("/service/{scope}/members/{name}")
}

/// What a running member writes of itself.
pub(crate) fn member(host: &str, port: u16, primary: bool, position: u64) -> String {
    let mut value = json!({
        "conn_url": format!("postgres://{host}:{port}/postgres"),
        "api_url": format!("http://{host}:8008/patroni"),
        "state": "running",
        "role": if primary { "primary" } else { "replica" },
        "version": "4.1.5",
        "xlog_location": position,
        "timeline": 1,
    });
    if !primary {
        value["replication_state"] = json!("streaming");
        value["receive_lsn"] = json!(position);
        value["replay_lsn"] = json!(position);
    }
    value.to_string()
}
