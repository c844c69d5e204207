//! `cargo xtask examples`: the examples' scripts, each in a throw-away host.

use anyhow::{Result, bail};

use crate::{build, packages};

/// Runs one example or all; true when all ran to their end.
pub(crate) fn run(words: &[&str]) -> Result<bool> {
    packages::root("the examples")?;
    packages::provide(packages::LAB)?;
    packages::provide(packages::EXAMPLES)?;
    build::program("rbox", "rbox", "dev")?;
    build::program("echo-static", "echo-static", "dev")?;
    build::program("search-engine", "searchengine", "dev")?;
    let all = lab::example::all();
    let wanted: Vec<&String> = match words {
        [] => all.iter().collect(),
        [name] => all.iter().filter(|one| one == name).collect(),
        _ => bail!("cargo xtask examples takes one name or none"),
    };
    if wanted.is_empty() {
        bail!("there is no such example; there are: {}", all.join(", "));
    }
    let mut good = true;
    for name in wanted {
        println!("== {name}");
        let output = lab::example::run(name);
        println!("{}", output.text());
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        println!("{name}: {}", output.status);
        good &= output.status.success();
    }
    Ok(good)
}
