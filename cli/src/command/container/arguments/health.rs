//! Flags of the health check.

use clap::Args;
use engine::config::{Config, Healthcheck};

use crate::error::{Failure, Result};
use crate::option::{duration, number};

/// Flags of the health check.
#[derive(Debug, Clone, Args)]
pub(crate) struct HealthArgs {
    /// Command to run to check health
    #[arg(long, value_name = "string")]
    pub(crate) health_cmd: Option<String>,
    /// Time between running the check (ms|s|m|h) (default 0s)
    #[arg(long, value_name = "duration", value_parser = duration::nanoseconds)]
    pub(crate) health_interval: Option<i64>,
    /// Consecutive failures needed to report unhealthy
    #[arg(long, value_name = "int", value_parser = number::integer)]
    pub(crate) health_retries: Option<i64>,
    /// Time between running the check during the start period (ms|s|m|h) (default 0s)
    #[arg(long, value_name = "duration", value_parser = duration::nanoseconds)]
    pub(crate) health_start_interval: Option<i64>,
    /// Start period for the container to initialize before starting health-retries countdown (ms|s|m|h) (default 0s)
    #[arg(long, value_name = "duration", value_parser = duration::nanoseconds)]
    pub(crate) health_start_period: Option<i64>,
    /// Maximum time to allow one check to run (ms|s|m|h) (default 0s)
    #[arg(long, value_name = "duration", value_parser = duration::nanoseconds)]
    pub(crate) health_timeout: Option<i64>,
    /// Disable any container-specified HEALTHCHECK
    #[arg(long)]
    pub(crate) no_healthcheck: bool,
}

impl HealthArgs {
    /// Puts the check into the container's configuration.
    pub(super) fn fill(&self, config: &mut Config) -> Result<()> {
        let times = [
            ("--health-interval", self.health_interval),
            ("--health-timeout", self.health_timeout),
            ("--health-retries", self.health_retries),
            ("--health-start-period", self.health_start_period),
            ("--health-start-interval", self.health_start_interval),
        ];
        let given = self.health_cmd.is_some() || times.iter().any(|(_, value)| value.is_some());
        if self.no_healthcheck {
            if given {
                return Err(Failure::said(
                    "--no-healthcheck conflicts with --health-* options",
                ));
            }
            config.healthcheck = Some(Healthcheck {
                test: vec!["NONE".to_owned()],
                ..Healthcheck::default()
            });
            return Ok(());
        }
        if !given {
            return Ok(());
        }
        if let Some((flag, _)) = times.iter().find(|(_, value)| value.is_some_and(|v| v < 0)) {
            return Err(Failure::said(format!("{flag} cannot be negative")));
        }
        config.healthcheck = Some(Healthcheck {
            test: self
                .health_cmd
                .iter()
                .flat_map(|command| ["CMD-SHELL".to_owned(), command.clone()])
                .collect(),
            interval: self.health_interval.unwrap_or(0),
            timeout: self.health_timeout.unwrap_or(0),
            start_period: self.health_start_period.unwrap_or(0),
            start_interval: self.health_start_interval.unwrap_or(0),
            retries: self.health_retries.unwrap_or(0),
        });
        Ok(())
    }
}
