//! What inspect's documents leave out of their JSON and a template finds all the same.

use serde_json::{Map, Value};

/// The fields of a mount as Docker's structure has them, printed or not.
pub(super) const MOUNT: [&str; 8] = [
    "Type",
    "Name",
    "Source",
    "Destination",
    "Driver",
    "Mode",
    "RW",
    "Propagation",
];

/// Whether an object is an entry of `Mounts`.
pub(super) fn is_mount(fields: &Map<String, Value>) -> bool {
    ["Type", "Destination", "RW", "Propagation"]
        .iter()
        .all(|key| fields.contains_key(*key))
}

/// The fields that an object lacks, with what a template finds there; `name` is the object's own.
pub(super) fn unsaid(name: &str, fields: &Map<String, Value>) -> Vec<(&'static str, Value)> {
    let empty = || Value::String(String::new());
    let null = |key: &'static str| (key, Value::Null);
    match name {
        "State" if fields.contains_key("Status") => vec![null("Health")],
        "Config" if fields.contains_key("Hostname") => vec![
            null("ExposedPorts"),
            null("Healthcheck"),
            null("Shell"),
            ("StopSignal", empty()),
            null("StopTimeout"),
        ],
        "HostConfig" if fields.contains_key("NetworkMode") => vec![
            null("Annotations"),
            null("Init"),
            null("Mounts"),
            null("StorageOpt"),
            null("Sysctls"),
            null("Tmpfs"),
        ],
        "" if fields.contains_key("RestartCount") => vec![
            null("SizeRootFs"),
            null("SizeRw"),
            ("Volumes", classic(fields, "Source")),
            ("VolumesRW", classic(fields, "RW")),
        ],
        "" if fields.contains_key("timeNano") => event(fields),
        "" if is_mount(fields) => vec![("Name", empty()), ("Driver", empty())],
        _ => Vec::new(),
    }
}

/// An event's fields by the names that they have in Go.
fn event(fields: &Map<String, Value>) -> Vec<(&'static str, Value)> {
    let named = |key: &str| {
        let text = || Value::String(String::new());
        fields.get(key).cloned().unwrap_or_else(text)
    };
    [
        ("Status", "status"),
        ("ID", "id"),
        ("From", "from"),
        ("Scope", "scope"),
        ("Time", "time"),
        ("TimeNano", "timeNano"),
    ]
    .map(|(name, key)| (name, named(key)))
    .into()
}

/// What early versions of Docker showed of volumes and host paths: by destination, their sources
/// or whether they can be written. Scripts of that time still ask for it.
fn classic(fields: &Map<String, Value>, what: &str) -> Value {
    let mounts = fields.get("Mounts").and_then(Value::as_array);
    let with_files = mounts
        .into_iter()
        .flatten()
        .filter(|mount| mount["Type"] != "tmpfs");
    let entry = |mount: &Value| {
        let place = mount["Destination"].as_str()?;
        Some((place.to_owned(), mount[what].clone()))
    };
    Value::Object(with_files.filter_map(entry).collect())
}
