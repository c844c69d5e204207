//! This host's side of a copy.

use std::fs;
use std::io::{self, BufRead, Write};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use overlayfs::diff::{ExportError, Form};
use overlayfs::transfer::{self, Found, PutIn};
use overlayfs::unpack::UnpackError;
use sys::fs::{Dir, Kind};

use super::place::{Source, Target, asserts_directory, clean, split};
use crate::error::{Failure, Result, file};

/// Links of a destination are followed so far.
const LINK_LIMIT: usize = 10;

/// A path as the file system takes it: absolute, clean, its end kept.
pub(super) fn absolute(text: &str) -> Result<PathBuf> {
    let here = std::env::current_dir()?;
    let mut path = clean(&here.join(text)).into_os_string();
    let typed = Path::new(text);
    if asserts_directory(typed) && path != "/" {
        path.push(match text.ends_with('/') {
            true => "/",
            false => "/.",
        });
    }
    Ok(path.into())
}

/// A file or directory of this host that is to be copied.
#[derive(Debug)]
pub(super) struct Origin {
    root: Dir,
    found: Found,
    /// What it is to the rules.
    pub(super) source: Source,
}

impl Origin {
    /// Looks for it; a link at the end is followed if asked for, or where the path says that it
    /// leads to a directory.
    pub(super) fn find(path: &Path, follow: bool) -> Result<Self> {
        let asserted = asserts_directory(path);
        let failed = |error: &io::Error| Failure::said(file("lstat", &shown(path), error));
        let root = open(Path::new("/"))?;
        let found = transfer::look(&root, path, follow || asserted)
            .map_err(|error| failed(&error_of(&error)))?
            .ok_or_else(|| failed(&io::Error::from_raw_os_error(2)))?;
        if asserted && found.stat.kind != Kind::Directory {
            return Err(failed(&io::Error::from_raw_os_error(20)));
        }
        let source = Source {
            base: split(path).1,
            is_directory: found.stat.kind == Kind::Directory,
        };
        Ok(Self {
            root,
            found,
            source,
        })
    }

    /// Writes it as an archive that names it `name`.
    pub(super) fn write(
        &self,
        name: &Path,
        output: impl Write,
    ) -> std::result::Result<(), ExportError> {
        let form = Form { name, holes: true };
        transfer::take_out(&self.root, &self.found.path, false, form, output).map(drop)
    }
}

/// What is at a destination: links are followed, also one that leads to nothing.
pub(super) fn target(path: &Path) -> Result<Target> {
    let mut path = path.to_owned();
    for _ in 0..LINK_LIMIT {
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_symlink() => {
                let to = fs::read_link(&path)?;
                path = split(&path).0.join(to);
            }
            Ok(found) => {
                return Ok(Target {
                    path,
                    is_directory: Some(found.is_dir()),
                });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let parent = split(&path).0;
                let found = fs::metadata(&parent)
                    .map_err(|error| Failure::said(file("stat", &shown(&parent), &error)))?;
                if !found.is_dir() {
                    return Err(Failure::said("not a directory"));
                }
                return Ok(Target {
                    path,
                    is_directory: None,
                });
            }
            Err(error) => return Err(Failure::said(file("lstat", &shown(&path), &error))),
        }
    }
    Err(Failure::said(format!(
        "too many symlinks in {}",
        path.display()
    )))
}

/// Refuses a destination that can be neither file nor directory, before anything is read.
pub(super) fn check_output(path: &Path) -> Result<()> {
    let parent = split(path).0;
    if let Err(error) = fs::metadata(&parent)
        && error.kind() == io::ErrorKind::NotFound
    {
        return Err(Failure::said(format!(
            "invalid output path: directory {:?} does not exist",
            parent.display().to_string()
        )));
    }
    match fs::metadata(path) {
        Ok(found) if is_device(&found) => Err(Failure::said(format!(
            "invalid output path: {:?} must be a directory or a regular file: got a device",
            path.display().to_string()
        ))),
        _ => Ok(()),
    }
}

fn is_device(found: &fs::Metadata) -> bool {
    found.file_type().is_char_device() || found.file_type().is_block_device()
}

/// Unpacks an archive into a directory; nothing outside of it is reached, whatever the archive
/// says. What it holds belongs to the caller, or with `archive` to those that it names.
pub(super) fn unpack(directory: &Path, stream: impl BufRead, archive: bool) -> Result<()> {
    let root = open(directory)?;
    let caller = fs::metadata("/proc/self")?;
    let how = PutIn {
        owner: (!archive).then(|| (caller.uid(), caller.gid())),
        kinds_stay: true,
    };
    match transfer::put_in(&root, Path::new("/"), stream, how) {
        Ok(_) => Ok(()),
        Err(error @ (UnpackError::OverDirectory(_) | UnpackError::OverOther(_))) => {
            let inside = error.to_string();
            let whole = format!(
                "\"{}/",
                directory.display().to_string().trim_end_matches('/')
            );
            Err(Failure::said(inside.replacen("\"/", &whole, 1)))
        }
        Err(error) => Err(engine::Error::system(
            format!("cannot copy to {:?}", directory.display().to_string()),
            error,
        )
        .into()),
    }
}

fn open(path: &Path) -> Result<Dir> {
    Dir::open(path).map_err(|error| Failure::said(file("open", &shown(path), &error_of(&error))))
}

fn error_of(error: &sys::SysError) -> io::Error {
    io::Error::from_raw_os_error(error.errno())
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn destinations_are_followed_and_need_a_directory() {
        let place = tempfile::tempdir().unwrap();
        let at = |path: &str| place.path().join(path);
        fs::create_dir(at("d")).unwrap();
        fs::write(at("f"), "").unwrap();
        symlink("d", at("ld")).unwrap();
        symlink("new", at("ln")).unwrap();
        symlink("loop", at("loop")).unwrap();
        for (path, end, there) in [
            ("d", "d", Some(true)),
            ("f", "f", Some(false)),
            ("ld", "d", Some(true)),
            ("ln", "new", None),
            ("d/x", "d/x", None),
        ] {
            let found = target(&at(path)).unwrap();
            assert_eq!((found.path, found.is_directory), (at(end), there), "{path}");
        }
        for path in ["none/x", "f/x", "loop"] {
            assert!(target(&at(path)).is_err(), "{path}");
        }
        assert!(check_output(&at("none/x")).is_err());
        assert!(check_output(Path::new("/dev/null")).is_err());
        check_output(&at("d/x")).unwrap();
    }

    #[test]
    fn sources_say_what_they_are() {
        let place = tempfile::tempdir().unwrap();
        let at = |path: &str| PathBuf::from(format!("{}/{path}", place.path().display()));
        fs::create_dir(at("d")).unwrap();
        fs::write(at("f"), "").unwrap();
        symlink("d", at("l")).unwrap();
        for (path, follow, base, is_directory) in [
            ("d", false, "d", true),
            ("d/.", false, ".", true),
            ("l", false, "l", false),
            ("l", true, "l", true),
            ("l/", false, "l", true),
            ("l/.", false, ".", true),
            ("f", true, "f", false),
        ] {
            let origin = Origin::find(&at(path), follow).unwrap();
            let expected = Source {
                base: base.into(),
                is_directory,
            };
            assert_eq!(origin.source, expected, "{path} {follow}");
        }
        assert!(Origin::find(&at("f/"), false).is_err());
        assert!(Origin::find(&at("none"), false).is_err());
    }
}
