//! `rbox union convert`: marks of branches from one form to the other, refused, interrupted, gone on with.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use lab::tracer::{Fate, Tracer};

mod unions;
use unions::Union;

/// Branches with marks of every kind, written by a union of the form that `options` name.
fn marked(options: &str) -> Union {
    let union = Union::new(
        "mkdir -p b/d/sub b/e b/gone/deep b/x b/y; for n in 1 2 3; do echo $n > b/d/$n; echo $n > b/e/$n; done
         echo s > b/d/sub/s; echo x > b/x/x; echo y > b/y/y; echo f > b/f; echo g > b/gone/deep/g",
        options,
    );
    union.sh(
        "cd m; rm f d/1; rm -r gone; rm -r d/sub; rm -r e; mkdir e; echo new > e/new; rm -r x; echo file > x
         echo again > f; rm f; mkdir f; mv d/2 d/moved; mkdir deep deep/er; rm y/y; setfattr -n user.a -v b e",
    );
    union.sh("umount m");
    union
}

/// What a union of the branches shows, and what only time would tell apart.
fn view(union: &Union, form: &str) -> String {
    union.mount(&format!("dirs=a=rw:b=ro,whform={form}"));
    let seen = union.sh(
        "cd m; find . -mindepth 1 -printf '%P %y %m %l\n' | sort; find . -type f | sort | xargs cat
         getfattr -R -d -m - . 2> /dev/null; find . -mindepth 1 -printf '%P %T@\n' | sort",
    );
    union.sh("umount m");
    seen
}

/// The branch as it is on disk.
fn disk(union: &Union) -> String {
    union.sh("find a -printf '%p %y %m %n %s %T@ %l\n' | sort; getfattr -R -h -d -m - a")
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_marks_are_converted_there_and_back() {
    let union = marked("dirs=a=rw:b=ro");
    let before = view(&union, "aufs");
    let convert = |to: &str| union.rbox(&["convert", "--to", to, "a"]).run();
    let said = convert("overlay").success().text();
    let place = union.lab.directory().display();
    assert_eq!(
        said,
        format!("{place}/a: 5 whiteouts and 2 opaque directories are in the form overlay now")
    );
    assert_eq!(
        union.sh("find a -name '.wh.*'; getfattr -m converting a"),
        ""
    );
    assert_eq!(view(&union, "overlay"), before);
    union.sh("mkdir k; mount -t overlay none -o ro,lowerdir=a:b k");
    let kernel = union.sh("cd k; find . -mindepth 1 -printf '%P %y %m %l\n' | sort");
    assert!(before.starts_with(&kernel), "{before}\n{kernel}");
    union.sh("umount k");
    assert!(
        convert("overlay")
            .success()
            .text()
            .ends_with("a: no marks to convert")
    );
    // What an overlayfs left, and what it kept of others' names.
    union.sh("setfattr -n trusted.overlay.origin -v x a/e; setfattr -n trusted.overlay.overlay.opaque -v z a/e");
    convert("aufs").success();
    assert_eq!(
        view(&union, "aufs").replace("trusted.overlay.opaque=\"z\"\n", ""),
        before
    );
    assert_eq!(
        union.sh(
            "find a -type c; getfattr -R -m overlay a | grep overlay; find a -name '.wh.*' | wc -l"
        ),
        "trusted.overlay.opaque\n8"
    );
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_marks_are_not_converted_where_they_cannot_be() {
    let union = Union::new("umount m 2> /dev/null || :", "dirs=b=ro");
    let long = "n".repeat(252);
    for (to, prepare, why) in [
        (
            "aufs",
            "touch a/.wh.x",
            "\".wh.x\": its name would be a mark",
        ),
        (
            "aufs",
            &format!("mkdir a/d; mknod a/d/{long} c 0 0"),
            "the name is too long for a mark",
        ),
        (
            "aufs",
            "mkdir a/r; setfattr -n trusted.overlay.redirect -v /x a/r",
            "\"r\": its attribute trusted.overlay.redirect leads to another layer",
        ),
        (
            "aufs",
            "touch a/m; setfattr -n trusted.overlay.metacopy a/m",
            "trusted.overlay.metacopy leads to another",
        ),
        (
            "overlay",
            "mknod a/z c 0 0",
            "\"z\": it would be a whiteout",
        ),
        (
            "overlay",
            "mkdir a/o; setfattr -n trusted.overlay.opaque -v y a/o",
            "\"o\": its attribute trusted.overlay.opaque would be a mark",
        ),
        (
            "overlay",
            "mkdir -p a/.wh..wh.plnk; touch a/f; ln a/f a/.wh..wh.plnk/1.2",
            "auplink of those that aufs made",
        ),
        (
            "overlay",
            "mkdir -p a/d/.wh.dir",
            "\"d/.wh.dir\": it is a directory with the name of a mark",
        ),
        (
            "overlay",
            "touch a/.wh..wh.unheard",
            "it is no mark known here",
        ),
    ] {
        union.sh("rm -r a; mkdir a; echo kept > a/kept; touch a/.wh.hidden; mknod a/hid c 0 0");
        union.sh(if to == "aufs" {
            "rm a/.wh.hidden"
        } else {
            "rm a/hid"
        });
        union.sh(prepare);
        union.sh("mkdir -p w; rm -rf w/*");
        let before = disk(&union);
        let answer = union
            .rbox(&["convert", "--to", to, "a"])
            .run()
            .code(1)
            .says(why);
        assert_eq!(answer.errors().lines().count(), 1, "{why}");
        assert_eq!(disk(&union), before, "{why}");
    }
    union
        .rbox(&["convert", "a"])
        .run()
        .code(1)
        .says("--to aufs or --to overlay must be given");
    union
        .rbox(&["convert", "--to", "auto", "a"])
        .run()
        .code(1)
        .says("--to aufs or --to overlay");
    union
        .rbox(&["convert", "--to", "aufs", "nope"])
        .run()
        .code(1)
        .says("nope");
    // Of several, none is changed when one cannot be.
    union.sh("rm -r a; mkdir a; touch a/.wh.x c/.wh.x; mknod c/z c 0 0");
    let before = disk(&union);
    union
        .rbox(&["convert", "--to", "overlay", "a", "c"])
        .run()
        .code(1)
        .says("\"z\"");
    assert_eq!(disk(&union), before);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_marks_of_both_forms_become_those_of_one() {
    for to in ["overlay", "aufs"] {
        let union = marked("dirs=a=rw:b=ro,whform=overlay");
        union.mount("dirs=a=rw:b=ro,whform=auto");
        union.sh("cd m; rm -r y; mkdir y; rm d/moved d/3; mkdir d/sub; echo g > gone");
        let seen = "find m -printf '%P %y\n' | sort; cat m/gone";
        let before = union.sh(&format!("{seen}; umount m"));
        assert_eq!(
            union.sh("find a -type c | wc -l; find a -name '.wh.*' | wc -l"),
            "2\n4"
        );
        union.sh("mkdir -p a/.wh..wh.plnk");
        union.rbox(&["convert", "--to", to, "a"]).run().code(1);
        union
            .rbox(&["convert", "--both", "--to", to, "a"])
            .run()
            .success();
        union.sh("rm -rf a/.wh..wh.plnk");
        let other = if to == "aufs" {
            "-type c"
        } else {
            "-name '.wh.*'"
        };
        assert_eq!(union.sh(&format!("find a {other}")), "");
        union.mount(&format!("dirs=a=rw:b=ro,whform={to}"));
        assert_eq!(union.sh(&format!("{seen}; umount m")), before, "{to}");
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_marks_are_not_converted_while_they_are_used() {
    let union = Union::new("mkdir w k n; touch a/.wh.x; touch b/x", "dirs=a=rw:b=ro");
    let convert = |branch: &str| union.rbox(&["convert", "--to", "overlay", branch]).run();
    convert("a").code(1).says("it is in use in a union");
    convert("b").code(1).says("it is in use in a union");
    // One that only another mount namespace has, whose branch has another name there.
    union.sh("umount m");
    let script = "mount --bind a n; rbox union mount -o dirs=n=ro m; echo ready; read x; umount m";
    let mut holder = union.lab.command("unshare");
    holder = holder
        .args(["-m", "sh", "-ec", script])
        .directory(union.lab.directory());
    let mut holder = holder.spawn();
    holder.expect("ready");
    convert("a").code(1).says("it is in use in a union");
    holder.send("\n");
    holder.finish().success();
    for (layers, other) in [
        ("lowerdir=b,upperdir=a,workdir=w", "b"),
        ("lowerdir=a:b", "a"),
    ] {
        let place = union.lab.directory().display();
        let layers = layers
            .replace("=", &format!("={place}/"))
            .replace(":", &format!(":{place}/"));
        union.sh(&format!("mount -t overlay none -o {layers} k"));
        for branch in ["a", other] {
            convert(branch)
                .code(1)
                .says("/k uses it: unmount that first");
        }
        convert(".").code(1).says("/k uses it: unmount that first");
        union.sh("umount k");
    }
    let mut said = String::new();
    lab::eventually("the server is gone", || {
        let done = convert("a");
        said = done.text();
        done.status.success()
    });
    assert!(
        said.ends_with("1 whiteout and 0 opaque directories are in the form overlay now"),
        "{said}"
    );
}

/// Killed after any of its changes, a conversion is gone on with; meanwhile no union takes the branch.
#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_conversions_are_gone_on_with_after_a_kill() {
    for (from, to) in [("aufs", "overlay"), ("overlay", "aufs")] {
        let union = marked(&format!("dirs=a=rw:b=ro,whform={from}"));
        // The time of a directory is the conversion's where it was killed.
        let seen = |form: &str| {
            let view = view(&union, form);
            view.split_once("\n\n").map(|(view, _)| view.to_owned())
        };
        let wanted = seen(from);
        union.sh("cp -a a whole");
        let (mut calls, mut interrupted) = (0, 0);
        loop {
            calls += 1;
            union.sh("rm -r a; cp -a whole a");
            let script = format!("read x; exec rbox union convert --to {to} a");
            let convert = union.lab.command("sh").args(["-c", &script]);
            let mut convert = convert.directory(union.lab.directory()).spawn();
            let tracer = Tracer::attach(convert.pid(), Fate::DiesAfter(calls));
            convert.send("\n");
            tracer.end();
            let ended = convert.finish();
            if ended.signal().is_none() {
                ended.success();
                break;
            }
            if union.sh("getfattr -m converting a | wc -l") != "0" {
                interrupted += 1;
                let mount = format!("dirs=a=rw:b=ro,whform={to}");
                let refused = union.rbox(&["mount", "-o", &mount, "m"]).run().code(1);
                refused.says("was interrupted: rbox union convert --to");
                let back = union.rbox(&["convert", "--to", from, "a"]).run().code(1);
                back.says("run that to its end first");
            }
            let again = union.rbox(&["convert", "--to", to, "a"]).run();
            again.success();
            assert_eq!(seen(to), wanted, "{to}: killed after call {calls}");
        }
        assert_eq!(seen(to), wanted, "{to}");
        assert!(interrupted > 15, "{to}: {interrupted} of {calls} calls");
    }
}
