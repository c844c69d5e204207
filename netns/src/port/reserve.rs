//! Choosing host ports and holding them against other containers.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use rustix::io::Errno;

use super::listen::{BindError, Binding, Socket};
use super::publish::parse_range;
use super::{ANY_V4, ANY_V6, HostPort, Protocol, Publish, SpecError};
use crate::hold::{Alive, Attempt, Hold};

/// Host ports, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    /// The lowest.
    pub first: u16,
    /// The highest.
    pub last: u16,
}

impl PortRange {
    /// The kernel's own range for outgoing connections, from which Docker takes ephemeral ports.
    pub fn ephemeral() -> Self {
        fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
            .ok()
            .and_then(|text| Self::parse(&text))
            .unwrap_or(Self {
                first: 49153,
                last: 65535,
            })
    }

    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split_ascii_whitespace();
        let range = Self {
            first: numbers.next()?.parse().ok()?,
            last: numbers.next()?.parse().ok()?,
        };
        (range.first <= range.last).then_some(range)
    }

    /// All ports of the range, beginning at `start` and going round.
    fn from(self, start: u16) -> impl Iterator<Item = u16> {
        let start = start.clamp(self.first, self.last);
        (start..=self.last).chain(self.first..start)
    }
}

/// Opens the sockets of published ports; other containers' ports are known by their links in the
/// directory.
#[derive(Clone, Copy)]
pub struct Allocator<'a> {
    /// Where ports are held: `<state>/ports`.
    pub directory: &'a Path,
    /// Who takes them: the container's id.
    pub owner: &'a str,
    /// Whether another owner lives.
    pub alive: Alive<'a>,
    /// Where ephemeral ports are taken from.
    pub range: PortRange,
    /// The address of bindings that name none; `0.0.0.0` means every address, IPv6 too.
    pub default_ip: IpAddr,
}

impl std::fmt::Debug for Allocator<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Allocator")
            .field("directory", &self.directory)
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}

/// A port that is held and bound.
#[derive(Debug)]
pub struct Held {
    /// The reservation, to be released with the plan.
    pub hold: Hold,
    /// The socket.
    pub socket: Socket,
}

/// What one binding asks for.
struct Wanted {
    addresses: Vec<IpAddr>,
    /// Candidates, in the order to try them.
    ports: Vec<u16>,
    /// Exactly one port will do: its conflict is the user's business.
    fixed: bool,
    ephemeral: bool,
}

impl Allocator<'_> {
    /// Opens all sockets, in the order of the list (see [`super::to_bind`]). When one fails, the
    /// ports taken so far are released.
    ///
    /// # Errors
    /// [`BindError`], worded as Docker's.
    pub fn open(&self, wanted: &[Publish]) -> Result<Vec<Held>, BindError> {
        let mut held = Vec::new();
        for publish in wanted {
            match self.one(publish) {
                Ok(mut sockets) => held.append(&mut sockets),
                Err(error) => {
                    release(&held);
                    return Err(if taken(&error) {
                        own(error, &held)
                    } else {
                        error
                    });
                }
            }
        }
        Ok(held)
    }

    fn one(&self, publish: &Publish) -> Result<Vec<Held>, BindError> {
        let protocol = publish.port.protocol;
        let wanted = self.wanted(publish)?;
        for &port in &wanted.ports {
            match self.on_all(&wanted.addresses, publish, port) {
                Ok(sockets) => {
                    if wanted.ephemeral {
                        self.remember(protocol, port);
                    }
                    return Ok(sockets);
                }
                Err(error) if !wanted.fixed && taken(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Err(BindError::Exhausted)
    }

    fn wanted(&self, publish: &Publish) -> Result<Wanted, BindError> {
        let invalid = || SpecError::HostPort(publish.host_port.clone());
        let (first, last) = match publish.host_port.as_str() {
            "" => (0, 0),
            text => parse_range(text).map_err(|_| invalid())?,
        };
        let ephemeral = first == 0;
        let ports = if ephemeral {
            let start = self.next(publish.port.protocol);
            self.range.from(start).collect()
        } else {
            (first..=last).collect()
        };
        let given = match publish.host_ip.as_str() {
            "" => None,
            text => Some(
                text.parse()
                    .map_err(|_| SpecError::Address(text.to_owned()))?,
            ),
        };
        let addresses = match given {
            Some(ip) => vec![ip],
            None if self.default_ip == ANY_V4 => vec![ANY_V4, ANY_V6],
            None => vec![self.default_ip],
        };
        Ok(Wanted {
            addresses,
            ports,
            fixed: first == last && !ephemeral,
            ephemeral,
        })
    }

    /// Takes the same port on each address, or none.
    fn on_all(
        &self,
        addresses: &[IpAddr],
        publish: &Publish,
        port: u16,
    ) -> Result<Vec<Held>, BindError> {
        let mut held: Vec<Held> = Vec::with_capacity(addresses.len());
        for &ip in addresses {
            let binding = Binding {
                port: publish.port,
                host: HostPort { ip, port },
            };
            match self.take(binding) {
                Ok(socket) => held.push(socket),
                // A host without IPv6 publishes on IPv4 alone, unless IPv6 was asked for by name.
                Err(error) if addresses.len() > 1 && ip == ANY_V6 && no_family(&error) => {}
                Err(error) => {
                    release(&held);
                    return Err(error);
                }
            }
        }
        Ok(held)
    }

    fn take(&self, binding: Binding) -> Result<Held, BindError> {
        let HostPort { ip, port } = binding.host;
        let name = format!("{}-{ip}-{port}", binding.port.protocol);
        let hold = match Hold::take(self.directory, &name, self.owner, self.alive)? {
            Attempt::Taken(hold) => hold,
            Attempt::HeldBy(_) => return Err(BindError::Allocated(binding.host)),
        };
        match binding.open() {
            Ok(socket) => Ok(Held { hold, socket }),
            Err(error) => {
                // The socket's error is the news; a link that stays counts only while we live.
                let _ = hold.release();
                Err(error)
            }
        }
    }

    /// Where to begin: upwards from the last ephemeral port that anybody was given, so that a
    /// released number is not handed out again at once.
    fn next(&self, protocol: Protocol) -> u16 {
        fs::read_to_string(self.cursor(protocol))
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(self.range.first)
    }

    /// The cursor only spreads numbers; a lost update costs one more attempt.
    fn remember(&self, protocol: Protocol, port: u16) {
        let next = if port >= self.range.last {
            self.range.first
        } else {
            port + 1
        };
        let _ = fs::write(self.cursor(protocol), next.to_string());
    }

    fn cursor(&self, protocol: Protocol) -> std::path::PathBuf {
        self.directory.join(format!("next-{protocol}"))
    }
}

fn release(held: &[Held]) {
    for one in held {
        // On the way out of another error; a link that stays counts only while its owner lives.
        let _ = one.hold.release();
    }
}

fn taken(error: &BindError) -> bool {
    match error {
        BindError::Allocated(_) => true,
        BindError::Listen { errno, .. } => Errno::from_raw_os_error(*errno) == Errno::ADDRINUSE,
        _ => false,
    }
}

/// A port that the container itself has taken already is one that is allocated.
fn own(error: BindError, held: &[Held]) -> BindError {
    match error {
        BindError::Listen { binding, .. }
            if held.iter().any(|one| {
                let other = one.socket.binding;
                other.host.port == binding.host.port && other.port.protocol == binding.port.protocol
            }) =>
        {
            BindError::Allocated(binding.host)
        }
        other => other,
    }
}

fn no_family(error: &BindError) -> bool {
    match error {
        BindError::Listen { errno, .. } => {
            let errno = Errno::from_raw_os_error(*errno);
            errno == Errno::AFNOSUPPORT || errno == Errno::ADDRNOTAVAIL
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::{Port, parse_publish, to_bind};
    use std::net::TcpListener;

    const LOCAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn allocator<'a>(directory: &'a Path, owner: &'a str) -> Allocator<'a> {
        Allocator {
            directory,
            owner,
            alive: &|_| true,
            range: PortRange::ephemeral(),
            default_ip: LOCAL,
        }
    }

    fn wanted(specs: &[&str]) -> Vec<Publish> {
        let all: Vec<Publish> = specs
            .iter()
            .flat_map(|spec| parse_publish(spec).unwrap())
            .collect();
        to_bind(&all, &[], false)
    }

    #[test]
    fn conflicts_are_told_in_dockers_words() {
        let scratch = tempfile::tempdir().unwrap();
        let first = allocator(scratch.path(), "first")
            .open(&wanted(&["80"]))
            .unwrap();
        let port = first[0].socket.binding.host.port;
        let second = allocator(scratch.path(), "second");
        assert_eq!(
            second
                .open(&wanted(&[&format!("{port}:80")]))
                .unwrap_err()
                .to_string(),
            format!("Bind for 127.0.0.1:{port} failed: port is already allocated")
        );
        let foreign = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = foreign.local_addr().unwrap().port();
        assert_eq!(
            second
                .open(&wanted(&[&format!("{port}:80")]))
                .unwrap_err()
                .to_string(),
            format!(
                "Error starting userland proxy: listen tcp4 127.0.0.1:{port}: bind: address already in use"
            )
        );
        assert_eq!(
            second
                .open(&wanted(&["192.0.2.77:8081:80"]))
                .unwrap_err()
                .to_string(),
            "Error starting userland proxy: listen tcp4 192.0.2.77:8081: bind: cannot assign requested address"
        );
        let twice = format!("{port}:80");
        drop(foreign);
        let twice = second.open(&wanted(&[&twice, &format!("{port}:81")]));
        assert_eq!(
            twice.unwrap_err().to_string(),
            format!("Bind for 127.0.0.1:{port} failed: port is already allocated")
        );
        // What failed holds nothing.
        let names = crate::hold::held(scratch.path()).unwrap();
        assert_eq!(names.len(), 1, "{names:?}");
    }

    #[test]
    fn a_range_gives_its_lowest_free_port() {
        let scratch = tempfile::tempdir().unwrap();
        let taken = allocator(scratch.path(), "first")
            .open(&wanted(&["80"]))
            .unwrap();
        let low = taken[0].socket.binding.host.port;
        let spec = format!("{low}-{}:80", low + 50);
        let held = allocator(scratch.path(), "second")
            .open(&wanted(&[&spec]))
            .unwrap();
        assert!(held[0].socket.binding.host.port > low);
    }

    #[test]
    fn ephemeral_numbers_move_upwards_and_both_families_share_one() {
        let scratch = tempfile::tempdir().unwrap();
        let mut allocator = allocator(scratch.path(), "one");
        allocator.default_ip = ANY_V4;
        let held = allocator.open(&wanted(&["9000-9001"])).unwrap();
        let number = |port: u16| -> Vec<u16> {
            held.iter()
                .map(|held| held.socket.binding)
                .filter(|binding| binding.port == Port::tcp(port))
                .map(|binding| binding.host.port)
                .collect()
        };
        assert!(number(9001)[0] < number(9000)[0]);
        assert!(number(9000).iter().all(|port| *port == number(9000)[0]));
        release(&held);
        drop(held);
        let last = allocator.open(&wanted(&["9000"])).unwrap();
        assert!(last[0].socket.binding.host.port > 0);
    }

    #[test]
    fn reads_the_kernels_range() {
        assert_eq!(
            PortRange::parse("32768\t60999\n"),
            Some(PortRange {
                first: 32768,
                last: 60999
            })
        );
        assert_eq!(PortRange::parse("60999 32768"), None);
        assert_eq!(
            PortRange { first: 1, last: 4 }.from(3).collect::<Vec<_>>(),
            [3, 4, 1, 2]
        );
    }
}
