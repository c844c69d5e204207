//! The search engine: `searchengine [-addr=HOST:PORT]`, `:8080` unless given.
//!
//! `GET /?q=WORD` asks, `POST /` with a JSON object of words and texts is a new index.
#![allow(clippy::print_stdout, reason = "a server that says what it does")]

use std::io;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, RwLock};
use std::thread;
use std::time::Duration;

use search_engine::{Index, Message, answer, flag};

fn main() -> io::Result<()> {
    let address = flag("addr").unwrap_or_else(|| ":8080".to_owned());
    let listener = listen(&address)?;
    println!("searchengine: listening on {address}");
    let index = Arc::new(RwLock::new(Index::new()));
    for stream in listener.incoming() {
        let (stream, index) = (stream?, Arc::clone(&index));
        thread::spawn(move || serve(stream, &index));
    }
    Ok(())
}

/// Without a host every address is meant: of both families where there are both.
fn listen(address: &str) -> io::Result<TcpListener> {
    match address.strip_prefix(':') {
        Some(port) => TcpListener::bind(format!("[::]:{port}"))
            .or_else(|_| TcpListener::bind(format!("0.0.0.0:{port}"))),
        None => TcpListener::bind(address),
    }
}

/// A client that goes away in between is no reason to stop serving the others.
fn serve(mut stream: TcpStream, index: &RwLock<Index>) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
    let Ok(Some(request)) = Message::read(&mut stream) else {
        return;
    };
    let (message, new) = match index.read() {
        Ok(index) => answer(&request, &index),
        Err(_) => return,
    };
    if let Some(new) = new
        && let Ok(mut index) = index.write()
    {
        *index = new;
    }
    let _ = message.write(&mut stream, "text/plain");
}
