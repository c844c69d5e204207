//! Images: brought in from every kind of archive, listed, named, run, removed.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::path::Path;

use lab::archive::{Packing, Tar, docker, oci, pack};
use lab::{Lab, eventually, fixture};

/// Two layers: busybox, and one that changes, hides and adds files.
fn layers() -> Vec<Vec<u8>> {
    let base = std::fs::read(fixture::busybox_tar()).unwrap();
    let more = Tar::new()
        .directory("opt/")
        .file("opt/kept", "kept\n")
        .file("opt/hidden", "hidden\n")
        .directory("data/")
        .file("data/old", "old\n")
        .bytes();
    let top = Tar::new()
        .directory("opt/")
        .file("opt/.wh.hidden", "")
        .directory("data/")
        .file("data/.wh..wh..opq", "")
        .file("data/new", "new\n")
        .program("bin/hello", "#!/bin/sh\necho hello $FROM\n")
        .hardlink("bin/again", "bin/hello")
        .symlink("bin/third", "hello")
        .bytes();
    vec![base, more, top]
}

#[track_caller]
fn works(lab: &Lab, image: &str) {
    let output = lab
        .rbox(["run", "--rm", "--network", "none", image])
        .run()
        .success();
    assert_eq!(output.text(), "hello archive");
    let output = lab
        .rbox([
            "run",
            "--rm",
            "--network",
            "none",
            image,
            "sh",
            "-c",
            "ls /opt /data; /bin/again; /bin/third; stat -c %h /bin/hello",
        ])
        .run()
        .success();
    assert_eq!(
        output.text(),
        "/data:\nnew\n\n/opt:\nkept\nhello archive\nhello archive\n2"
    );
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_images_load_every_kind_of_archive() {
    let lab = Lab::new();
    let layers = layers();
    let command = ["/bin/hello"];
    let archives = [
        ("docker", docker(&layers, "docker:one", &command).tar()),
        (
            "plain",
            oci(&layers, Packing::Plain, "plain:one", &command).tar(),
        ),
        (
            "gzip",
            oci(&layers, Packing::Gzip, "gzip:one", &command).tar(),
        ),
        (
            "zstd",
            oci(&layers, Packing::Zstd, "zstd:one", &command).tar(),
        ),
    ];
    for (name, archive) in &archives {
        let path = lab.file(&format!("{name}.tar"), archive);
        let output = lab.rbox(["load", "-i", &path]).run().success();
        assert_eq!(output.text(), format!("Loaded image: {name}:one"));
        works(&lab, &format!("{name}:one"));
    }
    // From standard input, packed as a whole, and from a directory.
    lab.rbox(["rmi", "docker:one"]).run().success();
    let packed = pack(&archives[0].1, Packing::Gzip);
    assert_eq!(
        lab.rbox(["load"]).input(packed).run().success().text(),
        "Loaded image: docker:one"
    );
    works(&lab, "docker:one");
    oci(&layers, Packing::Gzip, "layout:one", &command).write(&lab.directory().join("layout"));
    let path = lab.directory().join("layout").display().to_string();
    assert_eq!(
        lab.rbox(["load", "-i", &path]).run().success().text(),
        "Loaded image: layout:one"
    );
    works(&lab, "layout:one");
    // The same layers, whatever they were packed in, lie on the disk once.
    let count = lab.sh(
        "ls -d /var/lib/rbox/layers/*/ | wc -l; find /var/lib/rbox -name hello -type f | wc -l",
    );
    assert!(count.ends_with("\n1"), "layers are not shared: {count}");
    let ids = lab
        .rbox(["images", "-q", "--no-trunc"])
        .run()
        .success()
        .lines();
    assert!(
        ids.iter().all(|id| *id == ids[0]),
        "one image, several ids: {ids:?}"
    );
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_images_made_by_other_programs() {
    let lab = Lab::new();
    oci(&layers(), Packing::Gzip, "one", &["/bin/hello"]).write(&lab.directory().join("layout"));
    lab.sh("skopeo --insecure-policy copy -q oci:layout:one docker-archive:skopeo.tar:by/skopeo:two
            skopeo --insecure-policy copy -q oci:layout:one oci-archive:skopeo-oci.tar:by/skopeo-oci:two");
    assert_eq!(
        lab.rbox(["load", "-i", "skopeo.tar"])
            .run()
            .success()
            .text(),
        "Loaded image: by/skopeo:two"
    );
    works(&lab, "by/skopeo:two");
    lab.rbox(["load", "-i", "skopeo-oci.tar"]).run().success();
    works(&lab, "by/skopeo-oci:two");
    let busybox = fixture::busybox_tar().display().to_string();
    lab.sh(&format!(
        "umoci init --layout made && umoci new --image made:by-umoci
         umoci unpack --image made:by-umoci bundle > /dev/null
         tar -C bundle/rootfs -xf {busybox}"
    ));
    lab.sh("echo from umoci > bundle/rootfs/etc/motd
            umoci repack --image made:by-umoci bundle
            umoci config --image made:by-umoci --config.cmd cat --config.cmd /etc/motd --config.env A=b
            tar -C made -cf umoci.tar .");
    // umoci gives it a tag but no name: it is known by its id.
    let loaded = lab.rbox(["load", "-i", "umoci.tar"]).run().success().text();
    let name = loaded.split(' ').next_back().unwrap();
    let output = lab
        .rbox(["run", "--rm", "--network", "none", name])
        .run()
        .success();
    assert_eq!(output.text(), "from umoci");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_images_import() {
    let lab = Lab::new();
    let archive = fixture::busybox_tar();
    let archive = archive.to_str().unwrap();
    let id = lab
        .rbox([
            "import",
            "-c",
            "CMD [\"echo\", \"as told\"]",
            "-c",
            "ENV K=v",
            "-c",
            "EXPOSE 80/tcp 53/udp",
        ])
        .args([
            "-c",
            "LABEL a=b",
            "-c",
            "USER user",
            "-c",
            "WORKDIR /tmp",
            "-m",
            "a message",
            archive,
            "made:one",
        ])
        .run()
        .success()
        .text();
    assert!(id.starts_with("sha256:") && id.len() == 71, "{id}");
    assert_eq!(
        lab.rbox(["run", "--rm", "made:one"]).run().success().text(),
        "as told"
    );
    assert_eq!(
        lab.rbox([
            "run",
            "--rm",
            "made:one",
            "sh",
            "-c",
            "echo $K $(pwd) $(id -un)"
        ])
        .run()
        .success()
        .text(),
        "v /tmp user"
    );
    let image = &lab
        .rbox(["image", "inspect", "made:one"])
        .run()
        .success()
        .json()[0];
    assert_eq!(image["Id"], id.as_str());
    assert_eq!(image["Comment"], "a message");
    assert_eq!(
        image["Config"]["ExposedPorts"],
        serde_json::json!({"53/udp": {}, "80/tcp": {}})
    );
    assert_eq!(image["Config"]["Labels"]["a"], "b");
    assert_eq!(image["RootFS"]["Layers"].as_array().unwrap().len(), 1);
    assert_eq!(image["RepoTags"], serde_json::json!(["made:one"]));
    let history = lab.rbox(["history", "made:one"]).run().success().lines();
    assert!(
        history[0].starts_with("IMAGE          CREATED"),
        "{history:?}"
    );
    assert!(history[1].ends_with("a message"), "{history:?}");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_images_import_from_a_pipe() {
    let lab = Lab::new();
    let archive = fixture::busybox_tar();
    let archive = archive.to_str().unwrap();
    let packed = pack(&std::fs::read(archive).unwrap(), Packing::Zstd);
    let id = lab
        .rbox(["import", "-"])
        .input(packed)
        .run()
        .success()
        .text();
    let output = lab.rbox(["run", "--rm", &id[7..19], "echo", "x"]).run();
    assert_eq!(output.success().text(), "x");
    lab.rbox(["import", "-c", "RUN true", archive])
        .run()
        .code(1)
        .says("run is not a valid change command");
    lab.rbox(["import", "/no/such.tar"])
        .run()
        .code(1)
        .says("/no/such.tar");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_images_are_listed_named_and_removed() {
    let lab = Lab::with_busybox();
    let id = lab
        .rbox(["images", "-q", "--no-trunc"])
        .run()
        .success()
        .text();
    let list = lab.rbox(["images"]).run().success().lines();
    assert!(
        list[0].starts_with("REPOSITORY   TAG       IMAGE ID       CREATED"),
        "{list:?}"
    );
    assert!(
        list[1].starts_with(&format!("busybox      latest    {}", &id[7..19])),
        "{list:?}"
    );
    lab.rbox(["tag", "busybox", "other/name:v1"])
        .run()
        .success();
    lab.rbox(["tag", &id[7..19], "localhost:5000/third"])
        .run()
        .success();
    lab.rbox(["tag", "nope", "x"])
        .run()
        .code(1)
        .says("No such image: nope:latest");
    lab.rbox(["tag", "busybox", "Upper"])
        .run()
        .code(1)
        .says("must be lowercase");
    let names = lab
        .rbox(["images", "--format", "{{.Repository}}:{{.Tag}}"])
        .run()
        .success()
        .lines();
    for name in [
        "busybox:latest",
        "other/name:v1",
        "localhost:5000/third:latest",
    ] {
        assert!(
            names.iter().any(|one| one == name),
            "{name} not in {names:?}"
        );
    }
    assert_eq!(
        lab.rbox(["images", "-q", "other/name"])
            .run()
            .success()
            .text(),
        id[7..19]
    );
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_images_in_use_stay() {
    let lab = Lab::with_busybox();
    let id = lab
        .rbox(["images", "-q", "--no-trunc"])
        .run()
        .success()
        .text();
    lab.rbox(["tag", "busybox", "other/name:v1"])
        .run()
        .success();
    lab.rbox(["tag", "busybox", "localhost:5000/third"])
        .run()
        .success();
    lab.rbox(["create", "--name", "uses", "busybox", "true"])
        .run()
        .success();
    assert_eq!(
        lab.rbox(["rmi", "other/name:v1"]).run().success().text(),
        "Untagged: other/name:v1"
    );
    lab.rbox(["rmi", "localhost:5000/third"]).run().success();
    lab.rbox(["rmi", "busybox"]).run().code(1).says(
        "conflict: unable to remove repository reference \"busybox\" (must force) - container ",
    );
    assert_eq!(
        lab.rbox(["ps", "-a", "--format", "{{.Image}}"])
            .run()
            .success()
            .text(),
        "busybox"
    );
    lab.rbox(["rm", "uses"]).run().success();
    let output = lab.rbox(["rmi", "busybox"]).run().success().lines();
    assert_eq!(output[0], "Untagged: busybox:latest");
    assert_eq!(output[1], format!("Deleted: {id}"));
    lab.rbox(["rmi", "busybox"])
        .run()
        .code(1)
        .says("No such image: busybox:latest");
    lab.rbox(["image", "inspect", "busybox"])
        .run()
        .code(1)
        .says("No such image: busybox");
    let files =
        lab.sh("find /var/lib/rbox/layers /var/lib/rbox/images -type f ! -name '*lock' | wc -l");
    assert_eq!(files, "0", "a removed image leaves files");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_images_survive_a_full_disk_and_a_bomb() {
    let lab = Lab::new();
    lab.sh("mkdir /var/lib/rbox; mount -t tmpfs -o size=24m small /var/lib/rbox");
    fixture::busybox(&lab);
    let store = || lab.sh("find /var/lib/rbox -type f ! -name '*lock' | sort");
    let before = store();
    // A thousand to one: what is small outside and large inside.
    let bomb = pack(
        &Tar::new().file("big", vec![0; 200_000_000]).bytes(),
        Packing::Gzip,
    );
    let bomb = lab.file("bomb.tar.gz", bomb);
    lab.rbox(["import", &bomb, "bomb"])
        .run()
        .code(1)
        .says("o space left");
    assert_eq!(store(), before, "a failed import leaves files");
    let noise: Vec<u8> = (0..40_000_000_u32)
        .map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let archive = docker(
        &[Tar::new().file("noise", noise).bytes()],
        "noise:one",
        &["x"],
    )
    .tar();
    lab.rbox(["load"])
        .input(archive)
        .run()
        .code(1)
        .says("o space left");
    assert_eq!(store(), before, "a failed load leaves files");
    // The engine works on, also for containers that fill the disk themselves.
    let output = lab
        .rbox([
            "run",
            "--rm",
            "busybox",
            "sh",
            "-c",
            "cat /dev/zero > /file || echo full",
        ])
        .run();
    assert_eq!(output.success().text(), "full");
    // What is thrown away may take a moment to go.
    eventually("the container's files are gone", || store() == before);
    lab.sh("head -c 30m /dev/zero > /var/lib/rbox/ballast || :");
    let output = lab.rbox(["run", "--rm", "busybox", "true"]).run().code(125);
    assert!(
        output.errors().contains("o space left"),
        "{}",
        output.errors()
    );
    lab.sh("rm /var/lib/rbox/ballast");
    lab.rbox(["run", "--rm", "busybox", "true"]).run().success();
    eventually("the last container's files are gone", || store() == before);
    assert!(Path::new(&bomb).exists());
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_images_go_while_containers_come() {
    let lab = Lab::with_busybox();
    lab.sh(
        "rbox save -o /run/image.tar busybox
        round=0
        while [ $round -lt 25 ]; do
            rbox load -qi /run/image.tar > /run/loaded
            for one in 1 2 3; do
                rbox create --name c$one busybox true > /run/made$one 2> /run/why$one && echo yes > /run/ok$one &
            done
            rbox rmi busybox > /run/removed 2>&1 || :
            wait
            for one in 1 2 3; do
                if [ -e /run/ok$one ]; then
                    rbox start -a c$one
                    rbox rm c$one > /run/gone
                elif ! grep -q 'find image .busybox' /run/why$one; then
                    cat /run/why$one; exit 1
                fi
                rm -f /run/ok$one
            done
            rbox rmi busybox > /run/removed 2>&1 || :
            round=$((round + 1))
        done",
    );
    assert_eq!(lab.rbox(["ps", "-aq"]).run().success().text(), "");
}
