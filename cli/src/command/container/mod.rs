//! `rbox container …` and the same commands without the noun.

use crate::app::Entry;

pub(crate) mod arguments;
pub(crate) mod attach;
pub(crate) mod commit;
pub(crate) mod cp;
pub(crate) mod create;
pub(crate) mod diff;
mod each;
pub(crate) mod exec;
pub(crate) mod explain;
pub(crate) mod export;
pub(crate) mod inspect;
pub(crate) mod kill;
pub(crate) mod logs;
pub(crate) mod pause;
pub(crate) mod port;
pub(crate) mod prune;
pub(crate) mod ps;
pub(crate) mod rename;
pub(crate) mod restart;
pub(crate) mod rm;
pub(crate) mod run;
pub(crate) mod start;
pub(crate) mod stats;
pub(crate) mod stop;
mod streams;
pub(crate) mod top;
pub(crate) mod unpause;
pub(crate) mod update;
pub(crate) mod wait;

/// The verbs of the noun.
pub(crate) static ENTRIES: &[Entry] = &[
    Entry::new("attach", &attach::LEAF),
    Entry::new("commit", &commit::LEAF),
    Entry::new("cp", &cp::LEAF),
    Entry::new("create", &create::LEAF),
    Entry::new("diff", &diff::LEAF),
    Entry::new("inspect", &inspect::LEAF),
    Entry::new("exec", &exec::LEAF),
    Entry::new("export", &export::LEAF),
    Entry::new("kill", &kill::LEAF),
    Entry::new("logs", &logs::LEAF),
    Entry::new("ls", &ps::LEAF).or(&["list", "ps"]),
    Entry::new("pause", &pause::LEAF),
    Entry::new("prune", &prune::LEAF),
    Entry::new("port", &port::LEAF),
    Entry::new("rename", &rename::LEAF),
    Entry::new("restart", &restart::LEAF),
    Entry::new("rm", &rm::LEAF).or(&["remove"]),
    Entry::new("run", &run::LEAF),
    Entry::new("start", &start::LEAF),
    Entry::new("stats", &stats::LEAF),
    Entry::new("stop", &stop::LEAF),
    Entry::new("top", &top::LEAF),
    Entry::new("unpause", &unpause::LEAF),
    Entry::new("update", &update::LEAF),
    Entry::new("wait", &wait::LEAF),
];
