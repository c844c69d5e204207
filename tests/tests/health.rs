//! Health checks: run in the container now and then, judged, shown, and gone with it.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use lab::{Lab, Snapshot, eventually};

#[track_caller]
fn health(lab: &Lab, template: &str) -> String {
    let template = format!("{{{{with .State.Health}}}}{template}{{{{end}}}}");
    lab.rbox(["inspect", "-f", &template, "web"])
        .run()
        .success()
        .text()
}

/// Runs a container that is checked ten times a second.
#[track_caller]
fn checked(lab: &Lab, more: &[&str], check: &str) {
    let words = ["run", "-d", "--name", "web", "--network", "none"];
    let interval = ["--health-interval", "100ms", "--health-cmd", check];
    let command = ["busybox", "sleep", "1000"];
    let words = words.iter().chain(&interval).chain(more).chain(&command);
    lab.rbox(words).run().success();
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_health_follows_what_the_check_says() {
    let lab = Lab::with_busybox();
    let check = "echo said; echo why >&2; test -e /ok";
    checked(&lab, &["--health-retries", "2"], check);
    assert!(["starting", "unhealthy"].contains(&health(&lab, "{{.Status}}").as_str()));
    eventually("two failures make it unhealthy", || {
        health(&lab, "{{.Status}}") == "unhealthy"
    });
    let results = "{{range .Log}}{{.ExitCode}} {{json .Output}} {{end}}";
    assert!(health(&lab, results).starts_with(r#"1 "said\nwhy\n" 1 "said\nwhy\n""#));
    let list = |filter: &str| {
        let words = ["ps", "-f", filter, "--format", "{{.Names}} {{.Status}}"];
        lab.rbox(words).run().success().text()
    };
    assert!(list("health=unhealthy").ends_with("(unhealthy)"));
    lab.sh("rbox exec web touch /ok");
    eventually("a success makes it healthy", || {
        list("health=healthy").ends_with("(healthy)")
    });
    assert_eq!(health(&lab, "{{.FailingStreak}}"), "0");
    let events =
        lab.sh("rbox events --since 1h --until 0s -f event=health_status --format '{{.Action}}'");
    assert_eq!(
        events.lines().collect::<Vec<_>>(),
        ["health_status: unhealthy", "health_status: healthy"]
    );
    eventually("five results are kept", || {
        health(&lab, "{{len .Log}}") == "5"
    });
    // Each check had a parent of its own, and none is left.
    let dead = lab.sh("ps -eo stat,args | grep -c '^Z.*rbox' || :");
    assert!(["0", "1"].contains(&dead.as_str()), "{dead} zombies");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_health_of_one_that_pauses_stops_and_starts() {
    let lab = Lab::with_busybox();
    checked(&lab, &[], "echo x >> /count");
    let healthy = || health(&lab, "{{.Status}}") == "healthy";
    eventually("it is healthy", healthy);
    lab.sh("rbox pause web");
    assert_eq!(health(&lab, "{{.Status}}"), "unhealthy");
    lab.sh("rbox unpause web");
    eventually("it is healthy again", healthy);
    lab.sh("rbox stop -t 0 web");
    assert_eq!(health(&lab, "{{.Status}}"), "unhealthy");
    let before = health(&lab, "{{(index .Log 0).Start}}");
    lab.sh("rbox start web");
    eventually("it is healthy after a new start", healthy);
    eventually("old results give way", || {
        health(&lab, "{{(index .Log 0).Start}}") != before
    });
    assert_eq!(lab.sh("rbox diff web | grep count"), "A /count");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_health_checks_that_do_not_end_or_begin() {
    let lab = Lab::with_busybox();
    let last = "{{with .Log}}{{(index . 0).ExitCode}} {{(index . 0).Output}}{{end}}";
    let slow = ["--health-timeout", "150ms", "--health-retries", "1"];
    checked(&lab, &slow, "exec sleep 1000");
    eventually("a slow check is a failure", || {
        health(&lab, "{{.Status}}") == "unhealthy"
    });
    assert_eq!(
        health(&lab, last),
        "-1 Health check exceeded timeout (150ms)"
    );
    eventually("it was killed", || {
        lab.sh("rbox exec web ps | grep -c 'sleep 1000'") == "1"
    });
    lab.sh("rbox rm -f web");

    let change = r#"HEALTHCHECK --interval=100ms --start-interval=50ms CMD ["nosuch"]"#;
    let archive = lab::fixture::busybox_tar();
    lab.rbox(["import", "-c", change, archive.to_str().unwrap(), "checked"])
        .run()
        .success();
    lab.sh("rbox run -d --name web --network none checked sleep 1000");
    eventually("it has a result", || !health(&lab, last).is_empty());
    let said = health(&lab, last);
    assert!(said.starts_with("-1 OCI runtime exec failed"), "{said}");
    assert!(said.contains(r#"exec: "nosuch": executable file not found in $PATH"#));
    lab.sh("rbox rm -f web; rbox run -d --name web --no-healthcheck checked sleep 1000");
    assert_eq!(health(&lab, "some"), "");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_health_of_a_start_takes_its_own_time() {
    let lab = Lab::with_busybox();
    // An interval that does not come within the test: only that of the start period can have run.
    let start = [
        "--health-start-period",
        "1h",
        "--health-start-interval",
        "100ms",
    ];
    lab.rbox(
        ["run", "-d", "--name", "web", "--network", "none"]
            .iter()
            .chain(&start)
            .chain(&["--health-interval", "1h", "--health-retries", "1"])
            .chain(&["--health-cmd", "test -e /ok", "busybox", "sleep", "1000"]),
    )
    .run()
    .success();
    eventually("it was checked several times", || {
        health(&lab, "{{len .Log}}") == "3"
    });
    let seen = health(&lab, "{{.Status}} {{.FailingStreak}}");
    assert_eq!(seen, "starting 0");
    lab.sh("rbox exec web touch /ok");
    eventually("it is healthy", || health(&lab, "{{.Status}}") == "healthy");
    let shown = "{{json .Config.Healthcheck}}";
    let shown = lab.rbox(["inspect", "-f", shown, "web"]).run().success();
    assert_eq!(
        shown.text(),
        r#"{"Test":["CMD-SHELL","test -e /ok"],"Interval":3600000000000,"StartPeriod":3600000000000,"StartInterval":100000000,"Retries":1}"#
    );
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_health_checks_end_with_their_container() {
    let lab = Lab::with_busybox();
    lab.sh("rbox run --rm busybox true");
    let before = Snapshot::take(&lab);
    for end in [
        "rbox rm -f web",
        "kill -9 $(ps -o ppid= -p $(rbox inspect -f '{{.State.Pid}}' web)); rbox rm -f web",
    ] {
        checked(&lab, &[], "exec sleep 1000");
        eventually("a check is under way", || {
            lab.sh("rbox exec web ps | grep -c 'sleep 1000'") == "2"
        });
        lab.sh(end);
        eventually("nothing is left", || {
            Snapshot::take(&lab).added_since(&before).is_empty()
        });
    }
}
