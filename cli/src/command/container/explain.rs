//! `rbox explain run …`: what `rbox run …` would do, step by step; nothing is done.

use std::ffi::OsString;
use std::io::{self, Write};

use clap::Args;
use engine::request::Explained;
use serde_json::{Value, json};

use super::arguments::Surroundings;
use super::create::{Pull, request};
use super::run::{self, RunArgs};
use crate::app::{self, Count, Leaf, Verb};
use crate::context::Context;
use crate::error::{Failure, REFUSED, Result};
use crate::output::json;

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<ExplainArgs>(
    "[OPTIONS] run [OPTIONS] IMAGE [COMMAND] [ARG...]",
    "Show what a command would do, step by step, without doing it",
    &[],
    Count::AtLeast(1),
)
.flags_first();

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// Print the steps as JSON
    #[arg(long)]
    json: bool,
    /// Print only the shell commands that would do the same
    #[arg(long)]
    shell: bool,
}

impl Verb for ExplainArgs {
    fn run(self, context: &Context, plain: Vec<String>) -> Result<()> {
        if plain[0] != "run" {
            return Err(Failure::coded(
                REFUSED,
                format!("rbox explain: cannot explain {:?}", plain[0]),
            )
            .hint("write 'rbox explain run …' with the flags of 'rbox run'"));
        }
        let rest: Vec<OsString> = plain[1..].iter().map(OsString::from).collect();
        let (arguments, plain): (RunArgs, _) = app::read(&run::LEAF, "rbox run", &rest)?;
        Pull::parse(arguments.pull.as_deref())?;
        let wanted =
            arguments
                .container
                .request(&plain, arguments.detach, &Surroundings::of_process())?;
        let steps = context.engine()?.explain(&request(wanted)?)?;
        let mut out = io::stdout().lock();
        if self.json {
            writeln!(
                out,
                "{}",
                json::pretty(&Value::Array(steps.iter().map(document).collect()))
            )?;
        } else if self.shell {
            shell(&mut out, &steps)?;
        } else {
            tell(&mut out, &steps)?;
        }
        Ok(())
    }
}

fn document(step: &Explained) -> Value {
    json!({
        "Lane": step.lane,
        "Step": step.step,
        "What": step.description.what,
        "Why": step.description.why,
        "Calls": step.description.calls,
        "Shell": step.shell,
    })
}

fn shell(out: &mut impl Write, steps: &[Explained]) -> io::Result<()> {
    for step in steps {
        writeln!(out, "# {}: {}", step.lane, step.description.what)?;
        if step.shell.is_empty() {
            writeln!(out, "# no command does this")?;
        }
        for line in &step.shell {
            writeln!(out, "{line}")?;
        }
    }
    Ok(())
}

fn tell(out: &mut impl Write, steps: &[Explained]) -> io::Result<()> {
    let mut lane = "";
    for (index, step) in steps.iter().enumerate() {
        if step.lane != lane {
            lane = step.lane;
            let gap = if index == 0 { "" } else { "\n" };
            writeln!(out, "{gap}In the {lane}:")?;
        }
        writeln!(
            out,
            "\n{:3}. {}  [{}]",
            index + 1,
            step.description.what,
            step.step
        )?;
        if !step.description.why.is_empty() {
            writeln!(out, "     why: {}", step.description.why)?;
        }
        for call in &step.description.calls {
            writeln!(out, "       {call}")?;
        }
        for line in &step.shell {
            writeln!(out, "     $ {line}")?;
        }
    }
    Ok(())
}
