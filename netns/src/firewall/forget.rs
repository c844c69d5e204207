//! Connections that have to be forgotten when ports open and close.
//!
//! A client that sends datagrams without a pause keeps its connection, and with it the address that
//! was translated for it: an old container's, or none because nothing was published yet.

use sys::conntrack::{Connection, forget};

use super::{FirewallError, Opening, PublishRule};
use crate::port::Protocol;

/// Forgets datagrams to ports that have just been published and went elsewhere until now.
///
/// # Errors
/// [`FirewallError::Call`].
pub fn forget_opened(openings: &[Opening]) -> Result<(), FirewallError> {
    let datagrams = published(openings, |publish| publish.protocol == Protocol::Udp);
    forget_those(&datagrams, |publish, connection| {
        connection.original.protocol == publish.protocol.number()
            && connection.original.destination_port == publish.host_port
            && publish
                .host_ip
                .is_none_or(|ip| ip == connection.original.destination)
            && (connection.is_plain() || elsewhere(publish, connection))
    })
}

/// Forgets what was redirected to ports that have just been closed.
///
/// # Errors
/// [`FirewallError::Call`].
pub fn forget_closed(openings: &[Opening]) -> Result<(), FirewallError> {
    let datagrams = published(openings, |publish| publish.protocol == Protocol::Udp);
    forget_those(&datagrams, |publish, connection| {
        connection.original.protocol == publish.protocol.number()
            && connection.is_redirected()
            && connection.reply.source == publish.address
            && connection.reply.source_port == publish.port
    })
}

fn published(openings: &[Opening], which: impl Fn(&PublishRule) -> bool) -> Vec<&PublishRule> {
    openings
        .iter()
        .filter_map(|opening| match opening {
            Opening::Publish(publish) if which(publish) => Some(publish),
            _ => None,
        })
        .collect()
}

/// It is redirected, but not to this container.
fn elsewhere(publish: &PublishRule, connection: &Connection) -> bool {
    connection.is_redirected() && connection.reply.source != publish.address
}

fn forget_those(
    all: &[&PublishRule],
    fits: impl Fn(&PublishRule, &Connection) -> bool,
) -> Result<(), FirewallError> {
    for v4 in [true, false] {
        let of_family: Vec<&PublishRule> = all
            .iter()
            .copied()
            .filter(|publish| publish.address.is_ipv4() == v4)
            .collect();
        if !of_family.is_empty() {
            forget(v4, |connection| {
                of_family.iter().any(|publish| fits(publish, connection))
            })?;
        }
    }
    Ok(())
}
