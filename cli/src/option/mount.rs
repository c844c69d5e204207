//! `--mount type=…,src=…,dst=…`, turned into the form of Docker's API.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::option::{size, volume};

/// One mount as `HostConfig.Mounts` has it.
pub(crate) fn parse(text: &str) -> Result<Value, String> {
    let mut mount = Mount {
        kind: "volume".to_owned(),
        ..Mount::default()
    };
    if text.trim().is_empty() {
        return Err("value is empty".to_owned());
    }
    for field in fields(text)? {
        mount.field(&field)?;
    }
    mount.finish()
}

/// Makes a bind's relative source absolute.
pub(crate) fn absolute(mount: &mut Value, here: &Path) {
    if mount.get("Type").and_then(Value::as_str) == Some("bind")
        && let Some(source) = mount.get("Source").and_then(Value::as_str)
    {
        let source = volume::absolute(source, here);
        mount["Source"] = json!(source);
    }
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
}

impl Mount {
    fn field(&mut self, field: &str) -> Result<(), String> {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (field, None),
        };
        if key.trim() != key {
            return Err(format!(
                "invalid option {key:?} in {field:?}: option should not have whitespace"
            ));
        }
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
                return Err(
                    "bind-recursive=writable is not supported by rbox: what is mounted below a \
                     read-only bind is read-only, too"
                        .to_owned(),
                );
            }
            "readonly" => {
                self.bind
                    .insert("ReadOnlyForceRecursive".to_owned(), json!(true));
            }
            _ => {
                return Err(format!(
                    "invalid value for bind-recursive: {value} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
                ));
            }
        }
        Ok(())
    }

    fn driver(&mut self) -> &mut Value {
        self.volume
            .entry("DriverConfig")
            .or_insert_with(|| json!({}))
    }

    fn finish(self) -> Result<Value, String> {
        let target = self
            .target
            .filter(|target| !target.is_empty())
            .ok_or("target is required")?;
        for (name, options) in [
            ("volume", &self.volume),
            ("bind", &self.bind),
            ("tmpfs", &self.tmpfs),
        ] {
            if !options.is_empty() && self.kind != name {
                return Err(format!(
                    "cannot mix '{name}-*' options with mount type '{}'",
                    self.kind
                ));
            }
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
    let mut fields = vec![String::new()];
    let mut letters = text.chars().peekable();
    let mut quoted = false;
    while let Some(letter) = letters.next() {
        let last = fields.len() - 1;
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                fields[last].push('"');
            }
            '"' if quoted => quoted = false,
            '"' if fields[last].is_empty() => quoted = true,
            ',' if !quoted => fields.push(String::new()),
            letter => fields[last].push(letter),
        }
    }
    if quoted {
        return Err(
            "parse error on line 1, column 1: extraneous or missing \" in quoted-field".to_owned(),
        );
    }
    Ok(fields)
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
                "type=volume,src=n,dst=/d,\"volume-opt=o=a,b\"",
                r#"{"Type":"volume","Source":"n","Target":"/d","VolumeOptions":{"DriverConfig":{"Options":{"o":"a,b"}}}}"#,
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
            ("bogus", "invalid field 'bogus' must be a key=value pair"),
            ("", "value is empty"),
        ];
        for (text, want) in cases {
            assert_eq!(parse(text).unwrap_err(), want, "{text}");
        }
    }
}
