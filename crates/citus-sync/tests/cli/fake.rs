//! A daemon that answers as the test says, and keeps the requests it received.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

/// What a request looked like.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    /// `POST /path HTTP/1.1`.
    pub(crate) line: String,
    /// The value of `Authorization`.
    pub(crate) token: String,
    pub(crate) body: Value,
}

/// The daemon. It listens until the test process ends.
pub(crate) struct Fake {
    pub(crate) port: u16,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl Fake {
    /// Answers every request with this status and body.
    pub(crate) fn says(status: u16, body: &Value) -> Self {
        let text = body.to_string();
        Self::does(move |stream, _| {
            let length = text.len();
            let _ = write!(
                stream,
                "HTTP/1.1 {status} Whatever\r\nContent-Type: application/json\r\n\
                 Content-Length: {length}\r\nConnection: close\r\n\r\n{text}"
            );
        })
    }

    /// Does this with every request.
    pub(crate) fn does(act: impl Fn(&mut TcpStream, &Heard) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (kept, act) = (heard.clone(), Arc::new(act));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, kept, act) = (stream.unwrap(), kept.clone(), act.clone());
                thread::spawn(move || {
                    let Some(request) = read(&stream) else { return };
                    kept.lock().unwrap().push(request.clone());
                    act(&mut stream, &request);
                });
            }
        });
        Self { port, heard }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The only request so far.
    #[track_caller]
    pub(crate) fn only(&self) -> Heard {
        self.last(1)
    }

    /// The last of so many.
    #[track_caller]
    pub(crate) fn last(&self, count: usize) -> Heard {
        let heard = self.heard.lock().unwrap();
        assert_eq!(heard.len(), count, "{heard:?}");
        heard[count - 1].clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.heard.lock().unwrap().len()
    }
}

fn read(stream: &TcpStream) -> Option<Heard> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let (mut token, mut length) = (String::new(), 0);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let header = header.trim_end();
        if header.is_empty() {
            break;
        }
        let (name, value) = header.split_once(": ")?;
        match name.to_ascii_lowercase().as_str() {
            "authorization" => value.clone_into(&mut token),
            "content-length" => length = value.parse().ok()?,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Heard {
        line: line.trim_end().to_owned(),
        token,
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    })
}

/// A reconciler's answer about group 1.
pub(crate) fn answer(outcome: &str) -> Value {
    json!({
        "formation": "cn", "group": 1, "scope": "wk1", "outcome": outcome,
        "held": if outcome == "held" { vec!["app"] } else { vec![] },
        "reads_moved_to": null, "took_ms": 7, "skipped": [], "message": ""
    })
}
