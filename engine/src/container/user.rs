//! The container's user by number, read from its layers: no mount is needed, and no process.

use std::io::Read;
use std::path::Path;

use overlayfs::stack::Stack;
use runtime::UserRequest;

use crate::Engine;
use crate::error::{Error, Result};
use crate::mount::HostOwner;
use crate::store::Container;

/// No account file is longer.
const LARGEST: u64 = 16 << 20;

impl Engine {
    /// The user and group that the container's process has.
    ///
    /// # Errors
    /// Docker's text for a user that the container does not know; when a layer cannot be read.
    pub(crate) fn user_of(&self, container: &Container) -> Result<HostOwner> {
        let user = &container.record.config.user;
        if user.is_empty() {
            return Ok(HostOwner { user: 0, group: 0 });
        }
        let mut trees = vec![container.dir.upper()];
        trees.extend(self.images().layers().trees(&container.record.layers));
        let read = |name: &str| {
            account_file(&trees, name).map_err(|error| {
                let text = format!("cannot read /etc/{name} of container {}", container.id());
                Error::system(text, error)
            })
        };
        let request = UserRequest {
            user: user.clone(),
            groups: Vec::new(),
        };
        let found = runtime::user::resolve(&request, &read("passwd")?, &read("group")?)
            .map_err(|error| Error::invalid(error.to_string()))?;
        Ok(HostOwner {
            user: found.user,
            group: found.group,
        })
    }
}

/// A file of `/etc`; a missing one is empty.
fn account_file(trees: &[std::path::PathBuf], name: &str) -> sys::Result<String> {
    let Some(directory) = Stack::open(trees)?.follow(Path::new("/etc"))? else {
        return Ok(String::new());
    };
    let Some((part, stat)) = directory.find(Path::new(name))? else {
        return Ok(String::new());
    };
    if stat.kind != sys::fs::Kind::File {
        return Ok(String::new());
    }
    let mut text = Vec::new();
    part.read(name)?
        .take(LARGEST)
        .read_to_end(&mut text)
        .map_err(|error| sys::SysError::from_io(format!("read({name:?})"), error))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_topmost_file_counts() {
        let place = tempfile::tempdir().unwrap();
        let tree = |name: &str| place.path().join(name);
        for (layer, text) in [("upper", "new"), ("lower", "old")] {
            fs::create_dir_all(tree(layer).join("etc")).unwrap();
            fs::write(tree(layer).join("etc/passwd"), text).unwrap();
        }
        fs::write(tree("lower").join("etc/group"), "group").unwrap();
        let trees = [tree("upper"), tree("lower")];
        assert_eq!(account_file(&trees, "passwd").unwrap(), "new");
        assert_eq!(account_file(&trees, "group").unwrap(), "group");
        assert_eq!(account_file(&trees, "none").unwrap(), "");
    }
}
