//! What a link costs where everybody is linked to everybody: starts, lists, and how long it takes
//! until all hosts files follow.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{Bench, Table, median};

/// Containers, each linked to all before it.
const COUNT: usize = 200;

/// How often lists and restarts are measured.
const ROUNDS: usize = 5;

/// The containers of one bench.
struct Dense<'a> {
    bench: &'a mut Bench,
    /// Milliseconds of each start.
    starts: Vec<f64>,
}

/// Densely linked containers.
pub(crate) fn dense(bench: &mut Bench) -> Result<Table> {
    let mut dense = Dense {
        bench,
        starts: Vec::new(),
    };
    let outcome = dense.measure();
    let names: Vec<String> = (0..COUNT).map(name).collect();
    dense.time(&format!("rm -f {} other", names.join(" "))).ok();
    Ok(Table {
        title: format!("{COUNT} containers, each linked to all before it: wall time in ms"),
        columns: vec!["median", "most"],
        rows: outcome?,
    })
}

fn name(number: usize) -> String {
    format!("c{number}")
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn row(name: &str, times: &[f64]) -> (String, Vec<f64>) {
    let most = times.iter().copied().fold(f64::NAN, f64::max);
    (name.to_owned(), vec![median(times), most])
}

impl Dense<'_> {
    fn time(&mut self, line: &str) -> Result<f64> {
        let mut words = vec![self.bench.rbox.display().to_string()];
        words.extend(line.split_whitespace().map(str::to_owned));
        self.bench.watch.time(&words).map(milliseconds)
    }

    fn measure(&mut self) -> Result<Vec<(String, Vec<f64>)>> {
        let mut links = String::new();
        for number in 0..COUNT {
            let name = name(number);
            let line = format!("run -d --name {name} --expose 80 {links} busybox sleep 1000");
            let took = self.time(&line)?;
            self.starts.push(took);
            links.push_str(&format!(" --link {name}"));
        }
        let ten = &self.starts[..10];
        let last = &self.starts[COUNT - 10..];
        let mut rows = vec![
            row("run, the first ten", ten),
            row("run, the last ten", last),
        ];
        let mut lists = Vec::new();
        let (mut starts, mut follows) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            lists.push(self.time("ps")?);
            let (start, follow) = self.move_most_linked()?;
            starts.push(start);
            follows.push(follow);
        }
        rows.push(row("ps", &lists));
        rows.push(row("start, the most linked one", &starts));
        rows.push(row("until all hosts files say so", &follows));
        Ok(rows)
    }

    /// Starts the source of all others at another address: how long that takes, and how long until
    /// the last hosts file says so.
    fn move_most_linked(&mut self) -> Result<(f64, f64)> {
        let source = name(0);
        self.time(&format!("stop -t 0 {source}"))?;
        self.time("run -d --name other busybox sleep 1000")?;
        let begin = Instant::now();
        let start = self.time(&format!("start {source}"))?;
        let format = "inspect -f {{.NetworkSettings.IPAddress}}";
        let lab = &self.bench.lab;
        let address = lab
            .rbox(format.split(' '))
            .arg(&source)
            .run()
            .success()
            .text();
        let line = format!("{address}\t{source} ");
        let count = format!("grep -l '^{line}' /var/lib/rbox/containers/*/hosts | wc -l");
        let said: usize = lab.sh(&count).parse().context("wc counts")?;
        ensure!(said == COUNT - 1, "{said} hosts files say {line:?}");
        let follow = milliseconds(begin.elapsed());
        self.time("rm -f other")?;
        Ok((start, follow))
    }
}
