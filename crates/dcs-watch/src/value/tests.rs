//! Every value that Patroni writes, and every way in which one can be wrong.

use std::fmt;
use std::time::Duration;

use super::*;

fn member_of(json: &str) -> Member {
    member(json.as_bytes()).unwrap_or_else(|error| panic!("{json}: {error}"))
}

fn address_of(json: &str) -> Option<String> {
    member_of(json).address.map(|address| address.to_string())
}

fn refused<T: fmt::Debug>(outcome: Result<T, ValueError>, words: &str) {
    let message = outcome.unwrap_err().to_string();
    assert!(
        message.contains(words),
        "{message:?} does not say {words:?}"
    );
    assert!(message.len() < 600, "{} bytes of message", message.len());
}

/// What nobody may choke on, whichever key it stands under.
fn garbage() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = [
        "null",
        "true",
        "42",
        "-1e999",
        "\"text\"",
        "[]",
        "[{}]",
        "{",
        "}",
        "{\"a\":",
        "{]",
        "\0",
        "\u{feff}{}",
        "{\"leader\":{}}",
        "{\"role\":7}",
        "{\"tags\":[]}",
        "{\"conn_url\":[]}",
        "{\"conn_url\":null,\"conn_kwargs\":3}",
        "{\"ttl\":-1}",
        "{\"ttl\":1e400}",
        "{\"pause\":{}}",
        "{\"sync_standby\":[\"a\"]}",
        "{\"quorum\":-1}",
        "{\"scheduled_at\":1}",
        "a:b:c",
        ":",
        " ",
        "{\"leader\":\"a\",\"leader\":\"b\"}",
        "{\"timeline\":99999999999999999999}",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect();
    all.push(vec![0xff, 0xfe, 0x00]);
    all.push(b"{\"leader\":\"\xff\"}".to_vec());
    all.push(Vec::new());
    all.push(vec![b'['; 200_000]);
    all.push(vec![b'x'; 2_000_000]);
    all.push(format!("{{\"conn_url\":\"postgres://{}:1/\"}}", "h".repeat(500_000)).into_bytes());
    all
}

#[test]
fn nothing_panics_and_no_message_floods_a_log() {
    for value in garbage() {
        let errors = [
            leader(&value).err(),
            member(&value).err(),
            sync(&value).err(),
            failover(&value).err(),
            config(&value).err(),
            failsafe(&value).err(),
        ];
        for error in errors.into_iter().flatten() {
            assert!(error.to_string().len() < 700, "{}", error.to_string().len());
        }
        initialized(&value);
    }
}

#[test]
fn a_leader_is_a_name() {
    assert_eq!(leader(b"pg1").unwrap(), "pg1");
    assert_eq!(
        leader("håst-1.example".as_bytes()).unwrap(),
        "håst-1.example"
    );
    refused(leader(b""), "empty");
    refused(leader(b"   "), "empty");
    refused(leader(b"\xff\xfe"), "UTF-8");
    refused(leader(b"pg1\n"), "not a member's name");
    refused(leader(&vec![b'x'; 5000]), "not a member's name");
}

#[test]
fn a_member_says_where_and_what_it_is() {
    let member = member_of(
        r#"{"conn_url":"postgres://10.0.0.1:5433/postgres","api_url":"http://10.0.0.1:8008/patroni",
            "state":"running","role":"replica","version":"4.1.5","timeline":3,"xlog_location":17,
            "tags":{"nosync":true,"noloadbalance":"true","nofailover":false},
            "pending_restart":true,"pause":true}"#,
    );
    assert_eq!(
        member.address,
        Some(HostPort {
            host: "10.0.0.1".into(),
            port: 5433
        })
    );
    assert_eq!(
        member.api_url.as_deref(),
        Some("http://10.0.0.1:8008/patroni")
    );
    assert_eq!(
        (member.state.as_str(), member.role),
        ("running", Role::Replica)
    );
    assert_eq!(
        (member.version.as_deref(), member.timeline),
        (Some("4.1.5"), Some(3))
    );
    assert!(member.nosync && member.noloadbalance && !member.nofailover);
    assert!(member.pending_restart && member.paused);
}

#[test]
fn every_role_of_every_version_is_known() {
    for (word, role) in [
        ("master", Role::Primary),
        ("primary", Role::Primary),
        ("promoted", Role::Promoted),
        ("demoted", Role::Demoted),
        ("replica", Role::Replica),
        ("standby_leader", Role::StandbyLeader),
        ("uninitialized", Role::Uninitialized),
        ("quartermaster", Role::Other("quartermaster".into())),
    ] {
        assert_eq!(member_of(&format!(r#"{{"role":"{word}"}}"#)).role, role);
    }
    assert_eq!(member_of("{}").role, Role::Other(String::new()));
    assert_eq!(
        serde_json::to_string(&Role::Primary).unwrap(),
        "\"primary\""
    );
}

#[test]
fn an_address_comes_from_the_url_in_all_its_forms() {
    for (url, address) in [
        ("postgres://h:5433/postgres", Some("h:5433")),
        ("postgresql://h:5433/postgres", Some("h:5433")),
        ("postgres://h/postgres", Some("h:5432")),
        ("postgres://h", Some("h:5432")),
        (
            "postgres://[2001:db8::1]:5433/postgres",
            Some("[2001:db8::1]:5433"),
        ),
        ("postgres://[::1]/postgres", Some("[::1]:5432")),
        ("postgres://user:p%40ss@h:5433/db", Some("h:5433")),
        ("postgres://user:p@ss@h:5433/db", Some("h:5433")),
        (
            "postgres://pg%2D1.example:5433/db",
            Some("pg-1.example:5433"),
        ),
        ("postgres:///db?host=h&port=5433", Some("h:5433")),
        ("postgres://:5433/db?host=h", Some("h:5433")),
        (
            "postgres://h:1/db?port=5433&sslmode=require",
            Some("h:5433"),
        ),
        // Socket directories: nobody else can go there.
        ("postgres:///db?host=/var/run/postgresql", None),
        ("postgres:///db?host=%2Fvar%2Frun&port=5433", None),
        ("postgres://%2Fvar%2Frun%2Fpostgresql:5433/db", None),
        ("postgres:///db", None),
    ] {
        let json = serde_json::json!({ "conn_url": url }).to_string();
        assert_eq!(address_of(&json).as_deref(), address, "{url}");
    }
}

#[test]
fn an_ipv6_host_is_kept_bare() {
    let member = member_of(r#"{"conn_url":"postgres://[2001:db8::1]:5433/postgres"}"#);
    assert_eq!(member.address.unwrap().host, "2001:db8::1");
}

#[test]
fn an_address_that_cannot_be_read_is_refused_without_repeating_a_password() {
    for url in [
        "mysql://h:1/",
        "postgres://user:secret@h:port/db",
        "postgres://user:secret@h:0/db",
        "postgres://user:secret@h:65536/db",
        "postgres://user:secret@2001:db8::1:5432/db",
        "postgres://user:secret@[2001:db8::1/db",
        "postgres://user:secret@[::1]x:1/db",
        "postgres://user:secret@a,b:5432/db",
        "postgres://user:secret@h%:5432/db",
        "postgres://user:secret@h%zz:5432/db",
        "postgres://user:secret@h%ff:5432/db",
        "postgres://user:secret@h%+1:5432/db",
        "postgres://user:secret@a b:5432/db",
        "postgres://h/db?port=x",
    ] {
        let error = member(
            serde_json::json!({ "conn_url": url })
                .to_string()
                .as_bytes(),
        );
        let error = error.expect_err(url).to_string();
        assert!(!error.contains("secret"), "{error}");
    }
    // Broken JSON is quoted, but not if a URL may be in it.
    let broken = br#"{"conn_url":"postgres://u:secret@h/"#;
    assert!(!member(broken).unwrap_err().to_string().contains("secret"));
}

#[test]
fn an_address_comes_from_conn_kwargs_when_there_is_no_url() {
    for (json, address) in [
        (
            r#"{"conn_kwargs":{"host":"h","port":5433}}"#,
            Some("h:5433"),
        ),
        (
            r#"{"conn_kwargs":{"host":"h","port":"5433"}}"#,
            Some("h:5433"),
        ),
        (r#"{"conn_kwargs":{"host":"h"}}"#, Some("h:5432")),
        (
            r#"{"conn_kwargs":{"host":"2001:db8::1","port":5433}}"#,
            Some("[2001:db8::1]:5433"),
        ),
        (
            r#"{"conn_kwargs":{"host":"[::1]","port":5433}}"#,
            Some("[::1]:5433"),
        ),
        (
            r#"{"conn_kwargs":{"host":"/var/run/postgresql","port":5433}}"#,
            None,
        ),
        (r#"{"conn_kwargs":{"port":5433}}"#, None),
        (
            r#"{"conn_url":null,"conn_kwargs":{"host":"h"}}"#,
            Some("h:5432"),
        ),
        (
            r#"{"conn_url":"postgres://u:1/","conn_kwargs":{"host":"h"}}"#,
            Some("u:1"),
        ),
        (r"{}", None),
        (r#"{"conn_url":null}"#, None),
    ] {
        assert_eq!(address_of(json).as_deref(), address, "{json}");
    }
    refused(
        member(br#"{"conn_kwargs":{"host":"h","port":70000}}"#),
        "port",
    );
    refused(member(br#"{"conn_kwargs":{"host":["h"]}}"#), "a list");
    refused(member(br#"{"conn_kwargs":"host=h"}"#), "an object");
    refused(
        member(br#"{"conn_url":7}"#),
        "conn_url: expected text, found a number",
    );
}

#[test]
fn a_member_may_be_a_bare_url_as_very_old_patroni_wrote_it() {
    let member = member_of("postgres://u:p@h:5433/postgres?application_name=http://h:8008/patroni");
    assert_eq!(member.address.unwrap().to_string(), "h:5433");
    assert_eq!(member.api_url.as_deref(), Some("http://h:8008/patroni"));
    assert_eq!(
        member_of("postgres://h/db?port=1&application_name=x")
            .address
            .unwrap()
            .port,
        1
    );
}

#[test]
fn a_member_that_is_no_object_is_refused() {
    refused(member(b""), "empty");
    refused(member(b"null"), "found null");
    refused(member(b"[]"), "found a list");
    refused(member(b"17"), "found a number");
    refused(member(b"{\"state\": "), "is not JSON");
    refused(member(b"\xff"), "UTF-8");
}

#[test]
fn parts_of_a_member_that_decide_nothing_may_be_wrong() {
    let member = member_of(
        r#"{"conn_url":"postgres://h:1/","state":7,"role":[],"timeline":-1,"tags":"x","version":{},
            "api_url":false,"pause":"maybe","pending_restart":null}"#,
    );
    assert_eq!(member.address.unwrap().to_string(), "h:1");
    assert_eq!(
        (member.state.as_str(), member.timeline, member.paused),
        ("", None, false)
    );
}

#[test]
fn priorities_of_zero_are_tags_unless_the_tag_itself_decides() {
    let tagged = |tags: &str| member_of(&format!(r#"{{"tags":{tags}}}"#));
    assert!(tagged(r#"{"failover_priority":0}"#).nofailover);
    assert!(!tagged(r#"{"failover_priority":1}"#).nofailover);
    assert!(!tagged(r#"{"failover_priority":0,"nofailover":false}"#).nofailover);
    assert!(tagged(r#"{"failover_priority":"0"}"#).nofailover);
    assert!(tagged(r#"{"sync_priority":0}"#).nosync);
    assert!(tagged(r#"{"nosync":1}"#).nosync && tagged(r#"{"nosync":"on"}"#).nosync);
}

#[test]
fn sync_names_none_one_or_several() {
    let state = |json: &str| sync(json.as_bytes()).unwrap();
    let one = state(r#"{"leader":"a","sync_standby":"b"}"#);
    assert_eq!(
        (one.leader.as_deref(), one.standbys, one.quorum),
        (Some("a"), vec!["b".into()], 0)
    );
    assert_eq!(
        state(r#"{"leader":"a","sync_standby":null}"#).standbys,
        Vec::<String>::new()
    );
    assert_eq!(
        state(r#"{"leader":"a","sync_standby":""}"#).standbys,
        Vec::<String>::new()
    );
    let several = state(r#"{"leader":"a","quorum":1,"sync_standby":"b, c,,d"}"#);
    assert_eq!(
        (several.standbys, several.quorum),
        (vec!["b".into(), "c".into(), "d".into()], 1)
    );
    assert_eq!(state(r#"{"leader":"a","quorum":"2"}"#).quorum, 2);
    for empty in [
        "",
        "{}",
        r#"{"leader":null,"sync_standby":"b","quorum":1}"#,
        r#"{"leader":""}"#,
    ] {
        assert_eq!(state(empty), SyncState::default(), "{empty}");
    }
    refused(sync(b"null"), "found null");
    refused(
        sync(br#"{"leader":1}"#),
        "leader: expected a name, found a number",
    );
    refused(
        sync(br#"{"leader":"a","sync_standby":["b"]}"#),
        "sync_standby",
    );
    refused(sync(br#"{"leader":"a","quorum":-1}"#), "quorum");
    refused(sync(br#"{"leader":"a","quorum":1.5}"#), "quorum");
    refused(sync(b"pg2"), "is not JSON");
}

#[test]
fn a_failover_request_is_json_or_two_names() {
    let asked = |text: &str| failover(text.as_bytes()).unwrap();
    let names = |text: &str| {
        asked(text).map(|request| {
            (
                request.leader.unwrap_or_default(),
                request.candidate.unwrap_or_default(),
            )
        })
    };
    let pair = |leader: &str, candidate: &str| Some((leader.to_owned(), candidate.to_owned()));
    assert_eq!(names(r#"{"leader":"a","member":"b"}"#), pair("a", "b"));
    assert_eq!(names(r#"{"leader":"a"}"#), pair("a", ""));
    assert_eq!(names(r#"{"member":"b"}"#), pair("", "b"));
    assert_eq!(names(r#"{"leader":"","member":"b"}"#), pair("", "b"));
    assert_eq!(names("a:b"), pair("a", "b"));
    assert_eq!(names("a"), pair("a", ""));
    assert_eq!(names(" a : b "), pair("a", "b"));
    assert_eq!(names(":b"), pair("", "b"));
    for cleared in [
        "",
        "{}",
        "null",
        "  ",
        ":",
        r#"{"leader":null}"#,
        r#"{"leader":"","member":""}"#,
    ] {
        assert_eq!(asked(cleared), None, "{cleared:?}");
    }
    refused(
        failover(br#"{"leader":["a"]}"#),
        "leader: expected a name, found a list",
    );
    refused(failover(b"{\"leader\":"), "is not JSON");
    refused(failover(b"[1]"), "found a list");
    refused(failover(b"\"a:b\""), "found text");
    refused(failover(b"42"), "not a failover request");
    refused(failover(b"a\0:b"), "not a failover request");
    refused(failover(b"\xff:b"), "UTF-8");
}

#[test]
fn a_due_time_is_read_in_every_form_and_never_guessed() {
    let due = |text: &str| {
        let json = serde_json::json!({ "leader": "a", "scheduled_at": text }).to_string();
        failover(json.as_bytes()).map(|request| request.unwrap().scheduled_at)
    };
    let noon = time::macros::datetime!(2026-11-22 12:00:00 UTC);
    for text in [
        "2026-11-22T12:00:00+00:00",
        "2026-11-22T12:00:00Z",
        "2026-11-22 12:00:00+00:00",
        "2026-11-22T13:00:00+01:00",
        "2026-11-22T13:00:00+0100",
        "2026-11-22T13:00:00+01",
        "2026-11-22T07:00:00.000-05:00",
        "2026-11-22T12:00+00:00",
        "2026-11-22 12:00:00 +00:00",
    ] {
        assert_eq!(due(text).unwrap().unwrap(), noon, "{text}");
    }
    assert_eq!(
        due("2026-11-22T12:00:00.123456+00:00").unwrap().unwrap(),
        noon + time::Duration::microseconds(123_456)
    );
    assert_eq!(due("").unwrap(), None);
    for text in [
        "tomorrow",
        "2026-11-22T12:00:00",
        "2026-13-22T12:00:00Z",
        "12:00",
        "2026-11-22é12:00:00Z",
        "2026-11-22T12:00:00+1",
        "2026-11-22T12:00:00+00:00:30",
        "2026-11-22T25:00:00Z",
        "é".repeat(40).as_str(),
    ] {
        assert!(due(text).is_err(), "{text}");
    }
    refused(
        failover(br#"{"leader":"a","scheduled_at":1700000000}"#),
        "scheduled_at",
    );
}

#[test]
fn the_configuration_is_read_as_patroni_reads_it() {
    let read = |json: &str| config(json.as_bytes()).unwrap();
    let full = read(
        r#"{"ttl":20,"loop_wait":5,"retry_timeout":"7","pause":true,"synchronous_mode":true,
            "synchronous_mode_strict":"on","failsafe_mode":1,"standby_cluster":{"host":"h"},
            "postgresql":{"parameters":{"max_connections":50}}}"#,
    );
    assert_eq!(full.ttl, Some(Duration::from_secs(20)));
    assert_eq!(full.loop_wait, Some(Duration::from_secs(5)));
    assert_eq!(full.retry_timeout, Some(Duration::from_secs(7)));
    assert!(full.paused && full.synchronous_mode && full.synchronous_mode_strict);
    assert!(full.failsafe_mode && full.standby_cluster && !full.quorum_commit);
    let quorum = read(r#"{"synchronous_mode":"quorum"}"#);
    assert!(quorum.synchronous_mode && quorum.quorum_commit);
    assert_eq!(read("{}"), ClusterConfig::default());
    assert_eq!(
        read(
            r#"{"pause":null,"ttl":-5,"loop_wait":[],"synchronous_mode":"off","standby_cluster":{}}"#
        ),
        ClusterConfig::default()
    );
    refused(config(b""), "empty");
    refused(config(b"null"), "found null");
    refused(config(b"pause: true"), "is not JSON");
}

#[test]
fn failsafe_names_the_members_that_may_vouch() {
    let members =
        failsafe(br#"{"a":"http://a:8008/patroni","b":"http://b:8008/patroni"}"#).unwrap();
    assert_eq!(members.keys().collect::<Vec<_>>(), ["a", "b"]);
    assert!(failsafe(b"").unwrap().is_empty());
    refused(
        failsafe(br#"{"a":1}"#),
        "a: expected an address, found a number",
    );
    refused(failsafe(b"[]"), "found a list");
}

#[test]
fn the_cluster_is_initialized_once_it_has_an_identity() {
    assert!(initialized(b"7710945476581432661"));
    assert!(!initialized(b""));
}
