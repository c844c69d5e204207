//! Flags that limit what a container may use.

use clap::Args;
use engine::config::{HostConfig, ThrottleDevice, Ulimit, WeightDevice};

use super::{refuse_given, some};
use crate::error::{Failure, Result};
use crate::option::{block, device, number, size, ulimit};

/// Flags that limit what a container may use.
#[derive(Debug, Clone, Args)]
pub(crate) struct ResourceArgs {
    /// Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)
    #[arg(long, value_name = "uint16", value_parser = number::unsigned16)]
    pub(crate) blkio_weight: Option<u16>,
    #[arg(
        long,
        value_name = "list",
        value_parser = block::weight,
        help = "Block IO weight (relative device weight) (default [])"
    )]
    pub(crate) blkio_weight_device: Vec<WeightDevice>,
    /// CPU count (Windows only)
    #[arg(long, value_name = "int", value_parser = number::integer)]
    pub(crate) cpu_count: Option<i64>,
    /// CPU percent (Windows only)
    #[arg(long, value_name = "int", value_parser = number::integer)]
    pub(crate) cpu_percent: Option<i64>,
    /// Limit CPU CFS (Completely Fair Scheduler) period
    #[arg(long, value_name = "int", value_parser = number::integer)]
    pub(crate) cpu_period: Option<i64>,
    /// Limit CPU CFS (Completely Fair Scheduler) quota
    #[arg(long, value_name = "int", value_parser = number::integer)]
    pub(crate) cpu_quota: Option<i64>,
    /// Limit CPU real-time period in microseconds
    #[arg(long, value_name = "int", value_parser = number::integer)]
    pub(crate) cpu_rt_period: Option<i64>,
    /// Limit CPU real-time runtime in microseconds
    #[arg(long, value_name = "int", value_parser = number::integer)]
    pub(crate) cpu_rt_runtime: Option<i64>,
    /// CPU shares (relative weight)
    #[arg(short, long, value_name = "int", value_parser = number::integer)]
    pub(crate) cpu_shares: Option<i64>,
    /// Number of CPUs
    #[arg(long, value_name = "decimal", value_parser = number::nano_cpus)]
    pub(crate) cpus: Option<i64>,
    /// CPUs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "string")]
    pub(crate) cpuset_cpus: Option<String>,
    /// MEMs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "string")]
    pub(crate) cpuset_mems: Option<String>,
    /// Add a host device to the container
    #[arg(long, value_name = "list")]
    pub(crate) device: Vec<String>,
    /// Add a rule to the cgroup allowed devices list
    #[arg(long, value_name = "list", value_parser = device::rule)]
    pub(crate) device_cgroup_rule: Vec<String>,
    #[arg(
        long,
        value_name = "list",
        value_parser = block::bytes,
        help = "Limit read rate (bytes per second) from a device (default [])"
    )]
    pub(crate) device_read_bps: Vec<ThrottleDevice>,
    #[arg(
        long,
        value_name = "list",
        value_parser = block::operations,
        help = "Limit read rate (IO per second) from a device (default [])"
    )]
    pub(crate) device_read_iops: Vec<ThrottleDevice>,
    #[arg(
        long,
        value_name = "list",
        value_parser = block::bytes,
        help = "Limit write rate (bytes per second) to a device (default [])"
    )]
    pub(crate) device_write_bps: Vec<ThrottleDevice>,
    #[arg(
        long,
        value_name = "list",
        value_parser = block::operations,
        help = "Limit write rate (IO per second) to a device (default [])"
    )]
    pub(crate) device_write_iops: Vec<ThrottleDevice>,
    /// GPU devices to add to the container ('all' to pass all GPUs)
    #[arg(long, value_name = "gpu-request")]
    pub(crate) gpus: Vec<String>,
    /// Maximum IO bandwidth limit for the system drive (Windows only)
    #[arg(long, value_name = "bytes", value_parser = size::bytes)]
    pub(crate) io_maxbandwidth: Option<i64>,
    /// Maximum IOps limit for the system drive (Windows only)
    #[arg(long, value_name = "uint", value_parser = number::unsigned)]
    pub(crate) io_maxiops: Option<u64>,
    /// Kernel memory limit
    #[arg(long, value_name = "bytes", value_parser = size::bytes)]
    pub(crate) kernel_memory: Option<i64>,
    /// Memory limit
    #[arg(short, long, value_name = "bytes", value_parser = size::bytes)]
    pub(crate) memory: Option<i64>,
    /// Memory soft limit
    #[arg(long, value_name = "bytes", value_parser = size::bytes)]
    pub(crate) memory_reservation: Option<i64>,
    /// Swap limit equal to memory plus swap: '-1' to enable unlimited swap
    #[arg(long, value_name = "bytes", value_parser = size::bytes_or_unlimited)]
    pub(crate) memory_swap: Option<i64>,
    /// Tune container memory swappiness (0 to 100) (default -1)
    #[arg(long, value_name = "int", value_parser = number::integer)]
    pub(crate) memory_swappiness: Option<i64>,
    /// Disable OOM Killer
    #[arg(long)]
    pub(crate) oom_kill_disable: bool,
    /// Tune host's OOM preferences (-1000 to 1000)
    #[arg(long, value_name = "int", value_parser = number::integer)]
    pub(crate) oom_score_adj: Option<i64>,
    /// Tune container pids limit (set -1 for unlimited)
    #[arg(long, value_name = "int", value_parser = number::integer)]
    pub(crate) pids_limit: Option<i64>,
    /// Size of /dev/shm
    #[arg(long, value_name = "bytes", value_parser = size::bytes)]
    pub(crate) shm_size: Option<i64>,
    #[arg(long, value_name = "ulimit", value_parser = ulimit::parse, help = "Ulimit options (default [])")]
    pub(crate) ulimit: Vec<Ulimit>,
}

impl ResourceArgs {
    /// Puts limits and devices into the host's part.
    pub(super) fn fill(&self, host: &mut HostConfig) -> Result<()> {
        if let Some(swappiness) = self.memory_swappiness.filter(|&value| value != -1) {
            if !(0..=100).contains(&swappiness) {
                return Err(Failure::said(format!(
                    "invalid value: {swappiness}. Valid memory swappiness range is 0-100"
                )));
            }
            host.memory_swappiness = Some(swappiness);
        }
        host.memory = self.memory.unwrap_or(0);
        host.memory_reservation = self.memory_reservation.unwrap_or(0);
        host.memory_swap = self.memory_swap.unwrap_or(0);
        host.oom_kill_disable = self.oom_kill_disable;
        host.oom_score_adj = self.oom_score_adj.unwrap_or(0);
        host.nano_cpus = self.cpus.unwrap_or(0);
        host.cpu_shares = self.cpu_shares.unwrap_or(0);
        host.cpu_period = self.cpu_period.unwrap_or(0);
        host.cpu_quota = self.cpu_quota.unwrap_or(0);
        host.cpuset_cpus = self.cpuset_cpus.clone().unwrap_or_default();
        host.cpuset_mems = self.cpuset_mems.clone().unwrap_or_default();
        host.blkio_weight = self.blkio_weight.unwrap_or(0);
        host.blkio_weight_device
            .clone_from(&self.blkio_weight_device);
        host.blkio_device_read_bps.clone_from(&self.device_read_bps);
        host.blkio_device_write_bps
            .clone_from(&self.device_write_bps);
        host.blkio_device_read_iops
            .clone_from(&self.device_read_iops);
        host.blkio_device_write_iops
            .clone_from(&self.device_write_iops);
        host.pids_limit = self.pids_limit;
        if let Some(size) = self.shm_size {
            host.shm_size = size;
        }
        host.ulimits = some(&self.ulimit);
        host.device_cgroup_rules = some(&self.device_cgroup_rule);
        for word in &self.device {
            device::checked(word).map_err(Failure::said)?;
            host.devices
                .push(device::parse(word).map_err(Failure::said)?);
        }
        Ok(())
    }

    /// Refuses what rbox does not have.
    pub(super) fn refuse(&self) -> Result<()> {
        let windows = "Windows only";
        let real_time = "real-time scheduling needs a kernel built for it";
        refuse_given(&[
            (
                !self.gpus.is_empty(),
                "gpus",
                "pass the devices with --device and -v",
            ),
            (self.cpu_count.is_some_and(|n| n != 0), "cpu-count", windows),
            (
                self.cpu_percent.is_some_and(|n| n != 0),
                "cpu-percent",
                windows,
            ),
            (
                self.io_maxbandwidth.is_some_and(|n| n != 0),
                "io-maxbandwidth",
                windows,
            ),
            (
                self.io_maxiops.is_some_and(|n| n != 0),
                "io-maxiops",
                windows,
            ),
            (
                self.cpu_rt_period.is_some_and(|n| n != 0),
                "cpu-rt-period",
                real_time,
            ),
            (
                self.cpu_rt_runtime.is_some_and(|n| n != 0),
                "cpu-rt-runtime",
                real_time,
            ),
            (
                self.kernel_memory.is_some_and(|n| n != 0),
                "kernel-memory",
                "the kernel dropped this limit; --memory counts the kernel's memory too",
            ),
        ])
    }
}
