//! `rbox inspect`: everything about containers and images, as JSON or by a template.

use std::io::{self, Write as _};

use clap::Args;
use engine::Engine;
use image::store::{ImageError, ImageStore};
use serde_json::Value;

use crate::app::{Count, Leaf, Verb};
use crate::command::{FORMAT_OBJECT, network, volume};
use crate::context::Context;
use crate::error::{Failure, Result, tell};
use crate::output::template::Program;
use crate::output::{document, json};

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<InspectArgs>(
    "[OPTIONS] NAME|ID [NAME|ID...]",
    "Return low-level information on rbox objects",
    &[],
    Count::AtLeast(1),
);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    #[arg(short, long, value_name = "string", help = FORMAT_OBJECT)]
    format: Option<String>,
    /// Display total file sizes if the type is container
    #[arg(short, long)]
    size: bool,
    /// Only inspect objects of the given type
    #[arg(long = "type", value_name = "string")]
    kind: Option<String>,
}

/// Docker's list of what `--type` may say.
const KINDS: &str = "\"config\", \"container\", \"image\", \"network\", \"node\", \"plugin\", \"secret\", \"service\", \"task\", \"volume\"";

impl Verb for InspectArgs {
    fn run(self, context: &Context, plain: Vec<String>) -> Result<()> {
        let kind = self.kind.as_deref().unwrap_or_default();
        if !(kind.is_empty() || KINDS.contains(&format!("\"{kind}\""))) {
            return Err(Failure::said(format!(
                "unknown type: {kind:?}: must be one of {KINDS}"
            )));
        }
        let engine = context.engine()?;
        let images = engine.images();
        let size = self.size;
        show(self.format.as_deref(), &plain, |word| match kind {
            "" => any(&engine, &images, word, size),
            "container" => container(&engine, word, size),
            "image" => image(&images, word),
            "network" => network::document(&engine, word),
            "volume" => volume::inspect(&engine, word),
            _ => Err(Failure::said(format!("Error: No such {kind}: {word}"))),
        })
    }
}

/// The container of this name, or else the image.
fn any(engine: &Engine, images: &ImageStore, word: &str, size: bool) -> Result<Value> {
    let is_missing = |error: &engine::Error| error.kind() == engine::ErrorKind::NotFound;
    match engine.resolve(word) {
        Ok(_) => return container(engine, word, size),
        Err(error) if is_missing(&error) => {}
        Err(error) => return Err(error.into()),
    }
    match images.inspect(word) {
        Ok(found) => Ok(serde_json::to_value(found).map_err(io::Error::from)?),
        Err(ImageError::NotFound(_) | ImageError::Reference(_)) => {
            match engine.network(word) {
                Ok(_) => return network::document(engine, word),
                Err(error) if is_missing(&error) => {}
                Err(error) => return Err(error.into()),
            }
            match engine.store().volume(word) {
                Ok(found) => return Ok(volume::document(engine, &found)),
                Err(error) if is_missing(&error) => {}
                Err(error) => return Err(error.into()),
            }
            Err(Failure::said(format!("Error: No such object: {word}"))
                .hint("list containers with 'rbox ps -a', images with 'rbox images'"))
        }
        Err(error) => Err(error.into()),
    }
}

/// One container's document.
pub(crate) fn container(engine: &Engine, word: &str, size: bool) -> Result<Value> {
    let document = engine.inspect(word, size)?;
    Ok(serde_json::to_value(document).map_err(io::Error::from)?)
}

/// One image's document.
pub(crate) fn image(images: &ImageStore, word: &str) -> Result<Value> {
    match images.inspect(word) {
        Ok(found) => Ok(serde_json::to_value(found).map_err(io::Error::from)?),
        // Docker wraps this one twice
        Err(error @ ImageError::NotFound(_)) => Err(Failure::said(format!(
            "Error response from daemon: no such image: {word}: {error}"
        ))
        .hint("list images with 'rbox images'")),
        Err(error) => Err(error.into()),
    }
}

/// Prints the documents found, then says what was not found.
pub(crate) fn show(
    format: Option<&str>,
    words: &[String],
    find: impl Fn(&str) -> Result<Value>,
) -> Result<()> {
    let form = Form::of(format)?;
    let mut found = Vec::new();
    let mut failures = Vec::new();
    for word in words {
        match find(word) {
            Ok(document) => found.push(document),
            Err(Failure::Said(message)) => failures.push(message),
            Err(other) => return Err(other),
        }
    }
    let mut out = io::stdout().lock();
    match form {
        Form::Pretty => writeln!(out, "{}", json::pretty(&Value::Array(found)))?,
        Form::Line => writeln!(out, "{}", json::line(&Value::Array(found), false))?,
        Form::Template(program) => {
            let mut text = String::new();
            let mut refused = None;
            for document in &found {
                match document::execute(&program, document) {
                    Ok(line) => {
                        text.push_str(&line);
                        text.push('\n');
                    }
                    Err(failure) => {
                        refused = Some(failure);
                        break;
                    }
                }
            }
            // Docker prints a line even where there is nothing to say
            let text = if text.is_empty() { "\n" } else { &text };
            out.write_all(text.as_bytes())?;
            out.flush()?;
            if let Some(failure) = refused {
                return Err(failure);
            }
        }
    }
    out.flush()?;
    for failure in &failures {
        tell(failure)?;
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(Failure::Status(1))
    }
}

/// The wanted form of a list of documents.
enum Form {
    /// Four spaces of indent.
    Pretty,
    /// All on one line.
    Line,
    /// A line for each.
    Template(Program),
}

impl Form {
    fn of(format: Option<&str>) -> Result<Self> {
        match format {
            None | Some("") => Ok(Self::Pretty),
            Some("json") => Ok(Self::Line),
            Some(format) => document::parse(format, 64).map(Self::Template),
        }
    }
}
