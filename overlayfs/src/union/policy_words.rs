//! Policies as options name them: `create=` and `cpup=`.

use crate::union::options::{OptionError, bad, size};
use crate::union::policy::{CopyUp, Create, Measure};

fn seconds(word: &str, text: Option<&str>) -> Result<u64, OptionError> {
    let Some(text) = text else { return Ok(30) };
    match text.parse() {
        Ok(number @ 0..=3600) => Ok(number),
        _ => Err(bad(
            word,
            format!("{text:?} is no number of seconds from 0 to 3600"),
        )),
    }
}

pub(crate) fn create(word: &str, text: &str) -> Result<Create, OptionError> {
    let mut parts = text.split([':', '=']);
    let name = parts.next().unwrap_or_default();
    let values: Vec<&str> = parts.collect();
    let low = || match values.first() {
        Some(text) => size(word, text),
        None => Err(bad(word, "a size must follow the policy")),
    };
    let sec = |at: usize| seconds(word, values.get(at).copied());
    let (policy, most) = match name {
        "tdp" | "top-down-parent" => (Create::TopDownParent, 0),
        "rr" | "round-robin" => (Create::RoundRobin, 0),
        "mfs" | "most-free-space" => (Create::MostFreeSpace(sec(0)?), 1),
        "mfsrr" => (Create::MostFreeSpaceOrRoundRobin(low()?, sec(1)?), 2),
        "pmfs" => (Create::ParentMostFreeSpace(sec(0)?), 1),
        "pmfsrr" => (Create::ParentMostFreeSpaceOrRoundRobin(low()?, sec(1)?), 2),
        "tdmfs" => (Create::TopDownMostFreeSpace(low()?, sec(1)?), 2),
        _ => {
            let (existing, measure) = match name.strip_prefix("ep") {
                Some(measure) => (true, measure),
                None => (false, name),
            };
            match Measure::ALL.iter().find(|(known, _)| *known == measure) {
                Some(&(_, measure)) if existing => (Create::Existing(measure), 0),
                Some(&(_, measure)) => (Create::Any(measure), 0),
                None => return Err(bad(word, format!("unknown policy {name:?}"))),
            }
        }
    };
    match values.get(most) {
        Some(extra) => Err(bad(
            word,
            format!("{extra:?} says nothing to policy {name:?}"),
        )),
        None => Ok(policy),
    }
}

pub(crate) fn copy_up(word: &str, text: &str) -> Result<CopyUp, OptionError> {
    match text {
        "tdp" | "top-down-parent" => Ok(CopyUp::TopDownParent),
        "bup" | "bottom-up-parent" => Ok(CopyUp::BottomUpParent),
        "bu" | "bottom-up" => Ok(CopyUp::BottomUp),
        _ => Err(bad(word, format!("unknown policy {text:?}"))),
    }
}
