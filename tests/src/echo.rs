//! The echo server in a container, and clients that ask it from anywhere.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use crate::fixture;
use crate::host::Host;
use crate::lab::Lab;
use crate::outside::Outside;
use crate::wait::eventually;

/// The loopback address of version 4.
pub const LOCAL: [u8; 4] = [127, 0, 0, 1];

/// The loopback address of version 6.
pub const LOCAL6: [u16; 8] = [0, 0, 0, 0, 0, 0, 0, 1];

/// Sends a word to a TCP echo server and wants it back.
///
/// # Errors
/// What went wrong on which way; also when another answer came.
pub fn echoes(from: &Host, address: impl Into<IpAddr>, port: u16) -> Result<(), String> {
    let to = SocketAddr::new(address.into(), port);
    from.enter(move || {
        let limit = Duration::from_secs(3);
        let mut stream = TcpStream::connect_timeout(&to, limit)?;
        stream.set_read_timeout(Some(limit))?;
        stream.write_all(b"hello\r\n")?;
        let mut answer = [0; 7];
        stream.read_exact(&mut answer)?;
        assert_eq!(&answer, b"hello\r\n");
        Ok(())
    })
    .map_err(|error: std::io::Error| format!("{}: {to}: {error}", from.name()))
}

/// The same for UDP.
///
/// # Errors
/// As for [`echoes`].
pub fn echoes_udp(from: &Host, address: impl Into<IpAddr>, port: u16) -> Result<(), String> {
    let to = SocketAddr::new(address.into(), port);
    from.enter(move || {
        let any: IpAddr = match to {
            SocketAddr::V4(_) => [0; 4].into(),
            SocketAddr::V6(_) => [0; 16].into(),
        };
        let socket = UdpSocket::bind((any, 0))?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        socket.connect(to)?;
        socket.send(b"hello")?;
        let mut answer = [0; 16];
        let count = socket.recv(&mut answer)?;
        assert_eq!(&answer[..count], b"hello");
        Ok(())
    })
    .map_err(|error: std::io::Error| format!("{}: udp {to}: {error}", from.name()))
}

/// A lab with the echo server's image beside busybox, and one host outside.
///
/// # Panics
/// When it cannot be made.
#[track_caller]
pub fn lab_with_echo() -> (Lab, Outside) {
    let lab = Lab::with_busybox();
    fixture::echo(&lab);
    let outside = Outside::new(&lab);
    (lab, outside)
}

/// Starts the echo server and waits until it listens; its address.
///
/// # Panics
/// When it does not start.
#[track_caller]
pub fn serve(lab: &Lab, name: &str, options: &[&str]) -> IpAddr {
    lab.rbox(["run", "-d", "--name", name])
        .args(options)
        .arg("echo")
        .run()
        .success();
    eventually("the server listens", || {
        lab.rbox(["logs", name]).run().text().contains("listening")
    });
    let address = lab
        .rbox(["inspect", "-f", "{{.NetworkSettings.IPAddress}}", name])
        .run()
        .success()
        .text();
    address
        .parse()
        .unwrap_or_else(|_| IpAddr::from([127, 0, 0, 1]))
}
