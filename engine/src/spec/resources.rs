//! Limits of the container's cgroup.

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources, LinuxResourcesBuilder,
};

use super::devices::{self, Device};
use super::unbuilt;
use crate::config::HostConfig;
use crate::error::Result;

/// The period that a number of processors is measured in.
const PERIOD: i64 = 100_000;

/// What the options limit; nothing else is written.
pub(crate) fn resources(
    host: &HostConfig,
    devices: &[Device],
    block_io: Option<LinuxBlockIo>,
) -> Result<LinuxResources> {
    let mut resources = LinuxResourcesBuilder::default()
        .devices(devices::rules(host, devices)?)
        .build()
        .map_err(unbuilt)?;
    resources.set_memory(memory(host));
    resources.set_cpu(cpu(host));
    resources.set_pids(host.pids_limit.filter(|limit| *limit > 0).map(|limit| {
        let mut pids = LinuxPids::default();
        pids.set_limit(limit);
        pids
    }));
    resources.set_block_io(block_io);
    Ok(resources)
}

fn memory(host: &HostConfig) -> Option<LinuxMemory> {
    let mut memory = LinuxMemory::default();
    memory.set_limit(some(host.memory));
    memory.set_reservation(some(host.memory_reservation));
    memory.set_swap(some(host.memory_swap));
    // -1 is "as the kernel has it"
    memory.set_swappiness(
        host.memory_swappiness
            .and_then(|number| number.try_into().ok()),
    );
    memory.set_disable_oom_killer(host.oom_kill_disable.then_some(true));
    (memory != LinuxMemory::default()).then_some(memory)
}

fn cpu(host: &HostConfig) -> Option<LinuxCpu> {
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(some(host.cpu_shares).and_then(|number| number.try_into().ok()));
    if host.nano_cpus > 0 {
        cpu.set_period(PERIOD.try_into().ok());
        cpu.set_quota(Some(host.nano_cpus / (1_000_000_000 / PERIOD)));
    } else {
        cpu.set_period(some(host.cpu_period).and_then(|number| number.try_into().ok()));
        cpu.set_quota(some(host.cpu_quota));
    }
    let text = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    cpu.set_cpus(text(&host.cpuset_cpus));
    cpu.set_mems(text(&host.cpuset_mems));
    (cpu != LinuxCpu::default()).then_some(cpu)
}

fn some(number: i64) -> Option<i64> {
    Some(number).filter(|number| *number != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::gather_block_io;
    use serde_json::json;

    fn written(host: &HostConfig) -> serde_json::Value {
        let mut value =
            serde_json::to_value(resources(host, &[], gather_block_io(host).unwrap()).unwrap())
                .unwrap();
        value.as_object_mut().unwrap().remove("devices");
        value
    }

    #[test]
    fn nothing_asked_is_nothing_written() {
        assert_eq!(written(&HostConfig::default()), json!({}));
        let unlimited = HostConfig {
            pids_limit: Some(-1),
            memory_swappiness: Some(-1),
            ..HostConfig::default()
        };
        assert_eq!(written(&unlimited), json!({}));
    }

    #[test]
    fn each_limit_has_its_field() {
        let host = HostConfig {
            memory: 64 << 20,
            memory_swap: -1,
            memory_reservation: 32 << 20,
            oom_kill_disable: true,
            memory_swappiness: Some(0),
            nano_cpus: 1_500_000_000,
            cpu_shares: 512,
            cpuset_cpus: "0-1".to_owned(),
            pids_limit: Some(50),
            blkio_weight: 300,
            ..HostConfig::default()
        };
        assert_eq!(
            written(&host),
            json!({
                "memory": {"limit": 67_108_864, "reservation": 33_554_432, "swap": -1,
                    "swappiness": 0, "disableOOMKiller": true},
                "cpu": {"shares": 512, "quota": 150_000, "period": 100_000, "cpus": "0-1"},
                "pids": {"limit": 50},
                "blockIO": {"weight": 300},
            })
        );
    }
}
