//! The expressions that rules are made of.

use super::Family;
use super::wire::Writer;

/// A 4-byte register, from 0 to 15; wider values take several in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Register(pub u8);

impl Register {
    fn number(self) -> u32 {
        const NFT_REG32_00: u32 = 8;
        NFT_REG32_00 + u32::from(self.0)
    }
}

/// Facts about a packet that do not stand in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meta {
    /// The name of the device it came in by; 16 bytes.
    InputName,
    /// The name of the device it leaves by; 16 bytes.
    OutputName,
    /// Its transport protocol; 1 byte.
    Transport,
    /// What a frame carries; 2 bytes.
    EtherType,
}

impl Meta {
    fn number(self) -> u32 {
        match self {
            Meta::EtherType => 1,
            Meta::InputName => 6,
            Meta::OutputName => 7,
            Meta::Transport => 16,
        }
    }
}

/// Where in a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// From the network header on.
    Network,
    /// From the transport header on.
    Transport,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// It passes this chain's hook.
    Accept,
    /// It is thrown away.
    Drop,
    /// Back to the calling chain.
    Return,
    /// On to another chain and back.
    Jump(&'a str),
}

/// One expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression<'a> {
    /// Loads a fact.
    Meta(Meta, Register),
    /// Loads bytes of the packet.
    Payload {
        /// From where.
        base: Base,
        /// At which offset.
        offset: u32,
        /// How many.
        length: u32,
        /// To where.
        to: Register,
    },
    /// Loads a value.
    Load {
        /// The value.
        value: Vec<u8>,
        /// To where.
        to: Register,
    },
    /// Replaces bytes of the transport header, and its checksum with them.
    Rewrite {
        /// At which offset.
        offset: u32,
        /// How many.
        length: u32,
        /// By what.
        from: Register,
        /// Where the header's checksum stands.
        checksum: u32,
    },
    /// Loads whose address the destination is: 2 for the host's own.
    DestinationType(Register),
    /// Loads the connection's state as a bit.
    ConnectionState(Register),
    /// Keeps the bits of a mask.
    And(Register, [u8; 4]),
    /// Goes on only if the register has this value (or, inverted, another).
    Compare {
        /// The register.
        register: Register,
        /// Goes on only if they differ.
        inverted: bool,
        /// The value.
        value: Vec<u8>,
    },
    /// Goes on only if the key is in the set (or, inverted, not in it).
    Lookup {
        /// The set's name.
        set: &'a str,
        /// The key.
        key: Register,
        /// Goes on only if it is not in the set.
        inverted: bool,
    },
    /// Replaces the key by what the map has for it; goes on only if there is something.
    Map {
        /// The map's name.
        map: &'a str,
        /// The key, and where the value goes.
        key: Register,
        /// Where the value goes.
        to: Register,
    },
    /// Sends the connection to another address and port.
    DestinationNat {
        /// The address's family.
        family: Family,
        /// The register of the address.
        address: Register,
        /// The register of the port.
        port: Register,
    },
    /// Gives the connection the address of the device it leaves by.
    Masquerade,
    /// Decides.
    Verdict(Verdict<'a>),
}

impl Expression<'_> {
    fn name(&self) -> &'static str {
        match self {
            Expression::Meta(..) => "meta",
            Expression::Payload { .. } | Expression::Rewrite { .. } => "payload",
            Expression::DestinationType(_) => "fib",
            Expression::ConnectionState(_) => "ct",
            Expression::And(..) => "bitwise",
            Expression::Compare { .. } => "cmp",
            Expression::Lookup { .. } | Expression::Map { .. } => "lookup",
            Expression::DestinationNat { .. } => "nat",
            Expression::Masquerade => "masq",
            Expression::Load { .. } | Expression::Verdict(_) => "immediate",
        }
    }

    /// Writes the expression as one element of a rule.
    pub(super) fn write(&self, list: &mut Writer<'_>) {
        const NFTA_LIST_ELEM: u16 = 1;
        list.nested(NFTA_LIST_ELEM, |element| {
            element.text(1, self.name());
            element.nested(2, |data| self.write_data(data));
        });
    }

    fn write_data(&self, data: &mut Writer<'_>) {
        match self {
            Expression::Meta(meta, to) => {
                data.number(1, to.number());
                data.number(2, meta.number());
            }
            Expression::Payload {
                base,
                offset,
                length,
                to,
            } => {
                data.number(1, to.number());
                data.number(2, if *base == Base::Network { 1 } else { 2 });
                data.number(3, *offset);
                data.number(4, *length);
            }
            Expression::Load { value, to } => {
                data.number(1, to.number());
                data.nested(2, |content| content.bytes(1, value));
            }
            Expression::Rewrite {
                offset,
                length,
                from,
                checksum,
            } => write_rewrite(data, (*offset, *length), *from, *checksum),
            Expression::DestinationType(to) => {
                const NFT_FIB_RESULT_ADDRTYPE: u32 = 3;
                const NFTA_FIB_F_DADDR: u32 = 2;
                data.number(1, to.number());
                data.number(2, NFT_FIB_RESULT_ADDRTYPE);
                data.number(3, NFTA_FIB_F_DADDR);
            }
            Expression::ConnectionState(to) => {
                const NFT_CT_STATE: u32 = 0;
                data.number(1, to.number());
                data.number(2, NFT_CT_STATE);
            }
            Expression::And(register, mask) => write_and(data, *register, *mask),
            Expression::Compare {
                register,
                inverted,
                value,
            } => {
                data.number(1, register.number());
                data.number(2, u32::from(*inverted));
                data.nested(3, |content| content.bytes(1, value));
            }
            Expression::Lookup { set, key, inverted } => {
                data.text(1, set);
                data.number(2, key.number());
                if *inverted {
                    data.number(5, 1);
                }
            }
            Expression::Map { map, key, to } => {
                data.text(1, map);
                data.number(2, key.number());
                data.number(3, to.number());
            }
            Expression::DestinationNat {
                family,
                address,
                port,
            } => {
                const NFT_NAT_DNAT: u32 = 1;
                data.number(1, NFT_NAT_DNAT);
                data.number(2, u32::from(family.number()));
                data.number(3, address.number());
                data.number(5, port.number());
            }
            Expression::Masquerade => {}
            Expression::Verdict(verdict) => write_verdict(data, *verdict),
        }
    }
}

fn write_and(data: &mut Writer<'_>, register: Register, mask: [u8; 4]) {
    data.number(1, register.number());
    data.number(2, register.number());
    data.number(3, 4);
    data.nested(4, |content| content.bytes(1, &mask));
    data.nested(5, |content| content.bytes(1, &[0; 4]));
}

fn write_rewrite(
    data: &mut Writer<'_>,
    (offset, length): (u32, u32),
    from: Register,
    checksum: u32,
) {
    const NFT_PAYLOAD_TRANSPORT_HEADER: u32 = 2;
    const NFT_PAYLOAD_CSUM_INET: u32 = 1;
    data.number(2, NFT_PAYLOAD_TRANSPORT_HEADER);
    data.number(3, offset);
    data.number(4, length);
    data.number(5, from.number());
    data.number(6, NFT_PAYLOAD_CSUM_INET);
    data.number(7, checksum);
}

fn write_verdict(data: &mut Writer<'_>, verdict: Verdict<'_>) {
    const NFT_REG_VERDICT: u32 = 0;
    const NFT_JUMP: i32 = -3;
    const NFT_RETURN: i32 = -5;
    let (code, chain) = match verdict {
        Verdict::Drop => (0, None),
        Verdict::Accept => (1, None),
        Verdict::Return => (NFT_RETURN, None),
        Verdict::Jump(chain) => (NFT_JUMP, Some(chain)),
    };
    data.number(1, NFT_REG_VERDICT);
    data.nested(2, |content| {
        content.nested(2, |verdict| {
            verdict.bytes(1, &code.to_be_bytes());
            if let Some(chain) = chain {
                verdict.text(2, chain);
            }
        });
    });
}
