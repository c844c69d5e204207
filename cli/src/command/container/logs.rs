//! `rbox logs`: what a container has written.

use std::io;

use clap::Args;
use engine::request::LogsRequest;
use jiff::Timestamp;

use crate::app::{Count, Leaf, Verb};
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::output::time;

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<LogsArgs>(
    "[OPTIONS] CONTAINER",
    "Fetch the logs of a container",
    &["container logs", "logs"],
    Count::Exactly(1),
);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Show extra details provided to logs
    #[arg(long)]
    details: bool,
    /// Follow log output
    #[arg(short, long)]
    follow: bool,
    /// Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
    #[arg(long, value_name = "string")]
    since: Option<String>,
    /// Number of lines to show from the end of the logs (default "all")
    #[arg(short = 'n', long, value_name = "string")]
    tail: Option<String>,
    /// Show timestamps
    #[arg(short, long)]
    timestamps: bool,
    /// Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
    #[arg(long, value_name = "string")]
    until: Option<String>,
}

impl LogsArgs {
    fn request(&self, now: Timestamp) -> Result<LogsRequest> {
        let point = |name: &str, text: Option<&str>| match text {
            None | Some("" | "0") => Ok(None),
            Some(text) => time::point(text, now)
                .map(Some)
                .map_err(|error| Failure::said(format!("invalid value for {name:?}: {error}"))),
        };
        Ok(LogsRequest {
            follow: self.follow,
            // what is no number means all, as in Docker
            tail: self.tail.as_deref().and_then(|text| text.parse().ok()),
            since: point("since", self.since.as_deref())?,
            until: point("until", self.until.as_deref())?,
            timestamps: self.timestamps,
            details: self.details,
        })
    }
}

impl Verb for LogsArgs {
    fn run(self, context: &Context, plain: Vec<String>) -> Result<()> {
        let request = self.request(Timestamp::now())?;
        let engine = context.engine()?;
        let id = engine.resolve(&plain[0])?;
        engine.logs(&id, &request, &mut io::stdout(), &mut io::stderr())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(tail: Option<&str>, since: Option<&str>) -> LogsArgs {
        LogsArgs {
            details: false,
            follow: false,
            since: since.map(str::to_owned),
            tail: tail.map(str::to_owned),
            timestamps: false,
            until: None,
        }
    }

    #[test]
    fn lines_and_times() {
        let now = Timestamp::from_second(100).unwrap();
        let tail = |text| args(text, None).request(now).unwrap().tail;
        assert_eq!(tail(None), None);
        assert_eq!(tail(Some("all")), None);
        assert_eq!(tail(Some("7")), Some(7));
        assert_eq!(tail(Some("-1")), None);
        let since = args(None, Some("10s")).request(now).unwrap().since;
        assert_eq!(since, Some(90_000_000_000));
        assert!(args(None, Some("x")).request(now).is_err());
    }
}
