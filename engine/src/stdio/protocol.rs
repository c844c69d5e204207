//! What the monitor and those who watch its container say to each other.
//!
//! Over a socket that keeps messages whole. One byte tells the kind, the rest is its content:
//!
//! ```text
//! to the monitor                         from the monitor
//! A flags + descriptors  attach          S            it runs
//! i bytes                typed           F json       it could not be started
//! e                      end of input    x code       the process ended
//! r rows columns         resize          t            typed input was taken
//! s number               pass a signal   b            your output is closed
//! k number               kill            d            done as asked
//! p number milliseconds  stop            n json       not done, and why
//! z / y                  pause, unpause
//! c json                 connect to a network
//! g json                 go from a network
//! w                      tell me the end
//! ```
//!
//! At most [`WINDOW`] pieces of input are on their way; each is confirmed with `t` when the
//! container's pipe took it. So signals and sizes never queue behind input that nobody reads.
//! Numbers are little-endian.

use serde::{Deserialize, Serialize};
use sys::pty::WindowSize;

/// The longest message.
pub const LONGEST: usize = 65_537;

/// The longest piece of input.
pub const PIECE: usize = 65_536;

/// How many pieces of input may wait for their confirmation.
pub const WINDOW: u32 = 2;

/// Which streams a client attaches; its descriptors follow in the order out, error.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attach {
    /// It will type.
    pub stdin: bool,
    /// It sent a descriptor for standard output.
    pub stdout: bool,
    /// It sent a descriptor for standard error.
    pub stderr: bool,
}

/// A message to the monitor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Take part in the container's streams.
    Attach(Attach),
    /// Input for the container.
    Input(Vec<u8>),
    /// No more input.
    InputEnd,
    /// The client's terminal has this size.
    Resize(WindowSize),
    /// Pass this signal to the first process.
    Signal(i32),
    /// Send this signal and count the container as stopped by hand.
    Kill(i32),
    /// Send the signal, and SIGKILL after so many milliseconds; negative waits for ever.
    Stop {
        /// The first signal.
        signal: i32,
        /// Until SIGKILL.
        milliseconds: i64,
    },
    /// Freeze all processes.
    Pause,
    /// Thaw them.
    Unpause,
    /// Connect the container to a network: a `NetworkWish`.
    Connect(Vec<u8>),
    /// Take it off a network: a `NetworkWish`.
    Disconnect(Vec<u8>),
    /// Tell when the process has ended.
    Wait,
}

/// Why something was not done, as it reaches the user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Docker's exit code for it: 125, 126, 127 at start; else 1.
    pub exit_code: i32,
    /// The whole text.
    pub text: String,
    /// What to type next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// A message from the monitor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Something the user should know before the program runs.
    Warning(String),
    /// The program runs.
    Started,
    /// It could not be started.
    Failed(Refusal),
    /// The process ended with this code.
    Exited(i32),
    /// One piece of input was taken.
    Taken,
    /// Nobody reads one of your outputs any more: you are no longer attached.
    OutputClosed,
    /// Done as asked.
    Done,
    /// Not done.
    Refused(Refusal),
}

/// A message that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a message of kind {kind:?} with {length} bytes is not understood")]
pub struct Unreadable {
    kind: Option<u8>,
    length: usize,
}

impl Request {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Request::Attach(attach) => {
                let flags = u8::from(attach.stdin)
                    | (u8::from(attach.stdout) << 1)
                    | (u8::from(attach.stderr) << 2);
                vec![b'A', flags]
            }
            Request::Input(bytes) => [b"i", bytes.as_slice()].concat(),
            Request::InputEnd => vec![b'e'],
            Request::Resize(size) => [
                b"r".as_slice(),
                &size.rows.to_le_bytes(),
                &size.columns.to_le_bytes(),
            ]
            .concat(),
            Request::Signal(number) => [b"s".as_slice(), &number.to_le_bytes()].concat(),
            Request::Kill(number) => [b"k".as_slice(), &number.to_le_bytes()].concat(),
            Request::Stop {
                signal,
                milliseconds,
            } => [
                b"p".as_slice(),
                &signal.to_le_bytes(),
                &milliseconds.to_le_bytes(),
            ]
            .concat(),
            Request::Pause => vec![b'z'],
            Request::Unpause => vec![b'y'],
            Request::Connect(wish) => [b"c", wish.as_slice()].concat(),
            Request::Disconnect(wish) => [b"g", wish.as_slice()].concat(),
            Request::Wait => vec![b'w'],
        }
    }

    /// From bytes.
    ///
    /// # Errors
    /// [`Unreadable`] for an unknown kind or a content that does not fit it.
    pub fn decode(message: &[u8]) -> Result<Self, Unreadable> {
        let bad = || unreadable(message);
        let (kind, content) = message.split_first().ok_or_else(bad)?;
        Ok(match (kind, content) {
            (b'A', &[flags]) if flags < 8 => Request::Attach(Attach {
                stdin: flags & 1 != 0,
                stdout: flags & 2 != 0,
                stderr: flags & 4 != 0,
            }),
            (b'i', bytes) => Request::Input(bytes.to_vec()),
            (b'e', []) => Request::InputEnd,
            (b'r', &[a, b, c, d]) => Request::Resize(WindowSize {
                rows: u16::from_le_bytes([a, b]),
                columns: u16::from_le_bytes([c, d]),
            }),
            (b's', number) => Request::Signal(int(number).ok_or_else(bad)?),
            (b'k', number) => Request::Kill(int(number).ok_or_else(bad)?),
            (b'p', [signal @ .., _, _, _, _, _, _, _, _]) => Request::Stop {
                signal: int(signal).ok_or_else(bad)?,
                milliseconds: content[signal.len()..]
                    .try_into()
                    .map(i64::from_le_bytes)
                    .map_err(|_| bad())?,
            },
            (b'z', []) => Request::Pause,
            (b'y', []) => Request::Unpause,
            (b'c', wish) => Request::Connect(wish.to_vec()),
            (b'g', wish) => Request::Disconnect(wish.to_vec()),
            (b'w', []) => Request::Wait,
            _ => return Err(bad()),
        })
    }
}

impl Answer {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Answer::Warning(text) => [b"w", text.as_bytes()].concat(),
            Answer::Started => vec![b'S'],
            Answer::Failed(refusal) => with_json(b'F', refusal),
            Answer::Exited(code) => [b"x".as_slice(), &code.to_le_bytes()].concat(),
            Answer::Taken => vec![b't'],
            Answer::OutputClosed => vec![b'b'],
            Answer::Done => vec![b'd'],
            Answer::Refused(refusal) => with_json(b'n', refusal),
        }
    }

    /// From bytes.
    ///
    /// # Errors
    /// [`Unreadable`] for an unknown kind or a content that does not fit it.
    pub fn decode(message: &[u8]) -> Result<Self, Unreadable> {
        let bad = || unreadable(message);
        let (kind, content) = message.split_first().ok_or_else(bad)?;
        let refusal = || serde_json::from_slice(content).map_err(|_| bad());
        Ok(match (kind, content) {
            (b'w', text) => Answer::Warning(String::from_utf8_lossy(text).into_owned()),
            (b'S', []) => Answer::Started,
            (b'F', _) => Answer::Failed(refusal()?),
            (b'x', code) => Answer::Exited(int(code).ok_or_else(bad)?),
            (b't', []) => Answer::Taken,
            (b'b', []) => Answer::OutputClosed,
            (b'd', []) => Answer::Done,
            (b'n', _) => Answer::Refused(refusal()?),
            _ => return Err(bad()),
        })
    }
}

fn unreadable(message: &[u8]) -> Unreadable {
    Unreadable {
        kind: message.first().copied(),
        length: message.len(),
    }
}

fn int(bytes: &[u8]) -> Option<i32> {
    bytes.try_into().ok().map(i32::from_le_bytes)
}

fn with_json(kind: u8, refusal: &Refusal) -> Vec<u8> {
    let mut message = vec![kind];
    // A struct of numbers and text always has a JSON form; a cut message is refused when read.
    let _ = serde_json::to_writer(&mut message, refusal);
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refusal() -> Refusal {
        Refusal {
            exit_code: 127,
            text: "exec: \"x\": not found\n".to_owned(),
            hint: Some("look".to_owned()),
        }
    }

    #[test]
    fn what_is_said_is_understood() {
        for request in [
            Request::Attach(Attach {
                stdin: true,
                stdout: false,
                stderr: true,
            }),
            Request::Input(b"abc".to_vec()),
            Request::Input(Vec::new()),
            Request::InputEnd,
            Request::Resize(WindowSize {
                rows: 24,
                columns: 300,
            }),
            Request::Signal(15),
            Request::Kill(9),
            Request::Stop {
                signal: 15,
                milliseconds: -1,
            },
            Request::Pause,
            Request::Unpause,
            Request::Connect(b"{}".to_vec()),
            Request::Disconnect(b"{}".to_vec()),
            Request::Wait,
        ] {
            assert_eq!(Request::decode(&request.encode()), Ok(request));
        }
        for answer in [
            Answer::Warning("the subnet is taken".to_owned()),
            Answer::Started,
            Answer::Failed(refusal()),
            Answer::Exited(-3),
            Answer::Taken,
            Answer::OutputClosed,
            Answer::Done,
            Answer::Refused(refusal()),
        ] {
            assert_eq!(Answer::decode(&answer.encode()), Ok(answer));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for message in [
            &b""[..],
            b"A",
            b"A\x09",
            b"r123",
            b"s12",
            b"p123456789",
            b"q",
            b"F{",
            b"S!",
        ] {
            assert!(Request::decode(message).is_err(), "{message:?}");
            assert!(Answer::decode(message).is_err(), "{message:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(request) = Request::decode(&bytes) {
                prop_assert_eq!(request.encode(), bytes.clone());
            }
            let _ = Answer::decode(&bytes);
        }
    }
}
