//! What a step is: one change, and everything that can be said about it.

use std::error::Error;

/// What a step does, for a reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// What is done, on which object: `create the veth pair veth1a2b3c4 - eth0`.
    pub what: String,
    /// Why it is done: `the container's end of the bridge rbox0`.
    pub why: String,
    /// The system calls or netlink messages, as strace would print them.
    pub calls: Vec<String>,
}

/// One change to the kernel or the disk, held as a value before it is done.
///
/// `Host` is what the hands need to carry it out: open sockets, directories, the container's
/// namespaces. A step decides nothing when it is applied; all decisions were the planner's.
pub trait Step<Host: ?Sized> {
    /// What can go wrong.
    type Error: Error + Send + Sync + 'static;

    /// A stable word for this kind of step (`veth-create`): names its fault points and its time.
    fn name(&self) -> &'static str;

    /// Carries the step out.
    fn apply(&self, host: &mut Host) -> Result<(), Self::Error>;

    /// Takes the step back. What is gone already counts as taken back: undoing a step twice, or
    /// one that was never applied, succeeds.
    fn undo(&self, host: &mut Host) -> Result<(), Self::Error>;

    /// Says what the step does, why, and with which calls.
    fn describe(&self) -> Description;

    /// The shell commands that would do the same, one per line; empty where no command exists.
    fn shell(&self) -> Vec<String>;
}
