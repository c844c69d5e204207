//! What users do with containers: one file per verb.

pub mod attach;
mod check;
pub mod commit;
mod complete;
pub(crate) mod control;
pub mod copy;
pub mod create;
pub mod diff;
pub mod exec;
mod held;
pub mod inspect;
pub mod kill;
pub mod list;
pub mod logs;
mod merge;
pub mod network;
mod noted;
pub mod remove;
pub mod rename;
pub mod size;
pub mod start;
pub mod stats;
pub mod stop;
pub mod top;
pub mod update;
mod user;
pub mod wait;
