//! What the tests need from the system, and how it gets there.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// A program that is needed, the Debian package that has it, and what needs it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Need {
    /// A program in the search path.
    pub(crate) program: &'static str,
    /// The Debian package that contains it.
    pub(crate) package: &'static str,
    /// What cannot be done without it.
    pub(crate) reason: &'static str,
}

const fn need(program: &'static str, package: &'static str, reason: &'static str) -> Need {
    Need {
        program,
        package,
        reason,
    }
}

/// For the demo and every privileged test.
pub(crate) const LAB: &[Need] = &[
    need("ip", "iproute2", "networks between throw-away hosts"),
    need("unshare", "util-linux", "throw-away hosts"),
    need("ps", "procps", "looking at what is left running"),
    need("tar", "tar", "making images"),
];

/// For the tests, beyond [`LAB`].
pub(crate) const TESTS: &[Need] = &[
    need("busybox", "busybox-static", "the test image"),
    need("iptables", "iptables", "the iptables hand of the firewall"),
    need(
        "nft",
        "nftables",
        "looking at the nftables hand of the firewall",
    ),
    need("skopeo", "skopeo", "archives made by another program"),
    need("umoci", "umoci", "archives made by another program"),
    need("mmdebstrap", "mmdebstrap", "the image of the examples"),
    need("perl", "perl-base", "keys that a container must not see"),
    need("setfattr", "attr", "extended attributes of unions"),
    need("setfacl", "acl", "access control lists of unions"),
    need("setcap", "libcap2-bin", "capabilities of files in unions"),
    need("mkfs.ext4", "e2fsprogs", "branches of unions"),
    need("git", "git", "repositories in unions"),
    need("rsync", "rsync", "trees that are synchronised with unions"),
    need("sqlite3", "sqlite3", "databases in unions"),
    need(
        "stress-ng",
        "stress-ng",
        "stress of unions that checks itself",
    ),
    need(
        "qemu-system-x86_64",
        "qemu-system-x86",
        "the virtual machine with cgroup version 2",
    ),
];

/// For the examples, beyond [`LAB`].
pub(crate) const EXAMPLES: &[Need] = &[need(
    "mmdebstrap",
    "mmdebstrap",
    "the image of the examples",
)];

/// For the bench, beyond [`LAB`].
pub(crate) const BENCH: &[Need] = &[
    need("crun", "crun", "the runtime that rbox is measured against"),
    need("runc", "runc", "the runtime that most engines use"),
    need("busybox", "busybox-static", "the image that is run"),
    need("mkfs.ext4", "e2fsprogs", "branches of unions"),
    need("mergerfs", "mergerfs", "a union file system beside ours"),
    need(
        "fuse-overlayfs",
        "fuse-overlayfs",
        "a union file system beside ours",
    ),
    need("git", "git", "a status of a tree in a union"),
    need("gcc", "gcc", "a compile of a tree in a union"),
];

/// Says why root is needed where it is not there.
///
/// # Errors
/// When the caller is not root.
pub(crate) fn root(what: &str) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("{what} needs root (containers are made of namespaces, mounts and networks)");
    }
    Ok(())
}

/// The needs that are not met.
pub(crate) fn missing(needs: &[Need]) -> Vec<Need> {
    needs
        .iter()
        .filter(|one| !in_path(one.program))
        .copied()
        .collect()
}

/// Whether a program is in the search path.
pub(crate) fn in_path(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"])
        .any(|directory| Path::new(directory).join(program).is_file())
}

/// Installs what is missing where that is possible; says what is missing where not.
///
/// # Errors
/// When something is missing and cannot be installed.
pub(crate) fn provide(needs: &[Need]) -> Result<()> {
    let wanted = missing(needs);
    if wanted.is_empty() {
        return Ok(());
    }
    println!("missing on this machine:");
    for one in &wanted {
        println!(
            "  {:<20} (Debian package {}) for {}",
            one.program, one.package, one.reason
        );
    }
    let packages: Vec<&str> = wanted.iter().map(|one| one.package).collect();
    if !nix::unistd::geteuid().is_root() || !in_path("apt-get") {
        bail!("install first: apt-get install {}", packages.join(" "));
    }
    println!("installing: {}", packages.join(" "));
    install(&packages)?;
    let still = missing(needs);
    if let Some(one) = still.first() {
        bail!(
            "{} is still missing after installing {}",
            one.program,
            one.package
        );
    }
    Ok(())
}

fn install(packages: &[&str]) -> Result<()> {
    let _guard = NoServices::new()?;
    // An old package list may name versions that are gone; a new one costs little.
    apt(&["update"])?;
    apt(&[&["install", "-y", "--no-install-recommends"], packages].concat())
}

fn apt(arguments: &[&str]) -> Result<()> {
    let status = Command::new("apt-get")
        .arg("-qq")
        .args(["-o", "Dpkg::Use-Pty=0", "-o", "DPkg::Lock::Timeout=300"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .status()
        .context("cannot start apt-get")?;
    if !status.success() {
        bail!("apt-get {} failed", arguments.join(" "));
    }
    Ok(())
}

/// While it exists, no package starts a service: Debian's `policy-rc.d`, unless there is one.
struct NoServices {
    made: bool,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";

impl NoServices {
    fn new() -> Result<Self> {
        use std::os::unix::fs::PermissionsExt;

        if Path::new(POLICY).exists() {
            return Ok(Self { made: false });
        }
        std::fs::write(POLICY, "#!/bin/sh\nexit 101\n").context("cannot write policy-rc.d")?;
        std::fs::set_permissions(POLICY, std::fs::Permissions::from_mode(0o755))
            .context("cannot write policy-rc.d")?;
        Ok(Self { made: true })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.made {
            let _ = std::fs::remove_file(POLICY);
        }
    }
}
