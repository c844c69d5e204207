//! A small interpreter of classic BPF, as strict as the kernel: tests only.

use sys::bpf::Instruction;

/// Runs a seccomp program on one call.
pub(crate) fn run(
    program: &[Instruction],
    audit: u32,
    number: u32,
    arguments: &[u64; 6],
) -> Result<u32, String> {
    if program.len() > 4096 {
        return Err("too long".to_owned());
    }
    let mut accumulator = 0u32;
    let mut at = 0usize;
    loop {
        let Some(now) = program.get(at) else {
            return Err(format!("left the program at {at}"));
        };
        at += 1;
        let branch = |holds: bool| usize::from(if holds { now.yes } else { now.no });
        match now.code {
            0x20 => accumulator = load(now.k, audit, number, arguments)?,
            0x05 => at += now.k as usize,
            0x15 => at += branch(accumulator == now.k),
            0x25 => at += branch(accumulator > now.k),
            0x35 => at += branch(accumulator >= now.k),
            0x54 => accumulator &= now.k,
            0x06 => return Ok(now.k),
            other => return Err(format!("unknown instruction {other:#x}")),
        }
    }
}

fn load(offset: u32, audit: u32, number: u32, arguments: &[u64; 6]) -> Result<u32, String> {
    match offset {
        0 => Ok(number),
        4 => Ok(audit),
        16..=60 if offset.is_multiple_of(4) => {
            let word = (offset - 16) / 4;
            let argument = arguments[word as usize / 2];
            Ok((argument >> (32 * (word % 2))) as u32)
        }
        other => Err(format!("load from {other}")),
    }
}
