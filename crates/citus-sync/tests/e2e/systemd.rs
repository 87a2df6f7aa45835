//! What systemd hears: READY once everything is known, WATCHDOG while the loops turn, STOPPING.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use lab::wait_until;
use serde_json::json;

use crate::bare::Bare;
use crate::daemon::SOON;

/// Receives until a message with `line` arrives; all that came before it.
fn hear(socket: &UnixDatagram, line: &str) -> Vec<String> {
    let mut heard = Vec::new();
    wait_until(&format!("{line} on the notify socket"), SOON, || {
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer)?;
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let found = text.lines().any(|found| found == line);
        heard.push(text);
        Ok(found.then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}; heard {heard:?}"));
    heard
}

#[test]
fn systemd_hears_ready_alive_and_stopping() {
    let bare = Bare::start();
    bare.put_leader("wk1", &bare.members[0]);
    let folder = tempfile::TempDir::new().expect("a folder");
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket
        .set_read_timeout(Some(Duration::from_secs(1)))
        .expect("a timeout");
    let mut daemon = bare.daemon_with(&json!({}), |command| {
        command
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "400000");
    });
    let before = hear(&socket, "READY=1");
    assert!(
        !before.iter().any(|text| text.contains("STOPPING")),
        "{before:?}"
    );
    hear(&socket, "WATCHDOG=1");
    assert_eq!(daemon.stop(), Some(0), "{}", daemon.log());
    hear(&socket, "STOPPING=1");
}
