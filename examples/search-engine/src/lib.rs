//! What the search engine and its indexer share: their flags, and HTTP as far as they need it.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};

/// The longest body that is taken.
const LONGEST: usize = 1 << 20;

/// What is known: a text for every word.
pub type Index = BTreeMap<String, String>;

/// The value of `-name=value` or `--name=value` on this program's command line.
pub fn flag(name: &str) -> Option<String> {
    std::env::args().skip(1).find_map(|word| {
        let word = word.trim_start_matches('-').to_owned();
        let (key, value) = word.split_once('=')?;
        (key == name).then(|| value.to_owned())
    })
}

/// One request or answer: its first line and its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `GET /?q=news HTTP/1.1`, `HTTP/1.1 200 OK`.
    pub first_line: String,
    /// What follows the headers.
    pub body: String,
}

impl Message {
    /// Reads one; a connection that ends before it says anything is `None`.
    ///
    /// # Errors
    /// When the connection breaks or the body is too long or no text.
    pub fn read(stream: &mut impl Read) -> io::Result<Option<Self>> {
        let mut reader = BufReader::new(stream);
        let mut first_line = String::new();
        if reader.read_line(&mut first_line)? == 0 {
            return Ok(None);
        }
        let mut length = 0;
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header)? <= 2 {
                break;
            }
            if let Some((name, value)) = header.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().unwrap_or(usize::MAX);
            }
        }
        if length > LONGEST {
            return Err(io::Error::other("the body is too long"));
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        Ok(Some(Self {
            first_line: first_line.trim_end().to_owned(),
            body: String::from_utf8(body).map_err(io::Error::other)?,
        }))
    }

    /// Writes it; the connection is closed afterwards.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn write(&self, stream: &mut impl Write, kind: &str) -> io::Result<()> {
        let head = format!(
            "{}\r\nHost: search\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            self.first_line,
            self.body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(self.body.as_bytes())
    }
}

/// The value of `q` in the target of a request: `/?q=some%20news`.
pub fn query(target: &str) -> Option<String> {
    let (_, query) = target.split_once('?')?;
    let value = query.split('&').find_map(|pair| pair.strip_prefix("q="))?;
    Some(decoded(value)).filter(|word| !word.is_empty())
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let pair = after
            .get(..2)
            .and_then(|pair| std::str::from_utf8(pair).ok());
        match (byte, pair.map(|pair| u8::from_str_radix(pair, 16))) {
            (b'%', Some(Ok(value))) => {
                bytes.push(value);
                rest = &after[2..];
                continue;
            }
            (b'+', _) => bytes.push(b' '),
            (byte, _) => bytes.push(byte),
        }
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What a request to the search engine gives: its answer, and perhaps a new index.
pub fn answer(request: &Message, index: &Index) -> (Message, Option<Index>) {
    let say = |status: &str, body: String| Message {
        first_line: format!("HTTP/1.1 {status}"),
        body,
    };
    let mut words = request.first_line.split(' ');
    match (words.next(), words.next()) {
        (Some("GET" | "HEAD"), Some(target)) => {
            let body = query(target).map(|word| {
                let text = index.get(&word).map_or("", String::as_str);
                format!("query: {word}\nresults:{text}")
            });
            (say("200 OK", body.unwrap_or_default()), None)
        }
        (Some("POST"), Some(_)) => match serde_json::from_str(&request.body) {
            Ok(index) => (say("200 OK", String::new()), Some(index)),
            Err(error) => (say("400 Bad Request", format!("{error}\n")), None),
        },
        _ => (say("405 Method Not Allowed", String::new()), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(first_line: &str, body: &str, index: &Index) -> (String, String, Option<Index>) {
        let request = Message {
            first_line: first_line.to_owned(),
            body: body.to_owned(),
        };
        let (message, index) = answer(&request, index);
        (message.first_line, message.body, index)
    }

    #[test]
    fn words_are_found_and_indexes_replaced() {
        let ok = "HTTP/1.1 200 OK".to_owned();
        let none = Index::new();
        let (status, body, index) = ask("POST / HTTP/1.1", "{\"news\":\"new\"}", &none);
        assert_eq!((status, body), (ok.clone(), String::new()));
        let index = index.unwrap();
        for (target, body) in [
            ("/?q=news", "query: news\nresults:new"),
            ("/?x=1&q=news", "query: news\nresults:new"),
            ("/?q=none", "query: none\nresults:"),
            ("/?q=a%20b+c%zz", "query: a b c%zz\nresults:"),
            ("/?q=", ""),
            ("/", ""),
        ] {
            let (status, found, _) = ask(&format!("GET {target} HTTP/1.1"), "", &index);
            assert_eq!((status, found.as_str()), (ok.clone(), body), "{target}");
        }
        assert!(ask("POST / HTTP/1.1", "{", &none).0.contains("400"));
        assert!(ask("PUT / HTTP/1.1", "", &none).0.contains("405"));
        assert!(ask("", "", &none).0.contains("405"));
    }

    #[test]
    fn messages_are_read_as_they_are_written() {
        let message = Message {
            first_line: "POST / HTTP/1.1".to_owned(),
            body: "{\"a\":\"ä\"}".to_owned(),
        };
        let mut bytes = Vec::new();
        message.write(&mut bytes, "application/json").unwrap();
        assert_eq!(Message::read(&mut bytes.as_slice()).unwrap(), Some(message));
        assert_eq!(Message::read(&mut &b""[..]).unwrap(), None);
        let long = b"POST / HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n";
        assert!(Message::read(&mut &long[..]).is_err());
    }
}
