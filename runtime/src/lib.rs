//! One container: namespaces, cgroups, mounts, capabilities, seccomp, init, exec.
//!
//! [`plan()`] turns a [`Request`] and the [`Facts`] about this host into a [`Plan`]: steps for the
//! host, to be carried out (and journalled) by the caller through `plan::Run`, and steps for the
//! container's own first process, which [`spawn()`] makes. This crate knows no names, no images and
//! no networks.

pub mod cgroup;
pub mod child;
mod describe;
pub mod error;
pub mod facts;
pub mod files;
pub mod host;
mod inside;
pub mod mounts;
pub mod planner;
pub mod request;
pub mod seccomp;
pub mod spawn;
pub mod steps;
mod sync;
pub mod timing;
pub mod user;

pub use cgroup::{Cgroup, CgroupError};
pub use child::{Child, Started};
pub use error::{Report, ReportKind, StartError};
pub use facts::Facts;
pub use files::{FilesError, plan_files};
pub use host::{Host, HostStep};
pub use inside::{Inside, InsideError};
pub use planner::{ExecPlan, Plan, PlanError, Program, plan, plan_exec};
pub use request::{ExecRequest, Request, Root, Stdio, UserRequest};
pub use spawn::{SpawnError, spawn, spawn_exec};
pub use steps::ChildStep;
