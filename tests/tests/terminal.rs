//! `-t`: a real terminal in the container, and the caller's own given back as it was.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use nix::sys::signal::Signal;
use rustix::termios::{LocalModes, Termios};

use lab::{Lab, Terminal, eventually};

fn raw(settings: &Termios) -> bool {
    !settings
        .local_modes
        .intersects(LocalModes::ICANON | LocalModes::ECHO)
}

/// A shell in a container on a terminal, ready for input.
#[track_caller]
fn shell(lab: &Lab, options: &[&str]) -> Terminal {
    let mut terminal = lab
        .rbox(["run", "-it", "--name", "term"])
        .args(options)
        .args(["busybox", "sh"])
        .terminal(30, 100);
    terminal.expect("# ");
    terminal
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_terminal_is_one_in_the_container() {
    let lab = Lab::with_busybox();
    let mut terminal = shell(&lab, &["--rm"]);
    terminal.send("tty; test -t 0 && test -t 1 && test -t 2 && echo all-three; echo T=$TERM\n");
    terminal.expect("/dev/pts/0\r\n");
    terminal.expect("all-three\r\n");
    terminal.expect("T=xterm\r\n");
    terminal.send("ls -l /dev/console; ps -o pid,tty,args\n");
    terminal.expect("crw");
    terminal.send("stty size\n");
    terminal.expect("30 100\r\n");
    terminal.resize(50, 140);
    eventually("the new size has arrived", || {
        let output = lab
            .rbox(["exec", "term", "sh", "-c", "stty size < /dev/pts/0"])
            .run();
        output.text() == "50 140"
    });
    assert!(
        raw(&terminal.settings()),
        "the caller's terminal is not raw"
    );
    // Ctrl-C is a byte for the container's terminal, not for rbox.
    terminal.send("sleep 100\n");
    terminal.expect("sleep 100");
    eventually("sleep runs", || {
        lab.rbox(["top", "term"]).run().text().contains("sleep 100")
    });
    terminal.send("\x03");
    terminal.send("echo still-$((40+2))\n");
    terminal.expect("still-42");
    terminal.send("exit 5\n");
    let (status, _) = terminal.finish();
    assert_eq!(status.code(), Some(5));
    assert!(
        !raw(&terminal.settings()),
        "the caller's terminal stays raw"
    );
    assert_eq!(lab.rbox(["ps", "-aq"]).run().success().text(), "");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_terminal_is_given_back_whatever_happens() {
    let lab = Lab::with_busybox();
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT] {
        let mut terminal = shell(&lab, &["--rm"]);
        eventually("the terminal is raw", || raw(&terminal.settings()));
        terminal.signal(signal);
        // A shell ignores SIGTERM; whichever way rbox goes, it goes when its container does.
        let _ = lab.rbox(["rm", "-f", "term"]).run();
        let _ = terminal.finish();
        assert!(!raw(&terminal.settings()), "raw after {signal}");
        eventually("the container is gone", || {
            lab.rbox(["ps", "-aq"]).run().text().is_empty()
        });
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_terminal_detaches_and_attaches() {
    let lab = Lab::with_busybox();
    let mut terminal = shell(&lab, &[]);
    terminal.send("X=remembered\n");
    terminal.expect("# ");
    terminal.send("\x10\x11");
    let (status, _) = terminal.finish();
    assert_eq!(status.code(), Some(0), "run ends with 0 when it is left");
    assert!(!raw(&terminal.settings()));
    assert_eq!(
        lab.rbox(["inspect", "-f", "{{.State.Running}}", "term"])
            .run()
            .text(),
        "true"
    );

    let mut terminal = lab.rbox(["attach", "term"]).terminal(30, 100);
    terminal.send("echo $X\n");
    terminal.expect("remembered\r\n");
    // One half of the keys is not the keys.
    terminal.send("\x10x\x7f");
    terminal.send("\x10\x11");
    let (status, screen) = terminal.finish();
    assert_eq!(status.code(), Some(1));
    assert!(screen.contains("read escape sequence"), "{screen}");

    let mut terminal = lab
        .rbox(["attach", "--detach-keys", "ctrl-x,y", "term"])
        .terminal(30, 100);
    terminal.send("echo $X\n");
    terminal.expect("remembered\r\n");
    terminal.send("\x18y");
    assert_eq!(terminal.finish().0.code(), Some(1));

    let mut terminal = lab.rbox(["attach", "term"]).terminal(30, 100);
    terminal.send("exit 9\n");
    assert_eq!(
        terminal.finish().0.code(),
        Some(9),
        "attach ends with the container's code"
    );
    lab.rbox(["attach", "term"])
        .run()
        .code(1)
        .says("You cannot attach to a stopped container, start it first");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_terminal_is_asked_for_where_there_is_none() {
    let lab = Lab::with_busybox();
    lab.rbox(["run", "-it", "--rm", "busybox", "true"])
        .run()
        .code(1)
        .says("the input device is not a TTY");
    // -t alone needs none: one stream, with carriage returns.
    let output = lab
        .rbox([
            "run",
            "-t",
            "--rm",
            "busybox",
            "sh",
            "-c",
            "echo out; echo err >&2",
        ])
        .run();
    assert_eq!(output.success().stdout, b"out\r\nerr\r\n");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_terminal_is_there_for_exec() {
    let lab = Lab::with_busybox();
    lab.rbox(["run", "-d", "--name", "term", "busybox", "sleep", "1000"])
        .run()
        .success();
    let mut terminal = lab.rbox(["exec", "-it", "term", "sh"]).terminal(20, 77);
    terminal.expect("# ");
    terminal.send("tty; stty size\n");
    terminal.expect("/dev/pts/");
    terminal.expect("20 77");
    terminal.resize(21, 78);
    terminal.send("sleep 0.3; stty size\n");
    terminal.expect("21 78");
    terminal.send("exit 4\n");
    assert_eq!(terminal.finish().0.code(), Some(4));
    assert!(!raw(&terminal.settings()));
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_signals_are_passed_on() {
    let lab = Lab::with_busybox();
    let script = "trap 'echo hup' HUP; trap 'echo usr1' USR1; trap 'exit 33' TERM; echo ready; while :; do sleep 0.05; done";
    let mut running = lab
        .rbox(["run", "--rm", "busybox", "sh", "-c", script])
        .spawn();
    running.expect("ready");
    running.signal(Signal::SIGHUP);
    running.expect("hup");
    running.signal(Signal::SIGUSR1);
    running.expect("usr1");
    running.signal(Signal::SIGTERM);
    running.finish().code(33);
    let mut running = lab
        .rbox([
            "run",
            "--name",
            "alone",
            "--sig-proxy=false",
            "busybox",
            "sh",
            "-c",
            script,
        ])
        .spawn();
    running.expect("ready");
    running.signal(Signal::SIGTERM);
    std::thread::sleep(std::time::Duration::from_millis(300));
    let state = || {
        lab.rbox(["inspect", "-f", "{{.State.Status}}", "alone"])
            .run()
            .text()
    };
    assert_eq!(state(), "running");
    // Whatever becomes of the command, the container goes on.
    drop(running);
    assert_eq!(state(), "running");
    assert!(!lab.rbox(["logs", "alone"]).run().text().contains("usr1"));
}
