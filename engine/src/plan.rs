//! The plan of a start: the steps of all crates as one list in one journal.

use netns::{NetError, NetStep};
use plan::{Description, Step};
use runtime::HostStep;
use runtime::cgroup::CgroupError;
use serde::{Deserialize, Serialize};

use overlayfs::union::UnionError;

use crate::Options;
use crate::monitor::wire;
use crate::union::UnionStep;

/// One step of a start that the monitor carries out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StartStep {
    /// The container's cgroups and their limits.
    Host(HostStep),
    /// The container's network.
    Network(NetStep),
    /// A union that is mounted for the container.
    Union(UnionStep),
}

/// What the hands of all steps need; nothing is opened before it is used.
#[derive(Debug)]
pub struct StartHost {
    /// For cgroups.
    pub runtime: runtime::Host,
    /// For networks.
    pub network: netns::Host,
}

/// What went wrong with a step.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// With a cgroup.
    #[error(transparent)]
    Host(#[from] CgroupError),
    /// With the network.
    #[error(transparent)]
    Network(#[from] NetError),
    /// With a union.
    #[error(transparent)]
    Union(#[from] UnionError),
}

impl StartHost {
    /// The host as these options see it.
    pub fn of(options: &Options) -> Self {
        Self {
            runtime: runtime::Host::default(),
            // The bridge tells engines apart that live side by side.
            network: netns::Host::new(
                &options.state,
                &options.bridge,
                wire::hand(options.firewall),
            ),
        }
    }
}

impl Step<StartHost> for StartStep {
    type Error = StepError;

    fn name(&self) -> &'static str {
        match self {
            StartStep::Host(step) => step.name(),
            StartStep::Network(step) => step.name(),
            StartStep::Union(step) => step.name(),
        }
    }

    fn apply(&self, host: &mut StartHost) -> Result<(), StepError> {
        match self {
            StartStep::Host(step) => Ok(step.apply(&mut host.runtime)?),
            StartStep::Network(step) => Ok(step.apply(&mut host.network)?),
            StartStep::Union(step) => Ok(step.apply()?),
        }
    }

    fn undo(&self, host: &mut StartHost) -> Result<(), StepError> {
        match self {
            StartStep::Host(step) => Ok(step.undo(&mut host.runtime)?),
            StartStep::Network(step) => Ok(step.undo(&mut host.network)?),
            StartStep::Union(step) => Ok(step.undo()?),
        }
    }

    fn describe(&self) -> Description {
        match self {
            StartStep::Host(step) => step.describe(),
            StartStep::Network(step) => step.describe(),
            StartStep::Union(step) => step.describe(),
        }
    }

    fn shell(&self) -> Vec<String> {
        match self {
            StartStep::Host(step) => step.shell(),
            StartStep::Network(step) => step.shell(),
            StartStep::Union(step) => step.shell(),
        }
    }
}
