//! Who wins where several mounts want one place.
//!
//! What the user asks for by `-v` or `--mount` stands above a later `--volumes-from`, that above an
//! earlier one, and that above the image's volumes. [`Rank`]'s order is this precedence; nothing
//! else decides.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::bind::{Mode, parse_bind, place};
use super::{Fault, MountError, MountKind, MountPoint, MountRequest, tmpfs};
use crate::config::{Config, HostConfig};

/// Where a wish for a place comes from; the greater wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// `VOLUME` of the image, or `-v` with nothing but a destination.
    Image,
    /// `--volumes-from`, by its turn on the command line.
    Inherited(usize),
    /// `-v` or `--mount`.
    Asked,
}

/// One `--volumes-from`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumesFrom {
    /// The container as typed.
    pub container: String,
    /// Nothing of it may be written.
    pub read_only: bool,
}

impl VolumesFrom {
    /// Reads `CONTAINER[:mode]`.
    ///
    /// # Errors
    /// `invalid mode: …`.
    pub fn parse(text: &str) -> Result<Self, MountError> {
        let (container, mode) = text.split_once(':').unwrap_or((text, "rw"));
        let words = Mode::parse(mode)
            .filter(|words| !words.no_copy && words.propagation.is_none() && words.owner.is_none())
            .ok_or_else(|| MountError::Mode(mode.to_owned()))?;
        if container.is_empty() {
            return Err(MountError::NoContainer);
        }
        Ok(Self {
            container: container.to_owned(),
            read_only: words.read_only,
        })
    }
}

/// The mounts of another container, to be inherited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inherited {
    /// Nothing of it may be written.
    pub read_only: bool,
    /// What that container has.
    pub mounts: Vec<MountPoint>,
}

/// All wishes for mounts.
#[derive(Debug, Clone, Copy)]
pub struct Wishes<'a> {
    /// `Volumes`, merged with the image's.
    pub config: &'a Config,
    /// `Binds`, `Mounts`, `Tmpfs`.
    pub host: &'a HostConfig,
    /// In the order of `--volumes-from`.
    pub inherited: &'a [Inherited],
}

/// The mounts a container gets, each destination once, parents before what lies below them.
///
/// Anonymous volumes have no name yet.
///
/// # Errors
/// [`MountError`] in Docker's words.
pub fn settle(wishes: Wishes<'_>) -> Result<Vec<MountPoint>, MountError> {
    let mut places: BTreeMap<String, (Rank, MountPoint)> = BTreeMap::new();
    let mut memory = Vec::new();
    for (text, options) in &wishes.host.tmpfs {
        tmpfs::options(options)?;
        memory.push(tmpfs::destination(text)?);
    }
    for (turn, from) in wishes.inherited.iter().enumerate() {
        for mount in &from.mounts {
            put(
                &mut places,
                Rank::Inherited(turn),
                inherit(mount, from.read_only),
            )?;
        }
    }
    for mount in asked(wishes.host)? {
        if memory.contains(&mount.destination) {
            return Err(MountError::Duplicate(mount.destination));
        }
        put(&mut places, Rank::Asked, mount)?;
    }
    for text in wishes.config.volumes.iter().flatten().map(|(text, _)| text) {
        let destination = image_place(text).map_err(|fault| config_fault(text, fault))?;
        // What is in memory there would only hide the volume.
        if memory.contains(&destination) {
            continue;
        }
        let mut mount = MountPoint::new(MountKind::Volume, "", &destination);
        mount.anonymous = true;
        put(&mut places, Rank::Image, mount)?;
    }
    let mut mounts: Vec<MountPoint> = places.into_values().map(|(_, mount)| mount).collect();
    mounts.sort_by_key(|mount| depth(&mount.destination));
    Ok(mounts)
}

/// Checks the places of `-v` with nothing but a destination: what the user types is a whole path,
/// whatever images hold.
///
/// # Errors
/// [`MountError`] in Docker's words.
pub(crate) fn check_places(asked: &Config) -> Result<(), MountError> {
    for (text, _) in asked.volumes.iter().flatten() {
        place(text).map_err(|fault| config_fault(text, fault))?;
    }
    Ok(())
}

/// A place that a `VOLUME` of the image names; one that is not absolute begins at the root.
fn image_place(text: &str) -> Result<String, Fault> {
    match text {
        "" => Err(Fault::Missing("Target")),
        absolute if absolute.starts_with('/') => place(absolute),
        relative => place(&format!("/{relative}")),
    }
}

/// Number of parts of a clean path.
pub(crate) fn depth(path: &str) -> usize {
    path.matches('/').count()
}

fn asked(host: &HostConfig) -> Result<Vec<MountPoint>, MountError> {
    let mut all = Vec::new();
    for raw in host.binds.iter().flatten() {
        all.push(parse_bind(raw)?);
    }
    for value in &host.mounts {
        all.push(MountRequest::from_json(value)?.mount_point()?);
    }
    Ok(all)
}

fn config_fault(text: &str, fault: Fault) -> MountError {
    MountError::Bind {
        raw: text.to_owned(),
        kind: MountKind::Volume.as_str(),
        fault,
    }
}

fn put(
    places: &mut BTreeMap<String, (Rank, MountPoint)>,
    rank: Rank,
    mount: MountPoint,
) -> Result<(), MountError> {
    match places.entry(mount.destination.clone()) {
        Entry::Vacant(entry) => {
            entry.insert((rank, mount));
        }
        Entry::Occupied(entry) if entry.get().0 == rank && rank == Rank::Asked => {
            return Err(MountError::Duplicate(mount.destination));
        }
        Entry::Occupied(mut entry) if rank > entry.get().0 => {
            entry.insert((rank, mount));
        }
        Entry::Occupied(_) => {}
    }
    Ok(())
}

/// The mount as another container gets it: never more rights than the source's own.
fn inherit(mount: &MountPoint, read_only: bool) -> MountPoint {
    MountPoint {
        mode: String::new(),
        writable: mount.writable && !read_only,
        // it has been filled once, or never shall be
        no_copy: true,
        ..mount.clone()
    }
}

#[cfg(test)]
mod page;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Empty;
    use serde_json::json;

    fn volume(name: &str, writable: bool) -> MountPoint {
        MountPoint {
            name: name.to_owned(),
            writable,
            mode: "z".to_owned(),
            ..MountPoint::new(MountKind::Volume, "", "/data")
        }
    }

    fn inherited(name: &str, writable: bool, read_only: bool) -> Inherited {
        Inherited {
            read_only,
            mounts: vec![volume(name, writable)],
        }
    }

    /// All sixteen combinations of (image volume, first from, later from, asked) for one place.
    #[test]
    fn the_truth_table_of_precedence() {
        for bits in 0_u8..16 {
            let [image, first, later, ask] = [1, 2, 4, 8].map(|bit| bits & bit != 0);
            let config = Config {
                volumes: image.then(|| [("/data".to_owned(), Empty {})].into()),
                ..Config::default()
            };
            let host = HostConfig {
                binds: ask.then(|| vec!["asked:/data/".to_owned()]),
                ..HostConfig::default()
            };
            let mut from = Vec::new();
            if first {
                from.push(inherited("first", true, false));
            }
            if later {
                from.push(inherited("later", true, false));
            }
            let settled = settle(Wishes {
                config: &config,
                host: &host,
                inherited: &from,
            })
            .unwrap();
            let expected = match (image, first, later, ask) {
                (_, _, _, true) => Some("asked"),
                (_, _, true, false) => Some("later"),
                (_, true, false, false) => Some("first"),
                (true, false, false, false) => Some(""),
                (false, false, false, false) => None,
            };
            let names: Vec<&str> = settled.iter().map(|mount| mount.name.as_str()).collect();
            assert_eq!(
                names,
                expected.into_iter().collect::<Vec<_>>(),
                "{bits:04b}"
            );
        }
    }

    /// Rights of an inherited mount: source writable, `:ro` given.
    #[test]
    fn the_truth_table_of_rights() {
        for (source, read_only, expected) in [
            (true, false, true),
            (true, true, false),
            (false, false, false),
            (false, true, false),
        ] {
            let settled = settle(Wishes {
                config: &Config::default(),
                host: &HostConfig::default(),
                inherited: &[inherited("v", source, read_only)],
            })
            .unwrap();
            assert_eq!(settled[0].writable, expected);
            assert_eq!(settled[0].mode, "");
        }
    }

    #[test]
    fn two_wishes_of_the_user_for_one_place_are_refused() {
        for (binds, mounts, tmpfs) in [
            (vec!["aa:/data", "bb:/data"], json!([]), ""),
            (
                vec!["aa:/data"],
                json!([{"Type": "tmpfs", "Target": "/data/"}]),
                "",
            ),
            (vec!["aa:/data"], json!([]), "/data"),
        ] {
            let mut host = HostConfig {
                binds: Some(binds.into_iter().map(str::to_owned).collect()),
                mounts: mounts.as_array().unwrap().clone(),
                ..HostConfig::default()
            };
            if !tmpfs.is_empty() {
                host.tmpfs.insert(tmpfs.to_owned(), String::new());
            }
            let error = settle(Wishes {
                config: &Config::default(),
                host: &host,
                inherited: &[],
            });
            assert_eq!(
                error.unwrap_err().to_string(),
                "Duplicate mount point: /data"
            );
        }
    }

    /// Dockerfiles say `VOLUME ~/p` and mean a directory of the root; whoever types `-v p` means
    /// something else.
    #[test]
    fn places_of_images_begin_at_the_root() {
        let config = |place: &str| Config {
            volumes: Some([(place.to_owned(), Empty {})].into()),
            ..Config::default()
        };
        let settled = |place: &str, host: &HostConfig| {
            let config = config(place);
            let wishes = Wishes {
                config: &config,
                host,
                inherited: &[],
            };
            let mounts = settle(wishes).map_err(|error| error.to_string())?;
            Ok::<_, String>(mounts.first().map(|mount| mount.destination.clone()))
        };
        let host = HostConfig::default();
        for (place, expected) in [("~/p", "/~/p"), ("rel/../x", "/x"), ("/abs/", "/abs")] {
            assert_eq!(settled(place, &host).unwrap().as_deref(), Some(expected));
        }
        assert!(settled("..", &host).unwrap_err().ends_with("can't be '/'"));
        assert!(check_places(&config("/abs")).is_ok());
        assert_eq!(
            check_places(&config("rel")).unwrap_err().to_string(),
            "invalid volume specification: 'rel': invalid mount config for type \"volume\": \
             invalid mount path: 'rel' mount path must be absolute"
        );
        // Memory at the place takes the volume's part.
        let memory = HostConfig {
            tmpfs: [("/p/".to_owned(), String::new())].into(),
            ..HostConfig::default()
        };
        assert_eq!(settled("/p", &memory).unwrap(), None);
    }

    #[test]
    fn parents_come_before_what_lies_below() {
        let host = HostConfig {
            binds: Some(
                ["/1:/a/b/c", "/2:/a", "/3:/a/b", "/4:/z"]
                    .map(str::to_owned)
                    .into(),
            ),
            ..HostConfig::default()
        };
        let settled = settle(Wishes {
            config: &Config::default(),
            host: &host,
            inherited: &[],
        })
        .unwrap();
        let order: Vec<&str> = settled.iter().map(|mount| &*mount.destination).collect();
        assert_eq!(order, ["/a", "/z", "/a/b", "/a/b/c"]);
    }

    #[test]
    fn volumes_from_words() {
        let read = |text: &str| VolumesFrom::parse(text).map_err(|error| error.to_string());
        assert!(!read("c").unwrap().read_only);
        assert!(read("c:ro").unwrap().read_only);
        assert!(!read("c:z").unwrap().read_only);
        assert_eq!(read("c:foo").unwrap_err(), "invalid mode: foo");
        assert_eq!(read("c:nocopy").unwrap_err(), "invalid mode: nocopy");
        assert!(read(":ro").is_err());
    }
}
