//! `rbox union convert`: rewrites the marks of branches that are not in use.

use std::io::{self, Write as _};
use std::path::Path;

use clap::Args;
use overlayfs::union::options::Form;
use overlayfs::union::{Conversion, Converted};

use crate::app::{Count, Leaf, Verb};
use crate::context::Context;
use crate::error::{Failure, Result};

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<ConvertArgs>(
    "--to aufs|overlay [OPTIONS] BRANCH [BRANCH...]",
    "Rewrite the marks of branches in aufs's or in overlayfs's form",
    &["union convert"],
    Count::AtLeast(1),
);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct ConvertArgs {
    /// Take marks of both forms for marks, as a union with whform=auto does
    #[arg(long)]
    both: bool,
    /// The form that the marks are to have: aufs or overlay
    #[arg(long, value_name = "string")]
    to: Option<String>,
}

impl Verb for ConvertArgs {
    fn run(self, _context: &Context, plain: Vec<String>) -> Result<()> {
        let form = self.to.as_deref().and_then(Form::parse);
        let form = form.filter(|form| *form != Form::Auto);
        let form =
            form.ok_or_else(|| Failure::said("union: --to aufs or --to overlay must be given"))?;
        let branches: Vec<Conversion> = plain
            .iter()
            .map(|branch| Conversion::prepare(Path::new(branch), self.both, form))
            .collect::<std::result::Result<_, _>>()?;
        let mut out = io::stdout().lock();
        for branch in &branches {
            let done = branch.carry_out()?;
            writeln!(out, "{}: {}", branch.path().display(), said(done, form))?;
        }
        Ok(())
    }
}

fn said(done: Converted, form: Form) -> String {
    let number = |count: u64, one: &str, many: &str| match count {
        1 => format!("1 {one}"),
        count => format!("{count} {many}"),
    };
    match done {
        Converted {
            whiteouts: 0,
            opaque: 0,
        } => "no marks to convert".to_owned(),
        done => format!(
            "{} and {} are in the form {form} now",
            number(done.whiteouts, "whiteout", "whiteouts"),
            number(done.opaque, "opaque directory", "opaque directories"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_was_changed() {
        for (whiteouts, opaque, text) in [
            (0, 0, "no marks to convert"),
            (
                1,
                0,
                "1 whiteout and 0 opaque directories are in the form aufs now",
            ),
            (
                2,
                1,
                "2 whiteouts and 1 opaque directory are in the form aufs now",
            ),
        ] {
            assert_eq!(said(Converted { whiteouts, opaque }, Form::Aufs), text);
        }
    }
}
