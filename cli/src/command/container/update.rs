//! `rbox update`: other limits and another restart policy for containers that are there.

use clap::Args;
use engine::container::update::Update;

use super::arguments::restart_policy;
use super::each::each;
use crate::app::{Count, Leaf, Verb};
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::option::{number, size};

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<UpdateArgs>(
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Update configuration of one or more containers",
    &["container update", "update"],
    Count::AtLeast(1),
);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    /// Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)
    #[arg(long, value_name = "uint16", value_parser = number::unsigned16)]
    blkio_weight: Option<u16>,
    /// Limit CPU CFS (Completely Fair Scheduler) period
    #[arg(long, value_name = "int", value_parser = number::integer)]
    cpu_period: Option<i64>,
    /// Limit CPU CFS (Completely Fair Scheduler) quota
    #[arg(long, value_name = "int", value_parser = number::integer)]
    cpu_quota: Option<i64>,
    /// Limit the CPU real-time period in microseconds
    #[arg(long, value_name = "int", value_parser = number::integer)]
    cpu_rt_period: Option<i64>,
    /// Limit the CPU real-time runtime in microseconds
    #[arg(long, value_name = "int", value_parser = number::integer)]
    cpu_rt_runtime: Option<i64>,
    /// CPU shares (relative weight)
    #[arg(short, long, value_name = "int", value_parser = number::integer)]
    cpu_shares: Option<i64>,
    /// Number of CPUs
    #[arg(long, value_name = "decimal", value_parser = number::nano_cpus)]
    cpus: Option<i64>,
    /// CPUs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "string")]
    cpuset_cpus: Option<String>,
    /// MEMs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "string")]
    cpuset_mems: Option<String>,
    /// Memory limit
    #[arg(short, long, value_name = "bytes", value_parser = size::bytes)]
    memory: Option<i64>,
    /// Memory soft limit
    #[arg(long, value_name = "bytes", value_parser = size::bytes)]
    memory_reservation: Option<i64>,
    /// Swap limit equal to memory plus swap: -1 to enable unlimited swap
    #[arg(long, value_name = "bytes", value_parser = size::bytes_or_unlimited)]
    memory_swap: Option<i64>,
    /// Tune container pids limit (set -1 for unlimited)
    #[arg(long, value_name = "int", value_parser = number::integer)]
    pids_limit: Option<i64>,
    /// Restart policy to apply when a container exits
    #[arg(long, value_name = "string")]
    restart: Option<String>,
}

impl UpdateArgs {
    fn update(self) -> Result<Update> {
        for (given, flag) in [
            (self.cpu_rt_period, "cpu-rt-period"),
            (self.cpu_rt_runtime, "cpu-rt-runtime"),
        ] {
            if given.is_some_and(|number| number != 0) {
                return Err(Failure::said(format!(
                    "--{flag} is not supported by rbox: real-time scheduling needs a kernel built \
                     for it"
                )));
            }
        }
        let update = Update {
            memory: self.memory,
            memory_reservation: self.memory_reservation,
            memory_swap: self.memory_swap,
            nano_cpus: self.cpus,
            cpu_shares: self.cpu_shares,
            cpu_period: self.cpu_period,
            cpu_quota: self.cpu_quota,
            cpuset_cpus: self.cpuset_cpus,
            cpuset_mems: self.cpuset_mems,
            blkio_weight: self.blkio_weight,
            pids_limit: self.pids_limit,
            restart_policy: self
                .restart
                .as_deref()
                .filter(|text| !text.is_empty())
                .map(restart_policy)
                .transpose()?,
        };
        if update == Update::default() {
            let text = "you must provide one or more flags when using this command";
            return Err(Failure::said(text).hint("'rbox update --help' lists them"));
        }
        Ok(update)
    }
}

impl Verb for UpdateArgs {
    fn run(self, context: &Context, plain: Vec<String>) -> Result<()> {
        let update = self.update()?;
        let engine = context.engine()?;
        each(&engine, &plain, |id| Ok(engine.update(id, &update)?))
    }
}
