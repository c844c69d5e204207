//! What parent and child tell each other between the clone and the program.
//!
//! ```text
//! parent                                child
//!    ── G (go: the network is ready) ──►
//!    ◄── T + descriptor ──────────────── the master of its terminal
//!    ◄── S + JSON ────────────────────── how long its steps took
//!    ◄── F + JSON ────────────────────── it failed: a Report; it ends
//!    ◄── X ───────────────────────────── all is prepared, the program is next
//!    ◄── E + errno ───────────────────── the trampoline could not execute the program; it ends
//!    ◄── P + pid ─────────────────────── the program runs in this further child of the parent
//!    ◄── (end of the conversation) ───── the program runs
//! ```
//!
//! The socket keeps messages whole. Everything in it is written by rbox itself, before the first
//! instruction of the container's program.

use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, Timespec};
use sys::socket::MessageSocket;

use crate::child::Started;
use crate::error::{Report, ReportKind, StartError};
use crate::timing::StepTime;

/// Longer messages are refused by their writer.
const LONGEST: usize = 32 * 1024;

/// Tells the child to execute its program.
pub(crate) fn release(sync: &MessageSocket) -> sys::Result<()> {
    sync.send(b"G", &[])
}

/// The child's wait for it; `false` when the parent is gone.
pub(crate) fn wait_for_release(sync: &MessageSocket) -> bool {
    let mut word = [0u8; 8];
    matches!(sync.receive(&mut word), Ok(received) if received.length > 0)
}

/// Whether the parent still holds its end.
pub(crate) fn parent_is_alive(sync: &MessageSocket) -> bool {
    let mut watched = [PollFd::new(sync, PollFlags::RDHUP)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    match rustix::event::poll(&mut watched, Some(&now)) {
        Ok(_) => !watched[0]
            .revents()
            .intersects(PollFlags::HUP | PollFlags::RDHUP),
        Err(_) => true,
    }
}

/// Sends a failure up.
pub(crate) fn fail(sync: &MessageSocket, report: &Report) {
    let mut report = report.clone();
    if report.call.len() > LONGEST / 4 {
        report.call = report.call.chars().take(LONGEST / 8).collect();
    }
    let mut message = vec![b'F'];
    if serde_json::to_writer(&mut message, &report).is_ok() {
        // The parent may be gone: then nobody wants to know.
        let _ = sync.send(&message, &[]);
    }
}

/// Sends the master of the terminal up.
pub(crate) fn send_terminal(sync: &MessageSocket, master: BorrowedFd<'_>) -> sys::Result<()> {
    sync.send(b"T", &[master])
}

/// Sends the times of the steps up.
pub(crate) fn send_times(sync: &MessageSocket, times: &[StepTime]) {
    let mut message = vec![b'S'];
    if serde_json::to_writer(&mut message, times).is_ok() && message.len() <= LONGEST {
        let _ = sync.send(&message, &[]);
    }
}

/// Says that the program is next.
pub(crate) fn send_prepared(sync: &MessageSocket) -> sys::Result<()> {
    sync.send(b"X", &[])
}

/// The parent's side: reads until the program runs or cannot.
pub(crate) fn wait_exec(
    sync: &MessageSocket,
    pid: i32,
    program: &str,
) -> Result<Started, StartError> {
    let mut buffer = vec![0u8; LONGEST + 1];
    let mut started = Started {
        terminal: None,
        pid,
        start_time: 0,
        times: Vec::new(),
    };
    let mut prepared = false;
    loop {
        let received = match sync.receive(&mut buffer) {
            Ok(received) => received,
            // The child ended with our word unread. The kernel says so once and before it hands
            // out what the child had sent: that is read next.
            Err(error) if error.errno() == RESET => continue,
            Err(error) => return Err(StartError::Sync(error)),
        };
        if received.length == 0 {
            return if prepared {
                Ok(started)
            } else {
                Err(StartError::Died)
            };
        }
        let message = &buffer[..received.length];
        match message[0] {
            b'T' => started.terminal = received.descriptors.into_iter().next(),
            b'S' => started.times = serde_json::from_slice(&message[1..]).unwrap_or_default(),
            b'X' => prepared = true,
            b'F' => return Err(reported(&message[1..])),
            b'E' => return Err(not_executed(program, number(message))),
            b'P' => started.pid = number(message),
            _ => return Err(reported(b"")),
        }
    }
}

const RESET: i32 = 104;

fn number(message: &[u8]) -> i32 {
    let mut bytes = [0u8; 4];
    if let Some(given) = message.get(1..5) {
        bytes.copy_from_slice(given);
    }
    i32::from_le_bytes(bytes)
}

fn reported(json: &[u8]) -> StartError {
    match serde_json::from_slice(json) {
        Ok(report) => StartError::Reported(report),
        Err(error) => StartError::Reported(Report {
            step: "sync".to_owned(),
            kind: ReportKind::Call,
            call: format!("a report that cannot be read: {error}"),
            errno: 0,
        }),
    }
}

/// The kernel refused a program that was there a moment ago.
fn not_executed(program: &str, errno: i32) -> StartError {
    let source = std::io::Error::from_raw_os_error(errno);
    let reason = sys::error::reason(&source).to_lowercase();
    let kind = if source.kind() == std::io::ErrorKind::NotFound {
        ReportKind::NotFound
    } else {
        ReportKind::NotExecutable
    };
    StartError::Reported(Report {
        step: "exec".to_owned(),
        kind,
        call: format!("exec {program}: {reason}"),
        errno,
    })
}

/// A pair of ends: the parent's and the child's.
pub(crate) fn pair() -> sys::Result<(MessageSocket, MessageSocket)> {
    MessageSocket::pair()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answer(messages: &[&[u8]]) -> Result<Started, StartError> {
        let (parent, child) = pair().unwrap();
        for message in messages {
            child.send(message, &[]).unwrap();
        }
        drop(child);
        wait_exec(&parent, 7, "/bin/x")
    }

    #[test]
    fn an_end_without_a_word_is_a_death() {
        assert!(matches!(answer(&[]), Err(StartError::Died)));
        assert_eq!(answer(&[b"X"]).unwrap().pid, 7);
        assert_eq!(answer(&[b"X", b"P\x09\0\0\0"]).unwrap().pid, 9);
    }

    #[test]
    fn what_the_trampoline_says_has_dockers_exit_code() {
        let error = answer(&[b"X", b"E\x08\0\0\0"]).unwrap_err();
        assert_eq!(error.to_string(), "exec /bin/x: exec format error");
        assert_eq!(error.exit_code(), 126);
        assert_eq!(
            answer(&[b"X", b"E\x02\0\0\0"]).unwrap_err().exit_code(),
            127
        );
    }

    #[test]
    fn the_last_words_of_a_child_that_did_not_listen_arrive() {
        let (parent, child) = pair().unwrap();
        release(&parent).unwrap();
        child.send(b"E\x08\0\0\0", &[]).unwrap();
        drop(child);
        assert_eq!(wait_exec(&parent, 7, "x").unwrap_err().exit_code(), 126);
        let (parent, child) = pair().unwrap();
        release(&parent).unwrap();
        drop(child);
        assert!(matches!(wait_exec(&parent, 7, "x"), Err(StartError::Died)));
    }

    #[test]
    fn a_long_report_arrives_short() {
        let (parent, child) = pair().unwrap();
        let report = Report {
            step: "mount".to_owned(),
            kind: ReportKind::Call,
            call: "ä".repeat(LONGEST),
            errno: 2,
        };
        fail(&child, &report);
        let error = wait_exec(&parent, 7, "x").unwrap_err();
        assert_eq!(error.kind(), Some(ReportKind::Call));
    }

    #[test]
    fn nonsense_does_not_start_a_container() {
        for message in [&b"F"[..], b"F{", b"Q", b"F\xff\xff"] {
            assert!(answer(&[message]).is_err());
        }
    }

    #[test]
    fn a_parent_that_left_is_noticed() {
        let (parent, child) = pair().unwrap();
        assert!(parent_is_alive(&child));
        release(&parent).unwrap();
        assert!(parent_is_alive(&child));
        drop(parent);
        assert!(!parent_is_alive(&child));
    }

    proptest! {
        /// Whatever the child says, it starts only what it said to be prepared.
        #[test]
        fn no_other_word_starts_a_container(
            words in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..64), 0..4),
        ) {
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            let answer = answer(&words);
            if answer.is_ok() {
                prop_assert!(words.iter().any(|word| word[0] == b'X'));
            }
        }
    }
}
