//! Filter → classic BPF: ranges of call numbers, searched by halving.

use std::collections::BTreeMap;

use sys::bpf::Instruction;

use super::{Action, Arch, Compare, Rule, Rules, Test, X32_BIT};

/// A program for the kernel.
pub type Program = Vec<Instruction>;

const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_OR_EQUAL: u16 = 0x35;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;

/// Offsets in the kernel's `seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

fn plain(code: u16, k: u32) -> Instruction {
    Instruction {
        code,
        yes: 0,
        no: 0,
        k,
    }
}

/// Compiles rules.
pub fn compile(filter: &Rules) -> Program {
    let mut program = vec![plain(LOAD, ARCHITECTURE)];
    for block in blocks(filter) {
        let mut body = vec![plain(LOAD, NUMBER)];
        body.extend(search(&segments(filter, &block)));
        skip_unless(&mut program, JUMP_EQUAL, block.audit, body.len());
        program.extend(body);
    }
    program.push(plain(RETURN, filter.foreign.value()));
    program
}

/// What the kernel tells apart by architecture number: x86-64 and x32 share one.
struct Block<'a> {
    audit: u32,
    arches: Vec<Arch>,
    calls: BTreeMap<u32, &'a [Rule]>,
}

/// The blocks of a filter, our own architecture first.
fn blocks(filter: &Rules) -> Vec<Block<'_>> {
    let mut blocks: Vec<Block<'_>> = Vec::new();
    for (arch, calls) in &filter.arches {
        let audit = arch.audit();
        let rules = calls
            .iter()
            .map(|(number, rules)| (*number, rules.as_slice()));
        match blocks.iter_mut().find(|block| block.audit == audit) {
            Some(block) => {
                block.calls.extend(rules);
                block.arches.push(*arch);
            }
            None => blocks.push(Block {
                audit,
                arches: vec![*arch],
                calls: rules.collect(),
            }),
        }
    }
    blocks.sort_by_key(|block| block.audit != Arch::NATIVE.audit());
    blocks
}

/// What happens to the calls from `start` up to the next segment's.
#[derive(Debug, PartialEq)]
struct Segment {
    start: u32,
    leaf: Program,
}

fn segments(filter: &Rules, block: &Block<'_>) -> Vec<Segment> {
    let mut all: Vec<Segment> = Vec::new();
    let mut push = |start: u32, leaf: Program| {
        if all.last().is_none_or(|last| last.leaf != leaf) {
            all.push(Segment { start, leaf });
        }
    };
    let nothing = || vec![plain(RETURN, filter.default.value())];
    let mut next = Some(0u32);
    for (number, rules) in &block.calls {
        if let Some(next) = next.filter(|next| next < number) {
            push(next, nothing());
        }
        push(*number, leaf(rules, filter.default));
        next = number.checked_add(1);
    }
    if let Some(next) = next {
        push(next, nothing());
    }
    match block.arches.as_slice() {
        [Arch::X86_64] => cut_above(&mut all, X32_BIT, filter.foreign),
        [Arch::X32] => cut_below(&mut all, X32_BIT, filter.foreign),
        _ => {}
    }
    all
}

fn cut_above(all: &mut Vec<Segment>, bound: u32, action: Action) {
    all.retain(|segment| segment.start < bound);
    all.push(Segment {
        start: bound,
        leaf: vec![plain(RETURN, action.value())],
    });
}

fn cut_below(all: &mut Vec<Segment>, bound: u32, action: Action) {
    let covering = all.iter().rposition(|segment| segment.start <= bound);
    if let Some(covering) = covering {
        all.drain(..covering);
    }
    if let Some(first) = all.first_mut() {
        first.start = bound;
    }
    all.insert(
        0,
        Segment {
            start: 0,
            leaf: vec![plain(RETURN, action.value())],
        },
    );
}

/// A jump over `length` instructions unless the test holds.
fn skip_unless(program: &mut Program, code: u16, k: u32, length: usize) {
    match u8::try_from(length) {
        Ok(no) => program.push(Instruction {
            code,
            yes: 0,
            no,
            k,
        }),
        Err(_) => {
            program.push(Instruction {
                code,
                yes: 1,
                no: 0,
                k,
            });
            program.push(plain(JUMP, u32::try_from(length).unwrap_or(u32::MAX)));
        }
    }
}

/// Finds the segment of a number. Wide searches halve; narrow ones share their answers.
fn search(segments: &[Segment]) -> Program {
    if let Some(program) = compact(segments) {
        return program;
    }
    let (left, right) = segments.split_at(segments.len() / 2);
    let low = search(left);
    let high = search(right);
    let mut program = Vec::with_capacity(low.len() + high.len() + 2);
    // The upper half comes first: it is where the test that holds falls through to.
    skip_unless(
        &mut program,
        JUMP_GREATER_OR_EQUAL,
        right[0].start,
        high.len(),
    );
    program.extend(high);
    program.extend(low);
    program
}

/// A search whose tests come first and whose answers, each but once, come last; `None` when a jump
/// could become too long.
fn compact(segments: &[Segment]) -> Option<Program> {
    let tests = segments.len() - 1;
    let mut answers: Vec<&Program> = Vec::new();
    let mut places = Vec::with_capacity(segments.len());
    let mut end = tests;
    for segment in segments {
        let known = answers.iter().position(|answer| **answer == segment.leaf);
        let index = known.unwrap_or_else(|| {
            answers.push(&segment.leaf);
            answers.len() - 1
        });
        places.push(index);
    }
    let starts: Vec<usize> = answers
        .iter()
        .map(|answer| {
            let start = end;
            end += answer.len();
            start
        })
        .collect();
    let longest = usize::from(u8::MAX);
    if segments.len() > 1 && end > longest {
        // One segment is its answer however long, more are cut again.
        return None;
    }
    let leaves: Vec<usize> = places.iter().map(|index| starts[*index]).collect();
    let mut program = Vec::with_capacity(end);
    nodes(segments, &leaves, &mut program);
    program.extend(answers.into_iter().flatten());
    Some(program)
}

/// The tests of a compact search in the order of a walk: a node, its upper half, its lower half.
fn nodes(segments: &[Segment], leaves: &[usize], program: &mut Program) {
    if segments.len() < 2 {
        return;
    }
    let middle = segments.len() / 2;
    let at = program.len();
    let distance = |to: usize| u8::try_from(to - at - 1).unwrap_or(u8::MAX);
    let upper = segments.len() - middle;
    let yes = if upper == 1 {
        distance(leaves[middle])
    } else {
        0
    };
    let no = if middle == 1 {
        distance(leaves[0])
    } else {
        distance(at + upper)
    };
    program.push(Instruction {
        code: JUMP_GREATER_OR_EQUAL,
        yes,
        no,
        k: segments[middle].start,
    });
    nodes(&segments[middle..], &leaves[middle..], program);
    nodes(&segments[..middle], &leaves[..middle], program);
}

fn leaf(rules: &[Rule], default: Action) -> Program {
    let mut program = Vec::new();
    for rule in rules {
        if rule.tests.is_empty() {
            program.push(plain(RETURN, rule.action.value()));
            return program;
        }
        program.extend(tested(rule));
    }
    program.push(plain(RETURN, default.value()));
    program
}

/// Where a test's jump leads.
#[derive(Clone, Copy)]
enum To {
    /// So many instructions further.
    Skip(u8),
    /// To the next rule.
    Fail,
}

fn tested(rule: &Rule) -> Program {
    let mut draft = Vec::new();
    for test in &rule.tests {
        draft.extend(argument(*test));
    }
    draft.push((plain(RETURN, rule.action.value()), To::Skip(0), To::Skip(0)));
    let length = draft.len();
    let resolve = |to: To, at: usize| match to {
        To::Skip(count) => count,
        To::Fail => u8::try_from(length - at - 1).expect("six tests are some thirty instructions"),
    };
    draft
        .into_iter()
        .enumerate()
        .map(|(at, (instruction, yes, no))| {
            if instruction.code & 7 != JUMP {
                return instruction;
            }
            Instruction {
                yes: resolve(yes, at),
                no: resolve(no, at),
                ..instruction
            }
        })
        .collect()
}

/// A test of a 64-bit argument by its halves: falls through when it holds.
fn argument(test: Test) -> Vec<(Instruction, To, To)> {
    let low_at = ARGUMENTS + 8 * u32::from(test.index);
    let high_at = low_at + 4;
    let [low, high] = halves(test.value);
    let next = To::Skip(0);
    let load = |at: u32| (plain(LOAD, at), next, next);
    let jump = |code: u16, k: u32, yes: To, no: To| (plain(code, k), yes, no);
    let fail = To::Fail;
    match test.compare {
        Compare::Equal => vec![
            load(low_at),
            jump(JUMP_EQUAL, low, next, fail),
            load(high_at),
            jump(JUMP_EQUAL, high, next, fail),
        ],
        Compare::MaskedEqual(mask) => {
            let [low_mask, high_mask] = halves(mask);
            vec![
                load(low_at),
                (plain(AND, low_mask), next, next),
                jump(JUMP_EQUAL, low, next, fail),
                load(high_at),
                (plain(AND, high_mask), next, next),
                jump(JUMP_EQUAL, high, next, fail),
            ]
        }
        Compare::NotEqual => vec![
            load(high_at),
            jump(JUMP_EQUAL, high, next, To::Skip(2)),
            load(low_at),
            jump(JUMP_EQUAL, low, fail, next),
        ],
        Compare::Greater | Compare::GreaterOrEqual => {
            let last = if test.compare == Compare::Greater {
                JUMP_GREATER
            } else {
                JUMP_GREATER_OR_EQUAL
            };
            vec![
                load(high_at),
                jump(JUMP_GREATER, high, To::Skip(3), next),
                jump(JUMP_EQUAL, high, next, fail),
                load(low_at),
                jump(last, low, next, fail),
            ]
        }
        Compare::Less | Compare::LessOrEqual => {
            let last = if test.compare == Compare::Less {
                JUMP_GREATER_OR_EQUAL
            } else {
                JUMP_GREATER
            };
            vec![
                load(high_at),
                jump(JUMP_GREATER, high, fail, next),
                jump(JUMP_EQUAL, high, next, To::Skip(2)),
                load(low_at),
                jump(last, low, fail, next),
            ]
        }
    }
}

fn halves(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::interpreter::run;
    use super::*;

    fn action() -> impl Strategy<Value = Action> {
        prop_oneof![
            Just(Action::Allow),
            Just(Action::Log),
            (1u16..200).prop_map(Action::Errno),
            Just(Action::Trap),
            Just(Action::KillProcess),
        ]
    }

    fn interesting() -> impl Strategy<Value = u64> {
        prop_oneof![
            0u64..4,
            Just(0xffff_ffff),
            Just(0x1_0000_0000),
            Just(0x1_0000_0001),
            Just(u64::MAX),
            Just(0x7e02_0000),
            any::<u64>(),
        ]
    }

    fn test() -> impl Strategy<Value = Test> {
        let compare = prop_oneof![
            Just(Compare::NotEqual),
            Just(Compare::Less),
            Just(Compare::LessOrEqual),
            Just(Compare::Equal),
            Just(Compare::GreaterOrEqual),
            Just(Compare::Greater),
            interesting().prop_map(Compare::MaskedEqual),
        ];
        (0u8..6, compare, interesting()).prop_map(|(index, compare, value)| Test {
            index,
            compare,
            value,
        })
    }

    fn filter() -> impl Strategy<Value = Rules> {
        let rule = (prop::collection::vec(test(), 0..3), action())
            .prop_map(|(tests, action)| Rule { tests, action });
        let call = prop_oneof![0u32..20, 0u32..500, Just(u32::MAX), Just(X32_BIT - 1)];
        let calls = prop::collection::btree_map(call, prop::collection::vec(rule, 1..4), 0..60);
        let arch = prop_oneof![
            Just(Arch::X86_64),
            Just(Arch::X32),
            Just(Arch::X86),
            Just(Arch::Aarch64)
        ];
        let arches = prop::collection::btree_map(arch, calls, 0..4);
        (action(), arches).prop_map(|(default, arches)| {
            let mut filter = Rules::new(default, []);
            for (arch, calls) in arches {
                let numbered = calls
                    .into_iter()
                    .map(|(number, rules)| match arch {
                        Arch::X32 => (number | X32_BIT, rules),
                        Arch::X86_64 => (number & !X32_BIT, rules),
                        _ => (number, rules),
                    })
                    .collect();
                filter.arches.insert(arch, numbered);
            }
            filter
        })
    }

    proptest! {
        #[test]
        fn the_program_judges_as_the_filter(
            filter in filter(),
            calls in prop::collection::vec(
                (0usize..5, prop_oneof![0u32..20, 0u32..501, any::<u32>(), Just(u32::MAX)],
                 any::<bool>(), prop::array::uniform6(interesting())),
                1..200,
            ),
        ) {
            let program = compile(&filter);
            let audits = [0xc000_003e, 0x4000_0003, 0xc000_00b7, 0x4000_0028, 7];
            for (audit, number, x32, arguments) in calls {
                let number = if x32 { number | X32_BIT } else { number };
                let wanted = filter.judge(audits[audit], number, &arguments);
                let found = run(&program, audits[audit], number, &arguments);
                prop_assert_eq!(found, Ok(wanted.value()));
            }
        }
    }

    #[test]
    fn equal_neighbours_share_a_segment() {
        let mut filter = Rules::new(Action::Errno(1), [Arch::X86_64]);
        let allow = Rule {
            tests: Vec::new(),
            action: Action::Allow,
        };
        for name in ["read", "write", "open", "close"] {
            assert!(filter.add(name, &allow));
        }
        assert!(!filter.add("no_such_call", &allow));
        // arch, its test, number, two searches, three answers, the foreign answer
        assert_eq!(compile(&filter).len(), 9);
    }
}
