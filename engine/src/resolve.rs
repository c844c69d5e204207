//! What the user calls a container → its id: full id, then name or link, then unique beginning of an id.

use crate::Engine;
use crate::error::{Error, Result};
use crate::id::ContainerId;
use crate::name::ContainerName;
use crate::store::Container;

impl Engine {
    /// Finds a container by full id, name (with or without slash, of a link too) or unique beginning of its id.
    ///
    /// # Errors
    /// `No such container: X`, `Multiple IDs found with provided prefix: X`.
    pub fn resolve(&self, text: &str) -> Result<ContainerId> {
        if let Ok(id) = text.parse::<ContainerId>()
            && self.store().container(&id).config().exists()
        {
            return Ok(id);
        }
        if let Ok(name) = text.parse::<ContainerName>()
            && let Some(id) = self.store().owner(&name)?
        {
            return Ok(id);
        }
        if let Some(id) = self.at_link(text)? {
            return Ok(id);
        }
        if text.is_empty() {
            return Err(Error::invalid("invalid name or ID supplied: \"\""));
        }
        by_prefix(&self.store().ids()?, text)
    }

    /// [`Engine::resolve`], then reads the container.
    ///
    /// # Errors
    /// As `resolve`; or when its record is damaged.
    pub fn find(&self, text: &str) -> Result<Container> {
        let id = self.resolve(text)?;
        self.store().load(&id)
    }
}

/// The only id with this beginning.
fn by_prefix(ids: &[ContainerId], text: &str) -> Result<ContainerId> {
    let mut found = ids.iter().filter(|id| id.as_str().starts_with(text));
    match (found.next(), found.next()) {
        (None, _) => Err(Error::not_found(format!("No such container: {text}"))
            .hint("list all containers with 'rbox ps -a'")),
        (Some(id), None) => Ok(id.clone()),
        (Some(_), Some(_)) => Err(Error::invalid(format!(
            "Multiple IDs found with provided prefix: {text}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::record::tests::record;
    use crate::store::replace_json;
    use crate::{ErrorKind, Options};

    fn id(beginning: &str) -> ContainerId {
        format!("{beginning:0<64}").parse().unwrap()
    }

    #[test]
    fn prefixes() {
        let ids = [id("0a1"), id("0b2"), id("cd")];
        for (text, expected) in [
            ("0a", Ok(id("0a1"))),
            ("c", Ok(id("cd"))),
            (
                "0",
                Err((
                    ErrorKind::InvalidParameter,
                    "Multiple IDs found with provided prefix: 0",
                )),
            ),
            ("e", Err((ErrorKind::NotFound, "No such container: e"))),
        ] {
            let found = by_prefix(&ids, text);
            let found = found
                .as_ref()
                .map_err(|error| (error.kind(), error.message()));
            assert_eq!(found, expected.as_ref().map_err(|error| *error), "{text}");
        }
    }

    #[test]
    fn a_full_id_wins_over_a_name_and_a_name_over_a_prefix() {
        let directory = tempfile::tempdir().unwrap();
        let engine = Engine::open(Options {
            root: directory.path().to_owned(),
            state: directory.path().join("run"),
            ..Options::default()
        });
        let make = |name: &str, id: &ContainerId| {
            let aside = engine.store().make_aside(id).unwrap();
            engine.store().reserve(&name.parse().unwrap(), id).unwrap();
            let record = crate::store::Record {
                id: id.clone(),
                ..record(name)
            };
            replace_json(&aside.dir().config(), &record).unwrap();
            aside.publish(engine.store()).unwrap();
        };
        let (first, second, third) = (id("aa"), id("ab"), id("cc"));
        make("one", &first);
        make(first.as_str(), &second);
        make("aa", &third);
        assert_eq!(engine.resolve(first.as_str()).unwrap(), first);
        assert_eq!(engine.resolve("aa").unwrap(), third);
        assert_eq!(engine.resolve("/one").unwrap(), first);
        assert_eq!(engine.resolve("ab").unwrap(), second);
        assert_eq!(engine.find("one").unwrap().name, "one");
        assert!(engine.resolve("").is_err());
        assert!(engine.resolve("../names").is_err());
    }
}
