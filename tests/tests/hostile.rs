//! Hostile archives: each is refused or held inside; nothing outside changes, nothing is kept.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use lab::archive::{Files, Packing, Tar, docker, oci};
use lab::{Lab, fixture};

/// An archive, what is wrong with it, and whether it may be taken in at all.
struct Hostile {
    what: &'static str,
    bytes: Vec<u8>,
    acceptable: bool,
}

const REFUSED: bool = false;
const HELD: bool = true;

const NAME: &str = "evil:one";

fn base() -> Vec<u8> {
    std::fs::read(fixture::busybox_tar()).unwrap()
}

/// An image whose upper layers are these.
fn image(layers: &[Tar]) -> Vec<u8> {
    let mut all = vec![base()];
    all.extend(layers.iter().map(|layer| layer.clone().bytes()));
    docker(&all, NAME, &["sh"]).tar()
}

/// An image of one layer whose manifest was changed.
fn manifest(change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    docker(&[base()], NAME, &["sh"])
        .change("manifest.json", change)
        .tar()
}

fn manifest_names(layer: &str) -> Vec<u8> {
    manifest(|bytes| {
        let mut manifest: serde_json::Value = serde_json::from_slice(bytes).unwrap();
        manifest[0]["Layers"][0] = layer.into();
        *bytes = manifest.to_string().into_bytes();
    })
}

fn good() -> Files {
    oci(
        &[base(), Tar::new().file("x", "y").bytes()],
        Packing::Gzip,
        NAME,
        &["sh"],
    )
}

fn flip(bytes: &mut [u8]) {
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
}

/// Archives that are damaged or lie about what they hold.
fn false_archives() -> Vec<Hostile> {
    let whole = good().tar();
    let second_layer = good().0[1].0.clone();
    let index = good().change("index.json", |bytes| {
        let text = String::from_utf8(bytes.clone()).unwrap();
        *bytes = text.replacen("\"sha256:", "\"sha256:00", 1).into_bytes();
    });
    let of = |what, bytes| Hostile {
        what,
        bytes,
        acceptable: REFUSED,
    };
    vec![
        of("not an archive", b"this is no archive".to_vec()),
        of("nothing", Vec::new()),
        of("cut off", whole[..whole.len() / 2].to_vec()),
        of(
            "a layer that is not what its digest says",
            good().change(&second_layer, |bytes| flip(bytes)).tar(),
        ),
        of("an index that names nothing", index.tar()),
        of(
            "a layer that is not what the config says",
            docker(&[base()], NAME, &["sh"])
                .change("layer.tar", |bytes| flip(bytes))
                .tar(),
        ),
        of(
            "a layer outside of the archive",
            manifest_names("../../../etc/passwd"),
        ),
        of("an absolute layer", manifest_names("/etc/passwd")),
        of(
            "a document that never ends",
            manifest(|bytes| *bytes = "[".repeat(1_000_000).into_bytes()),
        ),
        of(
            "an empty manifest",
            manifest(|bytes| *bytes = b"[]".to_vec()),
        ),
    ]
}

/// Archives whose layers reach for `/srv`, where the lab has its canary.
fn reaching_archives() -> Vec<Hostile> {
    let up = "../../../../../../../../srv";
    let held = |what, layer: Tar| Hostile {
        what,
        bytes: image(&[layer]),
        acceptable: HELD,
    };
    let refused = |what, layer: Tar| Hostile {
        what,
        bytes: image(&[layer]),
        acceptable: REFUSED,
    };
    let link = || Tar::new().symlink("link", "/srv");
    vec![
        refused(
            "a name that climbs",
            Tar::new().file(&format!("{up}/climbed"), "x"),
        ),
        refused(
            "a name that climbs inside",
            Tar::new().file(&format!("a/{up}/climbed"), "x"),
        ),
        held("an absolute name", Tar::new().file("/srv/absolute", "x")),
        held("through an absolute link", link().file("link/through", "x")),
        held(
            "through a climbing link",
            Tar::new().symlink("link", up).file("link/through", "x"),
        ),
        Hostile {
            what: "through a link of an earlier layer",
            bytes: image(&[link(), Tar::new().file("link/through", "x")]),
            acceptable: HELD,
        },
        held(
            "through links in a circle",
            Tar::new()
                .symlink("a", "b")
                .symlink("b", "a")
                .file("a/x", "x"),
        ),
        refused(
            "a hard link out",
            Tar::new().hardlink("stolen", &format!("{up}/secret")),
        ),
        refused(
            "an absolute hard link",
            Tar::new().hardlink("stolen", "/srv/secret"),
        ),
        refused(
            "a hard link through a link",
            link().hardlink("stolen", "link/secret"),
        ),
        refused("a whiteout of the parent", Tar::new().file("d/.wh...", "")),
        refused("a whiteout of nothing", Tar::new().file("d/.wh.", "")),
        held(
            "a whiteout through a link",
            link().file("link/.wh.secret", ""),
        ),
        held(
            "an opaque mark through a link",
            link().file("link/.wh..wh..opq", ""),
        ),
        held("a device", Tar::new().entry(b'3', "device", 0o666, "", b"")),
        held(
            "the same name many times",
            Tar::new()
                .file("x", "1")
                .symlink("x", "/srv")
                .file("x", "2"),
        ),
        held(
            "the root replaced",
            Tar::new().symlink("./", "/srv").file("through", "x"),
        ),
    ]
}

/// Loads an archive; nothing outside may change, and what was taken in must be harmless.
fn load(lab: &Lab, hostile: &Hostile) {
    let what = hostile.what;
    let outside = || lab.sh("ls -laR --time-style=full-iso /srv; cat /srv/secret");
    let store = || {
        lab.sh("find /var/lib/rbox -path '*/layers/*' -o -path '*/images/*' 2>/dev/null | grep -v lock | sort | head -n 50")
    };
    let (before, kept) = (outside(), store());
    let output = lab.rbox(["load"]).input(hostile.bytes.clone()).run();
    assert_eq!(outside(), before, "{what}: something outside has changed");
    if output.status.success() {
        assert!(hostile.acceptable, "{what}: was taken in");
        let script = "cat /stolen /srv/secret 2> /dev/null; ls /";
        let shown = lab
            .rbox(["run", "--rm", "--network", "none", NAME, "sh", "-c", script])
            .run();
        assert!(
            !shown.text().contains("secret"),
            "{what}: the host's file can be read inside"
        );
        lab.rbox(["rmi", NAME]).run().success();
    } else {
        let errors = output.errors();
        assert_eq!(output.status.code(), Some(1), "{what}: {errors}");
        let first = errors.lines().next().unwrap_or_default();
        assert!(
            first.len() > 10 && !errors.contains("panicked"),
            "{what}: {errors}"
        );
    }
    assert_eq!(store(), kept, "{what}: the store has kept something");
    assert_eq!(
        lab.rbox(["images", "-aq"]).run().success().text(),
        "",
        "{what}"
    );
}

/// A lab with a canary at `/srv`, and an engine that has its directories already.
fn lab_with_canary() -> Lab {
    let lab = Lab::new();
    lab.sh("mount -t tmpfs canary /srv; echo secret > /srv/secret");
    fixture::busybox(&lab);
    lab.rbox(["rmi", "busybox"]).run().success();
    lab
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_hostile_archives_that_lie() {
    let lab = lab_with_canary();
    for hostile in false_archives() {
        load(&lab, &hostile);
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_hostile_archives_that_reach_out() {
    let lab = lab_with_canary();
    for hostile in reaching_archives() {
        load(&lab, &hostile);
    }
}
