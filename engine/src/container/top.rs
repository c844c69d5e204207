//! `top`: the processes of a container.

use std::process::{Command, Stdio};

use runtime::cgroup::Cgroup;
use sys::cgroup::Hierarchies;

use crate::Engine;
use crate::container::control::not_running;
use crate::error::{Error, Result};
use crate::id::ContainerId;
use crate::process_table;
use crate::request::TopTable;
use crate::store::Container;

impl Engine {
    /// The container's processes as the host sees them. Without arguments (or with `-ef`) they are
    /// read from /proc; other arguments go to the host's `ps`.
    ///
    /// # Errors
    /// `Container <id> is not running`; when `ps` fails.
    pub fn top(&self, id: &ContainerId, arguments: &[String]) -> Result<TopTable> {
        let container = self.store().load(id)?;
        if !container.status()?.0.has_process() {
            return Err(not_running(&container));
        }
        let pids = processes(&container)?;
        let table = match arguments {
            [] => process_table::table(&pids),
            [only] if only == "-ef" => process_table::table(&pids),
            _ => by_ps(arguments, &pids)?,
        };
        self.note(&container, "top", &[]);
        Ok(table)
    }
}

/// The ids of all processes of a running container, in the caller's process ids.
pub(crate) fn processes(container: &Container) -> Result<Vec<i32>> {
    let init = container
        .run
        .init()?
        .ok_or_else(|| not_running(container))?;
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
        Error::system("cannot list the container's processes", error)
    };
    let trees = Hierarchies::detect().map_err(|error| failed(error.into()))?;
    let group = Cgroup::of(init.process.pid, &trees).map_err(|error| failed(error.into()))?;
    group.processes().map_err(|error| failed(error.into()))
}

fn by_ps(arguments: &[String], pids: &[i32]) -> Result<TopTable> {
    let output = Command::new("ps")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| {
            Error::system("cannot run ps", error)
                .hint("install the package procps, or leave the arguments out")
        })?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(Error::invalid(format!("error running ps: {}", text.trim())));
    }
    process_table::filter(&String::from_utf8_lossy(&output.stdout), pids).map_err(Error::invalid)
}
