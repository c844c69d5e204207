//! The steps inside a container in words, in system calls and as shell commands.

use std::path::Path;

use sys::mount::Propagation;

use crate::cgroup::TASKS;
use crate::mounts::{self, Mount, MountKind};
use crate::request::Root;
use crate::steps::{ChildStep, DeviceNode, mount_words};

/// What, why, and with which calls.
pub(crate) fn child_step(step: &ChildStep) -> (String, &'static str, Vec<String>) {
    match step {
        ChildStep::Root(root) => root_words(root),
        ChildStep::Mount(mount) => mount_description(mount),
        ChildStep::CgroupJoin(all) => (
            format!("move into {} cgroups", all.len()),
            "v1 has no way to be born in a cgroup",
            all.iter()
                .map(|path| format!("write({:?}, \"0\")", path.join(TASKS)))
                .collect(),
        ),
        ChildStep::CgroupNamespace => (
            "begin a cgroup namespace".to_owned(),
            "the container sees its own cgroup as the root",
            vec!["unshare(CLONE_NEWCGROUP)".to_owned()],
        ),
        ChildStep::NamespaceJoin(kind, path) => (
            format!("join the {} namespace {}", kind.name(), path.display()),
            "it was asked to be shared",
            vec![format!("setns({path:?})")],
        ),
        ChildStep::ContainerJoin(kinds) => (
            "join the container's namespaces".to_owned(),
            "the process is to see what the container sees",
            vec![format!("setns(pidfd, {kinds:?})")],
        ),
        ChildStep::BindSources(all) => (
            format!(
                "take hold of {} files and directories of the host",
                all.len()
            ),
            "they cannot be named any more once the root has changed",
            all.iter()
                .map(|source| match source.no_links {
                    true => format!(
                        "openat2({:?}, RESOLVE_NO_SYMLINKS), open_tree(fd, OPEN_TREE_CLONE)",
                        source.path
                    ),
                    false => format!("open_tree({:?}, OPEN_TREE_CLONE)", source.path),
                })
                .collect(),
        ),
        ChildStep::MountsPrivate => (
            "cut the mounts off from the host's".to_owned(),
            "nothing mounted inside may show outside",
            vec!["mount(\"/\", MS_REC|MS_PRIVATE)".to_owned()],
        ),
        ChildStep::MakeDirectory(path) => (
            format!("make the directory {}", path.display()),
            "the working directory is made where the image has none, while the root can be written",
            vec![format!("mkdirat(root, {path:?}, 0755)")],
        ),
        ChildStep::RootReadOnly => (
            "make the root read-only".to_owned(),
            "--read-only",
            vec!["mount_setattr(root, MOUNT_ATTR_RDONLY)".to_owned()],
        ),
        ChildStep::ChangeRoot(_) => (
            "change to the container's root and let the host's go".to_owned(),
            "no path inside may lead to the host's files",
            vec![
                "pivot_root(\".\", \".\")".to_owned(),
                "umount2(\".\", MNT_DETACH)".to_owned(),
            ],
        ),
        other => view_step(other),
    }
}

/// Steps that shape what the program sees.
fn view_step(step: &ChildStep) -> (String, &'static str, Vec<String>) {
    match step {
        ChildStep::Devices(nodes, links) => (
            format!("make {} device nodes", nodes.len()),
            if *links {
                "programs expect them and the links to their own descriptors"
            } else {
                "they were asked for"
            },
            nodes
                .iter()
                .map(|node| {
                    let (path, major, minor) = (&node.path, node.major, node.minor);
                    format!("mknodat({path:?}, {}, {major}:{minor})", node.kind)
                })
                .collect(),
        ),
        ChildStep::InitProgram => (
            "put the init program at /sbin/docker-init".to_owned(),
            "--init",
            vec!["move_mount(tmpfs file, \"/sbin/docker-init\")".to_owned()],
        ),
        ChildStep::Console(rows, columns) => (
            format!("open a terminal of {rows} rows and {columns} columns as /dev/console"),
            "-t",
            vec![
                "openat(devpts, \"ptmx\")".to_owned(),
                "ioctl(TIOCGPTPEER)".to_owned(),
            ],
        ),
        ChildStep::Sysctl(all) => (
            format!("set {} kernel parameters", all.len()),
            "they belong to the new namespaces",
            all.iter()
                .map(|(key, value)| format!("write(\"/proc/sys/{}\", {value:?})", slashed(key)))
                .collect(),
        ),
        ChildStep::Mask(paths) => (
            format!("hide {} paths", paths.len()),
            "they tell about or change the host",
            paths
                .iter()
                .map(|path| format!("move_mount(null, {path:?})"))
                .collect(),
        ),
        ChildStep::ReadOnly(paths) => (
            format!("make {} paths read-only", paths.len()),
            "they change the host when written",
            paths
                .iter()
                .map(|path| format!("mount_setattr({path:?}, MOUNT_ATTR_RDONLY)"))
                .collect(),
        ),
        ChildStep::HostName(host, domain) => (
            format!("set the host name {:?}", host.as_deref().unwrap_or("")),
            "the container has its own",
            [("sethostname", host), ("setdomainname", domain)]
                .iter()
                .filter_map(|(call, name)| Some(format!("{call}({:?})", name.as_ref()?)))
                .collect(),
        ),
        other => cage_step(other),
    }
}

/// Steps that restrict the process.
fn cage_step(step: &ChildStep) -> (String, &'static str, Vec<String>) {
    match step {
        ChildStep::OutOfMemoryScore(score) => (
            format!("set the out-of-memory score to {score}"),
            "it was asked for",
            vec![format!("write(\"/proc/self/oom_score_adj\", \"{score}\")")],
        ),
        ChildStep::Limits(all) => (
            format!("set {} resource limits", all.len()),
            "--ulimit",
            all.iter()
                .map(|one| {
                    format!(
                        "prlimit64({}, {}:{})",
                        one.name, one.limit.soft, one.limit.hard
                    )
                })
                .collect(),
        ),
        ChildStep::Session(terminal) => (
            "begin a session with its own keyring and streams".to_owned(),
            if *terminal {
                "the terminal becomes the controlling one"
            } else {
                "no terminal of the host's may be reached"
            },
            vec![
                "keyctl(KEYCTL_JOIN_SESSION_KEYRING)".to_owned(),
                "setsid()".to_owned(),
            ],
        ),
        ChildStep::User(request, numbers, _) => (
            match request {
                Some(request) => format!("look up the user {:?}", request.user),
                None => format!("be the user {}:{}", numbers.0, numbers.1),
            },
            "names are those of the container's own files",
            vec!["openat2(root, \"etc/passwd\", RESOLVE_IN_ROOT)".to_owned()],
        ),
        ChildStep::WorkingDirectory(path, _) => (
            format!("go to {}", path.display()),
            "the working directory",
            vec![format!("fchdir({path:?})")],
        ),
        ChildStep::Program => (
            "find the program".to_owned(),
            "PATH is the container's",
            Vec::new(),
        ),
        ChildStep::NoNewPrivileges => (
            "give up gaining privilege".to_owned(),
            "--security-opt no-new-privileges",
            vec!["prctl(PR_SET_NO_NEW_PRIVS, 1)".to_owned()],
        ),
        ChildStep::Seccomp(program, _) => (
            format!(
                "restrict system calls by a filter of {} instructions",
                program.len()
            ),
            "calls that programs do not need are ways out",
            vec![format!(
                "seccomp(SECCOMP_SET_MODE_FILTER, {})",
                program.len()
            )],
        ),
        ChildStep::Credentials(caps) => (
            format!("keep the capabilities {}", caps.bounding),
            "root inside is not root outside",
            vec![
                format!("prctl(PR_CAPBSET_DROP, all but {:#x})", caps.bounding.0),
                "setgroups()".to_owned(),
                "setresgid()".to_owned(),
                "setresuid()".to_owned(),
                format!("capset({:#x})", caps.effective.0),
            ],
        ),
        other => (format!("{other:?}"), "", Vec::new()),
    }
}

fn root_words(root: &Root) -> (String, &'static str, Vec<String>) {
    match root {
        Root::Overlay(overlay) => (
            format!("stack {} layers as the root", overlay.lowers.len()),
            "the image stays as it is, changes go into the topmost layer",
            vec![
                "fsopen(\"overlay\")".to_owned(),
                format!("fsconfig(lowerdir+) × {}", overlay.lowers.len()),
                "fsmount()".to_owned(),
            ],
        ),
        Root::Directory(path) => (
            format!("take {} as the root", path.display()),
            "it was given",
            vec![format!("open_tree({path:?}, OPEN_TREE_CLONE)")],
        ),
    }
}

fn mount_description(mount: &Mount) -> (String, &'static str, Vec<String>) {
    let target = &mount.target;
    match &mount.kind {
        MountKind::New {
            filesystem,
            options,
            ..
        } => (
            format!("mount a new {filesystem} on {}", target.display()),
            "the container has its own",
            vec![
                format!("fsopen({filesystem:?})"),
                format!("fsconfig({})", options.join(",")),
                format!("fsmount({})", mount_words(mount)),
                format!("move_mount({target:?})"),
            ],
        ),
        MountKind::Bind { source, .. } => (
            format!("show {} at {}", source.display(), target.display()),
            "it was asked for",
            bind_calls(source, mount),
        ),
        MountKind::Cgroup { .. } => (
            format!("show the container's cgroups at {}", target.display()),
            "programs read their limits there",
            vec![format!("move_mount(cgroup, {target:?})")],
        ),
    }
}

fn bind_calls(source: &Path, mount: &Mount) -> Vec<String> {
    let words = mount_words(mount);
    let travel = match mount.propagation {
        Propagation::Private => None,
        Propagation::Shared => Some("MS_SHARED"),
        Propagation::Slave => Some("MS_SLAVE"),
        Propagation::Unbindable => Some("MS_UNBINDABLE"),
    };
    let owners = mount.owners.as_ref();
    let owners = owners.map(|owners| format!("MOUNT_ATTR_IDMAP, {}", mounts::mapping(owners)));
    let words = Some(words).filter(|words| !words.is_empty());
    let attributes = [words, travel.map(str::to_owned), owners];
    let mut calls: Vec<String> = attributes
        .into_iter()
        .flatten()
        .map(|what| format!("mount_setattr({what})"))
        .collect();
    calls.push(format!("move_mount({source:?}, {:?})", mount.target));
    calls
}

fn slashed(key: &str) -> String {
    key.replace('.', "/")
}

/// The shell commands that would do the same.
pub(crate) fn child_shell(step: &ChildStep) -> Vec<String> {
    match step {
        ChildStep::CgroupJoin(all) => all
            .iter()
            .map(|path| format!("echo $$ > {}/{TASKS}", path.display()))
            .collect(),
        ChildStep::MountsPrivate => vec!["mount --make-rprivate /".to_owned()],
        ChildStep::Root(Root::Overlay(overlay)) => {
            let join = |paths: &[std::path::PathBuf]| {
                let all: Vec<_> = paths
                    .iter()
                    .map(|path| path.display().to_string())
                    .collect();
                all.join(":")
            };
            let mut options = format!("lowerdir={}", join(&overlay.lowers));
            if let (Some(upper), Some(work)) = (&overlay.upper, &overlay.work) {
                options += &format!(",upperdir={},workdir={}", upper.display(), work.display());
            }
            vec![format!("mount -t overlay -o {options} overlay root")]
        }
        ChildStep::Root(Root::Directory(path)) => {
            vec![format!("mount --rbind {} root", path.display())]
        }
        ChildStep::Mount(mount) => mount_shell(mount),
        ChildStep::Devices(nodes, _) => nodes.iter().map(device_shell).collect(),
        ChildStep::Sysctl(all) => all
            .iter()
            .map(|(key, value)| format!("sysctl -w {key}='{value}'"))
            .collect(),
        ChildStep::Mask(paths) => paths
            .iter()
            .map(|path| format!("mount --bind /dev/null {}", inner(path)))
            .collect(),
        ChildStep::ReadOnly(paths) => paths
            .iter()
            .map(|path| format!("mount --rbind -o ro {0} {0}", inner(path)))
            .collect(),
        ChildStep::HostName(host, _) => {
            host.iter().map(|name| format!("hostname {name}")).collect()
        }
        ChildStep::MakeDirectory(path) => vec![format!("mkdir -p root{}", path.display())],
        ChildStep::RootReadOnly => vec!["mount -o remount,bind,ro root".to_owned()],
        ChildStep::ChangeRoot(_) => vec![
            "cd root".to_owned(),
            "pivot_root . .".to_owned(),
            "umount -l .".to_owned(),
        ],
        ChildStep::OutOfMemoryScore(score) => vec![format!("choom -n {score} -p $$")],
        ChildStep::Limits(all) => all
            .iter()
            .map(|one| {
                let (soft, hard) = (one.limit.soft, one.limit.hard);
                format!("prlimit --{}={soft}:{hard} --pid $$", one.name)
            })
            .collect(),
        ChildStep::WorkingDirectory(path, _) => vec![format!("cd {}", path.display())],
        ChildStep::Credentials(caps) => vec![format!(
            "setpriv --bounding-set -all,+{}",
            caps.bounding
                .to_string()
                .to_lowercase()
                .replace("cap_", "")
                .replace(',', ",+")
        )],
        _ => Vec::new(),
    }
}

fn inner(path: &Path) -> String {
    format!("root{}", path.display())
}

fn device_shell(node: &DeviceNode) -> String {
    let path = inner(&node.path);
    let (mode, kind, major, minor) = (node.mode, node.kind, node.major, node.minor);
    format!("mknod -m {mode:o} {path} {kind} {major} {minor}")
}

fn mount_shell(mount: &Mount) -> Vec<String> {
    let target = inner(&mount.target);
    let mut options = mount_words(mount);
    match &mount.kind {
        MountKind::New {
            filesystem,
            options: data,
            ..
        } => {
            for option in data {
                if !options.is_empty() {
                    options.push(',');
                }
                options += option;
            }
            vec![format!(
                "mount -t {filesystem} -o '{options}' {filesystem} {target}"
            )]
        }
        MountKind::Bind {
            source, recursive, ..
        } => {
            let how = if *recursive { "--rbind" } else { "--bind" };
            if let Some(owners) = &mount.owners {
                let words = mounts::mapping(owners);
                let comma = if options.is_empty() { "" } else { "," };
                options = format!("{options}{comma}X-mount.idmap={words}");
            }
            let mut lines = vec![format!(
                "mount {how} -o '{options}' {} {target}",
                source.display()
            )];
            match mount.propagation {
                Propagation::Private => {}
                Propagation::Shared => lines.push(format!("mount --make-rshared {target}")),
                Propagation::Slave => lines.push(format!("mount --make-rslave {target}")),
                Propagation::Unbindable => {
                    lines.push(format!("mount --make-runbindable {target}"));
                }
            }
            lines
        }
        MountKind::Cgroup { unified, v1 } => unified
            .iter()
            .map(|path| format!("mount --bind {} {target}", path.display()))
            .chain(
                v1.iter()
                    .map(|(name, path)| format!("mount --bind {} {target}/{name}", path.display())),
            )
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By `cgroup.procs` each start on version 1 waited out a grace period of RCU, ten milliseconds
    /// on a busy machine: more than all its other steps together.
    #[test]
    fn version_1_cgroups_are_entered_by_the_thread() {
        let step = ChildStep::CgroupJoin(vec!["/sys/fs/cgroup/devices/a".into()]);
        let (_, _, calls) = child_step(&step);
        assert_eq!(calls, [r#"write("/sys/fs/cgroup/devices/a/tasks", "0")"#]);
        let shell = child_shell(&step);
        assert_eq!(shell, ["echo $$ > /sys/fs/cgroup/devices/a/tasks"]);
    }
}
