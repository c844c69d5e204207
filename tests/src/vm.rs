//! A virtual machine with another kernel: Debian's, with cgroup version 2 and nothing else.
//!
//! The processor is emulated in software, so that it works wherever the tests do; it boots in some
//! ten seconds. Inside is a busybox, the files that the test adds and its script. The script
//! reports by printing `ok NAME` or `not ok NAME: why`, one line each.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::cpio;
use crate::fixture::{busybox_tree, cache};

/// What the containers need of the kernel that is not built in.
const MODULES: &[&str] = &[
    "overlay",
    "loop",
    "bridge",
    "veth",
    "nf_tables",
    "nft_chain_nat",
    "nft_nat",
    "nft_masq",
    "nft_redir",
    "nft_ct",
    "nft_fib_inet",
    "nft_reject_inet",
    "nft_compat",
];

/// First in the initial file system, where nothing can be pivoted: moves to a real one.
const INIT: &str = "#!/bin/sh
mkdir /new && mount -t tmpfs -o size=90% root /new
cp -a /bin /etc /lib /main /opt /root /tmp /usr /var /new/
mkdir /new/proc /new/sys /new/dev /new/run
exec switch_root /new /main
";

/// Makes the machine a host, then runs the test's script.
const MAIN: &str = "#!/bin/sh
export PATH=/opt:/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm /dev/mqueue
mount -t devpts -o ptmxmode=0666,mode=620,gid=5 devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs -o mode=755 run /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up
hostname vm
for module in $(cat /etc/modules); do modprobe $module || echo \"vm: no module $module\"; done
ok() { echo \"ok $1\"; }
no() { echo \"not ok $1: $2\"; }
# is NAME GOT WANTED
is() { if [ \"$2\" = \"$3\" ]; then ok \"$1\"; else no \"$1\" \"got '$2' instead of '$3'\"; fi; }
echo 'vm: begin'
cd /root
. /opt/script
echo 'vm: end'
poweroff -f
";

/// A machine to be started.
#[derive(Debug)]
pub struct Vm {
    tree: TempDir,
    kernel: PathBuf,
}

/// What a machine has reported.
#[derive(Debug)]
pub struct Report {
    /// All that it printed.
    pub console: String,
    /// The lines `ok NAME`.
    pub passed: Vec<String>,
    /// The lines `not ok NAME: why`.
    pub failed: Vec<String>,
}

impl Vm {
    /// A machine with busybox and the kernel's modules.
    ///
    /// # Panics
    /// When there is no kernel to be had, or no emulator.
    pub fn new() -> Self {
        let tree = tempfile::tempdir().expect("a scratch directory can be made");
        let top = tree.path();
        busybox_tree(top);
        for directory in ["lib/modules", "opt", "usr", "var", "root", "tmp"] {
            fs::create_dir_all(top.join(directory)).expect("the scratch directory is writable");
        }
        let _ = symlink("/bin", top.join("sbin"));
        let package = kernel_package();
        let version = copy_modules(&package, top);
        let vm = Self {
            kernel: package.join(format!("boot/vmlinuz-{version}")),
            tree,
        };
        vm.put("init", INIT.as_bytes());
        vm.put("main", MAIN.as_bytes());
        vm
    }

    fn put(&self, name: &str, content: &[u8]) {
        let path = self.tree.path().join(name);
        fs::write(&path, content).expect("the scratch directory is writable");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is our file");
    }

    /// Adds a file as `/opt/NAME`, which is in the search path.
    pub fn file(self, name: &str, content: &[u8]) -> Self {
        self.put(&format!("opt/{name}"), content);
        self
    }

    /// Adds a program as `/opt/NAME`, without what only a debugger needs.
    ///
    /// # Panics
    /// When it cannot be read.
    pub fn program(self, name: &str, path: &Path) -> Self {
        let to = self.tree.path().join("opt").join(name);
        let stripped = Command::new("strip").arg("-o").arg(&to).arg(path).status();
        if !stripped.is_ok_and(|status| status.success()) {
            fs::copy(path, &to).expect("the program can be read");
        }
        self
    }

    /// Starts the machine and waits until its script has ended.
    ///
    /// # Panics
    /// When it has not ended in time.
    #[track_caller]
    pub fn run(self, script: &str, limit: Duration) -> Report {
        self.put("opt/script", script.as_bytes());
        let image = self.tree.path().with_extension("cpio");
        let mut bytes = Vec::new();
        cpio::write(self.tree.path(), &mut bytes).expect("memory takes all");
        fs::File::create(&image)
            .and_then(|mut file| file.write_all(&bytes))
            .expect("the scratch directory is writable");
        let mut child = start(&self.kernel, &image);
        let console = follow(&mut child, limit);
        let _ = child.kill();
        let _ = child.wait();
        let _ = fs::remove_file(&image);
        let console = match console {
            Ok(console) => console,
            Err(console) => {
                panic!("the machine did not end within {limit:?}; it printed\n{console}")
            }
        };
        let lines = |start: &str| -> Vec<String> {
            console
                .lines()
                .filter_map(|line| line.trim_end().strip_prefix(start))
                .map(str::to_owned)
                .collect()
        };
        let (passed, failed) = (lines("ok "), lines("not ok "));
        Report {
            console,
            passed,
            failed,
        }
    }
}

impl Default for Vm {
    fn default() -> Self {
        Self::new()
    }
}

impl Report {
    /// Nothing may have failed, and as many as given must have passed.
    ///
    /// # Panics
    /// When that is not so.
    #[track_caller]
    pub fn all_passed(&self, count: usize) {
        assert!(
            self.failed.is_empty() && self.passed.len() == count,
            "{} of {count} passed, failed:\n{}\nconsole:\n{}",
            self.passed.len(),
            self.failed.join("\n"),
            self.console
        );
    }
}

fn start(kernel: &Path, image: &Path) -> Child {
    Command::new("qemu-system-x86_64")
        .args([
            "-accel",
            "tcg,thread=multi",
            "-cpu",
            "max",
            "-smp",
            "2",
            "-m",
            "1024",
        ])
        .args(["-nographic", "-no-reboot", "-nic", "none", "-kernel"])
        .arg(kernel)
        .arg("-initrd")
        .arg(image)
        .args([
            "-append",
            "console=ttyS0 quiet loglevel=1 panic=-1 cgroup_no_v1=all random.trust_cpu=on mitigations=off",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start qemu-system-x86_64: {error}"))
}

/// Reads the console until the machine goes; `Err` when that takes too long.
fn follow(child: &mut Child, limit: Duration) -> Result<String, String> {
    let end = Instant::now() + limit;
    let (sender, lines) = channel();
    let stdout = child.stdout.take().expect("the console is a pipe");
    std::thread::spawn(move || {
        let mut stdout = BufReader::new(stdout);
        let mut line = Vec::new();
        while stdout
            .read_until(b'\n', &mut line)
            .is_ok_and(|count| count > 0)
        {
            if sender
                .send(String::from_utf8_lossy(&line).into_owned())
                .is_err()
            {
                break;
            }
            line.clear();
        }
    });
    let mut console = String::new();
    loop {
        match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => console.push_str(&line),
            Err(RecvTimeoutError::Disconnected) => return Ok(console),
            Err(RecvTimeoutError::Timeout) => return Err(console),
        }
    }
}

/// The unpacked package of Debian's cloud kernel, fetched once per target directory.
fn kernel_package() -> PathBuf {
    let cache = cache();
    let found = |directory: &Path| directory.join("boot").is_dir();
    let package = cache.join("kernel");
    if found(&package) {
        return package;
    }
    let aside = tempfile::tempdir_in(&cache).expect("the target directory is writable");
    let script = r#"
set -eu
cd "$1"
name() { apt-cache depends linux-image-cloud-amd64 2> /dev/null | sed -n 's/^  Depends: \(linux-image-.*\)/\1/p' | head -n 1; }
[ -n "$(name)" ] || apt-get -qq update
apt-get -qq download "$(name)" 2> /dev/null || { apt-get -qq update; apt-get -qq download "$(name)"; }
dpkg -x linux-image-*.deb unpacked
"#;
    let status = Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(aside.path())
        .stdin(Stdio::null())
        .status()
        .expect("a shell can be started");
    assert!(
        status.success(),
        "Debian's cloud kernel cannot be fetched by apt"
    );
    // Another test may have been faster.
    let _ = fs::rename(aside.path().join("unpacked"), &package);
    assert!(found(&package), "the kernel's package holds no kernel");
    package
}

/// Copies the modules that are needed and those they need; returns the kernel's version.
fn copy_modules(package: &Path, top: &Path) -> String {
    let modules = package.join("lib/modules");
    let version = fs::read_dir(&modules)
        .expect("the kernel's package has modules")
        .flatten()
        .next()
        .expect("the kernel's package has modules")
        .file_name()
        .to_string_lossy()
        .into_owned();
    let script = r#"
set -eu
from=$1/lib/modules/$2 to=$3/lib/modules/$2
[ -f "$from/modules.dep" ] || busybox depmod -b "$1" "$2"
mkdir -p "$to"
: > "$3/etc/modules"
wanted=$4
for module in $wanted; do
    line=$(grep -E "(^|/)$module\.ko:" "$from/modules.dep" || :)
    [ -n "$line" ] || continue
    echo "$module" >> "$3/etc/modules"
    for file in $(echo "$line" | tr -d :); do
        mkdir -p "$to/$(dirname "$file")"
        cp -n "$from/$file" "$to/$file"
    done
done
cp "$from"/modules.builtin* "$from"/modules.order "$to/" 2> /dev/null || :
busybox depmod -b "$3" "$2"
"#;
    let status = Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(package)
        .arg(&version)
        .arg(top)
        .arg(MODULES.join(" "))
        .status()
        .expect("a shell can be started");
    assert!(status.success(), "the kernel's modules cannot be copied");
    version
}
