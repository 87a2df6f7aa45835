//! Bounds what a server may send us. In: a stream to a server. Out: the same stream, which
//! fails as soon as the server sends more than a PostgreSQL that we ask would.
//!
//! An address comes from etcd, and what answers there may be anything: an endless answer, an error
//! of twenty megabytes, a login that asks for billions of rounds of hashing. The client library
//! reads all of it into memory, or does the work. So the frames of the protocol are counted here,
//! below the library: <https://www.postgresql.org/docs/current/protocol-message-formats.html>.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How much a server may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// One message, in bytes.
    message: usize,
    /// All that comes between two times that the server is ready for a statement, in bytes: an
    /// answer with its notices, or a login.
    answer: usize,
}

impl Bounds {
    /// For sessions that read `pg_dist_node`: ten thousand rows are about a megabyte.
    pub const CATALOGUE: Self = Self {
        message: 1 << 20,
        answer: 8 << 20,
    };

    /// For sessions that ask small questions of many servers at once.
    pub const SMALL: Self = Self {
        message: 128 << 10,
        answer: 256 << 10,
    };
}

/// Rounds of hashing that a login may ask for. PostgreSQL's default is 4,096, and each costs about
/// half a microsecond during which nothing else runs in this process.
const SCRAM_ITERATIONS: u64 = 100_000;

/// A message that asks for a password, or says how to prove it: it is looked into.
const AUTHENTICATION: u8 = b'R';

/// The server is ready for the next statement.
const READY: u8 = b'Z';

/// `AuthenticationSASLContinue`: carries the number of rounds.
const SASL_CONTINUE: [u8; 4] = [0, 0, 0, 11];

/// How much of an authentication message is looked into. What is longer is no PostgreSQL's.
const LONGEST_AUTHENTICATION: usize = 4 << 10;

/// Why a stream was given up.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum Excess {
    #[error("it sent a message of {0} bytes, more than any that we ask for")]
    Message(usize),
    #[error("it sent more than {0} bytes in answer to one statement")]
    Answer(usize),
    #[error("it sent bytes that are no PostgreSQL message")]
    Malformed,
    #[error("its login asks for {0} rounds of hashing, more than {SCRAM_ITERATIONS}")]
    Rounds(String),
}

/// A stream that fails once its server exceeds the bounds.
#[derive(Debug)]
pub(super) struct Bounded<S> {
    stream: S,
    frames: Frames,
}

impl<S> Bounded<S> {
    pub(super) fn new(stream: S, bounds: Bounds) -> Self {
        Self {
            stream,
            frames: Frames::new(bounds),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let counted = self.frames.count(&buffer.filled()[before..]);
        Poll::Ready(counted.map_err(|excess| {
            // The library must not take in what was refused.
            buffer.set_filled(before);
            io::Error::new(io::ErrorKind::InvalidData, excess)
        }))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// What a message begins with: its type, and its length, which counts itself.
const HEADER: usize = 5;
const LENGTH: usize = 4;

/// The frames of one stream, counted as they come in.
#[derive(Debug)]
struct Frames {
    bounds: Bounds,
    /// The header that is being read, and how much of it is there.
    header: [u8; HEADER],
    read: usize,
    /// What is still to come of the message whose header was read.
    body: usize,
    /// Bytes since the server was last ready.
    answered: usize,
    /// The body of an authentication message.
    authentication: Vec<u8>,
}

impl Frames {
    fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            header: [0; HEADER],
            read: 0,
            body: 0,
            answered: 0,
            authentication: Vec::new(),
        }
    }

    fn count(&mut self, mut bytes: &[u8]) -> Result<(), Excess> {
        while !bytes.is_empty() {
            let taken = if self.read < HEADER {
                self.take_header(bytes)?
            } else {
                self.take_body(bytes)?
            };
            bytes = &bytes[taken..];
            if self.read == HEADER && self.body == 0 {
                self.end_of_message()?;
            }
        }
        Ok(())
    }

    fn take_header(&mut self, bytes: &[u8]) -> Result<usize, Excess> {
        let taken = bytes.len().min(HEADER - self.read);
        self.header[self.read..self.read + taken].copy_from_slice(&bytes[..taken]);
        self.read += taken;
        if self.read == HEADER {
            let [_, length @ ..] = self.header;
            let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
            self.body = length.checked_sub(LENGTH).ok_or(Excess::Malformed)?;
            if self.body > self.bounds.message {
                return Err(Excess::Message(self.body));
            }
            if self.header[0] == AUTHENTICATION && self.body > LONGEST_AUTHENTICATION {
                return Err(Excess::Message(self.body));
            }
        }
        self.answer(taken)?;
        Ok(taken)
    }

    fn take_body(&mut self, bytes: &[u8]) -> Result<usize, Excess> {
        let taken = bytes.len().min(self.body);
        if self.header[0] == AUTHENTICATION {
            self.authentication.extend_from_slice(&bytes[..taken]);
        }
        self.body -= taken;
        self.answer(taken)?;
        Ok(taken)
    }

    fn answer(&mut self, taken: usize) -> Result<(), Excess> {
        self.answered += taken;
        if self.answered > self.bounds.answer {
            return Err(Excess::Answer(self.bounds.answer));
        }
        Ok(())
    }

    fn end_of_message(&mut self) -> Result<(), Excess> {
        self.read = 0;
        match self.header[0] {
            READY => self.answered = 0,
            AUTHENTICATION => {
                let body = std::mem::take(&mut self.authentication);
                if let Some(rounds) = rounds_of(&body) {
                    return Err(Excess::Rounds(rounds));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// The rounds of hashing that an authentication message asks for, if they are too many: `i=…` of
/// the server's first message (RFC 5802). Digits of any number are too many when they fit nowhere.
fn rounds_of(body: &[u8]) -> Option<String> {
    let text = body.strip_prefix(&SASL_CONTINUE)?;
    let mut attributes = text.split(|byte| *byte == b',');
    let digits = attributes.find_map(|attribute| attribute.strip_prefix(b"i="))?;
    let digits = String::from_utf8_lossy(&digits[..digits.len().min(20)]).into_owned();
    match digits.parse::<u64>() {
        Ok(rounds) if rounds <= SCRAM_ITERATIONS => None,
        _ => Some(digits),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Bounds = Bounds {
        message: 100,
        answer: 250,
    };

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + LENGTH).unwrap();
        let mut message = vec![kind];
        message.extend(length.to_be_bytes());
        message.extend(body);
        message
    }

    /// Fed as a whole, and byte by byte: the result is the same.
    fn count(bytes: &[u8]) -> Result<(), Excess> {
        let mut frames = Frames::new(LIMITS);
        let whole = frames.count(bytes);
        let mut frames = Frames::new(LIMITS);
        let single = bytes.chunks(1).try_for_each(|byte| frames.count(byte));
        assert_eq!(whole, single, "however the bytes arrive");
        whole
    }

    #[test]
    fn messages_within_the_limits_pass() {
        let mut session = message(b'R', &[0, 0, 0, 0]);
        for _ in 0..100 {
            session.extend(message(b'D', &[7; 100]));
            session.extend(message(b'C', b"SELECT 1\0"));
            session.extend(message(b'Z', b"I"));
        }
        assert_eq!(count(&session), Ok(()));
        assert_eq!(
            count(&message(b'I', b"")),
            Ok(()),
            "a message without a body"
        );
    }

    #[test]
    fn a_message_that_is_too_long_is_refused_by_its_header_alone() {
        let error = message(b'E', &[b'x'; 101]);
        assert_eq!(count(&error[..HEADER]), Err(Excess::Message(101)));
        let mut claims = vec![b'D'];
        claims.extend(u32::MAX.to_be_bytes());
        let claimed = usize::try_from(u32::MAX).unwrap() - LENGTH;
        assert_eq!(count(&claims), Err(Excess::Message(claimed)));
    }

    #[test]
    fn an_answer_without_an_end_is_refused() {
        let rows = [message(b'D', &[1; 90]), message(b'D', &[1; 90])].concat();
        assert_eq!(count(&rows), Ok(()));
        let endless = rows.repeat(2);
        assert_eq!(count(&endless), Err(Excess::Answer(250)));
        // Notices count as well, and so do empty messages.
        assert_eq!(
            count(&message(b'N', b"").repeat(51)),
            Err(Excess::Answer(250))
        );
    }

    #[test]
    fn each_answer_has_the_limit_to_itself() {
        let answer = [message(b'D', &[1; 90]), message(b'D', &[1; 90])].concat();
        let ready = message(b'Z', b"I");
        let session = [answer.clone(), ready.clone(), answer, ready].concat();
        assert_eq!(count(&session), Ok(()));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        assert_eq!(count(b"D\0\0\0\x03"), Err(Excess::Malformed));
        // "HTTP/1.1 400 …" claims a message of more than a gigabyte.
        assert!(matches!(count(b"HTTP/1.1 400"), Err(Excess::Message(_))));
    }

    fn scram(rounds: &str) -> Vec<u8> {
        let mut body = SASL_CONTINUE.to_vec();
        body.extend(format!("r=nonce,s=c2FsdA==,i={rounds}").bytes());
        message(b'R', &body)
    }

    #[test]
    fn a_login_may_not_ask_for_endless_hashing() {
        assert_eq!(count(&scram("4096")), Ok(()));
        assert_eq!(count(&scram("100000")), Ok(()));
        for rounds in ["100001", "4294967295", "99999999999999999999"] {
            let refused = Err(Excess::Rounds(rounds.to_owned()));
            assert_eq!(count(&scram(rounds)), refused);
        }
        // What is no number is the client library's to refuse: it never gets that far.
        assert_eq!(count(&scram("x")), Err(Excess::Rounds("x".to_owned())));
    }

    #[test]
    fn an_authentication_message_is_kept_only_while_it_is_short() {
        let bounds = Bounds::CATALOGUE;
        let long = message(b'R', &[0; LONGEST_AUTHENTICATION + 1]);
        let counted = Frames::new(bounds).count(&long);
        assert_eq!(counted, Err(Excess::Message(LONGEST_AUTHENTICATION + 1)));
    }
}
