//! What holds for the values of all keys.

use super::*;

/// Checks that a value was refused with a message that contains the text.
pub(super) fn refused<T: std::fmt::Debug>(outcome: Result<T, ValueError>, text: &str) {
    let message = outcome.unwrap_err().to_string();
    assert!(message.contains(text), "{message:?} does not say {text:?}");
    assert!(message.len() < 600, "{} bytes of message", message.len());
}

/// Values that are malformed under most keys.
fn malformed() -> Vec<Vec<u8>> {
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
fn no_value_causes_a_panic_or_a_long_message() {
    for value in malformed() {
        let errors = [
            leader(&value).err(),
            member(&value).err(),
            sync(&value).err(),
            failover(&value).err(),
            config(&value).err(),
            failsafe(&value).err(),
            initialize(&value).err(),
        ];
        for error in errors.into_iter().flatten() {
            assert!(error.to_string().len() < 700, "{}", error.to_string().len());
        }
    }
}
