//! Names of containers on user-defined networks: questions, answers, who is called what (pure).

pub mod message;
pub mod zone;

pub use message::{Code, Data, Malformed, Question};
pub use zone::{Lookup, Member, Zone};
