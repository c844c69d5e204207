//! Standard streams: byte for byte, in both directions, to the last byte before the end.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::time::Duration;

use lab::Lab;

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_stdio_passes_a_gigabyte_through() {
    let lab = Lab::with_busybox();
    // A stream that repeats nothing, made and summed outside, echoed by the container.
    let script = "
        set -o pipefail
        make() { openssl enc -aes-128-ctr -nosalt -pass pass:x -pbkdf2 < /dev/zero 2>/dev/null | head -c 1073741824; }
        command -v openssl > /dev/null || make() { seq 1 999999999 | head -c 1073741824; }
        make | tee >(sha256sum > sent) | rbox run -i --rm --network none busybox cat | sha256sum > got
        wait; sleep 0.2
        cmp sent got && echo same";
    let output = lab
        .command("bash")
        .args(["-c", script])
        .limit(Duration::from_secs(170))
        .run()
        .success();
    assert_eq!(output.text(), "same");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_stdio_loses_nothing_at_exit() {
    let lab = Lab::with_busybox();
    for round in 0..200 {
        let output = lab
            .rbox(["run", "--rm", "--network", "none", "busybox", "sh", "-c"])
            .arg("i=0; while [ $i -lt 100 ]; do echo line $i; echo error $i >&2; i=$((i+1)); done; exit 7")
            .run()
            .code(7);
        assert_eq!(
            output.lines().len(),
            100,
            "round {round}: {}",
            output.text()
        );
        assert_eq!(output.errors().lines().count(), 100, "round {round}");
        assert!(output.stdout.ends_with(b"line 99\n") && output.stderr.ends_with(b"error 99\n"));
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_stdio_keeps_bytes_and_streams_apart() {
    let lab = Lab::with_busybox();
    let all: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let output = lab
        .rbox(["run", "-i", "--rm", "busybox", "cat"])
        .input(all.clone())
        .run()
        .success();
    assert!(output.stdout == all, "bytes were changed");
    let output = lab
        .rbox([
            "run",
            "-i",
            "--rm",
            "busybox",
            "sh",
            "-c",
            "cat >&2; echo out",
        ])
        .input(all.clone())
        .run()
        .success();
    assert!(
        output.stderr == all,
        "bytes of the error stream were changed"
    );
    assert_eq!(output.stdout, b"out\n");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_stdio_passes_the_end_of_input() {
    let lab = Lab::with_busybox();
    // With -i the program reads until we close.
    let mut cat = lab
        .rbox(["run", "-i", "--rm", "busybox", "sh", "-c", "cat; echo end"])
        .spawn();
    cat.send("first\n");
    cat.expect("first\n");
    assert!(cat.ended().is_none());
    cat.close();
    cat.expect("end\n");
    assert_eq!(cat.finish().success().stdout, b"first\nend\n");
    // Without it there is nothing to read, whatever we have.
    let output = lab
        .rbox(["run", "--rm", "busybox", "wc", "-c"])
        .input("ignored")
        .run()
        .success();
    assert_eq!(output.text().trim(), "0");
    // A program that does not read is no reason to hang.
    let output = lab
        .rbox(["run", "-i", "--rm", "busybox", "true"])
        .input(vec![b'x'; 10_000_000])
        .run()
        .success();
    assert_eq!(output.text(), "");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_stdio_survives_a_reader_that_leaves() {
    let lab = Lab::with_busybox();
    let output = lab
        .command("bash")
        .args([
            "-c",
            "set -o pipefail; rbox run --rm busybox yes | head -n 2; echo ${PIPESTATUS[0]} >&2",
        ])
        .limit(Duration::from_secs(30))
        .run();
    assert_eq!(output.text(), "y\ny");
    // As in Docker the container is not ended by its reader's end.
    lab.sh("rbox rm -f $(rbox ps -aq)");
    assert_eq!(lab.rbox(["ps", "-aq"]).run().success().text(), "");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_stdio_is_inherited_by_detached_containers_in_no_way() {
    let lab = Lab::with_busybox();
    // Output::run fails when the monitor keeps the command's own streams open.
    let id = lab
        .rbox([
            "run",
            "-d",
            "busybox",
            "sh",
            "-c",
            "echo out; echo err >&2; sleep 1000",
        ])
        .run()
        .success()
        .text();
    let held = lab.sh("for p in $(pgrep rbox); do ls -l /proc/$p/fd | grep -c 'pipe:' || :; done");
    lab::eventually("the log has both lines", || {
        lab.rbox(["logs", &id]).run().success().text() == "out"
    });
    assert_eq!(
        lab.rbox(["logs", &id]).run().success().errors(),
        "err",
        "{held}"
    );
}
