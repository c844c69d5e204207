//! Containers with unions whose marks are overlayfs's: mounts, volumes, roots and what is made of them.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use lab::{Lab, eventually};

/// A lab with an upper and a lower branch.
fn branches() -> Lab {
    let lab = Lab::with_busybox();
    lab.sh(
        "mkdir -p /run/b/top /run/b/low/etc /run/b/low/dir; cd /run/b/low; echo low > etc/motd
         echo one > one; echo two > two; echo three > dir/three; chmod 700 dir",
    );
    lab
}

/// Waits for unions to go, and says what their marks are: devices with their names, and those of aufs.
fn marks(lab: &Lab) -> String {
    eventually("the union has gone", || {
        lab.sh("grep -c rbox-union /proc/self/mounts || :") == "0"
    });
    lab.sh("cd /run/b/top; find . -type c -printf '%P\n' | sort; find . -name '.wh.*'")
}

const CHANGES: &str = "cd /data; rm one; rm -r dir; mkdir dir; echo new > dir/new; mv two moved; echo x > .wh.x; cat moved";

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_mounts_and_volumes_have_overlayfs_marks() {
    let lab = branches();
    for (prepare, words) in [
        (
            "",
            &["-v", "/run/b/top=rw:/run/b/low=ro:/data:whform=overlay"][..],
        ),
        (
            "",
            &[
                "--mount",
                "type=union,dirs=/run/b/top=rw:/run/b/low=ro,whform=overlay,dst=/data",
            ],
        ),
        (
            "rbox volume create -d union -o dirs=/run/b/top=rw:/run/b/low=ro -o whform=overlay data",
            &["-v", "data:/data"],
        ),
        (
            "",
            &[
                "--mount",
                "type=volume,src=named,dst=/data,volume-driver=union,\
                 \"volume-opt=dirs=/run/b/top=rw:/run/b/low=ro\",volume-opt=whform=overlay",
            ],
        ),
    ] {
        lab.sh(prepare);
        lab.sh("rm -rf /run/b/top; mkdir /run/b/top");
        let run = lab.rbox(["run", "--rm"]).args(words);
        let output = run.args(["busybox", "sh", "-ec", CHANGES]).run().success();
        assert_eq!(output.text(), "two", "{words:?}");
        assert_eq!(marks(&lab), "one\ntwo\n./.wh.x", "{words:?}");
        let kernel = lab.sh(
            "cd /run/b; mkdir -p k; mount -t overlay none -o ro,lowerdir=top:low k; find k -printf '%P %y %m\n' | sort; umount k",
        );
        assert_eq!(
            kernel,
            " d 755\n.wh.x f 644\ndir d 755\ndir/new f 644\netc d 755\netc/motd f 644\nmoved f 644",
            "{words:?}"
        );
    }
    assert_eq!(
        lab.rbox(["volume", "inspect", "data"]).run().json()[0]["Options"]["whform"],
        "overlay"
    );
    lab.rbox([
        "run",
        "--rm",
        "-v",
        "/run/b/top=rw:/run/b/low=ro:/data:whform=other",
    ])
    .args(["busybox", "true"])
    .run()
    .code(125)
    .says("aufs, overlay or auto must follow");
}

/// A root's changes make the same image whatever the form of its marks.
#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_roots_with_overlayfs_marks_are_committed() {
    let lab = branches();
    let mut found = Vec::new();
    for form in ["aufs", "overlay"] {
        let root = format!("/run/b/{form}=rw:/run/b/low=ro,whform={form}");
        lab.sh(&format!("mkdir /run/b/{form}"));
        lab.rbox(["run", "--name", form, "--rootfs-union", &root])
            .args(["busybox", "sh", "-ec"])
            .arg("rm /one /etc/passwd; rm -r /home /dir; mkdir /dir; echo in > /dir/in; mv /two /moved; echo x > /etc/motd")
            .run()
            .success();
        lab.sh(&format!("rbox commit {form} made-{form}"));
        found.push(lab.sh(&format!(
            "rbox diff {form} | sort; rbox export {form} | tar t | sort
             rbox run --rm made-{form} sh -c 'find / -xdev ! -path \"/proc*\" ! -path \"/dev*\" ! -path \"/etc/host*\" | sort; cat /dir/in /moved /etc/motd'"
        )));
    }
    assert_eq!(found[0], found[1]);
    assert!(!found[0].contains(".wh."), "{}", found[0]);
    assert!(found[0].contains("D /home\n"), "{}", found[0]);
    assert_eq!(
        lab.sh("cd /run/b/overlay; find . -type c -printf '%P\n' | sort; find . -name '.wh.*'; getfattr --only-values -n trusted.overlay.opaque dir"),
        "etc/passwd\nhome\none\ntwo\ny"
    );
    // What an image has comes from an archive, and goes into one, without marks of either form.
    lab.sh("rbox export overlay | rbox import - whole");
    assert_eq!(
        lab.sh("rbox run --rm whole sh -c 'cat /moved; ls -d /home /one 2> /dev/null || :'"),
        "two"
    );
    // A name that a layer takes for a mark is none that can be committed; it can be exported.
    lab.sh("rbox start -a overlay > /dev/null 2>&1 || :; echo mine > /run/b/overlay/.wh.mine");
    lab.rbox(["commit", "overlay"])
        .run()
        .code(1)
        .says("\".wh.mine\" cannot be in a layer");
    assert_eq!(lab.sh("rbox export overlay | tar x -O .wh.mine"), "mine");
}
