//! The hub with a container made of pipes.

use super::*;
use std::fs::File;
use std::io::{Read, Write};
use std::time::Duration;

/// A container made of pipes: what it would read and write.
struct Container {
    stdin: File,
    stdout: Option<File>,
    stderr: Option<File>,
}

fn clock() -> String {
    "T".to_owned()
}

fn hub(rule: InputRule, log: Option<JsonFile>) -> (Hub, Container) {
    let mut hub = Hub::new(rule, log, clock);
    let (stdin, to_stdin) = sys::splice::pipe().unwrap();
    let (from_stdout, stdout) = sys::splice::pipe().unwrap();
    let (from_stderr, stderr) = sys::splice::pipe().unwrap();
    hub.begin(Ends::Pipes {
        stdin: rule.open.then_some(to_stdin),
        stdout: from_stdout,
        stderr: from_stderr,
    })
    .unwrap();
    let container = Container {
        stdin: stdin.into(),
        stdout: Some(stdout.into()),
        stderr: Some(stderr.into()),
    };
    (hub, container)
}

/// Lets the hub work until nothing happens for a moment.
fn work(hub: &mut Hub) -> Vec<Wish> {
    let mut wishes = Vec::new();
    loop {
        let mut list = Vec::new();
        hub.interests(&mut list);
        let waits: Vec<_> = list
            .iter()
            .map(|(_, fd, interest)| (*fd, *interest))
            .collect();
        let ready = sys::epoll::poll(&waits, Some(Duration::from_millis(30))).unwrap();
        let happened: Vec<_> = list
            .iter()
            .map(|(source, _, _)| *source)
            .zip(ready)
            .filter(|(_, ready)| *ready != Readiness::default())
            .collect();
        if happened.is_empty() {
            return wishes;
        }
        for (source, ready) in happened {
            hub.ready(source, ready, &mut wishes);
        }
    }
}

struct Watcher {
    socket: MessageSocket,
    stdout: File,
    stderr: File,
}

impl Watcher {
    fn attach(hub: &mut Hub, stdin: bool) -> Self {
        let (socket, theirs) = MessageSocket::pair().unwrap();
        let (stdout, out) = sys::splice::pipe().unwrap();
        let (stderr, err) = sys::splice::pipe().unwrap();
        hub.add(theirs);
        let request = Request::Attach(Attach {
            stdin,
            stdout: true,
            stderr: true,
        });
        socket
            .send(&request.encode(), &[out.as_fd(), err.as_fd()])
            .unwrap();
        work(hub);
        Self {
            socket,
            stdout: stdout.into(),
            stderr: stderr.into(),
        }
    }

    fn hear(&self) -> Option<Answer> {
        let mut buffer = [0; 4096];
        let received = self.socket.try_receive(&mut buffer).ok()?;
        Answer::decode(&buffer[..received.length]).ok()
    }
}

fn text(mut file: File) -> String {
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn two_watchers_and_the_log_get_all_of_it_before_the_code() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("json.log");
    let log = JsonFile::new(&path, crate::log::LogOptions::default());
    let (mut hub, mut container) = hub(InputRule::default(), Some(log));
    let one = Watcher::attach(&mut hub, false);
    let two = Watcher::attach(&mut hub, false);
    container
        .stdout
        .as_mut()
        .unwrap()
        .write_all(b"out\n")
        .unwrap();
    container
        .stderr
        .as_mut()
        .unwrap()
        .write_all(b"err")
        .unwrap();
    work(&mut hub);
    container
        .stdout
        .as_mut()
        .unwrap()
        .write_all(b"last")
        .unwrap();
    drop(container);
    hub.drain();
    hub.exited(3);
    for watcher in [one, two] {
        assert_eq!(watcher.hear(), Some(Answer::Exited(3)));
        assert_eq!(text(watcher.stdout), "out\nlast");
        assert_eq!(text(watcher.stderr), "err");
    }
    assert!(hub.is_empty());
    let log = std::fs::read_to_string(path).unwrap();
    assert_eq!(log.lines().count(), 3, "{log}");
}

#[test]
fn a_slow_watcher_gets_the_code_after_its_output() {
    let (mut hub, mut container) = hub(InputRule::default(), None);
    let mut watcher = Watcher::attach(&mut hub, false);
    let mut stdout = container.stdout.take().unwrap();
    let writer = std::thread::spawn(move || stdout.write_all(&vec![b'x'; 150_000]).unwrap());
    while !writer.is_finished() {
        work(&mut hub);
    }
    hub.drain();
    hub.exited(0);
    assert_eq!(watcher.hear(), None, "its pipe is still full");
    let mut all = Vec::new();
    let mut buffer = vec![0; 10_000];
    while all.len() < 150_000 {
        let length = watcher.stdout.read(&mut buffer).unwrap();
        all.extend_from_slice(&buffer[..length]);
        work(&mut hub);
    }
    assert_eq!(watcher.hear(), Some(Answer::Exited(0)));
    assert!(hub.is_empty());
}

#[test]
fn a_watcher_whose_pipe_closes_is_told_and_the_container_goes_on() {
    let (mut hub, mut container) = hub(InputRule::default(), None);
    let gone = Watcher::attach(&mut hub, false);
    let stays = Watcher::attach(&mut hub, false);
    drop((gone.stdout, gone.stderr));
    container
        .stdout
        .as_mut()
        .unwrap()
        .write_all(b"hello")
        .unwrap();
    work(&mut hub);
    let mut buffer = [0; 64];
    let received = gone.socket.receive(&mut buffer).unwrap();
    assert_eq!(
        Answer::decode(&buffer[..received.length]),
        Ok(Answer::OutputClosed)
    );
    drop(gone.socket);
    drop(container);
    hub.drain();
    hub.exited(0);
    assert_eq!(stays.hear(), Some(Answer::Exited(0)));
    assert_eq!(text(stays.stdout), "hello");
}

#[test]
fn input_is_fed_confirmed_and_ended() {
    let rule = InputRule {
        open: true,
        once: true,
    };
    let (mut hub, mut container) = hub(rule, None);
    let watcher = Watcher::attach(&mut hub, true);
    for _ in 0..3 {
        let piece = Request::Input(vec![b'i'; PIECE]);
        watcher.socket.send(&piece.encode(), &[]).unwrap();
    }
    watcher
        .socket
        .send(&Request::InputEnd.encode(), &[])
        .unwrap();
    watcher
        .socket
        .send(&Request::Signal(2).encode(), &[])
        .unwrap();
    assert_eq!(
        work(&mut hub),
        [Wish::Signal(2)],
        "signals pass waiting input"
    );
    assert_eq!(watcher.hear(), Some(Answer::Taken));
    assert_eq!(watcher.hear(), None);
    let mut total = 0;
    let mut buffer = vec![0; PIECE];
    loop {
        let length = container.stdin.read(&mut buffer).unwrap();
        if length == 0 {
            break;
        }
        total += length;
        work(&mut hub);
    }
    assert_eq!(total, 3 * PIECE);
}

#[test]
fn input_ends_with_its_client_only_where_it_is_bound_to_it() {
    for (once, expected) in [(true, true), (false, false)] {
        let (mut hub, container) = hub(InputRule { open: true, once }, None);
        let watcher = Watcher::attach(&mut hub, true);
        drop(watcher);
        work(&mut hub);
        sys::splice::set_nonblocking(&container.stdin).unwrap();
        let given = sys::splice::read_now(&container.stdin, &mut [0; 8]);
        assert_eq!(given == sys::splice::Given::End, expected, "{once}");
    }
}

#[test]
fn wishes_and_rubbish() {
    let (mut hub, _container) = hub(InputRule::default(), None);
    let (socket, theirs) = MessageSocket::pair().unwrap();
    let id = hub.add(theirs);
    let stop = Request::Stop {
        signal: 15,
        milliseconds: 10_000,
    };
    for request in [stop, Request::Pause, Request::Kill(9), Request::Wait] {
        socket.send(&request.encode(), &[]).unwrap();
    }
    assert_eq!(
        work(&mut hub),
        [
            Wish::Stop(id, 15, 10_000),
            Wish::Pause(id),
            Wish::Kill(id, 9)
        ]
    );
    socket.send(b"??", &[]).unwrap();
    work(&mut hub);
    assert!(hub.is_empty(), "who talks nonsense is let go");
}
