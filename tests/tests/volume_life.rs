//! How long volumes live, and what goes into them with the image's files.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::time::{Duration, Instant};

use lab::{Lab, eventually};

/// The names of all volumes, those that were drawn as `drawn`.
fn volumes(lab: &Lab) -> String {
    let names = lab.rbox(["volume", "ls", "-q"]).run().success().lines();
    let mut names: Vec<&str> = names
        .iter()
        .map(|name| match name.len() {
            64 => "drawn",
            _ => name,
        })
        .collect();
    names.sort_unstable();
    names.join(" ")
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_volume_life_ends_with_the_last_container_or_by_name() {
    let lab = Lab::with_busybox();
    lab.sh(
        "rbox create --name made busybox; rbox commit -c 'VOLUME /image' made with; rbox rm made",
    );
    let create = "rbox create --network none -v named:/n -v /own";
    for (script, left) in [
        // Plain rm leaves all of them, rm -v those with a name, and so does -fv of one that runs.
        ("CREATE --name cc with; rbox rm cc", "drawn drawn named"),
        ("rbox volume prune -f", "named"),
        ("CREATE --name cc with; rbox rm -v cc", "named"),
        (
            "CREATE --name cc with sleep 1000; rbox start cc; rbox rm -fv cc",
            "named",
        ),
        // --rm is rm -v, however the container ends.
        (
            "rbox run --rm --network none -v named:/n -v /own with true",
            "named",
        ),
        (
            "rbox run --rm --network none -v /own with nosuch || :",
            "named",
        ),
        (
            "rbox run -d --rm --name cc --network none -v /own with sleep 1000; rbox kill cc
            until [ -z \"$(rbox ps -aq)\" ]; do :; done",
            "named",
        ),
        // The heir keeps what it has inherited, and is the last that takes it along.
        (
            "CREATE --name cc with; rbox create --name heir --volumes-from cc busybox; rbox rm -v cc",
            "drawn drawn named",
        ),
        ("rbox rm -v heir", "named"),
        (
            "CREATE --name cc with; rbox create --name heir --volumes-from cc:ro busybox; rbox rm -v heir",
            "drawn drawn named",
        ),
        ("rbox rm -v cc", "named"),
        // Named ones go by name, and only when nobody has them.
        (
            "CREATE --name cc busybox; ! rbox volume rm named; ! rbox volume rm -f named; rbox volume prune -af",
            "drawn named",
        ),
        ("rbox rm -v cc; rbox volume rm named", ""),
    ] {
        lab.sh(&script.replace("CREATE", create));
        assert_eq!(volumes(&lab), left, "{script}");
    }
}

/// A volume that a drawn name was made for is anonymous whoever mounts it by that name later.
#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_volume_life_survives_dead_monitors() {
    let lab = Lab::with_busybox();
    lab.sh(
        "rbox run -d --name cc --network none -v named:/n -v /own busybox sleep 1000
        rbox exec cc touch /n/f /own/f
        read pid start < /run/rbox/containers/$(rbox inspect -f '{{.Id}}' cc)/monitor; kill -9 $pid",
    );
    assert_eq!(volumes(&lab), "drawn named");
    for name in lab.rbox(["volume", "ls", "-q"]).run().success().lines() {
        lab.rbox(["volume", "rm", &name])
            .run()
            .code(1)
            .says("volume is in use - [");
    }
    assert_eq!(
        lab.sh("rbox start cc; rbox exec cc ls /n /own"),
        "cc\n/n:\nf\n\n/own:\nf"
    );
    // With --rm the next command takes along what the dead one's container had.
    lab.sh(
        "rbox rm -fv cc; rbox run -d --rm --name dd --network none -v /own busybox sleep 1000
        read pid start < /run/rbox/containers/$(rbox inspect -f '{{.Id}}' dd)/monitor; kill -9 $pid",
    );
    eventually("the container has gone", || {
        lab.rbox(["ps", "-aq"]).run().text().is_empty()
    });
    assert_eq!(volumes(&lab), "named");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_volume_content_comes_with_attributes_capabilities_and_holes() {
    let lab = Lab::with_busybox();
    lab.sh("rbox export $(rbox create busybox) > base.tar
        mkdir -p tree/data; tar -C tree -xf base.tar; cd tree/data
        echo f > f; setfattr -n user.note -v hello f; cp /bin/true capable; setcap cap_net_raw+ep capable
        ln capable second; chown 5:6 f; chmod 4750 f; mkdir d; setfattr -n user.dir -v yes d
        mkfifo pipe; mknod null c 1 3; ln -s /etc/passwd link; setfattr -n user.top -v t .
        truncate -s 64M sparse; echo end >> sparse; touch -d 2001-02-03T04:05:06.789 f link -h
        cd ../..; tar --xattrs --xattrs-include='*' -S -C tree -cf tree.tar .; rbox import tree.tar attrs");
    lab.sh("rbox run --rm --network none -v vol:/data attrs true");
    let look = "cd PLACE; stat -c '%n %u:%g %a %h %F %t.%T' *; stat -c %y f
        getfattr --absolute-names -d -m user f d .; getcap capable second; md5sum f capable sparse";
    let of = |place: &str| lab.sh(&look.replace("PLACE", place));
    let expected = of("tree/data");
    assert!(
        expected.contains("cap_net_raw") && expected.contains("user.note=\"hello\""),
        "{expected}"
    );
    let data = "/var/lib/rbox/volumes/vol/_data";
    assert_eq!(of(data), expected);
    lab.sh(&format!(
        "test {data}/capable -ef {data}/second; test $(stat -c %b {data}/sparse) -lt 1000"
    ));
    // A file of the volume's own stays, whatever the image has.
    lab.sh(&format!(
        "rm {data}/f; rbox run --rm --network none -v vol:/data attrs true; test ! -e {data}/f"
    ));
}

/// A part of a volume is asked for while a container of that volume swaps it for links.
#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_volume_parts_of_an_attacker_stay_within() {
    let lab = Lab::with_busybox();
    lab.sh("mount -t tmpfs canary /srv; echo secret > /srv/secret
        rbox run -d --name attacker --network none -v shared:/v busybox sh -c 'cd /v
            mkdir part; echo mine > part/secret; ln -s /srv abs; ln -s ../../../../../../../srv up; : > ready
            while :; do for link in abs up; do
                mv -T part kept; mv -T $link part; mv -T part $link; mv -T kept part
            done; done 2> /dev/null'");
    let ready = "/var/lib/rbox/volumes/shared/_data/ready";
    eventually("the attacker is at work", || lab.read(ready).is_some());
    let end = Instant::now() + Duration::from_secs(4);
    let (mut mounted, mut refused) = (0, 0);
    while Instant::now() < end {
        let run = lab
            .rbox(["run", "--rm", "--network", "none", "--mount"])
            .arg("type=volume,src=shared,dst=/x,volume-subpath=part")
            .args([
                "busybox",
                "sh",
                "-c",
                "cat /x/secret 2> /dev/null; touch /x/touched",
            ])
            .run();
        assert!(
            !run.text().contains("secret"),
            "{mounted} mounted, {refused} refused"
        );
        match run.status.success() {
            true => mounted += 1,
            false => refused += 1,
        }
    }
    assert!(mounted > 0, "{refused} refused");
    assert_eq!(
        lab.sh("ls /srv"),
        "secret",
        "{mounted} mounted, {refused} refused"
    );
}

/// A device's file system is mounted whatever the container may do with devices, at every start.
#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_volume_on_a_device_is_there_at_each_start() {
    let lab = Lab::with_busybox();
    lab.sh(
        "mkdir e; truncate -s 20M image; mkfs.ext4 -q image; mount -o loop image e
        rbox volume create -o type=ext4 -o device=$(findmnt -no SOURCE e) disk",
    );
    for turn in 0..12 {
        let file = format!("/x/{turn}");
        let run = [
            "run",
            "--rm",
            "--network",
            "none",
            "-v",
            "disk:/x",
            "busybox",
            "touch",
            &file,
        ];
        lab.rbox(run).run().success();
    }
    assert_eq!(lab.sh("ls e | grep -c '^[0-9]'"), "12");
    // What cannot be mounted says so in the container's words.
    lab.sh("rbox volume create -o type=nosuchfs -o device=none none");
    let run = [
        "run",
        "--rm",
        "--network",
        "none",
        "-v",
        "none:/x",
        "busybox",
        "true",
    ];
    lab.rbox(run).run().code(125).says(
        "error mounting \"nosuchfs\" to rootfs at \"/x\": fsopen(\"nosuchfs\"): no such device",
    );
    lab.sh("umount e");
}
