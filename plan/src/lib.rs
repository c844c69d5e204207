//! Plan, then do: every change to the kernel or the disk is a value before it is done.
//!
//! A [`Step`] can be applied, undone, described and printed as the shell command that would do the
//! same. A [`Run`] carries a list of steps out, undoes them when one fails, times each and offers a
//! fault point before and after every one. A [`Journal`] keeps the plan on disk so that another
//! process can undo it after a `kill -9`. This crate makes no system call of its own beyond the
//! journal's file and knows nothing of containers.

pub mod fault;
pub mod journal;
pub mod run;
pub mod step;

pub use fault::Faults;
pub use journal::{Journal, JournalError};
pub use run::{Failure, Run, Timing, undo_all};
pub use step::{Description, Step};
