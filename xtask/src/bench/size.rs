//! The size of the program and the memory of the process that stays with a container.

use anyhow::{Context, Result};

use super::{Bench, Table};

/// Bytes on disk and in memory.
pub(crate) fn sizes(bench: &mut Bench) -> Result<Table> {
    let bytes = std::fs::metadata(&bench.rbox)
        .context("the program is gone")?
        .len();
    let lab = &bench.lab;
    let id = lab
        .rbox(["run", "-d", "-p", "8080:80", "busybox", "sleep", "1000"])
        .run()
        .success()
        .text();
    let pid = lab.sh(&format!("cut -d' ' -f1 /run/rbox/containers/{id}/monitor"));
    let memory = lab.sh(&format!("cat /proc/{pid}/smaps_rollup"));
    let number = |key: &str| -> f64 {
        memory
            .lines()
            .filter_map(|line| line.strip_prefix(key)?.split_whitespace().nth(1))
            .filter_map(|word| word.parse::<f64>().ok())
            .sum()
    };
    let private = number("Private_Clean") + number("Private_Dirty");
    let rows = vec![
        (
            "the program".to_owned(),
            vec![(u32::try_from(bytes / 1024)?).into()],
        ),
        ("monitor, private".to_owned(), vec![private]),
        (
            "monitor, private and written".to_owned(),
            vec![number("Private_Dirty")],
        ),
        ("monitor, resident".to_owned(), vec![number("Rss")]),
    ];
    lab.rbox(["rm", "-f", &id]).run().success();
    Ok(Table {
        title: "sizes".to_owned(),
        columns: vec!["KiB"],
        rows,
    })
}
