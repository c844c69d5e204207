//! `--mount type=…,src=…,dst=…`, turned into the form of Docker's API.

use std::path::Path;

use engine::volume::union_options;
use serde_json::{Map, Value, json};

use crate::error::Failure;
use crate::option::{size, volume};

/// One mount as `HostConfig.Mounts` has it.
pub(crate) fn parse(text: &str) -> Result<Value, String> {
    let mut mount = Mount {
        kind: "volume".to_owned(),
        ..Mount::default()
    };
    if text.is_empty() {
        return Err("EOF".to_owned());
    }
    for field in fields(text)? {
        mount.field(&field)?;
    }
    mount.finish()
}

/// Docker's names of what `bind-recursive=` says about mounts below a read-only bind.
const WRITABLE_BELOW: &str = "ReadOnlyNonRecursive";
const READ_ONLY_BELOW: &str = "ReadOnlyForceRecursive";

/// Makes a bind's relative source absolute, and the branches of a union.
pub(crate) fn absolute(mount: &mut Value, here: &Path) -> Result<(), Failure> {
    let kind = mount.get("Type").and_then(Value::as_str);
    let kind = kind.unwrap_or_default().to_owned();
    if kind == "bind"
        && let Some(source) = mount.get("Source").and_then(Value::as_str)
    {
        let source = volume::absolute(source, here);
        mount["Source"] = json!(source);
    }
    let driver = match kind.as_str() {
        "union" => mount.get_mut("UnionOptions"),
        _ => mount
            .pointer_mut("/VolumeOptions/DriverConfig")
            .filter(|driver| driver["Name"] == "union")
            .map(|driver| &mut driver["Options"]),
    };
    if let Some(options) = driver {
        let pairs = options.as_object().into_iter().flatten();
        let pairs = pairs.map(|(name, value)| {
            let value = value.as_str().unwrap_or_default();
            (name.clone(), value.to_owned())
        });
        let whole = union_options(&pairs.collect(), here).map_err(|error| {
            let failure = Failure::said(format!("invalid argument for --mount: {error}"));
            match error.hint() {
                Some(hint) => failure.hint(hint),
                None => failure,
            }
        })?;
        *options = json!(whole);
    }
    Ok(())
}

#[derive(Debug, Default)]
struct Mount {
    kind: String,
    source: Option<String>,
    target: Option<String>,
    read_only: bool,
    consistency: Option<String>,
    bind: Map<String, Value>,
    volume: Map<String, Value>,
    tmpfs: Map<String, Value>,
    image: Map<String, Value>,
    /// Keys that are of no other type.
    union: Map<String, Value>,
}

impl Mount {
    fn field(&mut self, field: &str) -> Result<(), String> {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (field, None),
        };
        let key = key.to_ascii_lowercase();
        match (key.as_str(), value) {
            ("readonly" | "ro", None) => self.read_only = true,
            ("volume-nocopy", None) => {
                self.volume.insert("NoCopy".to_owned(), json!(true));
            }
            ("idmap", None) => {
                self.bind
                    .insert("Idmap".to_owned(), json!(volume::caller()));
            }
            ("bind-nonrecursive", None) => {
                self.bind.insert("NonRecursive".to_owned(), json!(true));
            }
            (
                "sum" | "nosum" | "volatile" | "plink" | "noplink" | "dirren" | "nodirren"
                | "recover" | "norecover" | "inode32" | "inode64",
                None,
            ) => {
                self.union.insert(key, json!(""));
            }
            (_, None) => return Err(format!("invalid field '{field}' must be a key=value pair")),
            (_, Some(value)) => self.pair(&key, value, field)?,
        }
        Ok(())
    }

    fn pair(&mut self, key: &str, value: &str, field: &str) -> Result<(), String> {
        let switch = || {
            value
                .parse::<bool>()
                .ok()
                .or(match value {
                    "1" => Some(true),
                    "0" => Some(false),
                    _ => None,
                })
                .ok_or_else(|| format!("invalid value for {key}: {value}"))
        };
        match key {
            "type" => self.kind = value.to_ascii_lowercase(),
            "source" | "src" => self.source = Some(value.to_owned()),
            "target" | "dst" | "destination" => self.target = Some(value.to_owned()),
            "readonly" | "ro" => self.read_only = switch()?,
            "consistency" => self.consistency = Some(value.to_ascii_lowercase()),
            "bind-propagation" => {
                self.bind
                    .insert("Propagation".to_owned(), json!(value.to_ascii_lowercase()));
            }
            "bind-nonrecursive" => {
                self.bind
                    .insert("NonRecursive".to_owned(), json!(switch()?));
            }
            "bind-recursive" => self.recursive(value)?,
            "idmap" => {
                self.bind.insert("Idmap".to_owned(), json!(value));
            }
            "volume-nocopy" => {
                self.volume.insert("NoCopy".to_owned(), json!(switch()?));
            }
            "volume-subpath" => {
                self.volume.insert("Subpath".to_owned(), json!(value));
            }
            "volume-driver" => self.driver()["Name"] = json!(value),
            "volume-opt" => {
                let (name, value) = value.split_once('=').unwrap_or((value, ""));
                self.driver()["Options"][name] = json!(value);
            }
            "volume-label" => {
                let (name, value) = value.split_once('=').unwrap_or((value, ""));
                let labels = self.volume.entry("Labels").or_insert_with(|| json!({}));
                labels[name] = json!(value);
            }
            "image-subpath" => {
                self.image.insert("Subpath".to_owned(), json!(value));
            }
            "tmpfs-size" => {
                let bytes =
                    size::bytes(value).map_err(|_| format!("invalid value for {key}: {value}"))?;
                self.tmpfs.insert("SizeBytes".to_owned(), json!(bytes));
            }
            "tmpfs-mode" => {
                let mode = u32::from_str_radix(value, 8)
                    .map_err(|_| format!("invalid value for {key}: {value}"))?;
                self.tmpfs.insert("Mode".to_owned(), json!(mode));
            }
            "dirs" | "br" | "create" | "cpup" | "copyup" | "udba" | "passthrough" | "diropq"
            | "minfreespace" | "whform" | "transport" | "moveonenospc" | "moveonenospc_guard"
            | "statfs_ignore" | "search" => {
                self.union.insert(key.to_owned(), json!(value));
            }
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
        Ok(())
    }

    fn recursive(&mut self, value: &str) -> Result<(), String> {
        match value {
            "enabled" => {}
            "disabled" => {
                self.bind.insert("NonRecursive".to_owned(), json!(true));
            }
            "writable" => {
                self.bind.insert(WRITABLE_BELOW.to_owned(), json!(true));
            }
            "readonly" => {
                self.bind.insert(READ_ONLY_BELOW.to_owned(), json!(true));
            }
            _ => {
                return Err(format!(
                    "invalid value for bind-recursive: {value} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
                ));
            }
        }
        Ok(())
    }

    /// What lies below a bind can only be treated apart where the bind itself is read-only.
    fn check_recursive(&self) -> Result<(), String> {
        let has = |name: &str| self.bind.contains_key(name);
        let needs = |word: &str, other: &str| {
            Err(format!(
                "option 'bind-recursive={word}' requires '{other}' to be specified in conjunction"
            ))
        };
        let private = self.bind.get("Propagation") == Some(&json!("rprivate"));
        match (has(WRITABLE_BELOW), has(READ_ONLY_BELOW)) {
            (true, _) if !self.read_only => needs("writable", "readonly"),
            (_, true) if !self.read_only => needs("readonly", "readonly"),
            (_, true) if !private => needs("readonly", "bind-propagation=rprivate"),
            _ => Ok(()),
        }
    }

    fn driver(&mut self) -> &mut Value {
        self.volume
            .entry("DriverConfig")
            .or_insert_with(|| json!({}))
    }

    fn finish(self) -> Result<Value, String> {
        let target = self
            .target
            .clone()
            .filter(|target| !target.is_empty())
            .ok_or("target is required")?;
        for (name, options) in [
            ("volume", &self.volume),
            ("bind", &self.bind),
            ("tmpfs", &self.tmpfs),
            ("image", &self.image),
        ] {
            if !options.is_empty() && self.kind != name {
                return Err(format!(
                    "cannot mix '{name}-*' options with mount type '{}'",
                    self.kind
                ));
            }
        }
        self.check_recursive()?;
        if let Some(key) = self.union.keys().next().filter(|_| self.kind != "union") {
            return Err(format!(
                "cannot mix '{key}', an option of unions, with mount type '{}'",
                self.kind
            ));
        }
        let mut mount = Map::new();
        mount.insert("Type".to_owned(), json!(self.kind));
        if let Some(source) = self.source.filter(|source| !source.is_empty()) {
            mount.insert("Source".to_owned(), json!(source));
        }
        mount.insert("Target".to_owned(), json!(target));
        if self.read_only {
            mount.insert("ReadOnly".to_owned(), json!(true));
        }
        if let Some(consistency) = self.consistency {
            mount.insert("Consistency".to_owned(), json!(consistency));
        }
        for (name, options) in [
            ("BindOptions", self.bind),
            ("VolumeOptions", self.volume),
            ("TmpfsOptions", self.tmpfs),
            ("ImageOptions", self.image),
            ("UnionOptions", self.union),
        ] {
            if !options.is_empty() {
                mount.insert(name.to_owned(), Value::Object(options));
            }
        }
        Ok(Value::Object(mount))
    }
}

/// One line of comma separated values; a field in double quotes may hold commas.
fn fields(text: &str) -> Result<Vec<String>, String> {
    let fault =
        |column: usize, what: &str| format!("parse error on line 1, column {column}: {what}");
    let mut fields = Vec::new();
    let mut at = 0;
    loop {
        let rest = &text[at..];
        let (field, length) = match rest.strip_prefix('"') {
            Some(inner) => {
                let missing = |column| fault(column, "extraneous or missing \" in quoted-field");
                let (field, length) =
                    quoted(inner).ok_or_else(|| missing(text.chars().count() + 1))?;
                let end = at + length + 2;
                if !matches!(text[end..].chars().next(), None | Some(',')) {
                    return Err(missing(end));
                }
                (field, length + 2)
            }
            None => {
                let field = rest.split(',').next().unwrap_or_default();
                if let Some(quote) = field.find('"') {
                    return Err(fault(at + quote + 1, "bare \" in non-quoted-field"));
                }
                (field.to_owned(), field.len())
            }
        };
        fields.push(field);
        at += length + 1;
        if at > text.len() {
            return Ok(fields);
        }
    }
}

/// What stands before the closing quote, and its length as it is written; two quotes are one.
fn quoted(inner: &str) -> Option<(String, usize)> {
    let mut field = String::new();
    let mut letters = inner.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        if letter == '"' && letters.next_if(|(_, next)| *next == '"').is_none() {
            return Some((field, at));
        }
        field.push(letter);
    }
    None
}

/// `--tmpfs /run[:options]`.
pub(crate) fn tmpfs(word: &str) -> (String, String) {
    let (place, options) = word.split_once(':').unwrap_or((word, ""));
    (place.to_owned(), options.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_the_api() {
        let cases = [
            (
                "type=bind,src=/a,dst=/b,readonly",
                r#"{"Type":"bind","Source":"/a","Target":"/b","ReadOnly":true}"#,
            ),
            ("dst=/d", r#"{"Type":"volume","Target":"/d"}"#),
            (
                "src=n,target=/d,volume-nocopy",
                r#"{"Type":"volume","Source":"n","Target":"/d","VolumeOptions":{"NoCopy":true}}"#,
            ),
            (
                "type=tmpfs,dst=/d,tmpfs-size=1m,tmpfs-mode=700",
                r#"{"Type":"tmpfs","Target":"/d","TmpfsOptions":{"SizeBytes":1048576,"Mode":448}}"#,
            ),
            (
                "type=bind,src=/a,dst=/b,ro,bind-recursive=writable",
                r#"{"Type":"bind","Source":"/a","Target":"/b","ReadOnly":true,"BindOptions":{"ReadOnlyNonRecursive":true}}"#,
            ),
            (
                "type=bind,\"src=/a\"\"b,c\",dst=/b",
                r#"{"Type":"bind","Source":"/a\"b,c","Target":"/b"}"#,
            ),
            (
                "type=volume,src=n,dst=/d,\"volume-opt=o=a,b\"",
                r#"{"Type":"volume","Source":"n","Target":"/d","VolumeOptions":{"DriverConfig":{"Options":{"o":"a,b"}}}}"#,
            ),
            (
                "type=union,dirs=/a=rw:/b=ro,create=mfsrr:1G,noplink,sum,recover,dst=/d,ro",
                r#"{"Type":"union","Target":"/d","ReadOnly":true,"UnionOptions":{"dirs":"/a=rw:/b=ro","create":"mfsrr:1G","noplink":"","sum":"","recover":""}}"#,
            ),
        ];
        for (text, want) in cases {
            assert_eq!(parse(text).unwrap().to_string(), want, "{text}");
        }
    }

    #[test]
    fn what_is_refused() {
        let cases = [
            ("type=bind", "target is required"),
            ("foo=bar", "unexpected key 'foo' in 'foo=bar'"),
            (
                "type=bind,src=/a,dst=/b,volume-nocopy",
                "cannot mix 'volume-*' options with mount type 'bind'",
            ),
            (
                "type=bind,src=/a,dst=/b,image-subpath=x",
                "cannot mix 'image-*' options with mount type 'bind'",
            ),
            ("bogus", "invalid field 'bogus' must be a key=value pair"),
            ("", "EOF"),
            (
                "type=bind,src=/a,dst=/b,bind-recursive=writable",
                "option 'bind-recursive=writable' requires 'readonly' to be specified in conjunction",
            ),
            (
                "type=bind,src=/a,dst=/b,ro,bind-recursive=readonly",
                "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be \
                 specified in conjunction",
            ),
            (" src=/a,dst=/b", "unexpected key ' src' in ' src=/a'"),
            (
                "src=/a\"b,dst=/b",
                "parse error on line 1, column 7: bare \" in non-quoted-field",
            ),
            (
                "\"src=/a,dst=/b",
                "parse error on line 1, column 15: extraneous or missing \" in quoted-field",
            ),
            (
                "\"src=/a\"x,dst=/b",
                "parse error on line 1, column 8: extraneous or missing \" in quoted-field",
            ),
            (
                "type=bind,src=/a,dst=/b,create=mfs",
                "cannot mix 'create', an option of unions, with mount type 'bind'",
            ),
        ];
        for (text, want) in cases {
            assert_eq!(parse(text).unwrap_err(), want, "{text}");
        }
    }
}
