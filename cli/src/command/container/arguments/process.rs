//! Flags about the process, its streams and its records.

use clap::Args;
use engine::config::{Config, HostConfig, RestartPolicy};

use super::{Surroundings, refuse_given, some};
use crate::error::{Failure, Result};
use crate::option::{environment, label, number, stream};

/// Flags about the process, its streams and its records.
#[derive(Debug, Clone, Args)]
pub(crate) struct ProcessArgs {
    #[arg(
        long,
        value_name = "map",
        help = "Add an annotation to the container (passed through to the OCI runtime) (default map[])"
    )]
    pub(crate) annotation: Vec<String>,
    /// Attach to STDIN, STDOUT or STDERR
    #[arg(short, long, value_name = "list", value_parser = stream::parse)]
    pub(crate) attach: Vec<String>,
    /// Write the container ID to the file
    #[arg(long, value_name = "string")]
    pub(crate) cidfile: Option<String>,
    /// Container NIS domain name
    #[arg(long, value_name = "string")]
    pub(crate) domainname: Option<String>,
    /// Overwrite the default ENTRYPOINT of the image
    #[arg(long, value_name = "string")]
    pub(crate) entrypoint: Option<String>,
    /// Set environment variables
    #[arg(short, long, value_name = "list", value_parser = environment::variable)]
    pub(crate) env: Vec<String>,
    /// Read in a file of environment variables
    #[arg(long, value_name = "list")]
    pub(crate) env_file: Vec<String>,
    /// Add additional groups to join
    #[arg(long, value_name = "list")]
    pub(crate) group_add: Vec<String>,
    /// Container host name
    #[arg(short, long, value_name = "string")]
    pub(crate) hostname: Option<String>,
    /// Run an init inside the container that forwards signals and reaps processes
    #[arg(long)]
    pub(crate) init: bool,
    /// Keep STDIN open even if not attached
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Set meta data on a container
    #[arg(short, long, value_name = "list", value_parser = label::parse)]
    pub(crate) label: Vec<String>,
    /// Read in a line delimited file of labels
    #[arg(long, value_name = "list")]
    pub(crate) label_file: Vec<String>,
    /// Logging driver for the container
    #[arg(long, value_name = "string")]
    pub(crate) log_driver: Option<String>,
    /// Log driver options
    #[arg(long, value_name = "list")]
    pub(crate) log_opt: Vec<String>,
    /// Assign a name to the container
    #[arg(long, value_name = "string")]
    pub(crate) name: Option<String>,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "string")]
    pub(crate) platform: Option<String>,
    /// Suppress the pull output
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Restart policy to apply when a container exits (default "no")
    #[arg(long, value_name = "string")]
    pub(crate) restart: Option<String>,
    /// Automatically remove the container and its associated anonymous volumes when it exits
    #[arg(long)]
    pub(crate) rm: bool,
    /// Signal to stop the container
    #[arg(long, value_name = "string")]
    pub(crate) stop_signal: Option<String>,
    /// Timeout (in seconds) to stop a container
    #[arg(long, value_name = "int", value_parser = number::integer)]
    pub(crate) stop_timeout: Option<i64>,
    /// Allocate a pseudo-TTY
    #[arg(short, long)]
    pub(crate) tty: bool,
    #[arg(
        short,
        long,
        value_name = "string",
        help = "Username or UID (format: <name|uid>[:<group|gid>])"
    )]
    pub(crate) user: Option<String>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "string")]
    pub(crate) workdir: Option<String>,
}

impl ProcessArgs {
    /// Puts the process, its streams and its records into the request.
    pub(super) fn fill(
        &self,
        config: &mut Config,
        host: &mut HostConfig,
        detached: bool,
        around: &Surroundings,
    ) -> Result<()> {
        config.hostname = self.hostname.clone().unwrap_or_default();
        config.domainname = self.domainname.clone().unwrap_or_default();
        config.user = self.user.clone().unwrap_or_default();
        config.working_dir = self.workdir.clone().unwrap_or_default();
        config.entrypoint = self.entrypoint.clone().map(|word| vec![word]);
        config.tty = self.tty;
        config.open_stdin = self.interactive;
        let attached = |stream: &str| {
            if self.attach.is_empty() {
                !detached && (stream != "stdin" || self.interactive)
            } else {
                self.attach.iter().any(|name| name == stream)
            }
        };
        config.attach_stdin = attached("stdin");
        config.attach_stdout = attached("stdout");
        config.attach_stderr = attached("stderr");
        config.stdin_once = config.open_stdin && config.attach_stdin;
        config.env = environment::gather(&self.env_file, &self.env, around.variable)?;
        config.labels = label::gather(&self.label_file, &self.label)?;
        config.stop_signal = self.stop_signal.clone().filter(|signal| !signal.is_empty());
        config.stop_timeout = self.stop_timeout;
        host.group_add = some(&self.group_add);
        host.init = self.init.then_some(true);
        host.auto_remove = self.rm;
        host.restart_policy = restart_policy(self.restart.as_deref().unwrap_or("no"))?;
        if let Some(driver) = self
            .log_driver
            .as_deref()
            .filter(|driver| !driver.is_empty())
        {
            driver.clone_into(&mut host.log_config.driver);
        }
        if host.log_config.driver == "none" && !self.log_opt.is_empty() {
            return Err(Failure::said(format!(
                "invalid logging opts for driver none: [{}]",
                self.log_opt.join(" ")
            )));
        }
        host.log_config.options = label::pairs(&self.log_opt);
        host.annotations = label::pairs(&self.annotation);
        host.container_id_file = self.cidfile.clone().unwrap_or_default();
        Ok(())
    }

    /// Refuses what rbox does not have.
    pub(super) fn refuse(&self) -> Result<()> {
        let platform = self.platform.as_deref();
        refuse_given(&[(
            platform.is_some_and(|name| !is_ours(name)),
            "platform",
            "programs of other platforms are not emulated",
        )])
    }
}

/// Whether a platform is that of this machine.
fn is_ours(platform: &str) -> bool {
    let machine = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let mut parts = platform.split('/');
    matches!(parts.next(), Some("" | "linux"))
        && parts
            .next()
            .is_none_or(|name| name == machine || name == std::env::consts::ARCH)
}

/// `no`, `always`, `unless-stopped`, `on-failure[:count]`.
pub(crate) fn restart_policy(text: &str) -> Result<RestartPolicy> {
    let (name, count) = match text.split_once(':') {
        Some((name, count)) => (name, Some(count)),
        None => (text, None),
    };
    if name.is_empty() && count.is_some() {
        return Err(Failure::said(
            "invalid restart policy format: no policy provided before colon",
        ));
    }
    let maximum_retry_count = match count {
        Some(count) => count.parse().map_err(|_| {
            Failure::said("invalid restart policy format: maximum retry count must be an integer")
        })?,
        None => 0,
    };
    Ok(RestartPolicy {
        name: name.to_owned(),
        maximum_retry_count,
    })
}
