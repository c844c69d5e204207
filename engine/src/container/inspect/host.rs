//! `HostConfig` as inspect shows it: with the fields that rbox does not keep, in Docker's places.

use serde_json::{Map, Value, json};

use crate::config::HostConfig;
use crate::error::{Error, Result};
use crate::spec::{MASKED_PATHS, READONLY_PATHS};

/// The document with the links' present names; what is not kept has Docker's empty value.
pub(super) fn host_config(host: &HostConfig, links: Option<Vec<String>>) -> Result<Value> {
    let mut host = host.clone();
    host.links = links;
    let list = |paths: &[&str]| paths.iter().map(|&path| path.to_owned()).collect();
    if !host.privileged {
        host.masked_paths.get_or_insert_with(|| list(&MASKED_PATHS));
        host.readonly_paths
            .get_or_insert_with(|| list(&READONLY_PATHS));
    }
    let kept = match serde_json::to_value(&host) {
        Ok(Value::Object(kept)) => kept,
        Ok(_) => Map::new(),
        Err(error) => return Err(Error::system("cannot encode the host config", error)),
    };
    let mut all = Map::new();
    for (name, value) in kept {
        let after = not_kept_after(&name);
        all.insert(name, value);
        all.extend(after);
    }
    Ok(Value::Object(all))
}

/// The fields that Docker has behind this one.
fn not_kept_after(name: &str) -> Vec<(String, Value)> {
    let fields = match name {
        "ConsoleSize" => vec![("Isolation", json!(""))],
        "CpuQuota" => vec![
            ("CpuRealtimePeriod", json!(0)),
            ("CpuRealtimeRuntime", json!(0)),
        ],
        "DeviceCgroupRules" => vec![
            ("DeviceRequests", Value::Null),
            ("KernelMemory", json!(0)),
            ("KernelMemoryTCP", json!(0)),
        ],
        "Ulimits" => vec![
            ("CpuCount", json!(0)),
            ("CpuPercent", json!(0)),
            ("IOMaximumIOps", json!(0)),
            ("IOMaximumBandwidth", json!(0)),
        ],
        _ => Vec::new(),
    };
    fields
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}
