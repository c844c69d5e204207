//! The planner and the limits as text: nothing here needs a privilege or looks at this host.

// A helper of a test panics as the test does.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::{Path, PathBuf};

use oci_spec::runtime::{
    Capability, LinuxBlockIoBuilder, LinuxCpuBuilder, LinuxMemoryBuilder, LinuxNamespaceType,
    LinuxPidsBuilder, LinuxResources, MountBuilder, Spec,
};
use plan::Step;
use runtime::cgroup::limits::writes;
use runtime::cgroup::{Cgroup, Group};
use runtime::{Facts, HostStep, Plan, PlanError, Request, Root};
use sys::caps::CapSet;
use sys::cgroup::{Hierarchies, Hierarchy};

fn tree(controllers: &[&str], mount: &str, own: &str) -> Hierarchy {
    Hierarchy {
        controllers: controllers.iter().map(|name| (*name).to_owned()).collect(),
        mount: PathBuf::from(mount),
        own: Path::new(mount).join(own),
    }
}

fn facts(cgroups: Hierarchies, device_programs: bool) -> Facts {
    Facts {
        cgroups,
        capabilities: CapSet::all(),
        device_programs,
        kernel: (6, 18),
    }
}

fn v1() -> Facts {
    let trees = Hierarchies {
        unified: None,
        v1: vec![
            tree(&["cpu", "cpuacct"], "/cg/cpu,cpuacct", ""),
            tree(&["memory"], "/cg/memory", "agent"),
            tree(&["pids"], "/cg/pids", ""),
            tree(&["devices"], "/cg/devices", ""),
            tree(&["freezer"], "/cg/freezer", ""),
        ],
    };
    facts(trees, false)
}

fn v2() -> Facts {
    let trees = Hierarchies {
        unified: Some(tree(&[], "/cg", "user.slice/session.scope")),
        v1: Vec::new(),
    };
    facts(trees, true)
}

fn hybrid() -> Facts {
    let mut facts = v1();
    facts.cgroups.unified = Some(tree(&[], "/cg/unified", ""));
    facts.device_programs = true;
    facts
}

fn request(change: impl FnOnce(&mut Spec)) -> Request {
    let mut spec = support::spec("id", vec!["sh".to_owned()]).unwrap();
    change(&mut spec);
    Request {
        spec,
        root: Root::Directory("/root".into()),
        user: None,
        filter: None,
        init: false,
    }
}

fn resources(spec: &mut Spec) -> &mut LinuxResources {
    let linux = spec.linux_mut().as_mut().unwrap();
    linux.resources_mut().as_mut().unwrap()
}

fn plan_with(facts: &Facts, change: impl FnOnce(&mut Spec)) -> Result<Plan, PlanError> {
    runtime::plan(&request(change), facts)
}

fn names(plan: &Plan) -> Vec<&'static str> {
    let host = plan.host.iter().chain(&plan.beside).map(Step::name);
    host.chain(plan.child.iter().map(Step::name)).collect()
}

#[test]
fn the_default_plan_in_order() {
    let plan = plan_with(&hybrid(), |_| {}).unwrap();
    assert_eq!(
        names(&plan).join(" "),
        "cgroup-create cgroup-devices mounts-private root-directory mount-proc mount-tmpfs \
         devices mount-devpts mount-sysfs mount-mqueue mount-tmpfs read-only mask hostname pivot \
         user session cwd program credentials"
    );
    let plan = plan_with(&v1(), |spec| {
        let process = spec.process_mut().as_mut().unwrap();
        process.set_terminal(Some(true));
        process.set_no_new_privileges(Some(true));
        process.set_oom_score_adj(Some(5));
    })
    .unwrap();
    assert_eq!(
        names(&plan).join(" "),
        "cgroup-create cgroup-devices cgroup-join mounts-private root-directory mount-proc \
         mount-tmpfs devices mount-devpts mount-sysfs mount-cgroup mount-mqueue mount-tmpfs console \
         read-only mask hostname oom-score pivot user session cwd program no-new-privileges \
         credentials"
    );
}

#[test]
fn every_step_says_what_it_does() {
    let plan = plan_with(&v1(), |spec| {
        let pids = LinuxPidsBuilder::default().limit(7).build().unwrap();
        resources(spec).set_pids(Some(pids));
    })
    .unwrap();
    let host = plan.host.iter().chain(&plan.beside).map(Step::describe);
    let all = host.chain(plan.child.iter().map(Step::describe));
    for description in all {
        assert!(
            !description.what.is_empty() && !description.why.is_empty(),
            "{description:?}"
        );
        assert!(!description.what.contains('{'), "{description:?}");
    }
    let shell: Vec<String> = plan.beside.iter().flat_map(Step::shell).collect();
    assert_eq!(shell[0], "echo '7' > /cg/pids/rbox/id/pids.max");
    let shell: Vec<String> = plan.child.iter().flat_map(Step::shell).collect();
    assert!(
        shell.contains(&"mount -t proc -o 'nosuid,nodev,noexec' proc root/proc".to_owned()),
        "{shell:?}"
    );
}

#[test]
fn host_steps_survive_the_journal() {
    let plan = plan_with(&hybrid(), |_| {}).unwrap();
    let json = serde_json::to_string(&plan.host).unwrap();
    assert_eq!(
        serde_json::from_str::<Vec<HostStep>>(&json).unwrap(),
        plan.host
    );
}

fn paths(plan: &Plan) -> Vec<String> {
    let cgroup = plan.cgroup.as_ref().unwrap();
    cgroup
        .groups()
        .map(|group| group.path.display().to_string())
        .collect()
}

#[test]
fn cgroups_lie_where_they_can() {
    let with_memory = |spec: &mut Spec| {
        let memory = LinuxMemoryBuilder::default()
            .limit(1 << 30)
            .build()
            .unwrap();
        resources(spec).set_memory(Some(memory));
    };
    // v1: beneath the caller's own, only the controllers that are needed.
    assert_eq!(
        paths(&plan_with(&v1(), with_memory).unwrap()),
        [
            "/cg/memory/agent/rbox/id",
            "/cg/devices/rbox/id",
            "/cg/freezer/rbox/id"
        ]
    );
    // Hybrid: the v2 tree holds the processes, v1 the limits.
    assert_eq!(
        paths(&plan_with(&hybrid(), with_memory).unwrap()),
        ["/cg/unified/rbox/id", "/cg/memory/agent/rbox/id"]
    );
    let plan = plan_with(&v2(), with_memory).unwrap();
    assert_eq!(paths(&plan), ["/cg/rbox/id"]);
    let HostStep::Cgroup { enable, .. } = &plan.host[0] else {
        panic!("{:?}", plan.host);
    };
    assert_eq!(enable, &["memory"]);
    // An absolute parent is one of the root's.
    let absolute = |spec: &mut Spec| {
        let linux = spec.linux_mut().as_mut().unwrap();
        linux.set_cgroups_path(Some("/given/id".into()));
        with_memory(spec);
    };
    assert_eq!(
        paths(&plan_with(&v1(), absolute).unwrap())[0],
        "/cg/memory/given/id"
    );
    // Nothing leads out of the tree.
    let hostile = |spec: &mut Spec| {
        let linux = spec.linux_mut().as_mut().unwrap();
        linux.set_cgroups_path(Some("../../etc/id".into()));
    };
    assert_eq!(paths(&plan_with(&v2(), hostile).unwrap()), ["/cg/etc/id"]);
}

fn mount(target: &str, source: &str, typ: &str) -> impl FnOnce(&mut Spec) {
    let mount = MountBuilder::default()
        .destination(target)
        .source(source)
        .typ(typ)
        .options(Vec::new())
        .build()
        .unwrap();
    move |spec| spec.mounts_mut().as_mut().unwrap().push(mount)
}

type Change = Box<dyn FnOnce(&mut Spec)>;

#[test]
fn what_is_refused() {
    let linux = |change: fn(&mut oci_spec::runtime::Linux)| {
        move |spec: &mut Spec| change(spec.linux_mut().as_mut().unwrap())
    };
    let sysctl = |key: &'static str| {
        move |spec: &mut Spec| {
            let map = [(key.to_owned(), "1".to_owned())].into();
            spec.linux_mut().as_mut().unwrap().set_sysctl(Some(map));
        }
    };
    let text = |change: Change| plan_with(&v2(), change).unwrap_err().to_string();
    let cases: Vec<(Change, &str)> = vec![
        (
            Box::new(mount("/proc", "/x", "bind")),
            "cannot mount on \"/proc\": nothing may be mounted over /proc",
        ),
        (
            Box::new(mount("/a/../proc/self/attr", "/x", "bind")),
            "cannot mount on \"/proc/self/attr\": nothing may be mounted over /proc",
        ),
        (
            Box::new(mount("/x/..", "/x", "bind")),
            "cannot mount on \"/\": the root is not a mount of its own",
        ),
        (
            Box::new(sysctl("kernel.core_pattern")),
            "sysctl 'kernel.core_pattern=1' is not allowed",
        ),
        (
            Box::new(sysctl("net/../kernel/core_pattern")),
            "sysctl 'net/../kernel/core_pattern=1' is not allowed",
        ),
        (
            Box::new(sysctl("kernel.hostname")),
            "sysctl 'kernel.hostname=1' is not allowed",
        ),
        (
            Box::new(sysctl("net...kernel")),
            "sysctl 'net...kernel=1' is not allowed",
        ),
        (
            Box::new(linux(|linux| {
                linux.set_cgroups_path(None);
                let pids = LinuxPidsBuilder::default().limit(1).build().unwrap();
                linux.resources_mut().as_mut().unwrap().set_pids(Some(pids));
            })),
            "the container's specification has no linux.cgroupsPath, which limits need",
        ),
        (
            Box::new(|spec: &mut Spec| {
                spec.process_mut()
                    .as_mut()
                    .unwrap()
                    .set_args(Some(vec![String::new()]));
            }),
            "the container's specification has no process.args",
        ),
    ];
    for (change, expected) in cases {
        assert_eq!(text(change), expected);
    }
    let error = plan_with(&v2(), |spec| {
        let process = spec.process_mut().as_mut().unwrap();
        process.set_apparmor_profile(Some("docker-default".to_owned()));
    });
    assert_eq!(
        error.unwrap_err().to_string(),
        "rbox does not support AppArmor profiles"
    );
    // A sysctl of a namespace that is the host's.
    let error = plan_with(&v2(), |spec| {
        sysctl("net.ipv4.ip_forward")(spec);
        let list = spec.linux_mut().as_mut().unwrap().namespaces_mut();
        list.as_mut()
            .unwrap()
            .retain(|one| one.typ() != LinuxNamespaceType::Network);
    });
    assert!(matches!(error, Err(PlanError::Sysctl(_))));
    assert!(plan_with(&v2(), sysctl("net.ipv4.ip_forward")).is_ok());
    assert!(plan_with(&v2(), mount("/proc/uptime", "/x", "bind")).is_ok());
}

#[test]
fn nobody_gives_what_he_does_not_have() {
    let mut facts = v2();
    facts.capabilities = facts
        .capabilities
        .without(["KILL".parse().unwrap()].into_iter().collect());
    let error = plan_with(&facts, |_| {}).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot give the capabilities CAP_KILL: this process does not have them itself"
    );
    let plan = plan_with(&facts, |spec| {
        let process = spec.process_mut().as_mut().unwrap();
        let mut caps = process.capabilities().clone().unwrap();
        let mut set = caps.bounding().clone().unwrap();
        set.remove(&Capability::Kill);
        caps.set_bounding(Some(set));
        process.set_capabilities(Some(caps));
    });
    assert!(plan.is_ok());
}

#[test]
fn binds_follow_their_order_and_devices_follow_dev() {
    let plan = plan_with(&v2(), |spec| {
        mount("/data", "/a", "bind")(spec);
        mount("/data/below", "/b", "bind")(spec);
    })
    .unwrap();
    let names = names(&plan);
    let at = |name: &str| names.iter().position(|known| *known == name).unwrap();
    assert!(
        at("bind-sources") < at("mounts-private"),
        "peers must still be peers"
    );
    assert_eq!(at("devices"), at("mount-tmpfs") + 1);
    // With the host's /dev nothing is made in it.
    let plan = plan_with(&v2(), |spec| {
        let mounts = spec.mounts_mut().as_mut().unwrap();
        mounts.retain(|mount| !mount.destination().starts_with("/dev"));
        mount("/dev", "/dev", "bind")(spec);
    })
    .unwrap();
    assert!(!self::names(&plan).contains(&"devices"));
}

fn group(controllers: &[&str]) -> Group {
    let name = controllers.join(",");
    Group {
        controllers: controllers.iter().map(|name| (*name).to_owned()).collect(),
        path: Path::new("/v1").join(name),
        base: "/v1".into(),
        shared: false,
    }
}

fn written(cgroup: &Cgroup, resources: &LinuxResources) -> Vec<String> {
    writes(resources, cgroup)
        .unwrap()
        .iter()
        .map(|write| {
            let name = write.path.file_name().unwrap().to_str().unwrap();
            let mut line = format!("{name} {}", write.value);
            if let Some((path, value)) = &write.instead {
                let name = path.file_name().unwrap().to_str().unwrap();
                line = format!("{line} or {name} {value}");
            }
            line
        })
        .collect()
}

fn both(resources: &LinuxResources) -> (Vec<String>, Vec<String>) {
    let v1 = Cgroup {
        unified: None,
        v1: ["memory", "cpu", "cpuset", "pids", "blkio"]
            .map(|name| group(&[name]))
            .into(),
    };
    let v2 = Cgroup {
        unified: Some(group(&[])),
        v1: Vec::new(),
    };
    (written(&v1, resources), written(&v2, resources))
}

#[test]
fn memory_and_swap() {
    let memory = |limit: i64, swap: i64| {
        let mut resources = LinuxResources::default();
        resources.set_devices(None);
        let memory = LinuxMemoryBuilder::default()
            .limit(limit)
            .swap(swap)
            .build()
            .unwrap();
        resources.set_memory(Some(memory));
        both(&resources)
    };
    let cases = [
        (100, 0, "memory.limit_in_bytes 100", "memory.max 100"),
        (
            100,
            300,
            "memory.limit_in_bytes 100|memory.memsw.limit_in_bytes 300",
            "memory.swap.max 200|memory.max 100",
        ),
        (
            100,
            -1,
            "memory.limit_in_bytes 100|memory.memsw.limit_in_bytes -1",
            "memory.swap.max max|memory.max 100",
        ),
        (
            -1,
            -1,
            "memory.memsw.limit_in_bytes -1|memory.limit_in_bytes -1",
            "memory.swap.max max|memory.max max",
        ),
    ];
    for (limit, swap, v1, v2) in cases {
        let (found1, found2) = memory(limit, swap);
        assert_eq!(
            (found1.join("|").as_str(), found2.join("|").as_str()),
            (v1, v2)
        );
    }
}

#[test]
fn processor_time() {
    let cpu = LinuxCpuBuilder::default()
        .shares(1024u64)
        .quota(150_000)
        .period(100_000u64)
        .cpus("0-1")
        .build()
        .unwrap();
    let mut resources = LinuxResources::default();
    resources.set_cpu(Some(cpu));
    let (v1, v2) = both(&resources);
    assert_eq!(
        v1,
        [
            "cpu.shares 1024",
            "cpu.cfs_period_us 100000",
            "cpu.cfs_quota_us 150000",
            "cpuset.cpus 0-1"
        ]
    );
    assert_eq!(
        v2,
        ["cpu.weight 100", "cpu.max 150000 100000", "cpuset.cpus 0-1"]
    );
    for (shares, weight) in [
        (2u64, 1),
        (512, 59),
        (1024, 100),
        (262_144, 10_000),
        (u64::MAX, 10_000),
    ] {
        let mut resources = LinuxResources::default();
        resources.set_cpu(Some(
            LinuxCpuBuilder::default().shares(shares).build().unwrap(),
        ));
        assert_eq!(
            both(&resources).1,
            [format!("cpu.weight {weight}")],
            "{shares}"
        );
    }
}

#[test]
fn processes_and_blocks() {
    for (limit, value) in [(7, "7"), (0, "max"), (-1, "max")] {
        let mut resources = LinuxResources::default();
        let pids = LinuxPidsBuilder::default().limit(limit).build().unwrap();
        resources.set_pids(Some(pids));
        let line = vec![format!("pids.max {value}")];
        assert_eq!(both(&resources), (line.clone(), line));
    }
    for (weight, io) in [(10u16, 1), (500, 4950), (1000, 10_000)] {
        let mut resources = LinuxResources::default();
        let block = LinuxBlockIoBuilder::default()
            .weight(weight)
            .build()
            .unwrap();
        resources.set_block_io(Some(block));
        let (v1, v2) = both(&resources);
        assert_eq!(
            (v1, v2),
            (
                vec![format!(
                    "blkio.bfq.weight {weight} or blkio.weight {weight}"
                )],
                vec![format!("io.bfq.weight {weight} or io.weight {io}")]
            )
        );
    }
}

#[test]
fn a_limit_without_controller_is_an_error() {
    let mut facts = v1();
    facts.cgroups.v1.retain(|tree| tree.controllers != ["pids"]);
    let error = plan_with(&facts, |spec| {
        let pids = LinuxPidsBuilder::default().limit(7).build().unwrap();
        resources(spec).set_pids(Some(pids));
    })
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot limit processes: this host has no cgroup controller pids"
    );
    let mut swappy = LinuxResources::default();
    let memory = LinuxMemoryBuilder::default()
        .limit(9)
        .disable_oom_killer(true)
        .build()
        .unwrap();
    swappy.set_memory(Some(memory));
    let v2 = Cgroup {
        unified: Some(group(&[])),
        v1: Vec::new(),
    };
    assert!(writes(&swappy, &v2).is_err());
}
