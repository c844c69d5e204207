//! `rbox volume create`: makes a volume.

use std::io::Write as _;

use clap::Args;
use engine::volume::union_options;

use crate::app::{Count, Leaf, Verb};
use crate::context::Context;
use crate::error::{Failure, REFUSED, Result};
use crate::option::{label, size};

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<CreateArgs>(
    "[OPTIONS] [VOLUME]",
    "Create a volume",
    &[],
    Count::AtMost(1),
);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Cluster Volume availability ("active", "pause", "drain") (default "active")
    #[arg(long, value_name = "string")]
    availability: Option<String>,
    /// Specify volume driver name (default "local")
    #[arg(short, long, value_name = "string")]
    driver: Option<String>,
    /// Cluster Volume group (cluster volumes)
    #[arg(long, value_name = "string")]
    group: Option<String>,
    /// Set metadata for a volume
    #[arg(long, value_name = "list", value_parser = label::parse)]
    label: Vec<String>,
    /// Minimum size of the Cluster Volume in bytes
    #[arg(long, value_name = "bytes", value_parser = size::bytes)]
    limit_bytes: Option<i64>,
    #[arg(
        short,
        long,
        value_name = "map",
        help = "Set driver specific options (default map[])"
    )]
    opt: Vec<String>,
    /// Maximum size of the Cluster Volume in bytes
    #[arg(long, value_name = "bytes", value_parser = size::bytes)]
    required_bytes: Option<i64>,
    /// Cluster Volume access scope ("single", "multi") (default "single")
    #[arg(long, value_name = "string")]
    scope: Option<String>,
    #[arg(
        long,
        value_name = "map",
        help = "Cluster Volume secrets (default map[])"
    )]
    secret: Vec<String>,
    /// Cluster Volume access sharing ("none", "readonly", "onewriter", "all") (default "none")
    #[arg(long, value_name = "string")]
    sharing: Option<String>,
    /// A topology that the Cluster Volume would be preferred in
    #[arg(long, value_name = "list")]
    topology_preferred: Vec<String>,
    /// A topology that the Cluster Volume must be accessible from
    #[arg(long, value_name = "list")]
    topology_required: Vec<String>,
    /// Cluster Volume access type ("mount", "block") (default "block")
    #[arg(long = "type", value_name = "string")]
    kind: Option<String>,
}

impl Verb for CreateArgs {
    fn run(self, context: &Context, plain: Vec<String>) -> Result<()> {
        self.refuse()?;
        let labels = label::pairs(&self.label);
        let name = plain
            .first()
            .map(String::as_str)
            .filter(|name| !name.is_empty());
        let driver = self.driver.as_deref().unwrap_or_default();
        let mut options = label::pairs(&self.opt);
        if driver == "union"
            // what cannot be read is refused by the engine, by the volume's name
            && let Ok(whole) = union_options(&options, &std::env::current_dir()?)
        {
            options = whole;
        }
        let engine = context.engine()?;
        let volume = engine.create_volume(name, driver, &labels, &options)?;
        writeln!(std::io::stdout(), "{}", volume.name)?;
        Ok(())
    }
}

impl CreateArgs {
    fn refuse(&self) -> Result<()> {
        let cluster = [
            (self.availability.is_some(), "availability"),
            (self.group.is_some(), "group"),
            (self.limit_bytes.is_some(), "limit-bytes"),
            (self.required_bytes.is_some(), "required-bytes"),
            (self.scope.is_some(), "scope"),
            (!self.secret.is_empty(), "secret"),
            (self.sharing.is_some(), "sharing"),
            (!self.topology_preferred.is_empty(), "topology-preferred"),
            (!self.topology_required.is_empty(), "topology-required"),
            (self.kind.is_some(), "type"),
        ];
        if let Some((_, flag)) = cluster.iter().find(|(given, _)| *given) {
            return Err(Failure::coded(
                REFUSED,
                format!("--{flag} is not supported by rbox: volumes are of one machine"),
            ));
        }
        Ok(())
    }
}
