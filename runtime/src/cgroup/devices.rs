//! Which devices a container may use: rules → v1 writes, or → one v2 device program.

use std::collections::BTreeMap;
use std::path::Path;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};
use serde::{Deserialize, Serialize};

use super::limits::Write;

/// One rule; a later one wins over an earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Allow or deny.
    pub allow: bool,
    /// `b`, `c`, or `None` for both.
    pub kind: Option<Kind>,
    /// `None` is every number.
    pub major: Option<u32>,
    /// `None` is every number.
    pub minor: Option<u32>,
    /// Of [`READ`], [`WRITE`] and [`MAKE`].
    pub access: u32,
}

/// A kind of device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Block.
    Block,
    /// Character.
    Character,
}

/// Access bits as the kernel's device programs see them.
pub const MAKE: u32 = 1;
/// See [`MAKE`].
pub const READ: u32 = 2;
/// See [`MAKE`].
pub const WRITE: u32 = 4;

impl Rule {
    /// The rule of the specification; `None` for kinds that no cgroup judges.
    pub fn from_spec(rule: &LinuxDeviceCgroup) -> Option<Self> {
        let kind = match rule.typ().unwrap_or(LinuxDeviceType::A) {
            LinuxDeviceType::B => Some(Kind::Block),
            LinuxDeviceType::C | LinuxDeviceType::U => Some(Kind::Character),
            LinuxDeviceType::A => None,
            LinuxDeviceType::P => return None,
        };
        let access = match rule.access().as_deref() {
            None | Some("") => READ | WRITE | MAKE,
            Some(letters) => letters.chars().fold(0, |all, letter| {
                all | match letter {
                    'r' => READ,
                    'w' => WRITE,
                    'm' => MAKE,
                    _ => 0,
                }
            }),
        };
        Some(Self {
            allow: rule.allow(),
            kind,
            major: rule.major().and_then(|number| u32::try_from(number).ok()),
            minor: rule.minor().and_then(|number| u32::try_from(number).ok()),
            access,
        })
    }

    /// Every device and every access.
    pub fn is_everything(self) -> bool {
        self.kind.is_none()
            && self.major.is_none()
            && self.minor.is_none()
            && self.access == READ | WRITE | MAKE
    }

    fn text(self) -> String {
        let star = |number: Option<u32>| number.map_or("*".to_owned(), |number| number.to_string());
        let mut access = String::new();
        for (bit, letter) in [(READ, 'r'), (WRITE, 'w'), (MAKE, 'm')] {
            if self.access & bit != 0 {
                access.push(letter);
            }
        }
        let kind = match self.kind {
            Some(Kind::Block) => 'b',
            Some(Kind::Character) => 'c',
            None => 'a',
        };
        format!("{kind} {}:{} {access}", star(self.major), star(self.minor))
    }
}

/// The character devices that every container has, with their numbers.
pub const DEFAULT_NODES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// What a container may use whatever its own rules say: the default nodes, its terminals, and the
/// making of nodes that it then may not open.
pub fn always() -> Vec<Rule> {
    let rule = |kind, major, minor, access| Rule {
        allow: true,
        kind: Some(kind),
        major,
        minor,
        access,
    };
    let every = READ | WRITE | MAKE;
    let mut rules = vec![Rule {
        kind: None,
        ..rule(Kind::Character, None, None, MAKE)
    }];
    for (_, major, minor) in DEFAULT_NODES {
        rules.push(rule(Kind::Character, Some(major), Some(minor), every));
    }
    rules.push(rule(Kind::Character, Some(136), None, every));
    rules.push(rule(Kind::Character, Some(5), Some(2), every));
    rules
}

/// The rules as writes to the files of v1.
pub fn v1_writes(rules: &[Rule], directory: &Path) -> Vec<Write> {
    let mut writes = Vec::new();
    for rule in rules {
        let file = if rule.allow {
            "devices.allow"
        } else {
            "devices.deny"
        };
        // v1 knows no access for both kinds at once other than everything.
        let kinds = match rule.kind {
            None if !rule.is_everything() => vec![Some(Kind::Block), Some(Kind::Character)],
            kind => vec![kind],
        };
        for kind in kinds {
            let one = Rule { kind, ..*rule };
            let value = if one.is_everything() {
                "a".to_owned()
            } else {
                one.text()
            };
            writes.push(Write {
                path: directory.join(file),
                value,
                instead: None,
            });
        }
    }
    writes
}

/// One instruction of eBPF as a number: operation, registers, offset, operand.
fn instruction(code: u8, destination: u8, source: u8, offset: i16, operand: i32) -> u64 {
    u64::from(code)
        | u64::from(destination) << 8
        | u64::from(source) << 12
        | u64::from(offset.cast_unsigned()) << 16
        | u64::from(operand.cast_unsigned()) << 32
}

const LOAD_WORD: u8 = 0x61;
const MOVE_IMMEDIATE: u8 = 0xb7;
const MOVE_REGISTER: u8 = 0xbf;
const AND_IMMEDIATE: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const SHIFT_RIGHT_BY: u8 = 0x7f;
// Jumps compare 32 bits.
const JUMP_EQUAL: u8 = 0x16;
const JUMP_GREATER: u8 = 0x26;
const JUMP_NOT_EQUAL: u8 = 0x56;
const EXIT: u8 = 0x95;

/// Registers: what is asked for.
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// Minor numbers up to here are looked up in a mask.
const MASKED: u32 = 30;

/// The rules as a device program: the last rule that matches decides, none is a refusal.
///
/// The program sees `{access << 16 | kind, major, minor}`; kinds are 1 (block) and 2 (character).
/// It tests the rules from the last to the first; a test that fails jumps behind its block. Rules
/// side by side that differ in numbers alone are one block with one mask per major number: the
/// kernel walks every branch of a program when it is loaded, so few of them make a quick start.
pub fn program(rules: &[Rule]) -> Vec<u64> {
    let mut program = vec![
        instruction(LOAD_WORD, KIND, 1, 0, 0),
        instruction(MOVE_REGISTER, ACCESS, KIND, 0, 0),
        instruction(AND_IMMEDIATE, KIND, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, ACCESS, 0, 0, 16),
        instruction(LOAD_WORD, MAJOR, 1, 4, 0),
        instruction(LOAD_WORD, MINOR, 1, 8, 0),
    ];
    let mut rest = rules;
    while let Some((last, before)) = rest.split_last() {
        let run = rest
            .iter()
            .rev()
            .take_while(|rule| rule.joins(last))
            .count();
        if run > 1 {
            let (left, joined) = rest.split_at(rest.len() - run);
            program.extend(masked(joined));
            rest = left;
            continue;
        }
        rest = before;
        let tests = tests(*last);
        // Nothing can follow a rule that always matches: the kernel refuses what is never reached.
        if tests.is_empty() {
            program.extend(answer(last.allow));
            return program;
        }
        program.extend(behind(tests, answer(last.allow).to_vec()));
    }
    program.extend(answer(false));
    program
}

impl Rule {
    /// Whether a mask can answer for both.
    fn joins(&self, other: &Rule) -> bool {
        let maskable = |rule: &Rule| {
            rule.access == READ | WRITE | MAKE
                && rule.kind.is_some()
                && rule.major.is_some()
                && rule.minor.is_none_or(|minor| minor <= MASKED)
        };
        maskable(self) && maskable(other) && (self.allow, self.kind) == (other.allow, other.kind)
    }
}

fn answer(allow: bool) -> [u64; 2] {
    [
        instruction(MOVE_IMMEDIATE, 0, 0, 0, allow.into()),
        instruction(EXIT, 0, 0, 0, 0),
    ]
}

/// A test: instructions of which the last jumps away when it fails; the distance is still missing.
type Draft = Vec<u64>;

/// Tests before what they guard, every jump leading behind it.
fn behind(tests: Vec<Draft>, guarded: Vec<u64>) -> Vec<u64> {
    let whole: usize = tests.iter().map(Vec::len).sum::<usize>() + guarded.len();
    let mut out = Vec::with_capacity(whole);
    for test in tests {
        let (last, before) = test.split_last().expect("a test has an instruction");
        out.extend(before);
        let distance = i16::try_from(whole - out.len() - 1).expect("a block is short");
        out.push(last | u64::from(distance.cast_unsigned()) << 16);
    }
    out.extend(guarded);
    out
}

fn unless_equal(register: u8, number: u32) -> Draft {
    vec![instruction(
        JUMP_NOT_EQUAL,
        register,
        0,
        0,
        number.cast_signed(),
    )]
}

fn kind_test(kind: Kind) -> Draft {
    let number = match kind {
        Kind::Block => 1,
        Kind::Character => 2,
    };
    unless_equal(KIND, number)
}

fn tests(rule: Rule) -> Vec<Draft> {
    let mut tests = Vec::new();
    tests.extend(rule.kind.map(kind_test));
    if rule.access != READ | WRITE | MAKE {
        tests.push(access_test(rule));
    }
    tests.extend(rule.major.map(|number| unless_equal(MAJOR, number)));
    tests.extend(rule.minor.map(|number| unless_equal(MINOR, number)));
    tests
}

/// Rules that join: one test of the kind, then for each major number one of a mask of minors.
fn masked(rules: &[Rule]) -> Vec<u64> {
    let mut majors: BTreeMap<u32, Option<u32>> = BTreeMap::new();
    for rule in rules {
        let Some(major) = rule.major else { continue };
        let mask = majors.entry(major).or_insert(Some(0));
        *mask = match (*mask, rule.minor) {
            (Some(mask), Some(minor)) => Some(mask | 1 << minor),
            (_, None) | (None, _) => None,
        };
    }
    let allow = rules.first().is_some_and(|rule| rule.allow);
    let mut body = Vec::new();
    for (major, mask) in majors {
        let mut tests = vec![unless_equal(MAJOR, major)];
        if let Some(mask) = mask {
            tests.push(vec![instruction(
                JUMP_GREATER,
                MINOR,
                0,
                0,
                MASKED.cast_signed(),
            )]);
            tests.push(vec![
                instruction(MOVE_IMMEDIATE, 0, 0, 0, mask.cast_signed()),
                instruction(SHIFT_RIGHT_BY, 0, MINOR, 0, 0),
                instruction(AND_IMMEDIATE, 0, 0, 0, 1),
                instruction(JUMP_EQUAL, 0, 0, 0, 0),
            ]);
        }
        body.extend(behind(tests, answer(allow).to_vec()));
    }
    let kind = rules.first().and_then(|rule| rule.kind).map(kind_test);
    behind(kind.into_iter().collect(), body)
}

/// An allowing rule holds when all that is wanted is in it, a denying one when any of it is.
fn access_test(rule: Rule) -> Draft {
    let (mask, jump) = if rule.allow {
        (!rule.access & 7, JUMP_NOT_EQUAL)
    } else {
        (rule.access, JUMP_EQUAL)
    };
    vec![
        instruction(MOVE_REGISTER, 0, ACCESS, 0, 0),
        instruction(AND_IMMEDIATE, 0, 0, 0, mask.cast_signed()),
        instruction(jump, 0, 0, 0, 0),
    ]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An interpreter of the few instructions used, as strict as the kernel about jumps.
    fn run(program: &[u64], context: [u32; 3]) -> Result<u64, String> {
        let mut registers = [0u64; 11];
        let mut at = 0usize;
        loop {
            let now = *program.get(at).ok_or("left the program")?;
            at += 1;
            let destination = (now >> 8 & 15) as usize;
            let source = (now >> 12 & 15) as usize;
            let offset = (now >> 16) as u16 as i16;
            let operand = (now >> 32) as u32;
            let jump = usize::try_from(offset).map_err(|_| "backwards")?;
            match now as u8 {
                LOAD_WORD => registers[destination] = context[jump / 4].into(),
                MOVE_IMMEDIATE => registers[destination] = operand.into(),
                MOVE_REGISTER => registers[destination] = registers[source],
                AND_IMMEDIATE => registers[destination] &= u64::from(operand),
                SHIFT_RIGHT => registers[destination] >>= operand,
                SHIFT_RIGHT_BY => registers[destination] >>= registers[source],
                JUMP_NOT_EQUAL if registers[destination] as u32 != operand => at += jump,
                JUMP_EQUAL if registers[destination] as u32 == operand => at += jump,
                JUMP_GREATER if registers[destination] as u32 > operand => at += jump,
                JUMP_NOT_EQUAL | JUMP_EQUAL | JUMP_GREATER => {}
                EXIT => return Ok(registers[0]),
                other => return Err(format!("unknown instruction {other:#x}")),
            }
        }
    }

    /// What the rules mean: the last that matches decides.
    fn judge(rules: &[Rule], kind: Kind, major: u32, minor: u32, access: u32) -> bool {
        rules
            .iter()
            .rev()
            .find(|rule| {
                let covered = if rule.allow {
                    access & !rule.access == 0
                } else {
                    access & rule.access != 0
                };
                covered
                    && rule.kind.is_none_or(|wanted| wanted == kind)
                    && rule.major.is_none_or(|wanted| wanted == major)
                    && rule.minor.is_none_or(|wanted| wanted == minor)
            })
            .is_some_and(|rule| rule.allow)
    }

    fn rule() -> impl Strategy<Value = Rule> {
        let kind = prop_oneof![
            Just(None),
            Just(Some(Kind::Block)),
            Just(Some(Kind::Character))
        ];
        let number = || {
            prop_oneof![
                Just(None),
                (0u32..3).prop_map(Some),
                (29u32..33).prop_map(Some)
            ]
        };
        let access = prop_oneof![Just(7u32), 1u32..8];
        (any::<bool>(), kind, number(), number(), access).prop_map(
            |(allow, kind, major, minor, access)| Rule {
                allow,
                kind,
                major,
                minor,
                access,
            },
        )
    }

    fn numbers() -> impl Strategy<Value = u32> {
        prop_oneof![0u32..3, 28u32..34, Just(u32::MAX)]
    }

    proptest! {
        #[test]
        fn the_program_judges_as_the_rules(
            rules in prop::collection::vec(rule(), 0..12),
            accesses in prop::collection::vec(
                (any::<bool>(), numbers(), numbers(), 1u32..8), 1..60),
        ) {
            let program = program(&rules);
            for (block, major, minor, access) in accesses {
                let (kind, number) = if block { (Kind::Block, 1) } else { (Kind::Character, 2) };
                let wanted = judge(&rules, kind, major, minor, access);
                let found = run(&program, [access << 16 | number, major, minor]);
                prop_assert_eq!(found, Ok(u64::from(wanted)));
            }
        }
    }

    #[test]
    fn the_default_program_is_short() {
        let mut rules = vec![Rule {
            allow: false,
            kind: None,
            major: None,
            minor: None,
            access: READ | WRITE | MAKE,
        }];
        rules.extend(always());
        assert!(program(&rules).len() <= 34, "{}", program(&rules).len());
    }

    #[test]
    fn v1_has_words_for_all_rules() {
        let rule = |allow, kind, major, access| Rule {
            allow,
            kind,
            major,
            minor: None,
            access,
        };
        let rules = [
            rule(false, None, None, READ | WRITE | MAKE),
            rule(true, Some(Kind::Character), Some(1), READ | MAKE),
            rule(true, None, Some(7), WRITE),
        ];
        let lines: Vec<String> = v1_writes(&rules, Path::new("/d"))
            .iter()
            .map(|write| format!("{} {}", write.path.display(), write.value))
            .collect();
        assert_eq!(
            lines,
            [
                "/d/devices.deny a",
                "/d/devices.allow c 1:* rm",
                "/d/devices.allow b 7:* w",
                "/d/devices.allow c 7:* w",
            ]
        );
    }
}
