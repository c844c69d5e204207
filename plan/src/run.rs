//! Carries a list of steps out; undoes what was done when one of them fails.

use std::error::Error;
use std::time::{Duration, Instant};

use crate::fault::{Faults, Injected, Moment};
use crate::step::Step;

/// How long one step took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// The step's name.
    pub step: &'static str,
    /// When it began, since the run was made.
    pub begin: Duration,
    /// How long it took.
    pub duration: Duration,
}

/// Why a run failed: the step, its error, and what could not be undone afterwards.
#[derive(Debug, thiserror::Error)]
#[error("step {step}")]
pub struct Failure<E: Error + 'static> {
    /// The name of the step that failed.
    pub step: &'static str,
    /// Its error.
    #[source]
    pub cause: Cause<E>,
    /// Errors of the undo, in the order met; empty when all was taken back.
    pub left: Vec<E>,
}

/// What made a step fail.
#[derive(Debug, thiserror::Error)]
pub enum Cause<E: Error + 'static> {
    /// The step itself.
    #[error(transparent)]
    Step(E),
    /// A fault point.
    #[error(transparent)]
    Fault(Injected),
}

/// Carries steps out one after the other and remembers how long each took.
#[derive(Debug)]
pub struct Run {
    faults: Faults,
    begin: Instant,
    timings: Vec<Timing>,
    timed: bool,
}

impl Run {
    /// Begins a run with the given faults; `timed` keeps the time of every step.
    pub fn new(faults: Faults, timed: bool) -> Self {
        Self {
            faults,
            begin: Instant::now(),
            timings: Vec::new(),
            timed,
        }
    }

    /// The fault points of this run, for work that is not a step of its own list.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// The times so far, in order.
    pub fn timings(&self) -> &[Timing] {
        &self.timings
    }

    /// Applies all steps in order. When one fails, the step itself (it may be half done) and those
    /// before it are undone in reverse order.
    ///
    /// # Errors
    /// [`Failure`] with the step's error and whatever could not be undone.
    pub fn apply<H: ?Sized, S: Step<H>>(
        &mut self,
        steps: &[S],
        host: &mut H,
    ) -> Result<(), Failure<S::Error>> {
        for (index, step) in steps.iter().enumerate() {
            if let Err(cause) = self.one(step, host) {
                let left = undo_all(&steps[..=index], host);
                return Err(Failure {
                    step: step.name(),
                    cause,
                    left,
                });
            }
        }
        Ok(())
    }

    fn one<H: ?Sized, S: Step<H>>(
        &mut self,
        step: &S,
        host: &mut H,
    ) -> Result<(), Cause<S::Error>> {
        let name = step.name();
        self.faults
            .point(name, Moment::Before)
            .map_err(Cause::Fault)?;
        let begin = self.timed.then(Instant::now);
        step.apply(host).map_err(Cause::Step)?;
        if let Some(begin) = begin {
            self.timings.push(Timing {
                step: name,
                begin: begin.duration_since(self.begin),
                duration: begin.elapsed(),
            });
        }
        self.faults.point(name, Moment::After).map_err(Cause::Fault)
    }
}

/// Undoes steps in reverse order; never stops at an error but collects them.
pub fn undo_all<H: ?Sized, S: Step<H>>(steps: &[S], host: &mut H) -> Vec<S::Error> {
    steps
        .iter()
        .rev()
        .filter_map(|step| step.undo(host).err())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::Description;

    /// A host that records what was done to it.
    type Record = Vec<String>;

    #[derive(Debug)]
    struct Mark(&'static str, bool);

    #[derive(Debug, thiserror::Error)]
    #[error("broken")]
    struct Broken;

    impl Step<Record> for Mark {
        type Error = Broken;
        fn name(&self) -> &'static str {
            self.0
        }
        fn apply(&self, host: &mut Record) -> Result<(), Broken> {
            host.push(format!("+{}", self.0));
            if self.1 { Err(Broken) } else { Ok(()) }
        }
        fn undo(&self, host: &mut Record) -> Result<(), Broken> {
            host.push(format!("-{}", self.0));
            Ok(())
        }
        fn describe(&self) -> Description {
            Description {
                what: self.0.to_owned(),
                why: String::new(),
                calls: Vec::new(),
            }
        }
        fn shell(&self) -> Vec<String> {
            Vec::new()
        }
    }

    #[test]
    fn a_failing_step_takes_back_itself_and_those_before() {
        let mut host = Record::new();
        let steps = [Mark("a", false), Mark("b", true), Mark("c", false)];
        let failure = Run::new(Faults::none(), false)
            .apply(&steps, &mut host)
            .unwrap_err();
        assert_eq!(failure.step, "b");
        assert_eq!(host, ["+a", "+b", "-b", "-a"]);
    }

    #[test]
    fn a_fault_after_a_step_takes_it_back() {
        let mut host = Record::new();
        let steps = [Mark("a", false), Mark("b", false)];
        let faults = Faults::parse("a:after:error").unwrap();
        let failure = Run::new(faults, false)
            .apply(&steps, &mut host)
            .unwrap_err();
        assert!(matches!(failure.cause, Cause::Fault(_)));
        assert_eq!(host, ["+a", "-a"]);
    }

    #[test]
    fn times_are_kept_when_asked_for() {
        let mut host = Record::new();
        let mut run = Run::new(Faults::none(), true);
        run.apply(&[Mark("a", false)], &mut host).unwrap();
        assert_eq!(run.timings().len(), 1);
        assert_eq!(run.timings()[0].step, "a");
    }
}
