//! Images that tests use: made on the spot from what the machine has, never fetched.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::lab::Lab;

/// Makes the root file system of a small image out of the machine's static busybox: its commands
/// under `/bin`, users `root` and `user` (1000), a home, `/etc` and `/tmp`.
///
/// # Panics
/// When there is no static busybox.
pub fn busybox_tree(directory: &Path) {
    let script = r#"
set -eu
mkdir -p "$1"
command -v busybox > /dev/null || { echo "busybox is missing: apt-get install busybox-static" >&2; exit 1; }
mkdir -p "$1"/bin "$1"/etc "$1"/tmp "$1"/root "$1"/home/user "$1"/dev "$1"/proc "$1"/sys "$1"/usr "$1"/var/empty
cp "$(command -v busybox)" "$1/bin/busybox"
for name in $("$1/bin/busybox" --list); do
    [ "$name" = busybox ] || ln -sf busybox "$1/bin/$name"
done
chmod 1777 "$1/tmp"
chown 1000:1000 "$1/home/user"
printf 'root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\n' > "$1/etc/passwd"
printf 'root:x:0:\ntty:x:5:\nuser:x:1000:\nextra:x:2000:user\n' > "$1/etc/group"
"#;
    let status = Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(directory)
        .status()
        .expect("a shell can be started");
    assert!(status.success(), "the busybox tree could not be made");
}

/// Where what is costly to make is kept between runs.
///
/// # Panics
/// When the target directory cannot be written.
pub fn cache() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/fixtures");
    std::fs::create_dir_all(&path).expect("the target directory is writable");
    path.canonicalize().expect("it was made just now")
}

/// The busybox image as a tar archive, made once per target directory.
///
/// # Panics
/// When it cannot be made.
pub fn busybox_tar() -> PathBuf {
    let cache = cache();
    let path = cache.join("busybox-1.tar");
    if path.is_file() {
        return path;
    }
    let tree = tempfile::tempdir().expect("a scratch directory can be made");
    busybox_tree(tree.path());
    let aside = tempfile::NamedTempFile::new_in(&cache).expect("the target directory is writable");
    tar(tree.path(), aside.path());
    aside
        .persist(&path)
        .expect("the target directory is writable");
    path
}

/// Packs a tree into a tar archive.
///
/// # Panics
/// When `tar` fails.
#[track_caller]
pub fn tar(tree: &Path, archive: &Path) {
    let status = Command::new("tar")
        .args(["--numeric-owner", "--sort=name", "-cf"])
        .arg(archive)
        .arg("-C")
        .arg(tree)
        .arg(".")
        .status()
        .expect("tar can be started");
    assert!(status.success(), "tar failed");
}

/// Imports the busybox image into a lab as `busybox`.
///
/// # Panics
/// When the import fails.
#[track_caller]
pub fn busybox(lab: &Lab) {
    import(lab, &busybox_tar(), "busybox", &["CMD [\"sh\"]"]);
}

/// Imports a tar archive into a lab.
///
/// # Panics
/// When the import fails.
#[track_caller]
pub fn import(lab: &Lab, archive: &Path, name: &str, changes: &[&str]) {
    let mut command = lab.rbox(["import"]);
    for change in changes {
        command = command.args(["-c", change]);
    }
    command
        .arg(archive.to_str().expect("paths of tests are plain"))
        .arg(name)
        .run()
        .success();
}

impl Lab {
    /// A lab that has the busybox image.
    ///
    /// # Panics
    /// When either cannot be made.
    #[track_caller]
    pub fn with_busybox() -> Self {
        let lab = Lab::new();
        busybox(&lab);
        lab
    }
}

/// Imports an image that is nothing but the static echo server on port 2345, as `echo`.
///
/// # Panics
/// When the server was not built or the import fails.
#[track_caller]
pub fn echo(lab: &Lab) {
    let server = crate::lab::rbox_binary().with_file_name("echo-static");
    assert!(
        server.is_file(),
        "{} is missing: build it with `cargo build --workspace`",
        server.display()
    );
    let tree = lab.directory().join("echo-image");
    std::fs::create_dir(&tree).expect("the scratch directory is writable");
    std::fs::copy(&server, tree.join("echo")).expect("the scratch directory is writable");
    let archive = lab.directory().join("echo.tar");
    tar(&tree, &archive);
    import(
        lab,
        &archive,
        "echo",
        &["ENTRYPOINT [\"/echo\"]", "EXPOSE 2345"],
    );
}
