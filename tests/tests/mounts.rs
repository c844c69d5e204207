//! What mounts do inside containers: how they travel, what they let write, where images want them.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use lab::{Lab, Output};

fn rbox(lab: &Lab, words: &[&str]) -> Output {
    lab.rbox(words.iter().copied()).run()
}

fn run(lab: &Lab, flags: &[&str], script: &str) -> Output {
    lab.rbox(["run", "--rm", "--network", "none"])
        .args(flags.iter().copied())
        .args(["busybox", "sh", "-c", script])
        .run()
}

/// Directories that share with their copies, that follow, and that do neither, each a mount.
fn shared_slave_private(lab: &Lab) {
    lab.sh("cd /var/tmp; for d in shr slv prv; do
            mkdir $d; mount -t tmpfs $d $d; mkdir $d/m $d/n; done
        mount --make-shared shr; mount --make-shared slv; mount --make-private prv");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_mounts_travel_as_was_asked() {
    let lab = Lab::with_busybox();
    shared_slave_private(&lab);
    lab.rbox([
        "run",
        "-d",
        "--name",
        "box",
        "--network",
        "none",
        "--cap-add",
        "SYS_ADMIN",
    ])
    .args(["--security-opt", "seccomp=unconfined"])
    .args([
        "-v",
        "/var/tmp/shr:/shr:shared",
        "-v",
        "/var/tmp/slv:/slv:slave",
    ])
    .args(["-v", "/var/tmp/prv:/prv", "busybox", "sleep", "1000"])
    .run()
    .success();
    lab.sh(
        "cd /var/tmp; for d in shr slv prv; do mount -t tmpfs host-$d $d/m; done
        rbox exec box sh -c 'for d in shr slv prv; do mount -t tmpfs in-$d /$d/n; done'",
    );
    let seen = |place: &str| {
        let script =
            format!("{place} sh -c \"grep -E '^(host|in)-' /proc/mounts | cut -d' ' -f1 | sort\"");
        lab.sh(&script).replace('\n', " ")
    };
    assert_eq!(
        seen("rbox exec box"),
        "host-shr host-slv in-prv in-shr in-slv"
    );
    assert_eq!(seen(""), "host-prv host-shr host-slv in-shr");
    // What was to stay private stays so, whatever else the container shares.
    let table = lab.sh("rbox exec box cat /proc/self/mountinfo");
    let tags = |place: &str| {
        let line = table
            .lines()
            .find(|line| line.split(' ').nth(4) == Some(place));
        let fields = line
            .unwrap()
            .split(' ')
            .skip(6)
            .take_while(|word| *word != "-");
        let kinds = fields.map(|tag| tag.split(':').next().unwrap().to_owned());
        kinds.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(tags("/shr"), "shared");
    assert_eq!(tags("/slv"), "master");
    assert_eq!(tags("/prv"), "");
    assert_eq!(tags("/proc"), "");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_mounts_that_cannot_travel_are_refused() {
    let lab = Lab::with_busybox();
    shared_slave_private(&lab);
    lab.sh("cd /var/tmp; ln -s prv link
        mkdir follows; mount --bind shr follows; mount --make-slave follows");
    let shared = "is mounted on /var/tmp/prv but it is not a shared mount";
    let slave = "is mounted on /var/tmp/prv but it is not a shared or slave mount";
    for (mount, refused) in [
        ("/var/tmp/shr:/x:shared", None),
        ("/var/tmp/shr/m:/x:rslave", None),
        ("/var/tmp/follows:/x:slave", None),
        ("/var/tmp/prv:/x:private", None),
        ("/var/tmp/prv:/x:shared", Some(shared)),
        ("/var/tmp/prv/m:/x:rshared", Some(shared)),
        ("/var/tmp/prv:/x:slave", Some(slave)),
        ("/var/tmp/link:/x:rslave", Some(slave)),
        (
            "/var/tmp/follows:/x:shared",
            Some("is mounted on /var/tmp/follows but it is not a shared mount"),
        ),
    ] {
        let output = run(&lab, &["-v", mount], "true");
        match refused {
            None => drop(output.success()),
            Some(text) => drop(output.code(125).says(text)),
        }
    }
    let mount = "type=bind,src=/var/tmp/prv,dst=/x,bind-propagation=rshared";
    run(&lab, &["--mount", mount], "true")
        .code(125)
        .says(shared);
    // Files are copied whatever a start would say.
    lab.sh(
        "rbox create --name box -v /var/tmp/prv:/x:shared busybox true
        : > /var/tmp/f; rbox cp /var/tmp/f box:/x/f; test -e /var/tmp/prv/f",
    );
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_mounts_below_read_only_ones() {
    let lab = Lab::with_busybox();
    lab.sh(
        "cd /var/tmp; mkdir rec; mount -t tmpfs rec rec; mkdir rec/in; mount -t tmpfs in rec/in
        touch rec/in/f",
    );
    let bind = |words: &str| format!("type=bind,src=/var/tmp/rec,dst=/x{words}");
    for (words, seen) in [
        ("", "top below f"),
        (",readonly", "f"),
        (",readonly,bind-recursive=enabled", "f"),
        (
            ",readonly,bind-recursive=readonly,bind-propagation=rprivate",
            "f",
        ),
        (",readonly,bind-recursive=writable", "below f"),
        (",bind-recursive=disabled", "top"),
        (",bind-nonrecursive", "top"),
        (",readonly,bind-recursive=disabled", ""),
    ] {
        let script = "mkdir /x/d 2> /dev/null && rmdir /x/d && echo top
            test -e /x/in/f && mkdir /x/in/d 2> /dev/null && rmdir /x/in/d && echo below
            ls /x/in";
        let output = run(&lab, &["--mount", &bind(words)], script).success();
        assert_eq!(output.text().replace('\n', " "), seen, "{words}");
    }
    for (words, text) in [
        (
            ",bind-recursive=writable",
            "option 'bind-recursive=writable' requires 'readonly' to be specified in conjunction",
        ),
        (
            ",readonly,bind-recursive=readonly",
            "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified \
             in conjunction",
        ),
    ] {
        run(&lab, &["--mount", &bind(words)], "true")
            .code(125)
            .says(text);
    }
}

/// `VOLUME ~/p`, as Dockerfiles in the wild have it: no shell is there to know the home.
#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_mounts_at_relative_places_of_images() {
    let lab = Lab::with_busybox();
    lab.sh("rbox create --name made busybox; rbox commit -c 'VOLUME ~/p' -c 'VOLUME /q' made odd");
    let volumes = rbox(&lab, &["inspect", "-f", "{{json .Config.Volumes}}", "odd"]);
    assert_eq!(volumes.success().text(), r#"{"/q":{},"~/p":{}}"#);
    let seen = lab.sh("rbox run --rm --network none odd cut -d' ' -f2 /proc/mounts");
    let is_there = |place: &str| seen.lines().any(|line| line == place);
    assert!(is_there("/~/p") && is_there("/q"), "{seen}");
    // What the user types is a whole path.
    rbox(&lab, &["run", "--rm", "-v", "p", "odd", "true"])
        .code(125)
        .says("invalid mount path: 'p' mount path must be absolute");
    // Memory takes a volume's place: none is made that nobody could see.
    lab.sh("rbox create --name box --tmpfs /q odd");
    let places = "{{range .Mounts}}{{.Destination}} {{end}}";
    let places = rbox(&lab, &["inspect", "-f", places, "box"]).success();
    assert_eq!(places.text().trim(), "/~/p");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_mounts_that_fail_name_their_place_once() {
    let lab = Lab::with_busybox();
    for (flags, text) in [
        (
            ["--tmpfs", "/"],
            "invalid specification: destination can't be '/'",
        ),
        (
            ["--tmpfs", "/d:size=x"],
            "error mounting \"tmpfs\" to rootfs at \"/d\": fsconfig(tmpfs, \"size\", \"x\")",
        ),
        (
            ["-v", "/var/tmp:/proc"],
            "nothing may be mounted over /proc",
        ),
        (
            ["--volumes-from", ""],
            "volumes-from specification cannot be an empty string",
        ),
        (
            ["--mount", "type=bind,src=rel,dst=/d"],
            "invalid mount path: 'rel' mount path must be absolute",
        ),
    ] {
        let errors = run(&lab, &flags, "true").code(125).errors();
        assert_eq!(errors.matches(text).count(), 1, "{flags:?}: {errors}");
    }
}
