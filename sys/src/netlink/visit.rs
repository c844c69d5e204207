//! Doing something in another network namespace and coming back.

use std::fs::File;
use std::os::fd::BorrowedFd;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::error::{Result, SysResultExt};

/// Runs a function inside another network namespace. Only the calling thread is there meanwhile,
/// so a process with one thread is what should call this.
///
/// # Errors
/// Of `open` and `setns` on the way there.
///
/// # Panics
/// When the way back is barred: whatever the process did next would happen in the wrong network.
pub fn visit<T>(namespace: BorrowedFd<'_>, act: impl FnOnce() -> T) -> Result<T> {
    use std::os::fd::AsFd;

    let path = "/proc/thread-self/ns/net";
    let home = File::open(path).call(|| format!("open(\"{path}\")"))?;
    let network = Some(LinkNameSpaceType::Network);
    move_into_link_name_space(namespace, network).call(|| "setns(CLONE_NEWNET)")?;
    let outcome = act();
    move_into_link_name_space(home.as_fd(), network)
        .expect("the namespace that the thread came from takes it back");
    Ok(outcome)
}
