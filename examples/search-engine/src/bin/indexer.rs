//! The indexer: `indexer -searchengine=HOST:PORT`. Every second it sends what it has found.
//!
//! It looks the host up anew each time: where the search engine went while it was restarted is what
//! a link's line in the hosts file says. It gives up when nobody answers for ten seconds.
#![allow(clippy::print_stdout, reason = "a program that says what it does")]

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::thread::sleep;
use std::time::{Duration, Instant};

use search_engine::{Index, Message, flag};

const PAUSE: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> io::Result<()> {
    let target = flag("searchengine").unwrap_or_else(|| "localhost:8080".to_owned());
    println!("indexer: sending to {target}");
    loop {
        sleep(PAUSE);
        let now = jiff::Timestamp::now();
        let index: Index = ["news", "images"]
            .map(|word| (word.to_owned(), format!("Some {word} up to {now}")))
            .into();
        let answer = send(&target, &index)?;
        if !answer.first_line.contains(" 200 ") {
            println!("indexer: refused: {} {}", answer.first_line, answer.body);
        }
    }
}

fn send(target: &str, index: &Index) -> io::Result<Message> {
    let message = Message {
        first_line: "POST / HTTP/1.1".to_owned(),
        body: serde_json::to_string(index).map_err(io::Error::other)?,
    };
    let begin = Instant::now();
    loop {
        match attempt(target, &message) {
            Ok(answer) => return Ok(answer),
            Err(error) if begin.elapsed() > PATIENCE => {
                let why = format!("cannot send to {target}: {error}");
                return Err(io::Error::new(error.kind(), why));
            }
            Err(_) => sleep(PAUSE / 5),
        }
    }
}

fn attempt(target: &str, message: &Message) -> io::Result<Message> {
    let mut error = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in target.to_socket_addrs()? {
        let stream = TcpStream::connect_timeout(&address, PAUSE);
        match stream {
            Ok(mut stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                message.write(&mut stream, "application/json")?;
                return Message::read(&mut stream)?
                    .ok_or_else(|| io::Error::other("the search engine said nothing"));
            }
            Err(failed) => error = failed,
        }
    }
    Err(error)
}
