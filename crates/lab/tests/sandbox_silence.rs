//! A vanished host differs from a frozen one: the kernel answers for frozen
//! processes, and nothing answers for vanished ones.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use lab::{Daemon, Postgres, Sandbox, wait_until};
use socket2::{SockRef, TcpKeepalive};

const SOON: Duration = Duration::from_secs(20);
/// A loopback connection takes less, unless its first packet was dropped.
const CONNECT: Duration = Duration::from_millis(900);

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn accepts(port: u16) -> bool {
    match TcpStream::connect_timeout(&address(port), CONNECT) {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(
                error.kind(),
                ErrorKind::TimedOut,
                "a vanished host does not refuse connections"
            );
            false
        }
    }
}

/// A connection that its own keepalives end after three seconds without an answer.
fn connection(port: u16) -> TcpStream {
    let stream = TcpStream::connect(address(port)).unwrap();
    let second = Duration::from_secs(1);
    let keepalive = TcpKeepalive::new()
        .with_time(second)
        .with_interval(second)
        .with_retries(2);
    SockRef::from(&stream)
        .set_tcp_keepalive(&keepalive)
        .unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(6)))
        .unwrap();
    stream
}

fn read(mut stream: &TcpStream) -> std::io::Result<usize> {
    stream.read(&mut [0; 64])
}

#[test]
fn a_frozen_server_answers_keepalives_and_a_vanished_one_does_not() {
    let sandbox = Sandbox::new().unwrap();
    let server = Postgres::start(&sandbox, "pg").unwrap();
    let idle = connection(server.port());

    server.freeze();
    assert!(
        accepts(server.port()),
        "the kernel accepts for a frozen server"
    );
    assert_eq!(read(&idle).unwrap_err().kind(), ErrorKind::WouldBlock);
    server.thaw();

    server.vanish().unwrap();
    assert!(!accepts(server.port()));
    // The kernel's own timers may come late on a busy machine.
    idle.set_read_timeout(Some(SOON)).unwrap();
    assert_eq!(read(&idle).unwrap_err().kind(), ErrorKind::TimedOut);

    server.reappear().unwrap();
    wait_until("the server that is back", SOON, || {
        server.connect("postgres").map(Some)
    })
    .unwrap();
}

#[test]
fn data_for_a_vanished_server_is_not_acknowledged_until_it_is_back() {
    let sandbox = Sandbox::new().unwrap();
    let server = Postgres::start(&sandbox, "pg").unwrap();
    let mut client = server.connect("postgres").unwrap();
    server.vanish().unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(client.query_one("SELECT 7", &[])));
    assert!(
        receiver.recv_timeout(CONNECT).is_err(),
        "a vanished server answered"
    );
    server.reappear().unwrap();
    // The filter dropped the query, and the kernel sends it again.
    let row = receiver.recv_timeout(SOON).unwrap().unwrap();
    assert_eq!(row.get::<_, i32>(0), 7);
}

#[test]
fn a_vanished_daemon_is_silent_to_its_peers() {
    let sandbox = Sandbox::new().unwrap();
    let listen = sandbox.port().unwrap();
    // Any program that listens on the port in its configuration.
    let program = sandbox.root().join("daemon");
    let server = "import sys, http.server as h; H = h.SimpleHTTPRequestHandler; \
                  H.protocol_version = 'HTTP/1.1'; port = int(open(sys.argv[1]).read()); \
                  h.ThreadingHTTPServer(('127.0.0.1', port), H).serve_forever()";
    let script = format!("#!/bin/sh\nexec python3 -c \"{server}\" \"$3\"\n");
    sandbox.write(&program, &script).unwrap();
    let made = std::process::Command::new("chmod")
        .arg("+x")
        .arg(&program)
        .status();
    assert!(made.unwrap().success());
    let daemon = Daemon::start(&sandbox, &program, &listen.to_string(), listen).unwrap();
    wait_until("the daemon", SOON, || daemon.get("/").map(Some)).unwrap();
    let idle = connection(listen);
    // After an answer the daemon has accepted the connection, and so has a socket for it.
    (&idle)
        .write_all(b"HEAD / HTTP/1.1\r\nHost: lab\r\n\r\n")
        .unwrap();
    let mut answer = BufReader::new(&idle).lines().map_while(Result::ok);
    assert_eq!(answer.next().unwrap(), "HTTP/1.1 200 OK");
    assert!(answer.any(|line| line.is_empty()));

    daemon.vanish().unwrap();
    assert!(!accepts(listen));
    assert_eq!(read(&idle).unwrap_err().kind(), ErrorKind::TimedOut);

    daemon.reappear().unwrap();
    wait_until("the daemon that is back", SOON, || {
        daemon.get("/").map(Some)
    })
    .unwrap();
}
