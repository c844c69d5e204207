//! nf_tables' attributes: numbers in network order, nested where the kernel nests them.

use crate::netlink::wire::align;

/// A message being written; attributes are appended to the datagram in place.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    pub(super) datagram: &'a mut Vec<u8>,
}

const NESTED: u16 = 0x8000;

impl Writer<'_> {
    pub(super) fn bytes(&mut self, kind: u16, value: &[u8]) {
        let start = self.open(kind);
        self.datagram.extend_from_slice(value);
        self.close(start);
    }

    pub(super) fn text(&mut self, kind: u16, value: &str) {
        let start = self.open(kind);
        self.datagram.extend_from_slice(value.as_bytes());
        self.datagram.push(0);
        self.close(start);
    }

    pub(super) fn number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    pub(super) fn nested(&mut self, kind: u16, content: impl FnOnce(&mut Writer<'_>)) {
        let start = self.open(kind | NESTED);
        content(&mut Writer {
            datagram: self.datagram,
        });
        self.close(start);
    }

    fn open(&mut self, kind: u16) -> usize {
        let start = self.datagram.len();
        self.datagram.extend_from_slice(&[0, 0]);
        self.datagram.extend_from_slice(&kind.to_ne_bytes());
        start
    }

    fn close(&mut self, start: usize) {
        let length = self.datagram.len() - start;
        let short = u16::try_from(length).expect("an attribute of ours is far below 64 kB");
        self.datagram[start..start + 2].copy_from_slice(&short.to_ne_bytes());
        self.datagram.resize(start + align(length), 0);
    }
}
