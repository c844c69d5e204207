//! Union mounts that containers use, as steps of their starts.
//!
//! ```text
//! state/unions/<id>-<n>           of a `-v` of that container alone
//! state/unions/<id>-root          its root; <id>-root.image is there only while it is being made
//! state/volumes/<name>/union      of a volume; shared by all containers that have it
//! state/volumes/<name>/users/<id> one of them; counts while its journal is there
//! state/volumes/<name>/lock       held by who comes or goes
//! ```
//!
//! Each is mounted on the host and served by a process of its own that ends with the mount. The
//! container's mount is bound to it. The first container that has a volume mounts its union, the
//! last one unmounts it: locks and caches are one for all of them.

mod step;
mod take;

pub use step::UnionStep;
pub(crate) use take::{root, take, while_mounted};
