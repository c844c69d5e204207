//! What volumes cost: filling them from an image, and reading and writing through them.
//!
//! Everything lies on the disk of the target directory's machine, not in memory as the rest of a lab.
//! `RBOX_BENCH_SHRINK=100` takes a hundredth of all sizes: to try the bench, not to quote it.

use anyhow::{Context, Result};
use lab::Lab;

use super::{Bench, Table, median};
use crate::packages::in_path;
use crate::stopwatch::Stopwatch;

/// Small files of the first image, and megabytes of the second one's only file.
const FILES: usize = 100_000;
const MEGABYTES: usize = 1000;

/// Repetitions: each takes seconds.
const ROUNDS: usize = 5;

pub(super) fn shrunk(size: usize) -> usize {
    let by = std::env::var("RBOX_BENCH_SHRINK").ok();
    let by: usize = by.and_then(|text| text.parse().ok()).unwrap_or(1);
    (size / by.max(1)).max(1)
}

/// A lab whose `/var/lib` is on the disk, and the engines in it.
struct Place {
    lab: Lab,
    watch: Stopwatch,
    engines: Vec<&'static str>,
}

impl Place {
    fn new(bench: &Bench) -> Result<Self> {
        let lab = Lab::with_program(&bench.rbox);
        lab.sh(&format!(
            "mkdir {0}/lib; mount --bind {0}/lib /var/lib",
            lab.directory().display()
        ));
        let mut engines = vec!["rbox"];
        if in_path("dockerd") && in_path("docker") {
            match lab::reference::dockerd(&lab) {
                Ok(_) => engines.push("docker"),
                Err(why) => println!("docker is left out: {why}"),
            }
        }
        let watch = Stopwatch::new(&lab)?;
        Ok(Self {
            lab,
            watch,
            engines,
        })
    }

    /// Makes an image of busybox and what a script puts into `data`.
    fn image(&self, name: &str, script: &str) {
        let tree = self.lab.directory().join(name);
        lab::fixture::busybox_tree(&tree);
        let archive = self.lab.directory().join(format!("{name}.tar"));
        self.lab.sh(&format!(
            "mkdir {0}/data; cd {0}/data; {script}",
            tree.display()
        ));
        lab::fixture::tar(&tree, &archive);
        for engine in &self.engines {
            self.lab
                .sh(&format!("{engine} import {} {name}", archive.display()));
        }
        self.lab
            .sh(&format!("rm -r {} {}", tree.display(), archive.display()));
    }

    fn time(&mut self, line: &str) -> Result<f64> {
        let words = ["sh", "-c", line].map(str::to_owned);
        Ok(self.watch.time(&words)?.as_secs_f64() * 1000.0)
    }
}

/// Each engine makes a volume of 100,000 small files, and one of a file of 1 GB.
pub(crate) fn copy_up(bench: &mut Bench) -> Result<Table> {
    let mut place = Place::new(bench)?;
    let (files, megabytes) = (shrunk(FILES), shrunk(MEGABYTES));
    place.image(
        "many",
        &format!(
            "i=0; while [ $i -lt {files} ]; do d=$((i / 1000)); [ -d $d ] || mkdir $d
             echo content > $d/$i; i=$((i + 1)); done"
        ),
    );
    place.image(
        "large",
        &format!("dd if=/dev/urandom of=f bs=1M count={megabytes} 2> /dev/null"),
    );
    let mut rows = Vec::new();
    for (image, what) in [
        ("many", format!("{files} files")),
        ("large", format!("{megabytes} MB")),
    ] {
        for engine in place.engines.clone() {
            let mut times = Vec::new();
            for _ in 0..ROUNDS {
                let run = format!("{engine} run --rm --network none -v filled:/data {image} true");
                place.lab.sh("sync");
                times.push(place.time(&run)?);
                place.lab.sh(&format!("{engine} volume rm filled"));
            }
            let least = times.iter().copied().fold(f64::INFINITY, f64::min);
            rows.push((format!("{what}: {engine}"), vec![median(&times), least]));
        }
    }
    Ok(Table {
        title: format!(
            "run -v NEW:/data with content of the image: wall time in ms, {ROUNDS} rounds"
        ),
        columns: vec!["median", "least"],
        rows,
    })
}

/// The same work in a directory of the host: by the host, through a bind mount, through a volume.
pub(crate) fn io(bench: &mut Bench) -> Result<Table> {
    let mut place = Place::new(bench)?;
    place.image("plain", ":");
    let (files, megabytes) = (shrunk(20_000), shrunk(MEGABYTES));
    let host = place.lab.directory().join("host").display().to_string();
    place.lab.sh(&format!("mkdir {host}"));
    let busybox = place.lab.sh("command -v busybox");
    let works = [
        (
            "write",
            format!("dd if=/dev/zero of=$D/f bs=1M count={megabytes} conv=fsync"),
        ),
        ("read", "cat $D/f > /dev/null".to_owned()),
        (
            "files",
            format!(
                "i=0; while [ $i -lt {files} ]; do : > $D/s$i; i=$((i + 1)); done; rm $D/s*[0-4]; rm $D/s*[5-9]"
            ),
        ),
    ];
    let mut ways = vec![("host".to_owned(), format!("D={host}; exec {busybox} sh -c"))];
    for engine in &place.engines {
        for (name, source) in [("bind", host.as_str()), ("volume", "kept")] {
            let run = format!("D=/data; {engine} run --rm --network none -v {source}:/data");
            ways.push((format!("{engine} {name}"), format!("{run} plain sh -c")));
        }
    }
    let mut times = vec![vec![Vec::new(); works.len()]; ways.len()];
    for _ in 0..ROUNDS {
        for ((_, way), own) in ways.iter().zip(&mut times) {
            for ((name, work), own) in works.iter().zip(own) {
                let work = work.replace("$D", "'\"$D\"'");
                let took = place.time(&format!("{way} '{work}' 2> /dev/null"));
                own.push(took.with_context(|| format!("{way}: {name}"))?);
            }
        }
    }
    let own: Vec<Vec<f64>> = times
        .iter()
        .map(|works| works.iter().map(|all| median(all)).collect())
        .collect();
    let rows = ways
        .iter()
        .zip(&own)
        .map(|((name, _), values)| {
            let pairs = values.iter().zip(&own[0]);
            let row = pairs
                .flat_map(|(time, host)| [*time, time / host])
                .collect();
            (name.clone(), row)
        })
        .collect();
    Ok(Table {
        title: format!(
            "{megabytes} MB written and read, {files} files made and removed: wall time in ms with \
             the container's start, and the ratio to the host's own; {ROUNDS} rounds"
        ),
        columns: vec!["write", "ratio", "read", "ratio", "files", "ratio"],
        rows,
    })
}
