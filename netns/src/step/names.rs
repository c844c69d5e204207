//! The steps that make containers find each other by name.

use plan::Description;

use super::kinds::{description, joined};
use crate::dns::{Names, Sockets, listen};
use crate::error::NetError;
use crate::host::Host;

/// Opens the resolver's sockets inside and keeps them for who serves them.
pub(super) fn listen(host: &mut Host) -> Result<(), NetError> {
    let sockets = host.visit(Sockets::open)??;
    host.keep_resolver(sockets);
    Ok(())
}

pub(super) fn describe_listen() -> Description {
    description(
        format!(
            "listen for look-ups at {} in the container",
            listen::ADDRESS
        ),
        "its programs find the other containers of its networks by name; port 53 stays free",
        vec![
            format!("bind({}:0) for udp and tcp", listen::ADDRESS),
            format!("sendto(NETLINK_NETFILTER, table {})", listen::TABLE),
        ],
    )
}

pub(super) fn describe(names: &Names) -> Description {
    let mut all = vec![names.name.clone()];
    all.extend(names.aliases.iter().cloned());
    description(
        format!("call {} {}", joined(&names.addresses), joined(&all)),
        "the other containers of its network look these names up",
        names
            .entries()
            .iter()
            .map(|(path, target)| format!("symlink({target:?}, {path:?})"))
            .collect(),
    )
}

pub(super) fn shell(names: &Names) -> Vec<String> {
    let entries = names.entries();
    let line = |(path, target): &(std::path::PathBuf, String)| {
        let directory = path.parent().unwrap_or(path).display();
        format!("mkdir -p {directory} && ln -s {target} {}", path.display())
    };
    entries.iter().map(line).collect()
}
