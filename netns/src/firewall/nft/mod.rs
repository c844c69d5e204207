//! The hand that speaks nf_tables itself: fixed chains that look into sets and maps.
//!
//! One table per family and instance. Making it again changes nothing: chains are emptied and
//! filled in one transaction, sets are left alone, so that starts need no lock among one another.
//! Packets that have nothing to do with our bridges pass through untouched.

mod chains;
mod elements;
mod sets;

use sys::nftables::{BatchError, Change, Family, Socket};

use self::chains::{base, frame_base};
use self::elements::{Placed, network_elements, opening_elements};
use self::sets::table;
use super::{FirewallError, NetworkRules, Opening};

/// Whether the instance's tables are there.
///
/// # Errors
/// [`FirewallError::Call`] of the socket.
pub fn present(socket: &mut Socket, instance: &str) -> Result<bool, FirewallError> {
    Ok(socket.has_table(table(instance, Family::Ip))?)
}

/// Makes sure that the tables are there and know a network.
///
/// # Errors
/// [`FirewallError::Nft`] names the change that the kernel refused.
pub fn ensure(
    socket: &mut Socket,
    instance: &str,
    network: &NetworkRules,
) -> Result<(), FirewallError> {
    let elements = network_elements(network);
    let mut changes = Vec::new();
    base(instance, true, &mut changes);
    if network.subnets.iter().any(|subnet| subnet.addr().is_ipv6()) {
        base(instance, false, &mut changes);
    }
    if !network.icc {
        frame_base(instance, &mut changes);
    }
    changes.extend(elements.iter().map(|placed| placed.added(instance)));
    socket.commit(&changes).map_err(FirewallError::Nft)?;
    // what it may have been allowed before
    let mut contrary = network_elements(&network.contrary());
    contrary.retain(|placed| !elements.contains(placed));
    remove(socket, instance, &contrary)
}

/// Makes the tables forget a network; what is gone already is no error.
///
/// # Errors
/// [`FirewallError::Nft`].
pub fn remove_network(
    socket: &mut Socket,
    instance: &str,
    network: &NetworkRules,
) -> Result<(), FirewallError> {
    remove(socket, instance, &network_elements(network))
}

/// Adds the elements of openings in one batch.
///
/// # Errors
/// [`FirewallError::Nft`] names the element.
pub fn open(
    socket: &mut Socket,
    instance: &str,
    openings: &[Opening],
) -> Result<(), FirewallError> {
    let elements = opening_elements(openings);
    let changes: Vec<Change<'_>> = elements
        .iter()
        .map(|placed| placed.added(instance))
        .collect();
    socket.commit(&changes).map_err(FirewallError::Nft)
}

/// Removes the elements of openings; what is gone already is no error.
///
/// # Errors
/// [`FirewallError::Nft`] names the element.
pub fn close(
    socket: &mut Socket,
    instance: &str,
    openings: &[Opening],
) -> Result<(), FirewallError> {
    remove(socket, instance, &opening_elements(openings))
}

/// The commands that would do the same as [`open`].
pub fn shell(instance: &str, openings: &[Opening]) -> Vec<String> {
    shell_of(instance, &opening_elements(openings))
}

/// The commands that would do the same as [`ensure`] once the tables are there.
pub fn network_shell(instance: &str, network: &NetworkRules) -> Vec<String> {
    shell_of(instance, &network_elements(network))
}

fn shell_of(instance: &str, elements: &[Placed]) -> Vec<String> {
    elements
        .iter()
        .map(|placed| {
            format!(
                "nft add element {} {} '{{ {} }}'",
                placed.table(instance),
                placed.set,
                placed.element.text
            )
        })
        .collect()
}

fn remove(socket: &mut Socket, instance: &str, elements: &[Placed]) -> Result<(), FirewallError> {
    let changes: Vec<Change<'_>> = elements
        .iter()
        .map(|placed| placed.removed(instance))
        .collect();
    if socket.commit(&changes).is_ok() {
        return Ok(());
    }
    // One element that is gone fails the whole batch: remove them one by one.
    for change in changes {
        gone_is_fine(socket.commit(&[change]))?;
    }
    Ok(())
}

fn gone_is_fine(outcome: Result<(), BatchError>) -> Result<(), FirewallError> {
    match outcome {
        Err(refused) if refused.error.errno() != NOT_FOUND => Err(FirewallError::Nft(refused)),
        _ => Ok(()),
    }
}

/// ENOENT.
const NOT_FOUND: i32 = 2;

/// Whether a batch failed because the tables are not there.
pub fn is_missing(error: &FirewallError) -> bool {
    matches!(error, FirewallError::Nft(refused) if refused.error.errno() == NOT_FOUND)
}
