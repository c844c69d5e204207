//! An echo server: sends back what it gets, on TCP and UDP, until it is killed.
//!
//! `echo-static [PORT]`, 2345 unless given. Statically linked, it is the only file of its image.
#![allow(clippy::print_stdout, reason = "a server that says what it does")]

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::thread;

fn main() -> io::Result<()> {
    let port = std::env::args().nth(1);
    let port = port.and_then(|word| word.parse().ok()).unwrap_or(2345);
    let (tcp, udp) = bind(port)?;
    println!("echo: listening on port {port}");
    thread::spawn(move || datagrams(&udp));
    for stream in tcp.incoming() {
        let stream = stream?;
        thread::spawn(move || connection(stream));
    }
    Ok(())
}

/// Both address families where the host has both, else version 4.
fn bind(port: u16) -> io::Result<(TcpListener, UdpSocket)> {
    let both = |address: &str| {
        Ok((
            TcpListener::bind((address, port))?,
            UdpSocket::bind((address, port))?,
        ))
    };
    both("::").or_else(|_: io::Error| both("0.0.0.0"))
}

fn connection(mut stream: TcpStream) {
    let mut buffer = [0; 65536];
    while let Ok(count) = stream.read(&mut buffer) {
        if count == 0 {
            println!("echo: the client closed the connection");
            break;
        }
        println!("echo: received {count} bytes");
        if stream.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
}

fn datagrams(socket: &UdpSocket) {
    let mut buffer = [0; 65536];
    while let Ok((count, peer)) = socket.recv_from(&mut buffer) {
        // A peer that has gone is no reason to stop serving the others.
        let _ = socket.send_to(&buffer[..count], peer);
    }
}
