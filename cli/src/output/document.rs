//! One document in the form that `--format` asks for.

use serde_json::Value;

use crate::error::{Failure, Result};
use crate::output::template::{Data, ExecuteError, Program};

/// The text of a document; a template that cannot be read ends with `code`.
pub(crate) fn format(document: &Value, format: &str, code: u8) -> Result<String> {
    let source = if format == "json" {
        "{{json .}}"
    } else {
        format
    };
    let program = parse(source, code)?;
    execute(&program, document)
}

/// Reads a template.
pub(crate) fn parse(source: &str, code: u8) -> Result<Program> {
    Program::parse(source)
        .map_err(|text| Failure::coded(code, format!("template parsing error: {text}")))
}

/// Makes the text.
pub(crate) fn execute(program: &Program, document: &Value) -> Result<String> {
    program
        .execute(&Data::document(document))
        .map_err(|error| Failure::said(format!("template parsing error: {}", words(&error))))
}

fn words(error: &ExecuteError) -> String {
    match error {
        ExecuteError::Missing(missing) => format!(
            "template: :{}: executing \"\" at <{}>: map has no entry for key {:?}",
            missing.position, missing.path, missing.name
        ),
        ExecuteError::Other(text) => format!("template: {text}"),
    }
}
