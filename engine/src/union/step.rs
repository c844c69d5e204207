//! Mounting one union, alone or with others, and unmounting it.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use overlayfs::union::options::Options;
use overlayfs::union::places::{escape, words};
use overlayfs::union::{MountRequest, UnionError, list, mount, unmount};
use plan::Description;
use serde::{Deserialize, Serialize};
use sys::fs::errno;
use sys::lock::Lock;
use sys::mount::{Attributes, Overlay};

use crate::store::RunDir;

/// A union to be mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnionStep {
    /// Where.
    pub target: PathBuf,
    /// Branches and settings; the branches come first.
    pub options: String,
    /// The container, where it shares the union with others that have the same volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<RunDir>,
    /// An image's layers, topmost first, that are the lowest branch together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image: Vec<PathBuf>,
}

impl UnionStep {
    /// Its name in journals and among fault points.
    pub fn name(&self) -> &'static str {
        "union-mount"
    }

    /// Mounts it; one that others have mounted is joined.
    ///
    /// # Errors
    /// A branch that is missing, lies in another or cannot be used.
    pub fn apply(&self) -> Result<(), UnionError> {
        let Some(user) = &self.user else {
            return self.mount();
        };
        let _lock = self.lock()?;
        let mark = self.mark(user);
        fs::write(&mark, "").map_err(|error| failed("write", &mark, &error))?;
        // A server that died answers nothing: its mount gives way to a new one.
        match list(&self.target) {
            Ok(_) => Ok(()),
            Err(_) => self.mount(),
        }
    }

    /// Unmounts it, where no other container has it; one that is gone already is as it should be.
    /// Nothing below it is touched: directories go only once they are empty.
    ///
    /// # Errors
    /// When the kernel keeps the mount or the directory.
    pub fn undo(&self) -> Result<(), UnionError> {
        let Some(user) = &self.user else {
            return self.unmount();
        };
        if !self.place().exists() {
            return Ok(());
        }
        let _lock = self.lock()?;
        gone(fs::remove_file(self.mark(user)), &self.mark(user))?;
        if self.has_others(user) {
            return Ok(());
        }
        self.unmount()?;
        let users = self.place().join("users");
        gone(fs::remove_dir_all(&users), &users)?;
        gone(fs::remove_file(self.lock_path()), &self.lock_path())?;
        gone(fs::remove_dir(self.place()), self.place())
    }

    fn mount(&self) -> Result<(), UnionError> {
        make(&self.target)?;
        let image = self.image_branch()?;
        let options = self.all_options(image.as_deref());
        match is_alone() {
            true => drop(mount(&MountRequest {
                options: Options::parse(&options)?,
                target: self.target.clone(),
                source: "none".to_owned(),
                foreground: false,
            })?),
            false => self.mount_by_program(&options)?,
        }
        // The union holds its branches by itself.
        self.forget_image()
    }

    /// A process of several threads, as a copy is, cannot fork a server: the program is run anew.
    fn mount_by_program(&self, options: &str) -> Result<(), UnionError> {
        let mut program = Command::new("/proc/self/exe");
        let line = program
            .args(["union", "mount", "-o", options])
            .arg(&self.target);
        let output = line.stdin(Stdio::null()).output();
        let output = output.map_err(|error| failed("mount the union at", &self.target, &error))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim().trim_start_matches("union: ").to_owned();
        Err(UnionError::Refused(said, errno::EINVAL))
    }

    fn unmount(&self) -> Result<(), UnionError> {
        match unmount(&self.target, true) {
            Ok(()) | Err(UnionError::NotUnion(_)) => {}
            Err(error) => return Err(error),
        }
        gone(fs::remove_dir(&self.target), &self.target)?;
        self.forget_image()
    }

    /// The directory that shows the image's layers; several are stacked, read-only.
    fn image_branch(&self) -> Result<Option<PathBuf>, UnionError> {
        if self.image.len() < 2 {
            return Ok(self.image.first().cloned());
        }
        let place = self.image_place();
        make(&place)?;
        let overlay = Overlay {
            lowers: self.image.clone(),
            ..Overlay::default()
        };
        let mounted = overlay.mount(Attributes::default())?;
        sys::mount::attach(&mounted, sys::fs::Dir::open(&place)?.as_fd())?;
        Ok(Some(place))
    }

    fn forget_image(&self) -> Result<(), UnionError> {
        let place = self.image_place();
        if self.image.len() < 2 || !place.exists() {
            return Ok(());
        }
        match sys::mount::detach(&place) {
            // Nothing is mounted there.
            Err(error) if !matches!(error.errno(), errno::EINVAL | errno::ENOENT) => {
                return Err(error.into());
            }
            _ => {}
        }
        gone(fs::remove_dir(&place), &place)
    }

    fn image_place(&self) -> PathBuf {
        self.target.with_extension("image")
    }

    /// The options with the image behind the named branches.
    fn all_options(&self, image: Option<&Path>) -> String {
        let Some(image) = image else {
            return self.options.clone();
        };
        let word = |(name, value): (&str, Option<&str>)| match (name, value) {
            ("dirs" | "br", Some(value)) => format!("{name}={value}:{}=rr", escape(image)),
            (name, Some(value)) => format!("{name}={value}"),
            (name, None) => name.to_owned(),
        };
        words(&self.options).map(word).collect::<Vec<_>>().join(",")
    }

    /// The directory of a union that is shared.
    fn place(&self) -> &Path {
        self.target.parent().unwrap_or(&self.target)
    }

    fn lock_path(&self) -> PathBuf {
        self.place().join("lock")
    }

    fn mark(&self, user: &RunDir) -> PathBuf {
        let id = user.path().file_name().unwrap_or_default();
        self.place().join("users").join(id)
    }

    /// Excludes all others that come or go; makes the place if it is not there.
    fn lock(&self) -> Result<Lock, UnionError> {
        loop {
            make(&self.place().join("users"))?;
            match Lock::wait(&self.lock_path()) {
                // The last one has just left and taken the place along.
                Err(error) if error.errno() == errno::ENOENT => {}
                Ok(lock) if !self.place().join("users").exists() => drop(lock),
                other => return Ok(other?),
            }
        }
    }

    /// Another container has it: one whose journal is there, by which it will be given back.
    fn has_others(&self, user: &RunDir) -> bool {
        let all = user.path().parent().unwrap_or(user.path());
        let marks = fs::read_dir(self.place().join("users"));
        marks.into_iter().flatten().flatten().any(|mark| {
            let other = RunDir::at(all.join(mark.file_name()));
            other != *user && other.plan_path().exists()
        })
    }

    /// What, why and how.
    pub fn describe(&self) -> Description {
        let target = show(&self.target);
        let mut calls = Vec::new();
        if self.image.len() > 1 {
            calls.push(format!("fsopen(\"overlay\"), {} layers", self.image.len()));
        }
        calls.push("open(\"/dev/fuse\")".to_owned());
        calls.push(format!("mount(\"none\", {target:?}, \"fuse.rbox-union\")"));
        Description {
            what: format!("mount a union ({}) at {target}", self.shown_options()),
            why: match (&self.user, self.image.is_empty()) {
                (Some(_), _) => "all containers that have the volume share it",
                (None, false) => "changes go to the named branches, above the image",
                (None, true) => "several directories of the host are one in the container",
            }
            .to_owned(),
            calls,
        }
    }

    /// The commands that would do the same.
    pub fn shell(&self) -> Vec<String> {
        let target = show(&self.target);
        let mut lines = vec![format!("mkdir -p {target}")];
        if self.image.len() > 1 {
            let layers: Vec<String> = self.image.iter().map(|layer| show(layer)).collect();
            let place = show(&self.image_place());
            lines.push(format!("mkdir -p {place}"));
            lines.push(format!(
                "mount -t overlay -o ro,lowerdir={} overlay {place}",
                layers.join(":")
            ));
        }
        lines.push(format!(
            "rbox union mount -o {} {target}",
            self.shown_options()
        ));
        if self.image.len() > 1 {
            lines.push(format!("umount -l {}", show(&self.image_place())));
        }
        lines
    }

    fn shown_options(&self) -> String {
        let place = self.image_place();
        let image = match self.image.as_slice() {
            [only] => Some(only),
            [] => None,
            _ => Some(&place),
        };
        self.all_options(image.map(PathBuf::as_path))
    }
}

/// This process has one thread.
fn is_alone() -> bool {
    fs::read_dir("/proc/self/task").map_or(0, Iterator::count) == 1
}

fn make(path: &Path) -> Result<(), UnionError> {
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path);
    match made {
        // What is mounted there is dead: it is there all the same.
        Err(error) if error.raw_os_error() == Some(errno::EEXIST) => Ok(()),
        other => other.map_err(|error| failed("make the directory", path, &error)),
    }
}

fn gone(removed: io::Result<()>, path: &Path) -> Result<(), UnionError> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed("remove", path, &error))
        }
        _ => Ok(()),
    }
}

fn failed(what: &str, path: &Path, error: &io::Error) -> UnionError {
    let text = format!("cannot {what} {}: {error}", path.display());
    UnionError::Refused(text, error.raw_os_error().unwrap_or(0))
}

fn show(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(image: &[&str]) -> UnionStep {
        UnionStep {
            target: "/run/unions/x-root".into(),
            options: "dirs=/a=rw:/b=ro,create=mfs".to_owned(),
            user: None,
            image: image.iter().map(PathBuf::from).collect(),
        }
    }

    #[test]
    fn the_image_is_the_lowest_branch() {
        for (image, options, lines) in [
            (&[][..], "dirs=/a=rw:/b=ro,create=mfs", 2),
            (&["/l,1"], "dirs=/a=rw:/b=ro:/l\\,1=rr,create=mfs", 2),
            (
                &["/l1", "/l2"],
                "dirs=/a=rw:/b=ro:/run/unions/x-root.image=rr,create=mfs",
                5,
            ),
        ] {
            let step = step(image);
            assert_eq!(step.shown_options(), options);
            let shell = step.shell();
            assert_eq!(shell.len(), lines, "{shell:?}");
            assert!(shell.iter().any(|line| line.contains(options)), "{shell:?}");
        }
    }

    #[test]
    fn the_last_one_takes_the_place_along() {
        let directory = tempfile::tempdir().unwrap();
        let at = |path: &str| directory.path().join(path);
        let user = |id: &str| {
            let run = RunDir::at(at("containers").join(id));
            fs::create_dir_all(run.path()).unwrap();
            fs::write(run.plan_path(), "[]").unwrap();
            run
        };
        let shared = |run: &RunDir| UnionStep {
            target: at("volumes/data/union"),
            user: Some(run.clone()),
            ..step(&[])
        };
        let (one, two) = (user("one"), user("two"));
        for run in [&one, &two] {
            let step = shared(run);
            let _lock = step.lock().unwrap();
            fs::write(step.mark(run), "").unwrap();
        }
        fs::create_dir(at("volumes/data/union")).unwrap();
        shared(&one).undo().unwrap();
        assert!(at("volumes/data/users/two").exists());
        shared(&one).undo().unwrap();
        assert!(at("volumes/data/union").exists(), "another has it");
        // One whose journal is gone counts no more.
        fs::remove_file(two.plan_path()).unwrap();
        shared(&one).undo().unwrap();
        assert!(!at("volumes/data").exists());
        shared(&two).undo().unwrap();
    }
}
