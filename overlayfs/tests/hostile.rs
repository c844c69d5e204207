//! Archives that no honest tool makes: nothing outside changes, and nothing is left.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod support;

use std::io::{self, Read};

use overlayfs::store::Expected;
use overlayfs::{DiffId, Digest, StoreError};
use support::stage::Stage;
use support::{Tar, picture, same_pictures, shell, with_own_mounts};

/// Archives that try to get out, and what is said of them; empty where they are held inside.
#[allow(clippy::too_many_lines, reason = "a table")]
fn hostile(outside: &str) -> Vec<(Tar, String)> {
    let tar = Tar::new;
    let up = "../../../../../../../../../..";
    let out =
        |name: &str| format!("the archive holds {name:?}, which would lie outside of its root");
    let bad = |name: &str| format!("the archive holds {name:?}, which is no name for a file");
    let held = String::new;
    let secret = &outside[1..];
    vec![
        (tar().file("../x", "evil"), out("../x")),
        (tar().file("a/../../x", "evil"), out("a/../../x")),
        (tar().directory(".."), out("..")),
        (
            tar().file(&format!("{up}{outside}/kept"), "evil"),
            out(&format!("{up}{outside}/kept")),
        ),
        (tar().file(&format!("{outside}/kept"), "evil"), held()),
        (
            tar().symlink("l", outside).file("l/kept", "evil"),
            "cannot unpack \"l/kept\"".to_owned(),
        ),
        (
            tar()
                .directory(secret)
                .symlink("l", outside)
                .file("l/kept", "evil"),
            held(),
        ),
        (
            tar()
                .symlink("l", &format!("{up}{outside}"))
                .file("l/kept", "evil"),
            "cannot unpack \"l/kept\"".to_owned(),
        ),
        (
            tar()
                .symlink("kept", &format!("{outside}/kept"))
                .file("kept", "evil"),
            held(),
        ),
        (tar().symlink("l", outside).directory("l"), held()),
        (
            tar().symlink("l", "l").file("l/x", "evil"),
            "cannot unpack \"l/x\"".to_owned(),
        ),
        (
            tar().symlink("a", "b").symlink("b", "a").file("a/x", ""),
            "cannot unpack \"a/x\"".to_owned(),
        ),
        (
            tar().link("h", &format!("{up}{outside}/kept")),
            out(&format!("{up}{outside}/kept")),
        ),
        (
            tar().link("h", &format!("{outside}/kept")),
            format!(
                "the archive links \"h\" to {:?}, which does not exist",
                format!("{secret}/kept")
            ),
        ),
        (
            tar().symlink("l", outside).link("h", "l/kept"),
            "the archive links \"h\" to \"l/kept\", which does not exist".to_owned(),
        ),
        (
            tar().directory("d").link("h", "d"),
            "the archive links \"h\" to \"d\", which does not exist".to_owned(),
        ),
        (
            tar().link("h", "."),
            "the archive links \"h\" to \"\", which does not exist".to_owned(),
        ),
        (tar().file(".wh...", ""), bad(".wh...")),
        (tar().file(".wh..", ""), bad(".wh..")),
        (tar().file(".wh.", ""), bad(".wh.")),
        (tar().file("a/.wh.b/c", ""), bad("a/.wh.b/c")),
        (tar().file("../.wh.kept", ""), out("../.wh.kept")),
        (tar().symlink("l", outside).file("l/.wh.kept", ""), held()),
        (
            tar().symlink("l", outside).file("l/.wh..wh..opq", ""),
            "cannot unpack".to_owned(),
        ),
        (tar().file(&"x".repeat(256), ""), "cannot unpack".to_owned()),
        (
            tar().file(&"x/".repeat(3000), ""),
            "cannot unpack".to_owned(),
        ),
        (tar().file(".", "evil"), "cannot unpack".to_owned()),
        (
            tar().symlink("empty", ""),
            "cannot unpack \"empty\"".to_owned(),
        ),
    ]
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_hostile_archives_change_nothing_outside() {
    let outside = tempfile::tempdir().unwrap();
    shell(
        outside.path(),
        "echo precious > kept; chmod 600 kept; mkdir d; ln -s kept link",
    );
    let before = picture(outside.path());
    for (archive, message) in hostile(outside.path().to_str().unwrap()) {
        let stage = Stage::new();
        let archive = archive.bytes();
        match stage.store.unpack(&archive[..], &Expected::default()) {
            Ok(_) => assert_eq!(message, "", "was not refused"),
            Err(error) => {
                assert!(!message.is_empty(), "should have been held inside: {error}");
                assert!(
                    error.to_string().starts_with(&message),
                    "{error}\n{message}"
                );
                assert!(!error.to_string().contains('\n'));
                assert_eq!(stage.store.layers().unwrap(), []);
            }
        }
        same_pictures(&before, &picture(outside.path()));
        stage.is_clean();
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_damaged_archives_leave_nothing() {
    let stage = Stage::new();
    let archive = Tar::new()
        .directory("d")
        .file("d/f", &"x".repeat(2000))
        .bytes();
    let gzip = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        io::Write::write_all(&mut encoder, &archive).unwrap();
        encoder.finish().unwrap()
    };
    let zstd = zstd::encode_all(&archive[..], 3).unwrap();
    for cut in [1, 300, 511, 513, 900, 1200, 2000, 3000] {
        stage.refuse(&archive[..cut]);
        stage.is_clean();
    }
    for packed in [&gzip, &zstd] {
        for cut in (1..packed.len() - 1).step_by(7) {
            stage.refuse(&packed[..cut]);
        }
        stage.is_clean();
    }
    for (archive, message) in [
        (
            &b"this is no archive at all"[..],
            "not a tar archive: no header at byte 0",
        ),
        (&[7; 4096], "not a tar archive: no header at byte 0"),
        (b"", "not a tar archive: no header at byte 0"),
        (b"\xfd7zXZ\0 and so on", "cannot read the archive"),
        (b"BZh91AY&SY and so on", "cannot read the archive"),
    ] {
        let text = stage.refuse(archive);
        assert!(text.starts_with(message), "{text}");
    }
    // The stream fails at every point of its length in turn.
    for good in (0..archive.len()).step_by(512) {
        let failing = archive[..good].chain(Failing);
        let text = stage.refuse(failing);
        assert!(text.ends_with("the disk is on fire"), "{text}");
    }
    let wrong = Expected {
        diff_id: Some(DiffId(Digest::of(b"another"))),
        ..Expected::default()
    };
    let error = stage.store.unpack(&archive[..], &wrong).unwrap_err();
    assert!(matches!(error, StoreError::WrongDigest { .. }), "{error}");
    let wrong = Expected {
        stored: Some(Digest::of(b"another")),
        ..Expected::default()
    };
    let error = stage.store.unpack(&gzip[..], &wrong).unwrap_err();
    assert!(matches!(error, StoreError::WrongDigest { .. }), "{error}");
    assert_eq!(stage.store.layers().unwrap(), []);
    stage.is_clean();
}

struct Failing;

impl Read for Failing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("the disk is on fire"))
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_a_bomb_is_refused_before_the_disk_is_full() {
    let stage = Stage::new();
    // 2^60 bytes are announced; nothing of them needs to come.
    let mut bomb = Tar::new().file("small", "x").bytes();
    bomb.truncate(1024);
    let mut header = tar::Header::new_gnu();
    header.set_size(1 << 60);
    header.set_mode(0o644);
    header.set_entry_type(tar::EntryType::Regular);
    header.as_old_mut().name[0] = b'b';
    header.set_cksum();
    bomb.extend_from_slice(header.as_bytes());
    let text = stage.refuse(bomb.chain(io::repeat(0)));
    assert!(
        text.starts_with("no space left for \"b\": it needs 1152921504606846976 bytes and "),
        "{text}"
    );
    stage.is_clean();
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_a_full_disk_is_said_and_cleaned() {
    with_own_mounts("privileged_a_full_disk_is_said_and_cleaned", || {
        let stage = Stage::new();
        shell(
            stage.path(),
            "mkdir layers; mount -t tmpfs -o size=4m,nr_inodes=300 none layers",
        );
        let small = stage.unpack(&Tar::new().file("a", "x").bytes(), &[]);
        let large = Tar::new().file("a", &"x".repeat(5 << 20)).bytes();
        let text = stage.refuse(&large[..]);
        assert!(text.starts_with("no space left for \"a\""), "{text}");
        stage.is_clean();
        let mut many = Tar::new();
        for n in 0..400 {
            many = many.file(&format!("f{n}"), "");
        }
        let text = stage.refuse(&many.bytes()[..]);
        assert!(text.contains("No space left on device"), "{text}");
        stage.is_clean();
        assert_eq!(stage.store.layers().unwrap(), [small.id]);
    });
}
