//! The document's form: which fields, in which order.

use std::path::Path;

use serde_json::json;

use super::*;
use crate::config::{Config, HostConfig};
use crate::mount::MountKind;
use crate::store::record::tests::record;
use crate::store::{
    ContainerDir, EndpointRecord, InitRecord, NetworkRecord, PortRecord, ProcessMark, RunDir,
};

fn container(directory: &Path) -> Container {
    let record = crate::store::Record {
        config: Config {
            image: "busybox".to_owned(),
            exposed_ports: [
                ("80/tcp".to_owned(), Default::default()),
                ("53/udp".to_owned(), Default::default()),
            ]
            .into(),
            ..Config::default()
        },
        ..record("web")
    };
    Container {
        record,
        name: "web".to_owned(),
        dir: ContainerDir::at(directory.join("durable")),
        run: RunDir::at(directory.join("run")),
    }
}

fn keys(value: &Value) -> String {
    let object = value.as_object().unwrap();
    object
        .keys()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(" ")
}

fn network() -> NetworkRecord {
    NetworkRecord {
        sandbox_id: "s".to_owned(),
        sandbox_key: "/proc/7/ns/net".to_owned(),
        endpoints: vec![EndpointRecord {
            network: "bridge".to_owned(),
            network_id: "n".to_owned(),
            endpoint_id: "e".to_owned(),
            address: Some([172, 17, 0, 2].into()),
            prefix: 16,
            gateway: Some([172, 17, 0, 1].into()),
            mac_address: "02:42:ac:11:00:02".to_owned(),
            ..EndpointRecord::default()
        }],
        ports: vec![PortRecord {
            container_port: 80,
            protocol: "tcp".to_owned(),
            host_ip: netns::port::ANY_V4,
            host_port: 8080,
        }],
    }
}

#[test]
fn the_host_config_has_dockers_fields_in_dockers_order() {
    let value = host::host_config(&HostConfig::default(), None).unwrap();
    assert_eq!(
        keys(&value),
        "Binds ContainerIDFile LogConfig NetworkMode PortBindings RestartPolicy AutoRemove \
         VolumeDriver VolumesFrom CapAdd CapDrop CgroupnsMode Dns DnsOptions DnsSearch ExtraHosts \
         GroupAdd IpcMode Cgroup Links OomScoreAdj PidMode Privileged PublishAllPorts \
         ReadonlyRootfs SecurityOpt UTSMode UsernsMode ShmSize Runtime ConsoleSize Isolation \
         CpuShares Memory NanoCpus CgroupParent BlkioWeight BlkioWeightDevice BlkioDeviceReadBps \
         BlkioDeviceWriteBps BlkioDeviceReadIOps BlkioDeviceWriteIOps CpuPeriod CpuQuota \
         CpuRealtimePeriod CpuRealtimeRuntime CpusetCpus CpusetMems Devices DeviceCgroupRules \
         DeviceRequests KernelMemory KernelMemoryTCP MemoryReservation MemorySwap \
         MemorySwappiness OomKillDisable PidsLimit Ulimits CpuCount CpuPercent IOMaximumIOps \
         IOMaximumBandwidth MaskedPaths ReadonlyPaths"
    );
    assert_eq!(value["MaskedPaths"].as_array().unwrap().len(), 10);
    let privileged = HostConfig {
        privileged: true,
        ..HostConfig::default()
    };
    assert_eq!(
        host::host_config(&privileged, None).unwrap()["MaskedPaths"],
        Value::Null
    );
}

#[test]
fn the_config_has_dockers_fields_in_dockers_order() {
    let value = serde_json::to_value(Config::default()).unwrap();
    assert_eq!(
        keys(&value),
        "Hostname Domainname User AttachStdin AttachStdout AttachStderr Tty OpenStdin StdinOnce \
         Env Cmd Image Volumes WorkingDir Entrypoint OnBuild Labels"
    );
}

#[test]
fn the_network_of_a_running_container() {
    let directory = tempfile::tempdir().unwrap();
    let container = container(directory.path());
    container.run.make().unwrap();
    container.run.write_network(&network()).unwrap();
    let value =
        serde_json::to_value(network_settings(&container, Status::Running).unwrap()).unwrap();
    assert_eq!(
        keys(&value),
        "Bridge SandboxID HairpinMode LinkLocalIPv6Address LinkLocalIPv6PrefixLen Ports \
         SandboxKey SecondaryIPAddresses SecondaryIPv6Addresses EndpointID Gateway \
         GlobalIPv6Address GlobalIPv6PrefixLen IPAddress IPPrefixLen IPv6Gateway MacAddress \
         Networks"
    );
    assert_eq!(value["IPAddress"], "172.17.0.2");
    assert_eq!(
        value["Ports"],
        json!({"53/udp": null, "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}]})
    );
    assert_eq!(
        keys(&value["Networks"]["bridge"]),
        "IPAMConfig Links Aliases NetworkID EndpointID Gateway IPAddress IPPrefixLen IPv6Gateway \
         GlobalIPv6Address GlobalIPv6PrefixLen MacAddress DriverOpts"
    );
}

#[test]
fn the_network_of_others() {
    let directory = tempfile::tempdir().unwrap();
    let mut container = container(directory.path());
    container.run.make().unwrap();
    container.run.write_network(&network()).unwrap();
    let stopped = network_settings(&container, Status::Exited).unwrap();
    assert!(stopped.ports.is_empty());
    assert_eq!(stopped.networks["bridge"], Default::default());
    assert_eq!(stopped.mirror, Default::default());
    for (mode, networks) in [
        ("host", &["host"][..]),
        ("none", &["none"]),
        ("container:x", &[]),
    ] {
        container.record.host.network_mode = mode.to_owned();
        container
            .run
            .write_network(&NetworkRecord::default())
            .unwrap();
        let settings = network_settings(&container, Status::Running).unwrap();
        assert!(settings.networks.keys().eq(networks), "{mode}");
        assert!(settings.ports.is_empty(), "{mode}");
    }
}

#[test]
fn the_state_follows_the_facts() {
    let time = |second: u32| -> Time { format!("2026-01-01T00:00:{second:02}Z").parse().unwrap() };
    let init = |second| {
        Some(InitRecord {
            process: ProcessMark {
                pid: 7,
                start_time: 1,
            },
            started_at: time(second),
        })
    };
    let ended = State {
        started_at: time(1),
        finished_at: time(2),
        exit_code: 3,
        ..State::default()
    };
    for (monitor, init, state, expected) in [
        (false, None, State::default(), (Status::Created, 0, 0)),
        (true, init(3), ended.clone(), (Status::Running, 7, 0)),
        (false, None, ended.clone(), (Status::Exited, 0, 3)),
        (false, init(3), ended.clone(), (Status::Exited, 0, 137)),
        (
            true,
            init(1),
            State {
                restarting: true,
                ..ended
            },
            (Status::Restarting, 0, 3),
        ),
    ] {
        let facts = Facts {
            monitor,
            init,
            paused: false,
        };
        let document = state_document(&facts, state);
        assert_eq!(
            (document.status, document.pid, document.exit_code),
            expected
        );
        assert_eq!(document.running, expected.0.is_running());
    }
    let value = serde_json::to_value(state_document(
        &Facts {
            monitor: false,
            init: None,
            paused: false,
        },
        State::default(),
    ));
    assert_eq!(
        keys(&value.unwrap()),
        "Status Running Paused Restarting OOMKilled Dead Pid ExitCode Error StartedAt FinishedAt"
    );
}

#[test]
fn mounts_have_dockers_form() {
    let volume = MountPoint {
        name: "nv".to_owned(),
        mode: "z".to_owned(),
        ..MountPoint::new(MountKind::Volume, "/r/volumes/nv/_data", "/data")
    };
    let bind = MountPoint::new(MountKind::Bind, "/src", "/dst");
    let tmpfs = MountPoint::new(MountKind::Tmpfs, "", "/m");
    for (mount, text) in [
        (
            volume,
            r#"{"Type":"volume","Name":"nv","Source":"/r/volumes/nv/_data","Destination":"/data","Driver":"local","Mode":"z","RW":true,"Propagation":""}"#,
        ),
        (
            bind,
            r#"{"Type":"bind","Source":"/src","Destination":"/dst","Mode":"","RW":true,"Propagation":"rprivate"}"#,
        ),
        (
            tmpfs,
            r#"{"Type":"tmpfs","Source":"","Destination":"/m","Mode":"","RW":true,"Propagation":""}"#,
        ),
    ] {
        let document = MountDocument::from(&mount);
        assert_eq!(serde_json::to_string(&document).unwrap(), text);
    }
}
