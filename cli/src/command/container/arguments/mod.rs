//! The flags of `run` and `create`, and the request they make.

use std::path::{Path, PathBuf};

use clap::Args;
use engine::config::{Config, HostConfig};
use engine::network::NetworkWish;
use engine::store::record::EndpointWish;

use crate::error::{Failure, REFUSED, Result};

mod health;
mod isolation;
mod network;
mod process;
mod resources;
mod storage;

pub(crate) use process::restart_policy;

/// The flags of `run` and `create`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ContainerArgs {
    /// About the process.
    #[command(flatten)]
    pub(crate) process: process::ProcessArgs,
    /// Of the health check.
    #[command(flatten)]
    pub(crate) health: health::HealthArgs,
    /// About networks.
    #[command(flatten)]
    pub(crate) network: network::NetworkArgs,
    /// About mounts.
    #[command(flatten)]
    pub(crate) storage: storage::StorageArgs,
    /// About what is shared and allowed.
    #[command(flatten)]
    pub(crate) isolation: isolation::IsolationArgs,
    /// About limits.
    #[command(flatten)]
    pub(crate) resources: resources::ResourceArgs,
}

/// What the flags are read against.
pub(crate) struct Surroundings {
    /// The directory that relative paths begin from.
    pub(crate) here: PathBuf,
    /// A variable of the caller's environment.
    pub(crate) variable: fn(&str) -> Option<String>,
}

impl Surroundings {
    /// Those of this process.
    pub(crate) fn of_process() -> Self {
        Self {
            here: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
            variable: |name| std::env::var(name).ok(),
        }
    }

    fn here(&self) -> &Path {
        &self.here
    }
}

/// What the flags ask for, as the engine takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// `--name`.
    pub(crate) name: Option<String>,
    /// What runs.
    pub(crate) config: Config,
    /// How it meets the host.
    pub(crate) host: HostConfig,
    /// What is wanted of its network.
    pub(crate) endpoint: EndpointWish,
    /// Further networks.
    pub(crate) networks: Vec<NetworkWish>,
}

impl ContainerArgs {
    /// The request to the engine: `plain` is the image and the container's command.
    ///
    /// # Errors
    /// What Docker's command line refuses by itself, and what rbox does not do.
    pub(crate) fn request(
        &self,
        plain: &[String],
        detached: bool,
        around: &Surroundings,
    ) -> Result<Wanted> {
        let mut config = Config::default();
        let mut host = HostConfig::default();
        plain[0].clone_into(&mut config.image);
        config.cmd = (plain.len() > 1).then(|| plain[1..].to_vec());
        self.refuse_unknown_ground()?;
        self.resources.fill(&mut host)?;
        self.storage.fill(&mut config, &mut host, around.here())?;
        self.process
            .fill(&mut config, &mut host, detached, around)?;
        self.isolation.fill(&mut host)?;
        self.health.fill(&mut config)?;
        let network = self.network.fill(&mut config, &mut host)?;
        if host.auto_remove && !matches!(host.restart_policy.name.as_str(), "" | "no") {
            return Err(Failure::said(
                "conflicting options: cannot specify both --restart and --rm",
            ));
        }
        Ok(Wanted {
            name: self.process.name.clone().filter(|name| !name.is_empty()),
            config,
            host,
            endpoint: network.endpoint,
            networks: network.further,
        })
    }

    fn refuse_unknown_ground(&self) -> Result<()> {
        self.resources.refuse()?;
        self.storage.refuse()?;
        self.process.refuse()?;
        self.isolation.refuse()
    }
}

/// The refusal of a flag that rbox does not have.
fn unsupported(flag: &str, why: &str) -> Failure {
    Failure::coded(REFUSED, format!("--{flag} is not supported by rbox: {why}"))
}

/// Refuses the first flag of a list that was given.
fn refuse_given(given: &[(bool, &str, &str)]) -> Result<()> {
    match given.iter().find(|(given, _, _)| *given) {
        Some((_, flag, why)) => Err(unsupported(flag, why)),
        None => Ok(()),
    }
}

/// A list as the records hold it: `null` where nothing was given.
fn some<T: Clone>(list: &[T]) -> Option<Vec<T>> {
    (!list.is_empty()).then(|| list.to_vec())
}
