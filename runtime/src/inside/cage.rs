//! What the process gives up and who it becomes.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use sys::{SysError, SysResultExt};

use super::{Inside, InsideError, Outcome, beneath};
use crate::child::TRAMPOLINE;
use crate::error::ReportKind;
use crate::request::UserRequest;
use crate::steps::{Capabilities, NamedLimit};
use crate::user::{self, Identity};

/// Where a program is looked for when the environment does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Moves the calling process into version 1 cgroups.
///
/// By `tasks`, not `cgroup.procs`: a thread that moves itself and nothing else does not take the
/// kernel's lock of all thread groups, for which it would wait a grace period of RCU, some
/// milliseconds. This process has one thread.
pub(super) fn join_cgroups(directories: &[PathBuf]) -> Outcome {
    for directory in directories {
        let path = directory.join(crate::cgroup::TASKS);
        std::fs::write(&path, "0").call(|| format!("write({path:?}, \"0\")"))?;
    }
    Ok(())
}

pub(super) fn name_host(host: Option<&String>, domain: Option<&String>) -> Outcome {
    if let Some(name) = host {
        rustix::system::sethostname(name.as_bytes()).call(|| format!("sethostname({name:?})"))?;
    }
    if let Some(name) = domain {
        rustix::system::setdomainname(name.as_bytes())
            .call(|| format!("setdomainname({name:?})"))?;
    }
    Ok(())
}

pub(super) fn set_limits(all: &[NamedLimit]) -> Outcome {
    for one in all {
        match sys::process::set_limit(one.number, one.limit) {
            Err(error) if error.errno() == Errno::PERM.raw_os_error() => {
                let text = format!(
                    "cannot set the limit {} to {}:{}: this host does not let rbox raise it \
                     (CAP_SYS_RESOURCE is missing)",
                    one.name, one.limit.soft, one.limit.hard
                );
                return Err(InsideError::text(ReportKind::Limit, text));
            }
            other => other?,
        }
    }
    Ok(())
}

impl Inside<'_> {
    pub(super) fn find_user(
        &mut self,
        request: Option<&UserRequest>,
        numbers: &(u32, u32, Vec<u32>),
        umask: u32,
    ) -> Outcome {
        let root = self.root()?;
        let needs_home = !self
            .program
            .environment
            .iter()
            .any(|entry| entry.starts_with("HOME="));
        let passwd = if request.is_some() || needs_home {
            beneath::read(root, Path::new("/etc/passwd"))?
        } else {
            String::new()
        };
        self.identity = match request {
            Some(request) => {
                let group = beneath::read(root, Path::new("/etc/group"))?;
                user::resolve(request, &passwd, &group)
                    .map_err(|error| InsideError::text(ReportKind::User, error.to_string()))?
            }
            None => Identity {
                user: numbers.0,
                group: numbers.1,
                groups: numbers.2.clone(),
                home: user::home_of(numbers.0, &passwd),
            },
        };
        let mut environment = self.program.environment.clone();
        if needs_home {
            environment.push(format!("HOME={}", self.identity.home));
        }
        self.environment = environment
            .into_iter()
            .map(terminated)
            .collect::<Result<_, _>>()?;
        sys::process::set_umask(umask);
        Ok(())
    }

    /// Makes the working directory before the root becomes read-only.
    pub(super) fn make_directory(&mut self, path: &Path) -> Outcome {
        let root = self.root()?;
        beneath::directory(root, path).map_err(|error| no_entry(path, &error))?;
        Ok(())
    }

    pub(super) fn enter(&mut self, path: &Path, make: bool) -> Outcome {
        let root = self.root()?;
        let failed = |error: SysError| no_entry(path, &error);
        let directory = if make {
            beneath::directory(root, path)
        } else {
            beneath::open(root, path, OFlags::PATH | OFlags::DIRECTORY)
        };
        let directory = directory.map_err(failed)?;
        rustix::process::fchdir(&directory)
            .call(|| "fchdir(cwd)")
            .map_err(failed)?;
        // The kernel says "(unreachable)" of a directory that is not beneath our root.
        let here = rustix::process::getcwd(Vec::new())
            .call(|| "getcwd()")
            .map_err(failed)?;
        if here.to_bytes().first() == Some(&b'/') {
            Ok(())
        } else {
            Err(InsideError::text(
                ReportKind::Call,
                "the working directory lies outside of the container: refused",
            ))
        }
    }

    /// Finds the program as Docker does: a name is looked for in the container's PATH.
    pub(super) fn find_program(&mut self) -> Outcome {
        let name = self.program.arguments.first().map_or("", String::as_str);
        let found = if name.contains('/') {
            self.check_path(name)?
        } else {
            self.search(name)?
        };
        self.path = Some(terminated(found)?);
        let arguments = self.program.arguments.iter().cloned();
        self.arguments = arguments.map(terminated).collect::<Result<_, _>>()?;
        let sealed = sys::process::sealed_program(TRAMPOLINE, sys::process::TRAMPOLINE)?;
        self.trampoline = Some(sealed);
        Ok(())
    }

    fn check_path(&self, name: &str) -> Result<String, InsideError> {
        match executable(name) {
            Ok(()) => Ok(name.to_owned()),
            Err(Errno::NOENT) => Err(InsideError::text(
                ReportKind::NotFound,
                format!("exec: \"{name}\": stat {name}: no such file or directory"),
            )),
            Err(Errno::NOTDIR) => Err(InsideError::text(
                ReportKind::NotExecutable,
                format!("exec: \"{name}\": stat {name}: not a directory"),
            )),
            Err(_) => Err(denied(name)),
        }
    }

    fn search(&self, name: &str) -> Result<String, InsideError> {
        let path = self
            .program
            .environment
            .iter()
            .rev()
            .find_map(|entry| entry.strip_prefix("PATH="))
            .unwrap_or(DEFAULT_PATH);
        let mut refused = false;
        for directory in path.split(':') {
            let directory = if directory.is_empty() { "." } else { directory };
            let candidate = format!("{directory}/{name}");
            match executable(&candidate) {
                Ok(()) => return Ok(candidate),
                Err(Errno::ACCESS) => refused = true,
                Err(_) => {}
            }
        }
        if refused {
            return Err(denied(name));
        }
        Err(InsideError::text(
            ReportKind::NotFound,
            format!("exec: \"{name}\": executable file not found in $PATH"),
        ))
    }

    pub(super) fn become_user(&mut self, caps: &Capabilities) -> Outcome {
        let identity = &self.identity;
        sys::caps::limit_bounding(caps.bounding)?;
        sys::ids::set_groups(&identity.groups)?;
        sys::ids::set_group(identity.group)?;
        let keeps = identity.user != 0 && caps.permitted.0 != 0;
        if keeps {
            sys::process::keep_capabilities(true)?;
        }
        sys::ids::set_user(identity.user)?;
        if keeps {
            sys::process::keep_capabilities(false)?;
        }
        sys::caps::set(caps.effective, caps.permitted, caps.inheritable)?;
        if caps.ambient.0 != 0 {
            sys::caps::set_ambient(caps.ambient)?;
        }
        // A change of user clears it.
        if self.container.is_none() {
            sys::process::set_death_signal(9)?;
        }
        Ok(())
    }
}

fn denied(name: &str) -> InsideError {
    InsideError::text(
        ReportKind::NotExecutable,
        format!("exec: \"{name}\": permission denied"),
    )
}

/// A regular file that somebody may execute; the kernel has the last word.
fn executable(path: &str) -> Result<(), Errno> {
    let status = rustix::fs::stat(path)?;
    let kind = FileType::from_raw_mode(status.st_mode);
    if kind == FileType::RegularFile && status.st_mode & 0o111 != 0 {
        Ok(())
    } else {
        Err(Errno::ACCESS)
    }
}

fn terminated(text: String) -> Result<CString, InsideError> {
    CString::new(text).map_err(|error| {
        let text = Path::new(std::ffi::OsStr::from_bytes(error.into_vec().as_slice())).to_owned();
        InsideError::text(
            ReportKind::Call,
            format!("{text:?} has a zero byte and cannot be given to a program"),
        )
    })
}

/// Docker's words for a working directory that cannot be entered.
fn no_entry(path: &Path, error: &SysError) -> InsideError {
    InsideError::Known {
        kind: ReportKind::WorkingDirectory,
        call: format!(
            "chdir to cwd (\"{}\") set in config.json failed",
            path.display()
        ),
        errno: error.errno(),
    }
}
