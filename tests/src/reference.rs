//! The engine whose behaviour is ours: its daemon in a lab, to compare with and to check tests by.
//!
//! With `LAB_ENGINE=docker` every lab gets such a daemon, and `rbox` in it is the `docker` command:
//! what a test expects can be checked against the original. No test needs it.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::lab::Lab;
use crate::wait::until;

/// Whether labs are to be those of the reference engine.
pub fn wanted() -> bool {
    std::env::var("LAB_ENGINE").is_ok_and(|name| name == "docker")
}

/// Starts a Docker daemon that ends with the lab.
///
/// # Errors
/// The daemon's last words when it does not answer.
pub fn dockerd(lab: &Lab) -> Result<(), String> {
    // Older daemons write a key there, and the machine's files are read-only in a lab.
    lab.sh(
        "if [ -d /etc/docker ]; then mount -t tmpfs docker /etc/docker; fi
         setsid dockerd --data-root /var/lib/docker --exec-root /run/docker --pidfile /run/docker.pid \
             --host unix:///run/docker.sock > dockerd.log 2>&1 < /dev/null &",
    );
    let up = until(Duration::from_secs(30), || {
        let output = lab.command("docker").arg("version").run();
        output.status.success().then_some(())
    });
    up.ok_or_else(|| lab.sh("tail -n 1 dockerd.log"))
}

/// Makes `docker` the lab's `rbox`.
///
/// # Panics
/// When the daemon does not start.
pub(crate) fn replace(lab: &Lab) {
    if let Err(why) = dockerd(lab) {
        panic!("dockerd does not start: {why}");
    }
    let own = lab.directory().join("bin/rbox");
    let _ = std::fs::remove_file(&own);
    std::fs::write(&own, "#!/bin/sh\nexec docker \"$@\"\n")
        .expect("the scratch directory is writable");
    std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o755)).expect("it is our file");
}
