//! What a container is made from: Docker's `Config` and `HostConfig`, as stored and as inspected.
//!
//! Field names and their order are those of Docker's inspect output. Both documents are written
//! once when the container is created and never change, but for the fields that `update` and
//! `rename` name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// An object whose keys matter and whose values are always empty (`{"80/tcp":{}}`).
pub type KeySet = BTreeMap<String, Empty>;

/// Docker's empty JSON object.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// What runs in the container: the part that does not depend on the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Config {
    /// The name that the container sees as its own; its short id unless given.
    pub hostname: String,
    /// The NIS domain name.
    pub domainname: String,
    /// `user[:group]`, names or numbers; empty is the image's user.
    pub user: String,
    /// The command was started with its standard input attached.
    pub attach_stdin: bool,
    /// The command was started with its standard output attached.
    pub attach_stdout: bool,
    /// The command was started with its standard error attached.
    pub attach_stderr: bool,
    /// Ports the image or the user declares: `80/tcp`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: KeySet,
    /// The container has a pseudo-terminal.
    pub tty: bool,
    /// Standard input is kept open.
    pub open_stdin: bool,
    /// Standard input closes after the first attached client leaves.
    pub stdin_once: bool,
    /// `KEY=value`, in order: the user's, then those of the image that the user did not set.
    pub env: Vec<String>,
    /// Arguments; `None` where neither image nor user names any.
    pub cmd: Option<Vec<String>>,
    /// The health check of the image or the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// The image's name as the user typed it.
    pub image: String,
    /// Anonymous volumes: destinations.
    pub volumes: Option<KeySet>,
    /// Where the process starts; empty is `/`.
    pub working_dir: String,
    /// Put before the arguments; `None` where there is none.
    pub entrypoint: Option<Vec<String>>,
    /// Dockerfile triggers of the image.
    pub on_build: Option<Vec<String>>,
    /// Labels of image and user.
    pub labels: BTreeMap<String, String>,
    /// The signal that `stop` sends first; absent is SIGTERM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Seconds until `stop` kills; absent is 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    /// The shell of shell-form instructions, as the image has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
}

/// A health check; times in nanoseconds, 0 is the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `["CMD", …]`, `["CMD-SHELL", text]` or `["NONE"]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Between two checks.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// Of one check.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// In which failures do not count.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Between two checks in that time, until one succeeds; 0 is as otherwise.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// Failures in a row until unhealthy.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// How the container meets its host. Sizes in bytes, 0 is no limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HostConfig {
    /// `-v` as typed, sources made absolute.
    pub binds: Option<Vec<String>>,
    /// Where the id was written.
    #[serde(rename = "ContainerIDFile")]
    pub container_id_file: String,
    /// Log driver and its options.
    pub log_config: LogConfig,
    /// `default`, `bridge`, `host`, `none`, `container:<id>` or a network's name.
    pub network_mode: String,
    /// Published ports: `80/tcp` → bindings.
    pub port_bindings: BTreeMap<String, Vec<PortBinding>>,
    /// What happens when the process ends.
    pub restart_policy: RestartPolicy,
    /// `--rm`.
    pub auto_remove: bool,
    /// Driver of volumes made for this container.
    pub volume_driver: String,
    /// `--volumes-from` as typed.
    pub volumes_from: Option<Vec<String>>,
    /// Capabilities beyond the default.
    pub cap_add: Option<Vec<String>>,
    /// Capabilities taken from the default.
    pub cap_drop: Option<Vec<String>>,
    /// `host` or `private`; empty is the host's on cgroup v1 and private on v2.
    pub cgroupns_mode: String,
    /// Name servers.
    pub dns: Vec<String>,
    /// Options of resolv.conf.
    pub dns_options: Vec<String>,
    /// Search domains.
    pub dns_search: Vec<String>,
    /// `name:address` lines for the hosts file.
    pub extra_hosts: Option<Vec<String>>,
    /// Supplementary groups.
    pub group_add: Option<Vec<String>>,
    /// `private`, `shareable`, `none`, `host` or `container:<id>`.
    pub ipc_mode: String,
    /// Unused, kept for the shape.
    pub cgroup: String,
    /// `--link`; inspect shows them with current names.
    pub links: Option<Vec<String>>,
    /// Written to oom_score_adj.
    pub oom_score_adj: i64,
    /// Empty, `host` or `container:<id>`.
    pub pid_mode: String,
    /// All capabilities, all devices, no confinement.
    pub privileged: bool,
    /// `-P`.
    pub publish_all_ports: bool,
    /// `--read-only`.
    pub readonly_rootfs: bool,
    /// `--security-opt` as typed.
    pub security_opt: Option<Vec<String>>,
    /// Options of the storage driver.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub storage_opt: BTreeMap<String, String>,
    /// `--rootfs-union`: branches and settings of the union that is the root, as one list; empty
    /// without one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub rootfs_union: String,
    /// `--tmpfs`: destination → options.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tmpfs: BTreeMap<String, String>,
    /// `--sysctl`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls: BTreeMap<String, String>,
    /// `--mount` requests, in Docker's API form.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<serde_json::Value>,
    /// `--init`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<bool>,
    /// Empty or `host`.
    #[serde(rename = "UTSMode")]
    pub uts_mode: String,
    /// Empty or `host`.
    pub userns_mode: String,
    /// Size of /dev/shm.
    pub shm_size: i64,
    /// Name of the runtime.
    pub runtime: String,
    /// Height and width of the terminal at creation.
    pub console_size: [u32; 2],
    /// `--annotation`: given to the runtime's specification.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Relative weight of processor time.
    pub cpu_shares: i64,
    /// Memory limit.
    pub memory: i64,
    /// Processors times 10⁹.
    pub nano_cpus: i64,
    /// Cgroup under which the container's is made.
    pub cgroup_parent: String,
    /// Relative weight of block I/O, 10 to 1000.
    pub blkio_weight: u16,
    /// Weights of single devices.
    pub blkio_weight_device: Vec<WeightDevice>,
    /// Bytes that may be read in a second.
    pub blkio_device_read_bps: Vec<ThrottleDevice>,
    /// Bytes that may be written in a second.
    pub blkio_device_write_bps: Vec<ThrottleDevice>,
    /// Reads in a second.
    #[serde(rename = "BlkioDeviceReadIOps")]
    pub blkio_device_read_iops: Vec<ThrottleDevice>,
    /// Writes in a second.
    #[serde(rename = "BlkioDeviceWriteIOps")]
    pub blkio_device_write_iops: Vec<ThrottleDevice>,
    /// Processor period in microseconds.
    pub cpu_period: i64,
    /// Processor quota in microseconds.
    pub cpu_quota: i64,
    /// `0-2,4`.
    pub cpuset_cpus: String,
    /// Memory nodes.
    pub cpuset_mems: String,
    /// `--device`.
    pub devices: Vec<DeviceMapping>,
    /// Rules of the device cgroup.
    pub device_cgroup_rules: Option<Vec<String>>,
    /// Soft memory limit.
    pub memory_reservation: i64,
    /// Memory and swap together; -1 is no limit.
    pub memory_swap: i64,
    /// 0 to 100, `None` is the kernel's.
    pub memory_swappiness: Option<i64>,
    /// The kernel does not kill at the limit.
    pub oom_kill_disable: bool,
    /// Number of processes; `None`, 0 and -1 are no limit.
    pub pids_limit: Option<i64>,
    /// `--ulimit`.
    pub ulimits: Option<Vec<Ulimit>>,
    /// Paths hidden from the container; `None` is the default list.
    pub masked_paths: Option<Vec<String>>,
    /// Paths that the container may only read; `None` is the default list.
    pub readonly_paths: Option<Vec<String>>,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            binds: None,
            container_id_file: String::new(),
            log_config: LogConfig::default(),
            network_mode: "default".to_owned(),
            port_bindings: BTreeMap::new(),
            restart_policy: RestartPolicy::default(),
            auto_remove: false,
            volume_driver: String::new(),
            volumes_from: None,
            cap_add: None,
            cap_drop: None,
            cgroupns_mode: String::new(),
            dns: Vec::new(),
            dns_options: Vec::new(),
            dns_search: Vec::new(),
            extra_hosts: None,
            group_add: None,
            ipc_mode: "private".to_owned(),
            cgroup: String::new(),
            links: None,
            oom_score_adj: 0,
            pid_mode: String::new(),
            privileged: false,
            publish_all_ports: false,
            readonly_rootfs: false,
            security_opt: None,
            storage_opt: BTreeMap::new(),
            rootfs_union: String::new(),
            tmpfs: BTreeMap::new(),
            sysctls: BTreeMap::new(),
            mounts: Vec::new(),
            init: None,
            uts_mode: String::new(),
            userns_mode: String::new(),
            shm_size: 67_108_864,
            runtime: "rbox".to_owned(),
            console_size: [0, 0],
            annotations: BTreeMap::new(),
            cpu_shares: 0,
            memory: 0,
            nano_cpus: 0,
            cgroup_parent: String::new(),
            blkio_weight: 0,
            blkio_weight_device: Vec::new(),
            blkio_device_read_bps: Vec::new(),
            blkio_device_write_bps: Vec::new(),
            blkio_device_read_iops: Vec::new(),
            blkio_device_write_iops: Vec::new(),
            cpu_period: 0,
            cpu_quota: 0,
            cpuset_cpus: String::new(),
            cpuset_mems: String::new(),
            devices: Vec::new(),
            device_cgroup_rules: None,
            memory_reservation: 0,
            memory_swap: 0,
            memory_swappiness: None,
            oom_kill_disable: false,
            pids_limit: None,
            ulimits: None,
            masked_paths: None,
            readonly_paths: None,
        }
    }
}

/// Log driver and its options.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct LogConfig {
    /// `json-file` or `none`.
    #[serde(rename = "Type")]
    pub driver: String,
    /// `max-size`, `max-file`.
    #[serde(rename = "Config")]
    pub options: BTreeMap<String, String>,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            driver: "json-file".to_owned(),
            options: BTreeMap::new(),
        }
    }
}

/// One host side of a published port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PortBinding {
    /// Empty is every address.
    pub host_ip: String,
    /// Empty or `0` is any free port; `8000-8003` is a free one of these.
    pub host_port: String,
}

/// What happens when the process ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RestartPolicy {
    /// `no`, `on-failure`, `always` or `unless-stopped`.
    pub name: String,
    /// Of `on-failure`; 0 is without end.
    pub maximum_retry_count: i64,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            name: "no".to_owned(),
            maximum_retry_count: 0,
        }
    }
}

/// A device of the host in the container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DeviceMapping {
    /// On the host.
    pub path_on_host: String,
    /// In the container.
    pub path_in_container: String,
    /// Of `r`, `w`, `m`.
    pub cgroup_permissions: String,
}

/// The relative weight of a block device, 10 to 1000; 0 is none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct WeightDevice {
    /// On the host.
    pub path: String,
    /// Against other containers.
    pub weight: u16,
}

/// How much a block device may do in a second, in bytes or operations; 0 is no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ThrottleDevice {
    /// On the host.
    pub path: String,
    /// In a second.
    pub rate: u64,
}

/// A resource limit of the process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Ulimit {
    /// `nofile`.
    pub name: String,
    /// The ceiling; -1 is none.
    pub hard: i64,
    /// What is in force; -1 is none.
    pub soft: i64,
}
