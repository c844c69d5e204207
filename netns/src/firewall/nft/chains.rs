//! The chains and their rules: fixed, whatever is started.

use sys::nftables::{Base, Change, Expression, Family, Hook, HookPoint, Meta, Register, Verdict};

use super::sets::{
    BRIDGES, CLOSED, INTERNAL, LINKED, LINKED_BACK, MASQUERADED, OPEN, PUBLISHED, PUBLISHED_AT,
    SETS_FRAMES, SETS_V4, SETS_V6, TALKING, family, frame_sets, table,
};

const R: [Register; 12] = [
    Register(0),
    Register(1),
    Register(2),
    Register(3),
    Register(4),
    Register(5),
    Register(6),
    Register(7),
    Register(8),
    Register(9),
    Register(10),
    Register(11),
];

/// Where things stand in a packet of one family.
#[derive(Debug, Clone, Copy)]
struct Layout {
    v4: bool,
    /// Registers that an address takes.
    width: usize,
}

impl Layout {
    fn address(self, source: bool, to: usize) -> Expression<'static> {
        let (offset, length) = match (self.v4, source) {
            (true, true) => (12, 4),
            (true, false) => (16, 4),
            (false, true) => (8, 16),
            (false, false) => (24, 16),
        };
        Expression::Payload {
            base: Base::Network,
            offset,
            length,
            to: R[to],
        }
    }

    fn port(source: bool, to: usize) -> Expression<'static> {
        Expression::Payload {
            base: Base::Transport,
            offset: if source { 0 } else { 2 },
            length: 2,
            to: R[to],
        }
    }

    fn transport(to: usize) -> Expression<'static> {
        Expression::Meta(Meta::Transport, R[to])
    }

    /// `ip daddr . meta l4proto . th dport map @…`, the address only where asked, then `dnat`.
    fn redirect(self, map: &'static str, at_address: bool) -> Vec<Expression<'static>> {
        let mut list = Vec::new();
        let mut next = 0;
        if at_address {
            list.push(self.address(false, next));
            next += self.width;
        }
        list.push(Self::transport(next));
        list.push(Self::port(false, next + 1));
        list.push(Expression::Map {
            map,
            key: R[0],
            to: R[0],
        });
        list.push(Expression::DestinationNat {
            family: if self.v4 { Family::Ip } else { Family::Ip6 },
            address: R[0],
            port: R[self.width],
        });
        list
    }

    /// Both addresses, protocol and one of the ports in a set: accepted.
    fn linked(self, set: &'static str, source_port: bool) -> Vec<Expression<'static>> {
        let next = 2 * self.width;
        vec![
            self.address(true, 0),
            self.address(false, self.width),
            Self::transport(next),
            Self::port(source_port, next + 1),
            lookup(set),
            accept(),
        ]
    }
}

fn lookup(set: &'static str) -> Expression<'static> {
    Expression::Lookup {
        set,
        key: R[0],
        inverted: false,
    }
}

fn accept() -> Expression<'static> {
    Expression::Verdict(Verdict::Accept)
}

fn input() -> Expression<'static> {
    Expression::Meta(Meta::InputName, R[0])
}

fn output(to: usize) -> Expression<'static> {
    Expression::Meta(Meta::OutputName, R[to])
}

/// `fib daddr type local`.
fn to_local() -> [Expression<'static>; 2] {
    const RTN_LOCAL: u32 = 2;
    [
        Expression::DestinationType(R[0]),
        Expression::Compare {
            register: R[0],
            inverted: false,
            value: RTN_LOCAL.to_ne_bytes().to_vec(),
        },
    ]
}

/// `ct state established,related`.
fn answers() -> [Expression<'static>; 3] {
    const ESTABLISHED: u32 = 2;
    const RELATED: u32 = 4;
    [
        Expression::ConnectionState(R[0]),
        Expression::And(R[0], (ESTABLISHED | RELATED).to_ne_bytes()),
        Expression::Compare {
            register: R[0],
            inverted: true,
            value: vec![0; 4],
        },
    ]
}

/// Not to the host's loopback: `ip daddr != 127.0.0.0/8`, `ip6 daddr != ::1`.
fn not_loopback(layout: Layout) -> Vec<Expression<'static>> {
    let mut list = vec![layout.address(false, 0)];
    let value = if layout.v4 {
        list.push(Expression::And(R[0], [255, 0, 0, 0]));
        vec![127, 0, 0, 0]
    } else {
        std::net::Ipv6Addr::LOCALHOST.octets().to_vec()
    };
    list.push(Expression::Compare {
        register: R[0],
        inverted: true,
        value,
    });
    list
}

/// The rules of every chain, in order.
fn rules(layout: Layout) -> Vec<(&'static str, Vec<Expression<'static>>)> {
    let jump = |chain| Expression::Verdict(Verdict::Jump(chain));
    let mut to_publish = to_local().to_vec();
    to_publish.push(jump("publish"));
    let mut from_host = not_loopback(layout);
    from_host.extend(to_publish.clone());
    let mut answer = answers().to_vec();
    answer.push(accept());
    let drop = || Expression::Verdict(Verdict::Drop);
    let talking = || vec![input(), output(4), lookup(TALKING), accept()];
    let w = layout.width;
    let mut list = vec![
        ("prerouting", to_publish),
        ("output", from_host),
        (
            "publish",
            vec![
                input(),
                lookup(BRIDGES),
                Expression::Verdict(Verdict::Return),
            ],
        ),
        ("publish", layout.redirect(PUBLISHED_AT, true)),
        ("publish", layout.redirect(PUBLISHED, false)),
        (
            "postrouting",
            vec![
                layout.address(true, 0),
                lookup(MASQUERADED),
                output(0),
                Expression::Lookup {
                    set: BRIDGES,
                    key: R[0],
                    inverted: true,
                },
                Expression::Masquerade,
            ],
        ),
        ("forward", vec![output(0), lookup(BRIDGES), jump("inward")]),
        ("forward", vec![input(), lookup(INTERNAL), drop()]),
        ("inward", answer),
        ("inward", talking()),
        ("inward", layout.linked(LINKED, false)),
        ("inward", layout.linked(LINKED_BACK, true)),
    ];
    if !layout.v4 {
        // Where bridges show their frames to these chains (br_netfilter), a linked container could
        // not find its neighbour's hardware address otherwise. No router forwards these.
        list.extend(NEIGHBOURS.map(|kind| ("inward", icmp6(kind).to_vec())));
    }
    list.extend([
        ("inward", vec![input(), lookup(BRIDGES), drop()]),
        (
            "inward",
            vec![
                layout.address(false, 0),
                Layout::transport(w),
                Layout::port(false, w + 1),
                lookup(OPEN),
                accept(),
            ],
        ),
        ("inward", vec![drop()]),
    ]);
    list
}

/// What ICMPv6 calls the questions and answers of neighbours and routers on one wire.
const NEIGHBOURS: [u8; 5] = [133, 134, 135, 136, 137];

/// The chains, with their hooks where they are base chains.
const CHAINS: [(&str, Option<Hook>); 6] = [
    ("prerouting", Some(nat(HookPoint::Prerouting, -100))),
    ("output", Some(nat(HookPoint::Output, -100))),
    ("postrouting", Some(nat(HookPoint::Postrouting, 100))),
    (
        "forward",
        Some(Hook {
            nat: false,
            point: HookPoint::Forward,
            priority: 0,
        }),
    ),
    ("publish", None),
    ("inward", None),
];

const fn nat(point: HookPoint, priority: i32) -> Hook {
    Hook {
        nat: true,
        point,
        priority,
    }
}

/// Makes the sets, maps and chains of one family and fills the chains.
pub(super) fn base<'a>(instance: &'a str, v4: bool, changes: &mut Vec<Change<'a>>) {
    let table = table(instance, family(v4));
    changes.push(Change::AddTable(table));
    let sets = if v4 { &SETS_V4 } else { &SETS_V6 };
    changes.extend(sets.iter().map(|set| Change::AddSet(table, *set)));
    for (chain, hook) in CHAINS {
        changes.push(Change::AddChain(table, chain, hook));
    }
    for (chain, _) in CHAINS {
        changes.push(Change::FlushChain(table, chain));
    }
    let layout = Layout {
        v4,
        width: if v4 { 1 } else { 4 },
    };
    for (chain, expressions) in rules(layout) {
        changes.push(Change::AddRule(table, chain, expressions));
    }
}

/// Makes the table of frames: from a closed port IP passes to others only where a link opens it.
pub(super) fn frame_base<'a>(instance: &'a str, changes: &mut Vec<Change<'a>>) {
    let table = table(instance, Family::Bridge);
    changes.push(Change::AddTable(table));
    changes.extend(SETS_FRAMES.iter().map(|set| Change::AddSet(table, *set)));
    let hook = Hook {
        nat: false,
        point: HookPoint::Forward,
        priority: 0,
    };
    changes.push(Change::AddChain(table, "forward", Some(hook)));
    changes.push(Change::AddChain(table, "closed", None));
    changes.push(Change::FlushChain(table, "forward"));
    changes.push(Change::FlushChain(table, "closed"));
    for (chain, expressions) in frame_rules() {
        changes.push(Change::AddRule(table, chain, expressions));
    }
}

/// What is neither IPv4 nor IPv6 passes: addresses must be resolved.
fn frame_rules() -> Vec<(&'static str, Vec<Expression<'static>>)> {
    const ETHERTYPES: [(bool, [u8; 2]); 2] = [(true, [0x08, 0x00]), (false, [0x86, 0xdd])];
    let is = |ethertype: [u8; 2]| {
        [
            Expression::Meta(Meta::EtherType, R[0]),
            Expression::Compare {
                register: R[0],
                inverted: false,
                value: ethertype.to_vec(),
            },
        ]
    };
    let mut list = vec![(
        "forward",
        vec![
            input(),
            lookup(CLOSED),
            Expression::Verdict(Verdict::Jump("closed")),
        ],
    )];
    for kind in NEIGHBOURS {
        let mut discovery = is(ETHERTYPES[1].1).to_vec();
        discovery.extend(icmp6(kind));
        list.push(("closed", discovery));
    }
    for (v4, ethertype) in ETHERTYPES {
        let layout = Layout {
            v4,
            width: if v4 { 1 } else { 4 },
        };
        let (there, back) = frame_sets(v4);
        for (set, source_port) in [(there, false), (back, true)] {
            let mut linked = is(ethertype).to_vec();
            linked.extend(layout.linked(set, source_port));
            list.push(("closed", linked));
        }
        let mut rest = is(ethertype).to_vec();
        rest.push(Expression::Verdict(Verdict::Drop));
        list.push(("closed", rest));
    }
    list
}

/// One kind of ICMPv6 is accepted.
fn icmp6(kind: u8) -> [Expression<'static>; 5] {
    const ICMP6: u8 = 58;
    let is = |value| Expression::Compare {
        register: R[0],
        inverted: false,
        value: vec![value],
    };
    [
        Layout::transport(0),
        is(ICMP6),
        Expression::Payload {
            base: Base::Transport,
            offset: 0,
            length: 1,
            to: R[0],
        },
        is(kind),
        accept(),
    ]
}
