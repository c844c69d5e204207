//! What every command knows: the global flags and the engine they lead to.

use std::path::PathBuf;

use clap::Args;
use engine::{Engine, Firewall, Options};
use image::store::ImageStore;

use crate::error::{Failure, REFUSED, Result};
use crate::parse;

/// Flags before the command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Globals {
    /// Name of the default network's bridge (default "rbox0")
    #[arg(long, value_name = "string")]
    pub(crate) bridge: Option<String>,
    /// Subnet of the default network (default 172.17.0.0/16, or the next free one)
    #[arg(long, value_name = "subnet")]
    pub(crate) bridge_subnet: Option<String>,
    /// IPv6 subnet of the default network (default as its bridge has it, none for a new one)
    #[arg(long, value_name = "subnet")]
    pub(crate) bridge_subnet6: Option<String>,
    /// Enable debug mode
    #[arg(short = 'D', long)]
    pub(crate) debug: bool,
    /// Who writes firewall rules ("auto", "iptables", "nft", "none") (default "auto")
    #[arg(long, value_name = "string")]
    pub(crate) firewall: Option<String>,
    /// Allow containers of the default network to reach one another (default as its bridge has it, true for a new one)
    #[arg(long, value_name = "", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = parse::go_bool)]
    pub(crate) icc: Option<bool>,
    /// Directory of images and containers (default "/var/lib/rbox", or RBOX_ROOT)
    #[arg(long, value_name = "string")]
    pub(crate) root: Option<PathBuf>,
    /// Directory of what ends with the machine (default "/run/rbox", or RBOX_STATE)
    #[arg(long, value_name = "string")]
    pub(crate) state: Option<PathBuf>,
    /// Print version information and quit
    #[arg(short = 'v', long)]
    pub(crate) version: bool,
}

/// What a command works with.
#[derive(Debug)]
pub(crate) struct Context {
    /// The global flags.
    pub(crate) globals: Globals,
}

impl Context {
    /// With these global flags.
    pub(crate) fn new(globals: Globals) -> Self {
        Self { globals }
    }

    /// The engine that the global flags lead to, cleared of what dead monitors left.
    ///
    /// # Errors
    /// A global flag's value is wrong.
    pub(crate) fn engine(&self) -> Result<Engine> {
        let options = self
            .globals
            .options(|name| std::env::var_os(name).map(PathBuf::from))?;
        let engine = Engine::open(options);
        // what cannot be cleared up now, for want of privilege or room, waits for the next command
        let _ = engine.recover();
        Ok(engine)
    }
}

impl Context {
    /// The image store of that engine.
    ///
    /// # Errors
    /// As [`Context::engine`].
    pub(crate) fn images(&self) -> Result<ImageStore> {
        Ok(self.engine()?.images())
    }
}

impl Globals {
    fn options(&self, variable: impl Fn(&str) -> Option<PathBuf>) -> Result<Options> {
        let mut options = Options::default();
        let place = |flag: &Option<PathBuf>, name: &str| {
            flag.clone()
                .or_else(|| variable(name))
                .filter(|path| !path.as_os_str().is_empty())
        };
        if let Some(root) = place(&self.root, "RBOX_ROOT") {
            options.root = absolute(root)?;
        }
        if let Some(state) = place(&self.state, "RBOX_STATE") {
            options.state = absolute(state)?;
        }
        if let Some(bridge) = &self.bridge {
            bridge.clone_into(&mut options.bridge);
        }
        if let Some(subnet) = &self.bridge_subnet {
            let subnet = subnet
                .parse()
                .map_err(|_| wrong(subnet, "bridge-subnet", "invalid CIDR address"))?;
            options.subnet = Some(subnet);
        }
        if let Some(subnet) = &self.bridge_subnet6 {
            let subnet = subnet
                .parse()
                .map_err(|_| wrong(subnet, "bridge-subnet6", "invalid CIDR address"))?;
            options.subnet6 = Some(subnet);
        }
        options.inter_container = self.icc;
        options.firewall = match self.firewall.as_deref() {
            None | Some("" | "auto") => Firewall::Auto,
            Some("iptables") => Firewall::Iptables,
            Some("nft" | "nftables") => Firewall::Nftables,
            Some("none" | "off") => Firewall::Off,
            Some(other) => {
                let why = "must be one of \"auto\", \"iptables\", \"nft\" or \"none\"";
                return Err(wrong(other, "firewall", why));
            }
        };
        Ok(options)
    }
}

fn absolute(path: PathBuf) -> Result<PathBuf> {
    Ok(std::path::absolute(path)?)
}

fn wrong(value: &str, flag: &str, why: &str) -> Failure {
    Failure::coded(
        REFUSED,
        format!("invalid argument {value:?} for \"--{flag}\" flag: {why}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Command, FromArgMatches};

    fn globals(line: &[&str]) -> Globals {
        let command = crate::parse::dockerize(Globals::augment_args(Command::new("rbox")));
        let line: Vec<_> = line.iter().map(Into::into).collect();
        let matches = crate::parse::parse(command, &line, false).unwrap();
        Globals::from_arg_matches(&matches).unwrap()
    }

    #[test]
    fn flags_go_before_the_environment() {
        let variable = |name: &str| Some(PathBuf::from(format!("/env/{name}")));
        let options = globals(&["--root", "/r", "--icc=false", "--firewall", "nft"])
            .options(variable)
            .unwrap();
        assert_eq!(options.root, PathBuf::from("/r"));
        assert_eq!(options.state, PathBuf::from("/env/RBOX_STATE"));
        assert_eq!(options.inter_container, Some(false));
        assert_eq!(options.firewall, Firewall::Nftables);
    }

    #[test]
    fn wrong_values_are_refused() {
        for line in [
            ["--firewall", "x"],
            ["--bridge-subnet", "10"],
            ["--bridge-subnet6", "10.0.0.0/8"],
        ] {
            assert!(globals(&line).options(|_| None).is_err(), "{line:?}");
        }
    }
}
