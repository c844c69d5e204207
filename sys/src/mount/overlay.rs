//! An overlay of directories as a value, and mounting it with any number of layers.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use serde::{Deserialize, Serialize};

use super::calls::{Attributes, Detached, Filesystem};
use crate::error::{Result, SysResultExt};

/// Longer strings are refused by `fsconfig`.
const STRING_LIMIT: usize = 255;

/// An overlay of directories, as a value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlay {
    /// The read-only directories, topmost first; at least one.
    pub lowers: Vec<PathBuf>,
    /// The writable directory; without it the overlay is read-only and needs two lowers or more.
    pub upper: Option<PathBuf>,
    /// Scratch space of the kernel on the file system of `upper`; goes with it.
    pub work: Option<PathBuf>,
    /// Further options without a value (`volatile`, `userxattr`) or as `key=value`.
    #[serde(default)]
    pub options: Vec<String>,
}

impl Overlay {
    /// Mounts it, attached nowhere yet.
    ///
    /// Each lower is handed over by itself, by path where that is short enough and else by
    /// descriptor, so that neither the number of layers nor the length of their paths is limited by
    /// a page of options. Kernels before 6.5 know only one string: there it is given as such.
    ///
    /// # Errors
    /// What the kernel says of the layers: `ENOENT`, `EINVAL`, `ELOOP` for an upper within a lower.
    pub fn mount(&self, attributes: Attributes) -> Result<Detached> {
        let mut held = Vec::new();
        self.forgive();
        let filesystem = Filesystem::open("overlay")?;
        filesystem.set("source", OsStr::new("overlay"))?;
        let each = self
            .add_lowers(&filesystem, &mut held)
            .and_then(|()| self.finish(filesystem, attributes, &mut held));
        match each {
            // Kernels before 6.5 take any option and refuse the unknown ones only when they mount.
            Err(error) if error.errno() == libc::EINVAL => {
                self.forgive();
                let filesystem = Filesystem::open("overlay")?;
                filesystem.set("source", OsStr::new("overlay"))?;
                self.joined_lowers(&filesystem, &mut held)
                    .and_then(|()| self.finish(filesystem, attributes, &mut held))
                    .map_err(|_| error)
            }
            other => other,
        }
    }

    /// A volatile mount leaves a mark by which the kernel refuses the next one, since what was
    /// written may have been lost in a crash. Who asks for a volatile mount does not mind.
    fn forgive(&self) {
        let is_volatile = self.options.iter().any(|option| option == "volatile");
        if let (true, Some(work)) = (is_volatile, &self.work) {
            let mark = work.join("work/incompat");
            // Missing at first; anything else shows when the kernel refuses.
            let _ = rustix::fs::unlink(mark.join("volatile/dirty"));
            let _ = rustix::fs::rmdir(mark.join("volatile"));
            let _ = rustix::fs::rmdir(mark);
        }
    }

    fn add_lowers(&self, filesystem: &Filesystem, held: &mut Vec<OwnedFd>) -> Result<()> {
        for lower in &self.lowers {
            set_directory(filesystem, "lowerdir+", lower, held)?;
        }
        Ok(())
    }

    /// The form of kernels before 6.5: all in one string, each named by a descriptor to be short.
    fn joined_lowers(&self, filesystem: &Filesystem, held: &mut Vec<OwnedFd>) -> Result<()> {
        let mut joined = String::new();
        for lower in &self.lowers {
            let directory = open_directory(lower)?;
            if !joined.is_empty() {
                joined.push(':');
            }
            joined.push_str(&descriptor_path(&directory));
            held.push(directory);
        }
        filesystem.set("lowerdir", OsStr::new(&joined))
    }

    fn finish(
        &self,
        filesystem: Filesystem,
        attributes: Attributes,
        held: &mut Vec<OwnedFd>,
    ) -> Result<Detached> {
        if let (Some(upper), Some(work)) = (&self.upper, &self.work) {
            set_directory(&filesystem, "upperdir", upper, held)?;
            set_directory(&filesystem, "workdir", work, held)?;
        }
        for option in &self.options {
            match option.split_once('=') {
                Some((key, value)) => filesystem.set(key, OsStr::new(value))?,
                None => filesystem.flag(option)?,
            }
        }
        filesystem.mount(attributes)
    }
}

fn set_directory(
    filesystem: &Filesystem,
    key: &str,
    path: &Path,
    held: &mut Vec<OwnedFd>,
) -> Result<()> {
    if path.as_os_str().len() <= STRING_LIMIT
        && !path.as_os_str().as_encoded_bytes().contains(&b'\\')
    {
        return filesystem.set(key, path.as_os_str());
    }
    let directory = open_directory(path)?;
    // Descriptors are taken since Linux 6.13.
    if filesystem.descriptor(key, directory.as_fd()).is_err() {
        filesystem.set(key, OsStr::new(&descriptor_path(&directory)))?;
    }
    held.push(directory);
    Ok(())
}

fn descriptor_path(directory: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", directory.as_raw_fd())
}

fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty())
        .call(|| format!("open({path:?}, O_PATH|O_DIRECTORY)"))
}
