//! Go templates for `--format`.
//!
//! gotmpl does the work; here are Docker's functions, methods with arguments (`.Label "k"`), the
//! order of keys in `{{json .}}`, and Go's words for what is wrong.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gotmpl::parse::{Expr, ListNode, Parser};
use gotmpl::{MissingKey, Template, TemplateError, Value};
use serde_json::Value as Json;

use crate::output::json;
use crate::output::syntax::{check_list, rewrite_list, visit_list};
use crate::output::unsaid::{MOUNT, is_mount, unsaid};

/// A parsed template.
#[derive(Debug)]
pub(crate) struct Program {
    source: String,
    tree: ListNode,
    defines: Vec<(String, ListNode)>,
}

/// A field that a template names and the data does not have.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    /// `1:2`.
    pub position: String,
    /// `.Foo.Bar` as written.
    pub path: String,
    /// The name that is not there.
    pub name: String,
}

/// Why a template gave no text.
#[derive(Debug)]
pub(crate) enum ExecuteError {
    /// A field is not there.
    Missing(Missing),
    /// Anything else.
    Other(String),
}

/// The documents that lists and maps of a template came from, by address: `json` prints these, so
/// that the order of keys and the difference between `null` and `[]` survive.
type Origins = Arc<Mutex<BTreeMap<usize, Origin>>>;

/// Where a list or map came from.
#[derive(Debug, Clone)]
struct Origin {
    document: Json,
    /// The name of the field it was.
    name: String,
    /// Kept so that its address stays its own.
    _value: Value,
}

/// Data for a template.
#[derive(Debug, Clone)]
pub(crate) struct Data {
    value: Value,
    origins: Origins,
    labels: BTreeMap<String, String>,
    escape: bool,
}

impl Data {
    /// A document whose missing lists are shown as empty ones.
    pub(crate) fn document(document: &Json) -> Self {
        let origins = Origins::default();
        let value = convert(document, "", &origins);
        Self {
            value,
            origins,
            labels: BTreeMap::new(),
            escape: false,
        }
    }

    /// A row of a list, with what `.Label` looks in.
    pub(crate) fn row(fields: &BTreeMap<&str, String>, labels: BTreeMap<String, String>) -> Self {
        let document: Json = fields
            .iter()
            .map(|(key, value)| {
                // Docker knows no platform of a container of this version
                let value = match (*key, value.as_str()) {
                    ("Platform", "") => Json::Null,
                    (_, text) => Json::from(text),
                };
                ((*key).to_owned(), value)
            })
            .collect::<serde_json::Map<_, _>>()
            .into();
        Self {
            labels,
            escape: true,
            ..Self::document(&document)
        }
    }
}

/// Names whose `null` is a missing object or number, not an empty list.
const NO_LISTS: [&str; 13] = [
    "Platform",
    "SizeRootFs",
    "SizeRw",
    "OomKillDisable",
    "PidsLimit",
    "MemorySwappiness",
    "IPAMConfig",
    "Healthcheck",
    "Health",
    "GraphDriver",
    "Init",
    "StopTimeout",
    "HostConfig",
];

fn convert(document: &Json, name: &str, origins: &Origins) -> Value {
    let (value, address) = match document {
        Json::Null if NO_LISTS.contains(&name) => return Value::Nil,
        Json::Null if MAPS.contains(&name) => {
            let map = Arc::new(BTreeMap::new());
            let address = Arc::as_ptr(&map) as usize;
            (Value::Map(map), address)
        }
        Json::Null => list(Vec::new()),
        Json::Bool(flag) => return Value::Bool(*flag),
        Json::Number(number) => {
            return match (number.as_i64(), number.as_u64()) {
                (Some(number), _) => Value::Int(number),
                (None, Some(number)) => Value::Uint(number),
                (None, None) => Value::Float(number.as_f64().unwrap_or(0.0)),
            };
        }
        Json::String(text) => return Value::String(text.as_str().into()),
        Json::Array(items) => list(
            items
                .iter()
                .map(|item| convert(item, "", origins))
                .collect(),
        ),
        Json::Object(fields) => {
            let mut map: BTreeMap<Arc<str>, Value> = fields
                .iter()
                .map(|(key, field)| (Arc::from(key.as_str()), convert(field, key, origins)))
                .collect();
            for (key, other) in unsaid(name, fields) {
                map.entry(Arc::from(key))
                    .or_insert_with(|| convert(&other, key, origins));
            }
            let map = Arc::new(map);
            let address = Arc::as_ptr(&map) as usize;
            (Value::Map(map), address)
        }
    };
    let origin = Origin {
        document: document.clone(),
        name: name.to_owned(),
        _value: value.clone(),
    };
    lock(origins).insert(address, origin);
    value
}

fn list(items: Vec<Value>) -> (Value, usize) {
    let items: Arc<[Value]> = items.into();
    let address = items.as_ptr() as usize;
    (Value::List(items), address)
}

fn lock(origins: &Origins) -> MutexGuard<'_, BTreeMap<usize, Origin>> {
    origins.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Program {
    /// Reads a template; the error is Go's, `template: :1: unclosed action`.
    pub(crate) fn parse(source: &str) -> Result<Self, String> {
        let parser = Parser::new(source, "{{", "}}").map_err(|error| parse_words(&error))?;
        let (mut tree, defines) = parser.parse().map_err(|error| parse_words(&error))?;
        let mut known: Vec<&str> = BUILTINS.to_vec();
        known.extend_from_slice(&ADDED);
        check_list(&tree, &known)?;
        rewrite_list(&mut tree);
        let defines = defines
            .into_iter()
            .map(|define| {
                let mut body = define.body;
                check_list(&body, &known)?;
                rewrite_list(&mut body);
                Ok((define.name.to_string(), body))
            })
            .collect::<Result<_, String>>()?;
        Ok(Self {
            source: source.to_owned(),
            tree,
            defines,
        })
    }

    /// The text that the template makes of the data.
    pub(crate) fn execute(&self, data: &Data) -> Result<String, ExecuteError> {
        let mut template = functions(Template::new("main"), data)
            .missing_key(MissingKey::Error)
            .add_parse_tree("main", self.tree.clone());
        for (name, body) in &self.defines {
            template = template.add_parse_tree(name, body.clone());
        }
        template
            .execute_template_to_string("main", &data.value)
            .map_err(|error| self.explain(error))
    }

    fn explain(&self, error: TemplateError) -> ExecuteError {
        let name = match &error {
            TemplateError::MissingKey { key } => key.clone(),
            TemplateError::Exec(text) => match text
                .strip_prefix("can't evaluate field ")
                .and_then(|rest| rest.split(' ').next())
            {
                Some(name) => name.to_owned(),
                None => return ExecuteError::Other(text.clone()),
            },
            _ => return ExecuteError::Other(error.to_string()),
        };
        let mut found = None;
        visit_list(&self.tree, &mut |expression| {
            if found.is_none() {
                found = missing_in(expression, &name, &self.source);
            }
        });
        match found {
            Some(missing) => ExecuteError::Missing(missing),
            None => ExecuteError::Other(error.to_string()),
        }
    }
}

fn missing_in(expression: &Expr, name: &str, source: &str) -> Option<Missing> {
    let (position, fields, head) = match expression {
        Expr::Field(position, fields) => (position, fields, String::new()),
        Expr::Variable(position, variable, fields) => (position, fields, variable.to_string()),
        Expr::Chain(position, _, fields) => (position, fields, String::new()),
        _ => return None,
    };
    if !fields.iter().any(|field| field == name) {
        return None;
    }
    // Go points at the second name of a chain
    let second = if fields.len() > 1 && head.is_empty() {
        fields[0].len() + 1
    } else {
        0
    };
    let before = source.get(..position.offset).unwrap_or(source);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Some(Missing {
        position: format!(
            "{}:{}",
            position.line,
            position.offset - line_start + second
        ),
        path: format!("{head}.{}", fields.join(".")),
        name: name.to_owned(),
    })
}

fn parse_words(error: &TemplateError) -> String {
    match error {
        TemplateError::Parse { line, message, .. } | TemplateError::Lex { line, message, .. } => {
            format!("template: :{line}: {message}")
        }
        other => format!("template: :1: {other}"),
    }
}

/// Functions that Go has by itself.
const BUILTINS: [&str; 19] = [
    "and", "call", "html", "index", "slice", "js", "len", "not", "or", "print", "printf",
    "println", "urlquery", "eq", "ge", "gt", "le", "lt", "ne",
];

/// Functions that Docker adds.
const ADDED: [&str; 8] = [
    "json", "join", "split", "upper", "lower", "title", "truncate", "pad",
];

/// The function that prints what an action ends with.
pub(super) const PRINT: &str = "action_Print";

/// The function that stands for the method `.Label`.
pub(super) const LABEL: &str = "method_Label";

fn functions(template: Template, data: &Data) -> Template {
    let origins = Arc::clone(&data.origins);
    let labels = data.labels.clone();
    let escape = data.escape;
    let printed = Arc::clone(&data.origins);
    let template = template
        .func(PRINT, move |args| {
            let value = args.last().unwrap_or(&Value::Nil);
            Ok(match value {
                Value::Nil | Value::List(_) | Value::Map(_) => {
                    Value::String(go_text(value, &printed).into())
                }
                plain => plain.clone(),
            })
        })
        .func("json", move |args| {
            let value = args.last().unwrap_or(&Value::Nil);
            Ok(Value::String(to_json(value, &origins, escape).into()))
        })
        .func(LABEL, move |args| {
            let name = text(args, 1);
            Ok(Value::String(
                labels.get(&name).cloned().unwrap_or_default().into(),
            ))
        });
    text_functions(template)
}

fn text_functions(template: Template) -> Template {
    let string = |text: String| Ok(Value::String(text.into()));
    template
        .func("join", move |args| {
            let parts: Vec<String> = match args.first() {
                Some(Value::List(items)) => items.iter().map(ToString::to_string).collect(),
                Some(Value::Nil) | None => Vec::new(),
                Some(_) => return Err(TemplateError::Exec("wrong type for join".to_owned())),
            };
            string(parts.join(&text(args, 1)))
        })
        .func("split", |args| {
            let (whole, separator) = (text(args, 0), text(args, 1));
            let parts: Vec<Value> = if separator.is_empty() {
                whole
                    .chars()
                    .map(|c| Value::String(c.to_string().into()))
                    .collect()
            } else {
                whole
                    .split(&separator)
                    .map(|part| Value::String(part.into()))
                    .collect()
            };
            Ok(Value::List(parts.into()))
        })
        .func("upper", move |args| string(text(args, 0).to_uppercase()))
        .func("lower", move |args| string(text(args, 0).to_lowercase()))
        .func("title", move |args| string(title(&text(args, 0))))
        .func("pad", move |args| {
            let whole = text(args, 0);
            if whole.is_empty() {
                return string(whole);
            }
            let (left, right) = (number(args, 1), number(args, 2));
            string(format!("{:left$}{whole}{:right$}", "", ""))
        })
        .func("truncate", move |args| {
            string(text(args, 0).chars().take(number(args, 1)).collect())
        })
}

fn text(args: &[Value], index: usize) -> String {
    args.get(index).map(ToString::to_string).unwrap_or_default()
}

fn number(args: &[Value], index: usize) -> usize {
    match args.get(index) {
        Some(Value::Int(number)) => usize::try_from(*number).unwrap_or(0),
        Some(Value::Uint(number)) => usize::try_from(*number).unwrap_or(0),
        _ => 0,
    }
}

/// Every word with a capital letter.
fn title(text: &str) -> String {
    let mut previous = ' ';
    text.chars()
        .map(|letter| {
            let begins = !(previous.is_alphanumeric() || matches!(previous, '_' | '\''));
            previous = letter;
            if begins {
                letter.to_uppercase().next().unwrap_or(letter)
            } else {
                letter
            }
        })
        .collect()
}

fn to_json(value: &Value, origins: &Origins, escape: bool) -> String {
    let address = match value {
        Value::List(items) => Some(items.as_ptr() as usize),
        Value::Map(map) => Some(Arc::as_ptr(map) as usize),
        _ => None,
    };
    if let Some(origin) = address.and_then(|a| lock(origins).get(&a).cloned()) {
        return json::line(&origin.document, escape);
    }
    match value {
        Value::Nil => "null".to_owned(),
        Value::String(text) => Json::from(&**text).to_string(),
        Value::List(items) => {
            let items: Vec<String> = items
                .iter()
                .map(|item| to_json(item, origins, escape))
                .collect();
            format!("[{}]", items.join(","))
        }
        Value::Map(map) => {
            let fields: Vec<String> = map
                .iter()
                .map(|(key, item)| {
                    format!("{}:{}", Json::from(&**key), to_json(item, origins, escape))
                })
                .collect();
            format!("{{{}}}", fields.join(","))
        }
        other => other.to_string(),
    }
}

/// Names whose objects are maps in Go; all other objects are structures there.
const MAPS: [&str; 16] = [
    "Attributes",
    "Labels",
    "Volumes",
    "VolumesRW",
    "Ports",
    "PortBindings",
    "ExposedPorts",
    "Networks",
    "Tmpfs",
    "Sysctls",
    "StorageOpt",
    "Config.Config",
    "Data",
    "DriverOpts",
    "Options",
    "Annotations",
];

/// What Go prints for a value: structures as `{a b}`, maps as `map[k:v]`, nothing as `<nil>`.
fn go_text(value: &Value, origins: &Origins) -> String {
    let address = match value {
        Value::Nil => return "<nil>".to_owned(),
        Value::List(items) => items.as_ptr() as usize,
        Value::Map(map) => Arc::as_ptr(map) as usize,
        plain => return plain.to_string(),
    };
    let known = lock(origins).get(&address).cloned();
    match known {
        Some(origin) => go_document(&origin.document, &origin.name),
        None => value.to_string(),
    }
}

fn go_document(document: &Json, name: &str) -> String {
    match document {
        Json::Null if NO_LISTS.contains(&name) => "<nil>".to_owned(),
        Json::Null if MAPS.contains(&name) => "map[]".to_owned(),
        Json::Null => "[]".to_owned(),
        Json::String(text) => text.clone(),
        Json::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| go_document(item, "")).collect();
            format!("[{}]", items.join(" "))
        }
        Json::Object(fields) if MAPS.contains(&name) => {
            let sorted: BTreeMap<&String, &Json> = fields.iter().collect();
            let fields: Vec<String> = sorted
                .iter()
                .map(|(key, field)| format!("{key}:{}", go_document(field, "")))
                .collect();
            format!("map[{}]", fields.join(" "))
        }
        Json::Object(fields) if is_mount(fields) => {
            let text = |key: &&str| {
                fields
                    .get(*key)
                    .map_or_else(String::new, |field| go_document(field, key))
            };
            let fields: Vec<String> = MOUNT.iter().map(text).collect();
            format!("{{{}}}", fields.join(" "))
        }
        Json::Object(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|(key, field)| match (name, key.as_str()) {
                    // the options of a log driver
                    ("LogConfig", "Config") => go_document(field, "Config.Config"),
                    (_, key) => go_document(field, key),
                })
                .collect();
            format!("{{{}}}", fields.join(" "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
#[path = "template_tests.rs"]
mod tests;
