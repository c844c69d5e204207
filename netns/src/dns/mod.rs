//! Names of containers on user-defined networks, answered at 127.0.0.11 inside the container.
//!
//! Pure are the wire format ([`message`]) and who gets which answer ([`zone`]); names lie in files
//! ([`registry`]), and a [`Resolver`] lives in each container's monitor.

pub mod listen;
pub mod message;
pub mod registry;
pub mod server;
pub mod zone;

pub use listen::Sockets;
pub use message::{Code, Data, Malformed, Question};
pub use registry::{Names, NamesError, Registry};
pub use server::{Config, Resolver, Servers};
pub use zone::{Directory, Lookup, Membership, Pick};
