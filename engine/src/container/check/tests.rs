//! Tables of what is refused.

use super::*;
use crate::config::{Healthcheck, PortBinding, RestartPolicy, Ulimit};

fn refusal(change: impl Fn(&mut Config, &mut HostConfig)) -> Option<String> {
    let mut config = Config {
        cmd: Some(vec!["sh".to_owned()]),
        ..Config::default()
    };
    let mut host = HostConfig::default();
    change(&mut config, &mut host);
    let processors = Processors {
        online: "0-1".to_owned(),
        nodes: "0".to_owned(),
    };
    check(&config, &config, &host, &processors)
        .err()
        .map(|error| {
            assert_eq!(error.kind(), crate::ErrorKind::InvalidParameter);
            error.to_string()
        })
}

fn of_host(change: impl Fn(&mut HostConfig)) -> Option<String> {
    refusal(|_, host| change(host))
}

fn expect(got: Option<String>, expected: &str) {
    assert_eq!(got.as_deref().unwrap_or(""), expected);
}

#[test]
fn the_plain_container_is_accepted() {
    expect(refusal(|_, _| {}), "");
}

#[test]
fn processes() {
    expect(
        refusal(|config, _| config.cmd = None),
        "No command specified",
    );
    expect(
        refusal(|config, _| config.working_dir = "rel".to_owned()),
        "the working directory 'rel' is invalid, it needs to be an absolute path",
    );
    expect(
        refusal(|config, _| config.env = vec!["=x".to_owned()]),
        "invalid environment variable: =x",
    );
    expect(
        refusal(|config, _| config.stop_signal = Some("FOO".to_owned())),
        "Invalid signal: FOO",
    );
    expect(
        refusal(|config, _| {
            config.healthcheck = Some(Healthcheck {
                interval: 5,
                ..Healthcheck::default()
            });
        }),
        "Interval in Healthcheck cannot be less than 1ms",
    );
}

#[test]
fn memory() {
    const MEGA: i64 = 1 << 20;
    for (memory, swap, reservation, expected) in [
        (6 * MEGA, 0, 0, ""),
        (6 * MEGA, -1, 0, ""),
        (6 * MEGA, 12 * MEGA, 6 * MEGA, ""),
        (6 * MEGA - 1, 0, 0, "Minimum memory limit allowed is 6MB"),
        (
            0,
            12 * MEGA,
            0,
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        ),
        (
            12 * MEGA,
            6 * MEGA,
            0,
            "Minimum memoryswap limit should be larger than memory limit, see usage",
        ),
        (0, 0, MEGA, "Minimum memory reservation allowed is 6MB"),
        (
            6 * MEGA,
            0,
            7 * MEGA,
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        ),
    ] {
        let got = of_host(|host| {
            (host.memory, host.memory_swap, host.memory_reservation) = (memory, swap, reservation);
        });
        expect(got, expected);
    }
    expect(
        of_host(|host| host.memory_swappiness = Some(101)),
        "Invalid value: 101, valid memory swappiness range is 0-100",
    );
    expect(of_host(|host| host.memory_swappiness = Some(-1)), "");
}

#[test]
fn processors() {
    for (nano, expected) in [
        (2_000_000_000, ""),
        (
            2_000_000_001,
            "Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available",
        ),
        (
            -1,
            "Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available",
        ),
    ] {
        expect(of_host(|host| host.nano_cpus = nano), expected);
    }
    for (cpus, expected) in [
        ("0,1", ""),
        ("0-1", ""),
        (
            "9",
            "Requested CPUs are not available - requested 9, available: 0-1",
        ),
        (
            "0-2",
            "Requested CPUs are not available - requested 0-2, available: 0-1",
        ),
        ("a", "Invalid value a for cpuset cpus: invalid format: a"),
        (
            "1-0",
            "Invalid value 1-0 for cpuset cpus: invalid format: 1-0",
        ),
        (
            "0-4000000000",
            "Invalid value 0-4000000000 for cpuset cpus: invalid format: 0-4000000000",
        ),
    ] {
        expect(of_host(|host| host.cpuset_cpus = cpus.to_owned()), expected);
    }
    expect(
        of_host(|host| host.cpuset_mems = "3".to_owned()),
        "Requested memory nodes are not available - requested 3, available: 0",
    );
    expect(
        of_host(|host| (host.nano_cpus, host.cpu_period) = (1, 1000)),
        "Conflicting options: Nano CPUs and CPU Period cannot both be set",
    );
    expect(of_host(|host| host.cpu_quota = -1), "");
}

#[test]
fn other_limits() {
    expect(
        of_host(|host| {
            host.ulimits = Some(vec![Ulimit {
                name: "nofile".to_owned(),
                soft: 200,
                hard: 100,
            }]);
        }),
        "ulimit soft limit must be less than or equal to hard limit: 200 > 100",
    );
    expect(
        of_host(|host| host.blkio_weight = 9),
        "Range of blkio weight is from 10 to 1000",
    );
    expect(
        of_host(|host| host.oom_score_adj = 1001),
        "Invalid value 1001, range for oom score adj is [-1000, 1000]",
    );
    expect(
        of_host(|host| host.shm_size = -1),
        "SHM size can not be less than 0",
    );
}

#[test]
fn namespaces() {
    expect(
        of_host(|host| host.ipc_mode = "foo".to_owned()),
        "Invalid IPC mode: foo",
    );
    expect(of_host(|host| host.ipc_mode = "shareable".to_owned()), "");
    expect(
        of_host(|host| host.pid_mode = "container:".to_owned()),
        "--pid: invalid PID mode",
    );
    expect(of_host(|host| host.pid_mode = "container:x".to_owned()), "");
    expect(
        of_host(|host| host.uts_mode = "foo".to_owned()),
        "--uts: invalid UTS mode",
    );
    expect(
        refusal(|config, host| {
            config.hostname = "x".to_owned();
            host.uts_mode = "host".to_owned();
        }),
        "conflicting options: hostname and the UTS mode",
    );
    expect(
        of_host(|host| host.runtime = "foo".to_owned()),
        "Unknown runtime specified foo",
    );
}

#[test]
fn networks() {
    let of_container = |change: &dyn Fn(&mut Config, &mut HostConfig)| {
        refusal(|config, host| {
            host.network_mode = "container:x".to_owned();
            change(config, host);
        })
    };
    expect(of_container(&|_, _| {}), "");
    expect(
        of_host(|host| host.network_mode = "container:".to_owned()),
        "Invalid network mode: invalid container format container:<name|id>",
    );
    expect(
        of_container(&|config, _| config.hostname = "x".to_owned()),
        "conflicting options: hostname and the network mode",
    );
    expect(
        of_container(&|_, host| host.dns = vec!["1.1.1.1".to_owned()]),
        "conflicting options: dns and the network mode",
    );
    expect(
        of_container(&|_, host| host.extra_hosts = Some(vec!["a:1.1.1.1".to_owned()])),
        "conflicting options: custom host-to-IP mapping and the network mode",
    );
    expect(
        of_container(&|_, host| host.publish_all_ports = true),
        "conflicting options: port publishing and the container type network mode",
    );
    expect(
        of_container(&|_, host| {
            host.port_bindings
                .insert("80/tcp".to_owned(), vec![PortBinding::default()]);
        }),
        "conflicting options: port publishing and the container type network mode",
    );
    expect(
        of_container(&|config, _| {
            config
                .exposed_ports
                .insert("80/tcp".to_owned(), Default::default());
        }),
        "conflicting options: port exposing and the container type network mode",
    );
    expect(
        of_host(|host| {
            host.network_mode = "host".to_owned();
            host.links = Some(vec!["a".to_owned()]);
        }),
        "conflicting options: host type networking can't be used with links. This would result in \
         undefined behavior",
    );
}

#[test]
fn restart_policies() {
    for (name, count, expected) in [
        ("no", 0, ""),
        ("on-failure", 3, ""),
        ("always", 0, ""),
        ("unless-stopped", 0, ""),
        ("foo", 0, "invalid restart policy 'foo'"),
        (
            "always",
            3,
            "maximum retry count cannot be used with restart policy 'always'",
        ),
        ("on-failure", -1, "maximum retry count cannot be negative"),
    ] {
        let got = of_host(|host| {
            host.restart_policy = RestartPolicy {
                name: name.to_owned(),
                maximum_retry_count: count,
            };
        });
        expect(got, expected);
    }
    expect(
        of_host(|host| {
            host.auto_remove = true;
            host.restart_policy.name = "always".to_owned();
        }),
        "can't create 'AutoRemove' container with restart policy",
    );
}

#[test]
fn logs() {
    for (driver, option, expected) in [
        ("none", "", ""),
        ("json-file", "max-size", ""),
        (
            "json-file",
            "foo",
            "unknown log opt 'foo' for json-file log driver",
        ),
        (
            "foo",
            "",
            "error looking up logging plugin foo: plugin \"foo\" not found",
        ),
    ] {
        let got = of_host(|host| {
            host.log_config.driver = driver.to_owned();
            if !option.is_empty() {
                host.log_config
                    .options
                    .insert(option.to_owned(), "1m".to_owned());
            }
        });
        expect(got, expected);
    }
}

#[test]
fn kernel_settings() {
    for (name, network, ipc, allowed) in [
        ("net.ipv4.ip_forward", "default", "private", true),
        ("net.ipv4.ip_forward", "host", "private", false),
        ("kernel.shmmax", "default", "private", true),
        ("kernel.shmmax", "default", "host", false),
        ("fs.mqueue.msg_max", "default", "private", true),
        ("kernel.domainname", "default", "private", true),
        ("kernel.foo", "default", "private", false),
        ("kernel.core_pattern", "default", "private", false),
        ("net/../kernel/core_pattern", "default", "private", false),
        ("net..kernel", "default", "private", false),
    ] {
        let got = of_host(|host| {
            host.network_mode = network.to_owned();
            host.ipc_mode = ipc.to_owned();
            host.sysctls.insert(name.to_owned(), "1".to_owned());
        });
        let text = format!("sysctl '{name}=1' is not allowed");
        expect(got, if allowed { "" } else { &text });
    }
}

#[test]
fn rights() {
    expect(
        of_host(|host| host.cap_add = Some(vec!["FOO".to_owned()])),
        "invalid CapAdd: unknown capability: \"CAP_FOO\"",
    );
    expect(
        of_host(|host| host.security_opt = Some(vec!["foo".to_owned()])),
        "Invalid --security-opt: \"foo\"",
    );
}
