//! `idmap`: the caller's files on the host are the container user's inside, and the other way round.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use lab::{Lab, Output};

fn run(lab: &Lab, words: &[&str], script: &str) -> Output {
    lab.rbox(["run", "--rm", "--network", "none"])
        .args(words.iter().copied())
        .args(["busybox", "sh", "-c", script])
        .run()
}

/// Files of 1000, of root and of 7 in a directory of 1000's.
fn files(lab: &Lab, place: &str) {
    lab.sh(&format!(
        "mkdir -p {place}/sub; cd {place}; : > mine; : > roots; : > others
        chown -R 1000:100 .; chown 0:0 roots; chown 7:8 others"
    ));
}

const LOOK: &str = "stat -c '%n %u:%g' /w/mine /w/roots /w/others; touch /w/made; mkdir /w/sub/dir; \
    touch /w/sub/dir/f; stat -c %u:%g /w/made";

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_owners_are_shown_as_the_container_s() {
    let lab = Lab::with_busybox();
    // Of memory, and of whatever the machine's disk has.
    let disk = lab.directory().join("disk").display().to_string();
    for place in ["/var/tmp/memory", &disk] {
        let mounts = [
            format!("{place}:/w:idmap=1000.100"),
            format!("type=bind,src={place},dst=/w,idmap=1000:100"),
        ];
        for (flag, mount) in [("-v", &mounts[0]), ("--mount", &mounts[1])] {
            files(&lab, place);
            let seen = run(&lab, &[flag, mount], LOOK).success().text();
            assert_eq!(
                seen, "/w/mine 0:0\n/w/roots 65534:65534\n/w/others 7:8\n0:0",
                "{place} {flag}"
            );
            let made = lab.sh(&format!(
                "cd {place}; stat -c %u:%g made sub/dir/f; rm -r {place}"
            ));
            assert_eq!(made, "1000:100\n1000:100", "{place} {flag}");
        }
        files(&lab, place);
        // Another user of the container, by name; the caller is who typed sudo.
        let script = "stat -c %u:%g /w/mine /w/roots; touch /w/made";
        let seen = lab
            .rbox(["run", "--rm", "--network", "none", "-u", "user", "-v"])
            .arg(format!("{place}:/w:idmap"))
            .args(["busybox", "sh", "-c", script])
            .env("SUDO_UID", "1000")
            .env("SUDO_GID", "100")
            .run();
        assert_eq!(seen.success().text(), "1000:1000\n0:0", "{place}");
        assert_eq!(lab.sh(&format!("stat -c %u:%g {place}/made")), "1000:100");
        // Without it everything is as it is on the disk.
        let plain = format!("{place}:/w");
        let seen = run(&lab, &["-v", &plain], "stat -c %u:%g /w/mine").success();
        assert_eq!(seen.text(), "1000:100");
    }
    assert_eq!(
        lab.sh("ps -ef | grep -c '[r]box run' || :"),
        "0",
        "nobody is left"
    );
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_owners_of_containers_that_are_copied_into_and_started_again() {
    let lab = Lab::with_busybox();
    files(&lab, "/var/tmp/w");
    lab.sh("rbox create --name box --network none -v /var/tmp/w:/w:idmap=1000.100 busybox touch /w/made
        : > /var/tmp/file; rbox cp /var/tmp/file box:/w/copied; rbox start -a box; rbox start -a box");
    assert_eq!(
        lab.sh("cd /var/tmp/w; stat -c %u:%g made copied"),
        "1000:100\n1000:100"
    );
    let mode = lab
        .rbox(["inspect", "-f", "{{(index .Mounts 0).Mode}}", "box"])
        .run();
    assert_eq!(mode.success().text(), "idmap=1000.100");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_owners_are_explained() {
    let lab = Lab::with_busybox();
    lab.sh("mkdir /var/tmp/w");
    let run = ["run", "-v", "/var/tmp/w:/w:idmap=1000", "busybox", "true"];
    let told = |flags: &[&str]| {
        let explain = lab.rbox(["explain"]).args(flags).args(run).run();
        explain.success().text()
    };
    assert!(told(&[]).contains("MOUNT_ATTR_IDMAP, u:1000:0:1"));
    assert!(told(&["--shell"]).contains("X-mount.idmap=u:1000:0:1"));
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_owners_that_cannot_be_shown_are_refused() {
    let lab = Lab::with_busybox();
    lab.sh("cd /var/tmp; mkdir low up work merged plain
        mount -t overlay -o lowerdir=low,upperdir=up,workdir=work none merged");
    run(&lab, &["-v", "/var/tmp/merged:/w:idmap=1000"], "true")
        .code(125)
        .says("cannot show the files of \"/var/tmp/merged\" as another owner's");
    for (mount, message) in [
        ("/var/tmp/plain:/w:idmap=me", "invalid mode: idmap=me"),
        ("/var/tmp/plain:/w:idmap=1.2.3", "invalid mode: idmap=1.2.3"),
        ("data:/w:idmap=1", "field BindOptions must not be specified"),
    ] {
        run(&lab, &["-v", mount], "true").code(125).says(message);
    }
    run(
        &lab,
        &["--mount", "type=bind,src=/var/tmp/plain,dst=/w,idmap=x"],
        "true",
    )
    .code(125)
    .says("invalid idmap \"x\": it takes UID or UID:GID of the host");
    run(
        &lab,
        &["-u", "nobody-here", "-v", "/var/tmp/plain:/w:idmap=1"],
        "true",
    )
    .code(125)
    .says("unable to find user nobody-here: no matching entries in passwd file");
}
