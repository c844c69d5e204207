//! The specification as a whole, as JSON.

use serde_json::{Value, json};

use super::*;
use crate::config::Ulimit;
use crate::mount::MountKind;

struct Case {
    config: Config,
    host: HostConfig,
    mounts: Vec<MountPoint>,
    namespaces: Namespaces,
    shared_memory: Option<PathBuf>,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            config: Config {
                hostname: "box".to_owned(),
                cmd: Some(vec!["sh".to_owned()]),
                ..Config::default()
            },
            host: HostConfig::default(),
            mounts: Vec::new(),
            namespaces: Namespaces::default(),
            shared_memory: None,
        }
    }
}

impl Case {
    fn json(&self) -> Value {
        let id = "ab".repeat(32).parse().unwrap();
        let files = Files {
            resolv_conf: "/c/resolv.conf".into(),
            hostname: "/c/hostname".into(),
            hosts: "/c/hosts".into(),
        };
        let spec = specification(&SpecRequest {
            id: &id,
            config: &self.config,
            host: &self.host,
            mounts: &self.mounts,
            files: Some(&files),
            links: &[],
            namespaces: &self.namespaces,
            shared_memory: self.shared_memory.as_deref(),
            devices: &[],
            block_io: None,
            cgroup_parent: "/rbox",
        })
        .unwrap();
        let mut value = serde_json::to_value(spec).unwrap();
        // sets have no order
        for set in ["bounding", "permitted", "effective"] {
            let list = value["process"]["capabilities"][set]
                .as_array_mut()
                .unwrap();
            list.sort_by_key(ToString::to_string);
        }
        value
    }

    fn destinations(&self) -> Vec<String> {
        let value = self.json();
        let text = |mount: &Value| mount["destination"].as_str().unwrap().to_owned();
        value["mounts"]
            .as_array()
            .unwrap()
            .iter()
            .map(text)
            .collect()
    }

    fn mount(&self, place: &str) -> Value {
        let value = self.json();
        let mounts = value["mounts"].as_array().unwrap();
        let found: Vec<_> = mounts
            .iter()
            .filter(|mount| mount["destination"] == place)
            .collect();
        assert_eq!(found.len(), 1, "{place}");
        found[0].clone()
    }

    fn namespaces(&self) -> Vec<String> {
        let value = self.json();
        let text = |one: &Value| match one["path"].as_str() {
            Some(path) => format!("{}={path}", one["type"].as_str().unwrap()),
            None => one["type"].as_str().unwrap().to_owned(),
        };
        value["linux"]["namespaces"]
            .as_array()
            .unwrap()
            .iter()
            .map(text)
            .collect()
    }
}

#[test]
fn the_default_container_is_dockers() {
    let value = Case::default().json();
    assert_eq!(
        value,
        serde_json::from_str::<Value>(include_str!("default.json")).unwrap()
    );
}

#[test]
fn privileged_opens_everything() {
    let case = Case {
        host: HostConfig {
            privileged: true,
            ..HostConfig::default()
        },
        ..Case::default()
    };
    let value = case.json();
    assert_eq!(value["linux"]["maskedPaths"], json!([]));
    assert_eq!(value["linux"]["readonlyPaths"], json!([]));
    assert_eq!(
        value["linux"]["resources"]["devices"],
        json!([{"allow": true, "type": "a", "access": "rwm"}])
    );
    assert_eq!(
        value["process"]["capabilities"]["effective"]
            .as_array()
            .unwrap()
            .len(),
        41
    );
    assert_eq!(
        case.mount("/sys")["options"],
        json!(["nosuid", "noexec", "nodev", "rw"])
    );
    assert_eq!(case.mount("/sys/fs/cgroup")["options"][0], "rw");
}

#[test]
fn system_paths_can_be_opened_alone() {
    let mut case = Case::default();
    case.host.security_opt = Some(vec!["systempaths=unconfined".to_owned()]);
    assert_eq!(case.json()["linux"]["maskedPaths"], json!([]));
    case.host.security_opt = None;
    case.host.masked_paths = Some(vec!["/x".to_owned()]);
    assert_eq!(case.json()["linux"]["maskedPaths"], json!(["/x"]));
}

#[test]
fn namespaces_are_made_shared_or_joined() {
    assert_eq!(
        Case::default().namespaces(),
        ["mount", "network", "uts", "pid", "ipc"]
    );
    let mut case = Case::default();
    case.host.cgroupns_mode = "private".to_owned();
    case.namespaces = Namespaces {
        network: Namespace::Of("/proc/7/ns/net".into()),
        ipc: Namespace::Host,
        pid: Namespace::Of("/proc/7/ns/pid".into()),
        uts: Namespace::Host,
    };
    assert_eq!(
        case.namespaces(),
        [
            "mount",
            "network=/proc/7/ns/net",
            "pid=/proc/7/ns/pid",
            "cgroup"
        ]
    );
    let value = case.json();
    assert_eq!(value["hostname"], Value::Null);
    assert_eq!(value["linux"]["sysctl"], json!({}));
}

#[test]
fn shared_memory_follows_the_ipc_mode() {
    let mut case = Case::default();
    case.host.shm_size = 1 << 20;
    assert_eq!(case.mount("/dev/shm")["options"][4], "size=1048576");
    case.namespaces.ipc = Namespace::Host;
    assert_eq!(case.mount("/dev/shm")["source"], "/dev/shm");
    case.namespaces.ipc = Namespace::Of("/proc/7/ns/ipc".into());
    case.shared_memory = Some("/proc/7/root/dev/shm".into());
    assert_eq!(case.mount("/dev/shm")["source"], "/proc/7/root/dev/shm");
    case.namespaces.ipc = Namespace::New;
    case.host.ipc_mode = "none".to_owned();
    assert!(!case.destinations().contains(&"/dev/shm".to_owned()));
}

#[test]
fn the_users_mounts_come_after_the_defaults_and_take_their_place() {
    let read_only = MountPoint {
        writable: false,
        ..MountPoint::new(MountKind::Volume, "/v/_data", "/a/b/c/d")
    };
    let mut case = Case {
        mounts: vec![
            MountPoint::new(MountKind::Bind, "/host/hosts", "/etc/hosts"),
            MountPoint::new(MountKind::Bind, "/host/shm", "/dev/shm"),
            read_only,
        ],
        ..Case::default()
    };
    case.host
        .tmpfs
        .insert("/a".to_owned(), "size=1m,exec".to_owned());
    assert_eq!(
        case.destinations(),
        [
            "/proc",
            "/dev",
            "/dev/pts",
            "/sys",
            "/sys/fs/cgroup",
            "/dev/mqueue",
            "/a",
            "/etc/resolv.conf",
            "/etc/hostname",
            "/etc/hosts",
            "/dev/shm",
            "/a/b/c/d",
        ]
    );
    assert_eq!(case.mount("/etc/hosts")["source"], "/host/hosts");
    assert_eq!(
        case.mount("/a/b/c/d")["options"],
        json!(["rbind", "rro", "rprivate"])
    );
    assert_eq!(
        case.mount("/a")["options"],
        json!(["nosuid", "nodev", "size=1m", "exec"])
    );
    case.mounts = vec![MountPoint::new(MountKind::Bind, "/host/dev", "/dev")];
    let places = case.destinations();
    assert!(!places.contains(&"/dev/pts".to_owned()), "{places:?}");
}

#[test]
fn sharing_mounts_needs_a_root_that_shares() {
    let mut case = Case::default();
    for (propagation, root) in [
        ("rprivate", Value::Null),
        ("rslave", json!("rslave")),
        ("shared", json!("shared")),
    ] {
        let mut mount = MountPoint::new(MountKind::Bind, "/a", "/b");
        mount.propagation = propagation.to_owned();
        case.mounts = vec![mount];
        assert_eq!(case.json()["linux"]["rootfsPropagation"], root);
    }
}

#[test]
fn the_process_is_as_asked() {
    let mut case = Case::default();
    case.config.entrypoint = Some(vec!["/bin/e".to_owned()]);
    case.config.tty = true;
    case.config.working_dir = "/w".to_owned();
    case.config.domainname = "d".to_owned();
    case.host.console_size = [24, 80];
    case.host.readonly_rootfs = true;
    case.host.oom_score_adj = 500;
    case.host.cgroup_parent = "/mine".to_owned();
    case.host.security_opt = Some(vec!["no-new-privileges".to_owned()]);
    case.host.ulimits = Some(vec![Ulimit {
        name: "nofile".to_owned(),
        soft: 100,
        hard: -1,
    }]);
    case.host
        .sysctls
        .insert("net.ipv4.ip_forward".to_owned(), "1".to_owned());
    let value = case.json();
    assert_eq!(value["process"]["args"], json!(["/bin/e", "sh"]));
    assert_eq!(value["process"]["cwd"], "/w");
    assert_eq!(
        value["process"]["consoleSize"],
        json!({"height": 24, "width": 80})
    );
    assert_eq!(value["process"]["noNewPrivileges"], true);
    assert_eq!(value["process"]["oomScoreAdj"], 500);
    assert_eq!(
        value["process"]["rlimits"],
        json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": u64::MAX}])
    );
    assert_eq!(value["root"]["readonly"], true);
    assert_eq!(value["domainname"], "d");
    assert_eq!(
        value["linux"]["cgroupsPath"],
        format!("/mine/{}", "ab".repeat(32))
    );
    assert_eq!(value["linux"]["sysctl"]["net.ipv4.ip_forward"], "1");
    assert_eq!(
        case.mount("/etc/hosts")["options"],
        json!(["rbind", "rro", "rprivate"])
    );
}

#[test]
fn volumes_that_lie_elsewhere_are_mounted_from_there() {
    let driver = |pairs: &[(&str, &str)]| crate::mount::VolumeOptions {
        driver_config: Some(crate::mount::DriverConfig {
            name: "local".to_owned(),
            options: pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
        }),
        ..crate::mount::VolumeOptions::default()
    };
    let mut case = Case::default();
    for (pairs, writable, expected) in [
        (
            &[("type", "none"), ("device", "/x"), ("o", "bind")][..],
            true,
            json!({"destination": "/d", "type": "bind", "source": "/x", "options": ["rbind", "rprivate"]}),
        ),
        (
            &[("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m")],
            false,
            json!({"destination": "/d", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m", "ro"]}),
        ),
    ] {
        case.mounts = vec![MountPoint {
            volume: Some(driver(pairs)),
            writable,
            ..MountPoint::new(MountKind::Volume, "/v/_data", "/d")
        }];
        assert_eq!(case.mount("/d"), expected);
    }
}
