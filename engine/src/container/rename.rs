//! `rename`: another name for a container, running or not.

use crate::Engine;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::name::ContainerName;

impl Engine {
    /// Gives a container another name.
    ///
    /// # Errors
    /// `Neither old nor new names may be empty`; `Renaming a container with the same name as its
    /// current name`; `Error when allocating new name: Conflict. …`.
    pub fn rename(&self, container: &str, new: &str) -> Result<()> {
        if container.is_empty() || new.is_empty() {
            return Err(Error::invalid("Neither old nor new names may be empty"));
        }
        let found = self.find(container)?;
        let allocating = |error: Error| {
            let text = format!("Error when allocating new name: {error}");
            match error.hint_text() {
                Some(hint) => Error::new(error.kind(), text).hint(hint),
                None => Error::new(error.kind(), text),
            }
        };
        let name: ContainerName = new
            .parse()
            .map_err(|error| allocating(Error::from(error)))?;
        if name.as_str() == found.name {
            return Err(Error::invalid(
                "Renaming a container with the same name as its current name",
            ));
        }
        self.rename_source(&found, &name).map_err(allocating)?;
        self.rename_on_networks(&found, &name)?;
        let renamed = self.store().load(found.id())?;
        let old = format!("/{}", found.name);
        self.events().append(&Event::of_container(
            &renamed,
            "rename",
            &[("oldName", &old)],
        ))
    }
}
