//! Volumes and host paths in containers: what is shown, what is kept, and who cannot get out.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::time::{Duration, Instant};

use lab::{Lab, Output, eventually};

fn rbox(lab: &Lab, words: &[&str]) -> Output {
    lab.rbox(words.iter().copied()).run()
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_volumes_are_inspected_as_the_classics_show_them() {
    let lab = Lab::with_busybox();
    lab.sh("rbox create --name debian-test -v /var/tmp/t:/usr/src/app:rw -v data:/d:ro busybox");
    let inspect = |format: &str| {
        let words = ["inspect", "--format", format, "debian-test"];
        rbox(&lab, &words).success().text()
    };
    let data = "/var/lib/rbox/volumes/data/_data";
    assert_eq!(
        inspect("{{ .Volumes }}"),
        format!("map[/d:{data} /usr/src/app:/var/tmp/t]")
    );
    assert_eq!(
        inspect("{{ .VolumesRW }}"),
        "map[/d:false /usr/src/app:true]"
    );
    assert_eq!(
        inspect("{{json .Mounts}}"),
        format!(
            "[{{\"Type\":\"volume\",\"Name\":\"data\",\"Source\":\"{data}\",\"Destination\":\"/d\",\
             \"Driver\":\"local\",\"Mode\":\"ro\",\"RW\":false,\"Propagation\":\"\"}},\
             {{\"Type\":\"bind\",\"Source\":\"/var/tmp/t\",\"Destination\":\"/usr/src/app\",\
             \"Mode\":\"rw\",\"RW\":true,\"Propagation\":\"rprivate\"}}]"
        )
    );
    let lines = lab.sh("rbox inspect debian-test | grep Mount -A 10");
    assert!(lines.contains("\"Mounts\": ["), "{lines}");
    assert!(!inspect("{{json .}}").contains("VolumesRW"));
}

/// Busybox with `/data`: a file with two names, a link, a foreign owner.
fn image_with_data(lab: &Lab) {
    lab.sh("rbox run --name made --network none busybox sh -c '
            mkdir -p /data/sub; echo f > /data/f; ln /data/f /data/g; ln -s f /data/l
            chmod 750 /data; chown 1000:1001 /data; chmod 4711 /data/sub; touch -d 2001-02-03 /data/f'
        rbox commit made filled; rbox rm made");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_volumes_are_filled_once_and_whole() {
    let lab = Lab::with_busybox();
    image_with_data(&lab);
    let shown = "stat -c '%u:%g %a' /data /data/sub; test /data/f -ef /data/g; readlink /data/l; date -r /data/f +%F";
    let expected = "1000:1001 750\n0:0 4711\nf\n2001-02-03";
    for volume in ["data:/data:ro", "/data", "data:/data"] {
        let run = [
            "run",
            "--rm",
            "--network",
            "none",
            "-v",
            volume,
            "filled",
            "sh",
            "-c",
            shown,
        ];
        assert_eq!(rbox(&lab, &run).success().text(), expected, "{volume}");
    }
    lab.sh(
        "rbox run --rm --network none -v data:/data filled rm /data/f
        rbox volume create other; rbox run --rm --network none -v other:/x filled touch /x/own",
    );
    for (volume, listed) in [
        ("data:/data", "g l sub"),
        ("other:/data", "own"),
        ("fresh:/data:nocopy", ""),
    ] {
        let run = [
            "run",
            "--rm",
            "--network",
            "none",
            "-v",
            volume,
            "filled",
            "ls",
            "/data",
        ];
        let text = rbox(&lab, &run).success().text().replace('\n', " ");
        assert_eq!(text, listed, "{volume}");
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_volumes_from_full_disks_are_not_half_filled() {
    let lab = Lab::with_busybox();
    lab.sh("rbox run --name made --network none busybox sh -c '
            mkdir /data; for i in 1 2 3 4; do dd if=/dev/zero of=/data/$i bs=1M count=1 2> /dev/null; done'
        rbox commit made filled; rbox rm made; rbox volume create empty
        mkdir -p /var/tmp/device
        rbox volume create -o type=none -o o=bind -o device=/var/tmp/device elsewhere
        mount -t tmpfs -o size=2m small /var/tmp/device
        mkdir -p /var/lib/rbox/aside /var/lib/rbox/volumes/empty/_data
        mount -t tmpfs -o size=2m small /var/lib/rbox/volumes/empty/_data");
    // One that is there already, on this disk and on another, and one that is to be made.
    for volume in ["empty", "elsewhere"] {
        let mount = format!("{volume}:/data");
        let output = rbox(&lab, &["run", "--rm", "-v", &mount, "filled", "true"]).code(125);
        let errors = output.errors();
        let said = format!("cannot copy the image's content into volume \"{volume}\"");
        assert!(
            errors.contains(&said) && errors.contains("hint: free space"),
            "{errors}"
        );
    }
    assert_eq!(
        lab.sh("ls /var/lib/rbox/volumes/empty/_data /var/tmp/device"),
        "/var/lib/rbox/volumes/empty/_data:\n\n/var/tmp/device:"
    );
    assert_eq!(
        lab.sh("ls /var/lib/rbox/volumes/empty /var/lib/rbox/volumes/elsewhere | grep fill || :"),
        ""
    );
    lab.sh("mount -t tmpfs -o size=3m small /var/lib/rbox/aside");
    rbox(&lab, &["run", "--rm", "-v", "new:/data", "filled", "true"]).code(125);
    assert_eq!(
        rbox(&lab, &["volume", "ls", "-q"]).success().text(),
        "elsewhere\nempty"
    );
    assert_eq!(rbox(&lab, &["ps", "-aq"]).success().text(), "");
    // With room again all of it comes.
    lab.sh("umount /var/lib/rbox/aside /var/lib/rbox/volumes/empty/_data /var/tmp/device");
    for volume in ["empty", "elsewhere", "new"] {
        let mount = format!("{volume}:/data");
        let ls = rbox(
            &lab,
            &["run", "--rm", "-v", &mount, "filled", "ls", "/data"],
        );
        assert_eq!(ls.success().text(), "1\n2\n3\n4", "{volume}");
    }
}

/// A volume is inherited and removed at once, again and again: whoever got it has it whole.
#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_volumes_from_a_container_that_is_being_removed() {
    let lab = Lab::with_busybox();
    let (mut inherited, mut late) = (0, 0);
    for round in 0..15 {
        lab.sh("rbox run --name donor --network none -v /d busybox sh -c 'echo kept > /d/f'");
        let mut heir = lab.rbox(["run", "--name", "heir", "--network", "none"]);
        heir = heir.args(["--volumes-from", "donor", "busybox", "cat", "/d/f"]);
        let heir = heir.spawn();
        // A little later every time: the two meet in every order.
        std::thread::sleep(Duration::from_millis(round % 8));
        let remove = lab.rbox(["rm", "-v", "donor"]).spawn();
        let output = heir.finish();
        remove.finish().success();
        let volumes = || rbox(&lab, &["volume", "ls", "-q"]).success().text();
        if output.status.success() {
            assert_eq!(output.text(), "kept");
            inherited += 1;
            assert_eq!(volumes().len(), 64, "the heir's volume is there");
            lab.sh("rbox start -a heir; rbox rm -v heir");
        } else {
            let errors = output.errors();
            assert!(errors.contains("No such container: "), "{errors}");
            late += 1;
            lab.sh("rbox rm heir 2> /dev/null || :");
        }
        assert_eq!(
            volumes(),
            "",
            "round {round}: {inherited} inherited, {late} late"
        );
    }
}

/// A host with a canary at `/srv`, and a container that swaps `/v/swap` between a directory and
/// links to it as fast as it can.
fn attacked() -> Lab {
    let lab = Lab::new();
    lab.sh("mount -t tmpfs canary /srv; mkdir /srv/dir; echo secret > /srv/secret; echo secret > /srv/dir/secret");
    lab::fixture::busybox(&lab);
    let script = "cd /v; mkdir -p real; echo mine > real/secret; ln -sfn /srv abs
        ln -sfn ../../../../../../../../../../srv up; ln -sfn /proc/self/root/srv magic; : > ready
        while :; do for link in abs up magic; do
            rmdir swap; mv -T real swap; mv -T swap real; mv -T $link swap; mv -T swap $link
        done; done 2> /dev/null";
    lab.rbox([
        "run",
        "-d",
        "--name",
        "attacker",
        "--network",
        "none",
        "-v",
        "shared:/v",
    ])
    .args(["busybox", "sh", "-c", script])
    .run()
    .success();
    let ready = "/var/lib/rbox/volumes/shared/_data/ready";
    eventually("the attacker is at work", || lab.read(ready).is_some());
    lab
}

fn canary(lab: &Lab) -> String {
    lab.sh("ls -laR --time-style=full-iso /srv; cat /srv/secret /srv/dir/secret; grep ' /srv' /proc/1/mountinfo")
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_volumes_of_an_attacker_are_mounted_in() {
    let lab = attacked();
    let before = canary(&lab);
    lab.sh("mkdir -p /var/tmp/own; echo own > /var/tmp/own/f");
    let end = Instant::now() + Duration::from_secs(4);
    let (mut mounted, mut refused) = (0, 0);
    while Instant::now() < end {
        let output = lab
            .rbox(["run", "--rm", "--network", "none", "-v", "shared:/v"])
            .args(["-v", "/var/tmp/own:/v/swap", "-v", "inner:/v/swap/deep", "busybox", "sh", "-c"])
            .arg("cat /srv/secret /srv/dir/secret 2> /dev/null; grep -c . /proc/self/mountinfo > /dev/null")
            .run();
        let text = output.text() + &output.errors();
        assert!(
            !text.contains("secret\n") && !output.text().contains("secret"),
            "{text}"
        );
        match output.status.success() {
            true => mounted += 1,
            false => refused += 1,
        }
    }
    assert!(mounted > 0, "{refused} refused");
    assert_eq!(canary(&lab), before, "{mounted} mounted, {refused} refused");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_volumes_of_an_attacker_are_copied_in_and_out() {
    let lab = attacked();
    let before = canary(&lab);
    lab.sh("mkdir -p /var/tmp/in/dir; echo in > /var/tmp/in/dir/secret; echo in > /var/tmp/in/new");
    let end = Instant::now() + Duration::from_secs(5);
    let (mut done, mut refused) = (0, 0);
    while Instant::now() < end {
        for words in [
            ["cp", "/var/tmp/in/.", "attacker:/v/swap"],
            ["cp", "/var/tmp/in/new", "attacker:/v/swap/new"],
            ["cp", "attacker:/v/swap/.", "/var/tmp/out"],
            ["cp", "attacker:/v/swap/secret", "/var/tmp/out-file"],
            ["cp", "attacker:/v", "/var/tmp/out-all"],
        ] {
            match rbox(&lab, &words).status.success() {
                true => done += 1,
                false => refused += 1,
            }
        }
        let found = lab.sh("cat $(find /var/tmp/out* -type f 2> /dev/null) < /dev/null | grep -c ^secret || :; rm -rf /var/tmp/out*");
        assert_eq!(found, "0", "{done} copies, {refused} refused");
    }
    assert!(done > 0, "{refused} refused");
    assert_eq!(canary(&lab), before, "{done} copies, {refused} refused");
}

/// A host path that a container bends is mounted by another, and by itself a second time.
#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_volumes_of_paths_that_an_attacker_bends() {
    let lab = attacked();
    lab.sh("rbox rm -f attacker; mkdir -p /var/tmp/w");
    let before = canary(&lab);
    let script = "cd /w; mkdir -p real; echo mine > real/secret; ln -sfn /srv abs; ln -sfn ../../../../srv up
        : > ready; while :; do for link in abs up; do
            rm -rf swap/new; rmdir swap
            mv -T real swap; mv -T swap real; mv -T $link swap; mv -T swap $link
        done; done 2> /dev/null";
    lab.rbox([
        "run",
        "-d",
        "--name",
        "attacker",
        "--network",
        "none",
        "-v",
        "/var/tmp/w:/w",
    ])
    .args(["busybox", "sh", "-c", script])
    .run()
    .success();
    eventually("the attacker is at work", || {
        lab.read("/var/tmp/w/ready").is_some()
    });
    lab.sh("rbox create --name again --network none -v /var/tmp/w/swap:/x busybox cat /x/secret");
    let end = Instant::now() + Duration::from_secs(5);
    let (mut mounted, mut refused) = (0, 0);
    while Instant::now() < end {
        for (source, place) in [
            ("/var/tmp/w/swap:/x", "/x/secret"),
            ("/var/tmp/w/swap/new:/x", "/x/../x"),
        ] {
            let run = [
                "run",
                "--rm",
                "--network",
                "none",
                "-v",
                source,
                "busybox",
                "cat",
                place,
            ];
            let output = rbox(&lab, &run);
            assert_ne!(
                output.text(),
                "secret",
                "{mounted} mounted, {refused} refused"
            );
            match output.text() == "mine" {
                true => mounted += 1,
                false => refused += 1,
            }
        }
        assert_ne!(rbox(&lab, &["start", "-a", "again"]).text(), "secret");
    }
    assert!(
        mounted > 0 && refused > 0,
        "{mounted} mounted, {refused} refused"
    );
    assert_eq!(canary(&lab), before, "{mounted} mounted, {refused} refused");
}

/// Without a race: links that a container may have made, and the user's own.
#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_volumes_of_paths_with_links() {
    let lab = Lab::with_busybox();
    lab.sh("mount -t tmpfs canary /srv; mkdir -p /srv/dir; echo secret | tee /srv/secret > /srv/dir/secret
        rbox create --name holder -v /var/tmp/w:/w busybox; mkdir -p /var/tmp/w/real; cd /var/tmp/w
        echo mine > real/secret; ln -s /srv swap; ln -s real in; ln -s /var/tmp/w/real /var/tmp/own; mkdir /var/tmp/sub; ln -s /srv/dir /var/tmp/mine");
    let cat = |source: &str| {
        let mount = format!("{source}:/x");
        rbox(
            &lab,
            &[
                "run",
                "--rm",
                "--network",
                "none",
                "-v",
                &mount,
                "busybox",
                "cat",
                "/x/secret",
            ],
        )
    };
    let errors = cat("/var/tmp/w/swap").code(125).errors();
    assert!(
        errors.contains(
            "'/var/tmp/w/swap' is a link out of '/var/tmp/w', which a container can write"
        ),
        "{errors}"
    );
    assert_eq!(cat("/var/tmp/w/in").success().text(), "mine");
    assert_eq!(cat("/var/tmp/own").success().text(), "mine");
    assert_eq!(cat("/var/tmp/mine").success().text(), "secret");
    rbox(&lab, &["rm", "holder"]).success();
    assert_eq!(
        cat("/var/tmp/w/swap").success().text(),
        "secret",
        "nobody can write there any more"
    );
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_volumes_in_part() {
    let lab = Lab::with_busybox();
    lab.sh("rbox run --rm --network none -v data:/d busybox sh -c '
        mkdir -p /d/a/b; echo part > /d/a/b/f; ln -s /a/b /d/link; ln -s /../../../../../../etc /d/out; mkdir /d/etc; echo own > /d/etc/passwd'");
    let cat = |part: &str, file: &str| {
        let mount = format!("type=volume,src=data,dst=/x,volume-subpath={part}");
        rbox(
            &lab,
            &[
                "run",
                "--rm",
                "--network",
                "none",
                "--mount",
                &mount,
                "busybox",
                "cat",
                file,
            ],
        )
    };
    assert_eq!(cat("a", "/x/b/f").success().text(), "part");
    assert_eq!(cat("link", "/x/f").success().text(), "part");
    assert_eq!(cat("out", "/x/passwd").success().text(), "own");
    cat("none", "/x").code(125).says("cannot access path");
    cat("../x", "/x").code(125).says("volume-subpath");
}

/// The content of a volume lies where an attacker bends the way: the image's files go there or nowhere.
#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_volumes_elsewhere_are_filled_there_or_nowhere() {
    let lab = Lab::with_busybox();
    image_with_data(&lab);
    lab.sh("mount -t tmpfs canary /srv; mkdir -p /var/tmp/w
        rbox volume create -o type=none -o o=bind -o device=/var/tmp/w/swap elsewhere");
    let script = "cd /w; mkdir real; ln -s /srv out; : > ready; while :; do
        mv -T real swap; mv -T swap real; mv -T out swap; mv -T swap out; done 2> /dev/null";
    lab.rbox([
        "run",
        "-d",
        "--name",
        "attacker",
        "--network",
        "none",
        "-v",
        "/var/tmp/w:/w",
    ])
    .args(["busybox", "sh", "-c", script])
    .run()
    .success();
    eventually("the attacker is at work", || {
        lab.read("/var/tmp/w/ready").is_some()
    });
    let end = Instant::now() + Duration::from_secs(3);
    let (mut filled, mut refused) = (0, 0);
    while Instant::now() < end {
        let run = [
            "run",
            "--rm",
            "--network",
            "none",
            "-v",
            "elsewhere:/data",
            "filled",
            "true",
        ];
        match rbox(&lab, &run).status.success() {
            true => filled += 1,
            false => refused += 1,
        }
        // The directory may be on its way elsewhere just then.
        let cleared = "until rm -rf /var/tmp/w/real/* 2> /dev/null; do :; done";
        assert_eq!(
            lab.sh(&format!("ls -A /srv; {cleared}")),
            "",
            "{filled} filled"
        );
    }
    assert!(refused > 0, "{filled} filled");
}
