//! The image config document: Docker's fields in Docker's order, with history and layers.
//!
//! What other tools wrote is kept byte for byte beside this; these types are for reading it, and
//! for writing the configs of images that are made here.

use std::collections::BTreeMap;

use overlayfs::id::DiffId;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An object whose keys matter and whose values are always empty (`{"80/tcp":{}}`).
pub type KeySet = BTreeMap<String, Empty>;

/// Docker's empty JSON object.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// The whole document.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    /// `amd64`.
    #[serde(deserialize_with = "null_is_default")]
    pub architecture: String,
    /// `v7` of `arm`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// Who made it.
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub author: String,
    /// The message of the commit or import.
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub comment: String,
    /// How containers of it run.
    #[serde(deserialize_with = "null_is_default")]
    pub config: RunConfig,
    /// The container it was committed from.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub container: String,
    /// The config of that container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_config: Option<RunConfig>,
    /// RFC 3339 with nanoseconds.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "null_is_default"
    )]
    pub created: Option<String>,
    /// The version of the engine that made it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub docker_version: String,
    /// One entry for each instruction, oldest first.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub history: Vec<History>,
    /// `linux`.
    #[serde(deserialize_with = "null_is_default")]
    pub os: String,
    /// The layers.
    pub rootfs: RootFs,
}

/// How containers of an image run, where the user does not say otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RunConfig {
    /// Always empty in images.
    #[serde(deserialize_with = "null_is_default")]
    pub hostname: String,
    /// Always empty in images.
    #[serde(deserialize_with = "null_is_default")]
    pub domainname: String,
    /// `user[:group]`.
    #[serde(deserialize_with = "null_is_default")]
    pub user: String,
    /// Always false in images.
    pub attach_stdin: bool,
    /// Always false in images.
    pub attach_stdout: bool,
    /// Always false in images.
    pub attach_stderr: bool,
    /// `80/tcp`.
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub exposed_ports: KeySet,
    /// Always false in images.
    pub tty: bool,
    /// Always false in images.
    pub open_stdin: bool,
    /// Always false in images.
    pub stdin_once: bool,
    /// `KEY=value`, in order.
    #[serde(deserialize_with = "null_is_default", serialize_with = "empty_is_null")]
    pub env: Vec<String>,
    /// Default arguments.
    pub cmd: Option<Vec<String>>,
    /// The health check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// The arguments are one string for Windows; never so here.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub args_escaped: bool,
    /// The image that this one was built on.
    #[serde(deserialize_with = "null_is_default")]
    pub image: String,
    /// Destinations of anonymous volumes.
    pub volumes: Option<KeySet>,
    /// Where the process starts.
    #[serde(deserialize_with = "null_is_default")]
    pub working_dir: String,
    /// Put before the arguments.
    pub entrypoint: Option<Vec<String>>,
    /// Triggers for images built on this one.
    pub on_build: Option<Vec<String>>,
    /// Labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// The signal that `stop` sends first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Seconds until `stop` kills.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    /// The shell of shell-form instructions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
}

/// A health check; times in nanoseconds, 0 or absent is the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `["CMD", …]`, `["CMD-SHELL", text]` or `["NONE"]`.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub test: Vec<String>,
    /// Between two checks.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// Of one check.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// In which failures do not count.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Between two checks in that time, until one succeeds; 0 is as otherwise.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// Failures in a row until unhealthy.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
}

/// What one instruction did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// RFC 3339.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "null_is_default"
    )]
    pub created: Option<String>,
    /// The instruction.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub created_by: String,
    /// Who.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// The message of a commit or import.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// The instruction made no layer.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

/// The layers of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Bottom layer first.
    #[serde(deserialize_with = "null_is_default")]
    pub diff_ids: Vec<DiffId>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self {
            kind: "layers".to_owned(),
            diff_ids: Vec::new(),
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// Go writes `null` for what is empty.
fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Go's inspect shows an empty environment as `null`.
fn empty_is_null<S: Serializer>(list: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    if list.is_empty() {
        serializer.serialize_none()
    } else {
        list.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_other_tools_leave_out_or_write_as_null() {
        let config: ImageConfig = serde_json::from_str(
            r#"{"architecture":"amd64","os":"linux","config":{"Env":null,"Cmd":["sh"],
                "Labels":null,"Volumes":{"/data":{}},"Unknown":1},"history":null,
                "rootfs":{"type":"layers","diff_ids":null}}"#,
        )
        .unwrap();
        assert_eq!(config.config.cmd, Some(vec!["sh".to_owned()]));
        assert!(config.config.env.is_empty());
        assert!(config.config.volumes.unwrap().contains_key("/data"));
        let bare: ImageConfig = serde_json::from_str(r#"{"config":null}"#).unwrap();
        assert!(bare.rootfs.diff_ids.is_empty());
    }

    #[test]
    fn writes_the_fields_that_docker_always_writes() {
        let text = serde_json::to_string(&RunConfig::default()).unwrap();
        assert_eq!(
            text,
            r#"{"Hostname":"","Domainname":"","User":"","AttachStdin":false,"AttachStdout":false,"AttachStderr":false,"Tty":false,"OpenStdin":false,"StdinOnce":false,"Env":null,"Cmd":null,"Image":"","Volumes":null,"WorkingDir":"","Entrypoint":null,"OnBuild":null,"Labels":null}"#
        );
    }
}
