//! The lab: throw-away hosts in which privileged tests run, and what those tests share.
//!
//! A [`Lab`] is a host of its own, made of fresh namespaces: nothing that happens in it reaches the
//! machine, and all of it vanishes with it. This crate knows no container; it starts programs,
//! most often the `rbox` binary, and looks at what they leave.
//!
//! A test that was asked for and cannot run fails: every function here panics, with what was tried,
//! when the machine lacks something.

pub mod archive;
pub mod cgroup;
pub mod command;
pub mod cpio;
pub mod echo;
pub mod example;
pub mod fixture;
pub mod host;
pub mod lab;
pub mod outside;
pub mod reference;
pub mod rings;
pub mod snapshot;
pub mod terminal;
#[cfg(target_arch = "x86_64")]
pub mod tracer;
pub mod vm;
pub mod wait;

pub use command::{Cmd, Output, Running};
pub use host::Host;
pub use lab::Lab;
pub use outside::Outside;
pub use snapshot::Snapshot;
pub use terminal::Terminal;
#[cfg(target_arch = "x86_64")]
pub use tracer::Tracer;
pub use vm::Vm;
pub use wait::{eventually, until};
