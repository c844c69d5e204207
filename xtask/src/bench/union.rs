//! Unions beside the branch's own file system, the kernel's overlayfs and two other unions.
//!
//! All lie on one ext4 image in memory. In each round every contestant is mounted anew and does the
//! same work; a value is the median of the rounds. `RBOX_BENCH_SHRINK=10` takes a tenth of all counts:
//! to try the bench, not to quote it.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use lab::Lab;
use serde_json::Value;

use super::{Bench, Table, median, volumes::shrunk};
use crate::build;
use crate::filework::FileWork;
use crate::stopwatch::Stopwatch;

/// Rounds: each takes half a minute.
const ROUNDS: usize = 5;

/// One way to have a directory that is written to, mounted at `m`.
struct Contestant {
    name: &'static str,
    mount: &'static str,
    /// For unions of rbox: whether they talk with the kernel by io_uring.
    by_rings: Option<bool>,
}

const fn other(name: &'static str, mount: &'static str) -> Contestant {
    let by_rings = None;
    Contestant {
        name,
        mount,
        by_rings,
    }
}

const fn own(name: &'static str, mount: &'static str, by_rings: bool) -> Contestant {
    let by_rings = Some(by_rings);
    Contestant {
        name,
        mount,
        by_rings,
    }
}

/// `up`, `low` and `work` are empty directories of the same file system. By default mergerfs keeps
/// names for a second and fuse-overlayfs for as long as it can, so that direct changes are seen late
/// or never; the last two are told to ask each time, as unions of rbox do unless told otherwise.
const CONTESTANTS: &[Contestant] = &[
    other("native", "mount --bind up m"),
    other(
        "overlayfs",
        "mount -t overlay -o lowerdir=low,upperdir=up,workdir=work none m",
    ),
    own("one branch", "rbox union mount -o dirs=up=rw m", false),
    own("rw:ro", "rbox union mount -o dirs=up=rw:low=ro m", false),
    own("ring", "rbox union mount -o dirs=up=rw:low=ro m", true),
    own(
        "notify",
        "rbox union mount -o dirs=up=rw:low=ro,udba=notify m",
        false,
    ),
    own(
        "notify, ring",
        "rbox union mount -o dirs=up=rw:low=ro,udba=notify m",
        true,
    ),
    own(
        "none, ring",
        "rbox union mount -o dirs=up=rw:low=ro,udba=none m",
        true,
    ),
    other("mergerfs", "mergerfs up:low m"),
    other(
        "fuse-ovl",
        "fuse-overlayfs -o lowerdir=low,upperdir=up,workdir=work m",
    ),
    other(
        "mergerfs, asks",
        "mergerfs -o cache.entry=0,cache.attr=0,cache.negative_entry=0 up:low m",
    ),
    other(
        "fuse-ovl, asks",
        "fuse-overlayfs -o timeout=0,lowerdir=low,upperdir=up,workdir=work m",
    ),
];

/// How often as fast a union of rbox is as the faster of two others that promise as much, or less:
/// the column, the union, the others.
const VERDICTS: &[(&str, &str, [&str; 2])] = &[
    ("rw:ro ÷", "rw:ro", ["mergerfs, asks", "fuse-ovl, asks"]),
    ("ring ÷", "ring", ["mergerfs, asks", "fuse-ovl, asks"]),
    ("notify ÷", "notify", ["mergerfs", "fuse-ovl"]),
    ("its ring ÷", "notify, ring", ["mergerfs", "fuse-ovl"]),
];

/// One row of the table.
enum Row {
    /// A work of [`FileWork`] in a directory of the mount, so many times.
    Files(&'static str, &'static str, &'static str, usize),
    /// A script in a directory of the mount, after another that is not measured.
    Script(&'static str, &'static str, &'static str),
    /// No row: the contestant is mounted again, and has seen no name yet.
    Remount,
}

use Row::{Files, Remount, Script};

/// Each works with what those before it have left.
const ROWS: &[Row] = &[
    Files("write 1 MiB", "write", "", 64),
    Files("read 1 MiB", "read", "", 64),
    Files("read 4 KiB anywhere", "read-4k", "", 20_000),
    Files("overwrite 4 KiB", "overwrite-4k", "", 20_000),
    Files("create", "create", "one", 5000),
    Files("create, 4 at once", "create-4", "four", 5000),
    Remount,
    Files("stat, first", "stat", "one", 5000),
    Files("stat, again", "stat", "one", 5000),
    Files("open, read, close", "open", "one", 5000),
    Files("list, first", "list", "one", 5000),
    Files("list, again", "list", "one", 5000),
    Files("unlink", "unlink", "one", 5000),
    Files("unlink, 4 at once", "unlink-4", "four", 5000),
    Script("tar x", ":", "tar xf ../../tree.tar"),
    Script(
        "git status",
        "git init -q; git add -A; git status > /dev/null",
        "git status",
    ),
    Script(
        "compile",
        "mkdir o",
        "cd zstd-sys-*/zstd/lib; for f in common/*.c decompress/*.c; do
            gcc -O0 -c -I. -o ../../../o/$(basename $f).o $f || exit 1
        done",
    ),
];

/// Where all of it happens: a file system of its own in memory, so that no disk has a say.
const TOP: &str = "/var/lib/e";

struct Place {
    lab: Lab,
    work: FileWork,
    watch: Stopwatch,
}

/// The table: how much of the speed of the branch's own file system each contestant has.
pub(crate) fn speed(bench: &mut Bench) -> Result<Table> {
    let mut place = Place::new(bench)?;
    let takes_part = |one: &&Contestant| one.by_rings != Some(true) || lab::rings::exist();
    let contestants: Vec<&Contestant> = CONTESTANTS.iter().filter(takes_part).collect();
    let mut times: Vec<Vec<Vec<f64>>> = contestants.iter().map(|_| Vec::new()).collect();
    for _ in 0..ROUNDS {
        for (contestant, own) in contestants.iter().zip(&mut times) {
            let round = place.round(contestant);
            own.push(round.with_context(|| contestant.name)?);
        }
    }
    let names = ROWS.iter().filter_map(|row| match row {
        Files(name, ..) | Script(name, ..) => Some((*name).to_owned()),
        Remount => None,
    });
    let rows = names.enumerate().map(|(index, name)| {
        let middle = |rounds: &Vec<Vec<f64>>| {
            median(&rounds.iter().map(|round| round[index]).collect::<Vec<_>>())
        };
        let middles: Vec<f64> = times.iter().map(middle).collect();
        let of = |name: &str| {
            let at = contestants.iter().position(|one| one.name == name);
            at.map(|at| middles[at])
        };
        let native = middles[0];
        let parts = middles[1..].iter().map(|middle| native / middle);
        let verdicts = VERDICTS.iter().filter_map(|(_, own, peers)| {
            let best = peers.iter().filter_map(|peer| of(peer));
            Some(best.fold(f64::INFINITY, f64::min) / of(own)?)
        });
        let values = std::iter::once(native / 1000.0)
            .chain(parts)
            .chain(verdicts);
        (name, values.collect())
    });
    let columns = contestants[1..].iter().map(|contestant| contestant.name);
    let takes_part = |own: &str| contestants.iter().any(|one| one.name == own);
    let verdicts = VERDICTS.iter().filter(|(_, own, _)| takes_part(own));
    Ok(Table {
        title: format!(
            "unions: µs of each operation on the branch's own file system, and the part of that speed \
             that each has (1 is as fast); after ÷, how often as fast it is as the faster of the two \
             others: those that ask each time, for notify those that keep names; medians of \
             {ROUNDS} rounds"
        ),
        columns: std::iter::once("native, µs")
            .chain(columns)
            .chain(verdicts.map(|(column, ..)| *column))
            .collect(),
        rows: rows.collect(),
    })
}

impl Place {
    fn new(bench: &Bench) -> Result<Self> {
        let lab = Lab::with_program(&bench.rbox);
        let trees: Vec<String> = ["zstd-sys", "libc", "rustix"]
            .into_iter()
            .map(source)
            .collect::<Result<_>>()?;
        lab.sh(&format!(
            "cd /var/lib; truncate -s 10G image; mkfs.ext4 -q image; mkdir e; mount -o loop image e
             tar cf e/tree.tar {}",
            trees.join(" ")
        ));
        let work = FileWork::new(&lab)?;
        let watch = Stopwatch::new(&lab)?;
        Ok(Self { lab, work, watch })
    }

    fn sh(&self, script: &str) -> String {
        self.lab.sh(&format!("cd {TOP}; {script}"))
    }

    /// The work for one contestant: nanoseconds, a value per row.
    fn round(&mut self, contestant: &Contestant) -> Result<Vec<f64>> {
        self.sh("mkdir up low work m");
        self.mount(contestant)?;
        self.sh("mkdir m/one m/four m/trees");
        // Only what is there already is written and read: allocation is not measured.
        self.work.time("write", &format!("{TOP}/m"), 64)?;
        let mut times = Vec::new();
        for row in ROWS {
            match row {
                Remount => {
                    self.unmount();
                    self.mount(contestant)?;
                }
                Files(_, work, place, count) => {
                    let count = if place.is_empty() {
                        *count
                    } else {
                        shrunk(*count).next_multiple_of(4)
                    };
                    times.push(self.work.time(work, &format!("{TOP}/m/{place}"), count)?);
                }
                Script(_, prepare, script) => {
                    self.sh(&format!("cd m/trees; {prepare}"));
                    let line = format!("cd {TOP}/m/trees; {script}");
                    let words = ["sh", "-c", &line].map(str::to_owned);
                    times.push(self.watch.time(&words)?.as_nanos() as f64);
                }
            }
        }
        self.unmount();
        self.sh("rm -r up low work m");
        Ok(times)
    }

    fn mount(&self, contestant: &Contestant) -> Result<()> {
        let Some(by_rings) = contestant.by_rings else {
            self.sh(contestant.mount);
            return Ok(());
        };
        if lab::rings::exist() {
            lab::rings::switched(by_rings, || self.sh(contestant.mount));
        } else {
            self.sh(contestant.mount);
        }
        let status: Value = serde_json::from_str(&self.sh("rbox union ls --json m"))?;
        let transport = if by_rings { "ring" } else { "device" };
        ensure!(status["status"]["transport"] == transport, "{status}");
        Ok(())
    }

    /// Unmounts and waits until the server has let go of the branches.
    fn unmount(&self) {
        self.sh("umount m");
        lab::eventually("the server is gone", || {
            self.lab.sh("pgrep -c 'mergerfs|fuse-overlayfs|rbox' || :") == "0"
        });
    }
}

/// The directory above the source of a crate that rbox is made of, and its name there, as words of
/// `tar`.
fn source(name: &str) -> Result<String> {
    let output = build::cargo()
        .args(["metadata", "--format-version", "1"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .output()
        .context("cannot start cargo")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cargo metadata: {errors}");
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let package = metadata["packages"]
        .as_array()
        .and_then(|all| all.iter().find(|package| package["name"] == name))
        .with_context(|| format!("{name} is no dependency"))?;
    let manifest = PathBuf::from(package["manifest_path"].as_str().unwrap_or_default());
    let tree = manifest
        .parent()
        .context("a manifest lies in a directory")?;
    let above = tree.parent().context("a crate lies in a directory")?;
    let own = tree.file_name().context("a crate has a name")?;
    Ok(format!("-C {} {}", above.display(), own.display()))
}
