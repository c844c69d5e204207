//! `rbox events`: what happens to containers, images, networks and volumes, as it happens.

use std::io::{self, Write as _};

use clap::Args;
use engine::event::{Event, EventFilter, Span};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::app::{Count, Leaf, Verb};
use crate::command::FORMAT_OBJECT;
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::option::filter;
use crate::output::template::Program;
use crate::output::{document, time};

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<EventsArgs>(
    "[OPTIONS]",
    "Get real time events from the server",
    &["system events", "events"],
    Count::None,
);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "filter", value_parser = filter::parse)]
    filter: Vec<(String, String)>,
    #[arg(long, value_name = "string", help = FORMAT_OBJECT)]
    format: Option<String>,
    /// Show all events created since timestamp
    #[arg(long, value_name = "string")]
    since: Option<String>,
    /// Stream events until this timestamp
    #[arg(long, value_name = "string")]
    until: Option<String>,
}

impl EventsArgs {
    fn span(&self, now: Timestamp) -> Result<Span> {
        let point = |text: Option<&str>| match text {
            None | Some("") => Ok(None),
            Some(text) => time::point(text, now).map(Some).map_err(|error| {
                Failure::said(format!("{}{error}", crate::error::DAEMON))
                    .hint("a time is '10m' ago, 2026-01-02T15:04:05Z or seconds since 1970")
            }),
        };
        Ok(Span {
            since: point(self.since.as_deref())?,
            until: point(self.until.as_deref())?,
        })
    }
}

impl Verb for EventsArgs {
    fn run(self, context: &Context, _plain: Vec<String>) -> Result<()> {
        let program = match self.format.as_deref() {
            None | Some("") => None,
            Some("json") => Some(document::parse("{{json .}}", 64)?),
            Some(format) => Some(document::parse(format, 64)?),
        };
        let span = self.span(Timestamp::now())?;
        let filter = EventFilter::new(self.filter);
        let mut out = io::stdout().lock();
        context.engine()?.events().follow(span, |event| {
            if filter.admits(event) {
                writeln!(out, "{}", line(event, program.as_ref())?)?;
                out.flush()?;
            }
            Ok(())
        })
    }
}

fn line(event: &Event, program: Option<&Program>) -> Result<String> {
    match program {
        None => Ok(plain(event, &TimeZone::system())),
        Some(program) => {
            let value = serde_json::to_value(event).map_err(io::Error::from)?;
            document::execute(program, &value)
        }
    }
}

/// `TIME TYPE ACTION ID (key=value, …)`.
fn plain(event: &Event, zone: &TimeZone) -> String {
    let when = Timestamp::from_nanosecond(i128::from(event.time_nano)).unwrap_or_default();
    let when = when.to_zoned(zone.clone());
    let offset = match when.offset().is_zero() {
        true => "Z".to_owned(),
        false => when.strftime("%:z").to_string(),
    };
    let mut text = format!(
        "{}{offset} {} {} {}",
        when.strftime("%Y-%m-%dT%H:%M:%S.%9f"),
        event.kind,
        event.action,
        event.actor.id
    );
    if !event.actor.attributes.is_empty() {
        let pairs = event.actor.attributes.iter();
        let pairs: Vec<String> = pairs.map(|(key, value)| format!("{key}={value}")).collect();
        text += &format!(" ({})", pairs.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        let mut event = Event::new(
            "network",
            "connect",
            "ab",
            &[("name", "bridge"), ("a", "b c")],
        );
        event.time_nano = 1_795_206_751_388_711_700;
        event.time = 1_795_206_751;
        event
    }

    #[test]
    fn lines_are_dockers() {
        let there = TimeZone::fixed(jiff::tz::offset(2));
        assert_eq!(
            plain(&event(), &TimeZone::UTC),
            "2026-11-20T20:32:31.388711700Z network connect ab (a=b c, name=bridge)"
        );
        assert!(plain(&event(), &there).starts_with("2026-11-20T22:32:31.388711700+02:00 network"));
    }

    #[test]
    fn templates_know_the_fields_by_both_names() {
        let show = |text: &str| {
            let program = document::parse(text, 64).unwrap();
            line(&event(), Some(&program)).unwrap()
        };
        assert_eq!(
            show(
                "{{.Type}} {{.Action}} {{.Actor.ID}} {{.Actor.Attributes.name}} {{.Scope}} {{.Time}} {{.TimeNano}} [{{.ID}}{{.From}}{{.Status}}]"
            ),
            "network connect ab bridge local 1795206751 1795206751388711700 []"
        );
        assert_eq!(show("{{json .}}"), serde_json::to_string(&event()).unwrap());
    }
}
