//! Rules become a cBPF program.
//!
//! ```text
//! load arch ─► X86_64? ─► load nr ─► bit 30? ─► x32's tree
//!     │                                └──────► x86_64's tree
//!     └─────► X86? ─► load nr ─► x86's tree …            else kill
//! ```
//! A tree splits the range of call numbers in halves down to runs of calls
//! with the same answer: some eight comparisons a call, whatever the list.

use super::{Arch, Condition, KILL_PROCESS, Profile, Rule, Test, calls};
use std::collections::BTreeMap;

/// `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Instruction {
    pub(crate) code: u16,
    pub(crate) jt: u8,
    pub(crate) jf: u8,
    pub(crate) k: u32,
}

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data`.
const NR: u32 = 0;
const ARCH: u32 = 4;
const ARGS: u32 = 16;

/// What tells an x32 call from an x86_64 one.
const X32_BIT: u32 = 0x4000_0000;

/// Jumps whose target is known when their block is complete.
const TO_FAIL: u8 = 255;
const TO_PASS: u8 = 254;

fn instruction(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}

fn statement(code: u16, k: u32) -> Instruction {
    instruction(code, k, 0, 0)
}

/// Compiles `profile` for all of `arches`; x32 goes with x86_64.
pub(crate) fn compile(profile: &Profile, arches: &[Arch]) -> Vec<Instruction> {
    let mut program = vec![statement(LOAD, ARCH)];
    for arch in arches.iter().filter(|a| **a != Arch::X32) {
        let mut section = vec![statement(LOAD, NR)];
        if *arch == Arch::X86_64 && arches.contains(&Arch::X32) {
            let native = tree(profile, Arch::X86_64);
            section.push(instruction(JUMP_GREATER_EQUAL, X32_BIT, 0, 1));
            section.push(statement(JUMP, native.len() as u32));
            section.extend(native);
            section.push(statement(AND, !X32_BIT));
            section.extend(tree(profile, Arch::X32));
        } else {
            section.extend(tree(profile, *arch));
        }
        program.push(instruction(JUMP_EQUAL, arch.audit(), 1, 0));
        program.push(statement(JUMP, section.len() as u32));
        program.extend(section);
    }
    program.push(statement(RETURN, KILL_PROCESS));
    program
}

/// A run of call numbers that starts here and has this answer.
struct Run {
    first: u32,
    code: Vec<Instruction>,
}

fn tree(profile: &Profile, arch: Arch) -> Vec<Instruction> {
    let numbers: BTreeMap<&str, u32> = calls(arch).collect();
    let mut by_number: BTreeMap<u32, Vec<&Rule>> = BTreeMap::new();
    for rule in &profile.rules {
        for number in rule
            .calls
            .iter()
            .filter_map(|call| numbers.get(call.as_str()))
        {
            by_number.entry(*number).or_default().push(rule);
        }
    }
    let default = vec![statement(RETURN, profile.default)];
    let mut runs = vec![Run {
        first: 0,
        code: default.clone(),
    }];
    let mut start = |first: u32, code: Vec<Instruction>| match runs.last_mut() {
        Some(last) if last.code == code => {}
        Some(last) if last.first == first => last.code = code,
        _ => runs.push(Run { first, code }),
    };
    for (number, rules) in &by_number {
        start(*number, answer(rules, profile.default));
        if !by_number.contains_key(&(number + 1)) {
            start(number + 1, default.clone());
        }
    }
    split(&runs)
}

/// Halves: numbers from the middle run's first on to the right, others left.
fn split(runs: &[Run]) -> Vec<Instruction> {
    let (left, right) = runs.split_at(runs.len() / 2);
    let (Some(middle), false) = (right.first(), left.is_empty()) else {
        return right
            .first()
            .map(|run| run.code.clone())
            .unwrap_or_default();
    };
    let below = split(left);
    let mut code = vec![
        instruction(JUMP_GREATER_EQUAL, middle.first, 0, 1),
        statement(JUMP, below.len() as u32),
    ];
    if let Ok(near) = u8::try_from(below.len()) {
        code = vec![instruction(JUMP_GREATER_EQUAL, middle.first, near, 0)];
    }
    code.extend(below);
    code.extend(split(right));
    code
}

/// What one call gets: the first rule whose conditions hold; a rule without
/// any comes after those that have some, as libseccomp orders them.
fn answer(rules: &[&Rule], default: u32) -> Vec<Instruction> {
    let mut code = Vec::new();
    for rule in rules.iter().filter(|rule| !rule.conditions.is_empty()) {
        let mut block: Vec<Instruction> = Vec::new();
        for condition in &rule.conditions {
            block.extend(compare(*condition));
        }
        block.push(statement(RETURN, rule.action));
        let length = block.len();
        for (at, instruction) in block.iter_mut().enumerate() {
            for jump in [&mut instruction.jt, &mut instruction.jf] {
                if *jump == TO_FAIL && length < usize::from(TO_PASS) {
                    *jump = (length - at - 1) as u8;
                }
            }
        }
        code.extend(block);
    }
    let plain = rules.iter().find(|rule| rule.conditions.is_empty());
    code.push(statement(RETURN, plain.map_or(default, |rule| rule.action)));
    // An unconditional answer that all conditions share needs no look.
    let last = code.last().copied();
    let returns = |i: &&Instruction| i.code == RETURN;
    if code.iter().filter(returns).all(|i| Some(*i) == last) {
        code = last.into_iter().collect();
    }
    code
}

/// One comparison of a 64-bit argument in two halves; goes on when it holds.
fn compare(condition: Condition) -> Vec<Instruction> {
    let low = ARGS + 8 * u32::from(condition.argument);
    let high = low + 4;
    let halves = |value: u64| ((value >> 32) as u32, value as u32);
    let (value_high, value_low) = halves(condition.value);
    let equal = |k, jt, jf| instruction(JUMP_EQUAL, k, jt, jf);
    let mut code = match condition.test {
        Test::Equal => vec![
            statement(LOAD, high),
            equal(value_high, 0, TO_FAIL),
            statement(LOAD, low),
            equal(value_low, 0, TO_FAIL),
        ],
        Test::NotEqual => vec![
            statement(LOAD, high),
            equal(value_high, 0, TO_PASS),
            statement(LOAD, low),
            equal(value_low, TO_FAIL, 0),
        ],
        Test::Masked(mask) => {
            let (mask_high, mask_low) = halves(mask);
            vec![
                statement(LOAD, high),
                statement(AND, mask_high),
                equal(value_high, 0, TO_FAIL),
                statement(LOAD, low),
                statement(AND, mask_low),
                equal(value_low, 0, TO_FAIL),
            ]
        }
        // The upper halves decide unless they are equal.
        Test::Greater | Test::GreaterOrEqual | Test::Less | Test::LessOrEqual => {
            let (test, wanted) = match condition.test {
                Test::Greater => (JUMP_GREATER, true),
                Test::LessOrEqual => (JUMP_GREATER, false),
                Test::Less => (JUMP_GREATER_EQUAL, false),
                _ => (JUMP_GREATER_EQUAL, true),
            };
            let (above, below) = if wanted {
                (TO_PASS, TO_FAIL)
            } else {
                (TO_FAIL, TO_PASS)
            };
            vec![
                statement(LOAD, high),
                instruction(JUMP_GREATER, value_high, above, 0),
                equal(value_high, 0, below),
                statement(LOAD, low),
                instruction(test, value_low, above, below),
            ]
        }
    };
    let length = code.len();
    for (at, instruction) in code.iter_mut().enumerate() {
        for jump in [&mut instruction.jt, &mut instruction.jf] {
            if *jump == TO_PASS {
                *jump = (length - at - 1) as u8;
            }
        }
    }
    code
}

#[cfg(test)]
mod tests {
    use super::super::{ALLOW, Choice, ENOSYS, EPERM, ERRNO, docker};
    use super::*;
    use crate::oci::Capabilities;

    const ALL: [Arch; 5] = [Arch::X86_64, Arch::X32, Arch::X86, Arch::Aarch64, Arch::Arm];

    /// The kernel's reading of a program.
    fn run(program: &[Instruction], arch: u32, nr: u32, args: [u64; 6]) -> u32 {
        let word = |offset: u32| match offset {
            NR => nr,
            ARCH => arch,
            _ => {
                let at = (offset - ARGS) as usize;
                (args[at / 8] >> (8 * (at % 8))) as u32
            }
        };
        let (mut at, mut a) = (0_usize, 0_u32);
        loop {
            let i = program[at];
            let jump = |holds: bool| usize::from(if holds { i.jt } else { i.jf });
            at += 1;
            match i.code {
                LOAD => a = word(i.k),
                AND => a &= i.k,
                JUMP => at += i.k as usize,
                JUMP_EQUAL => at += jump(a == i.k),
                JUMP_GREATER => at += jump(a > i.k),
                JUMP_GREATER_EQUAL => at += jump(a >= i.k),
                RETURN => return i.k,
                other => panic!("not an instruction: {other:#x}"),
            }
        }
    }

    /// What the rules say, read plainly.
    fn expected(profile: &Profile, names: &[&str], args: [u64; 6]) -> u32 {
        let holds = |c: &Condition| {
            let argument = args[usize::from(c.argument)];
            match c.test {
                Test::Equal => argument == c.value,
                Test::NotEqual => argument != c.value,
                Test::Less => argument < c.value,
                Test::LessOrEqual => argument <= c.value,
                Test::GreaterOrEqual => argument >= c.value,
                Test::Greater => argument > c.value,
                Test::Masked(mask) => argument & mask == c.value,
            }
        };
        let rules = || {
            profile
                .rules
                .iter()
                .filter(|r| r.calls.iter().any(|c| names.contains(&c.as_str())))
        };
        rules()
            .filter(|r| !r.conditions.is_empty())
            .find(|r| r.conditions.iter().all(holds))
            .or_else(|| rules().find(|r| r.conditions.is_empty()))
            .map_or(profile.default, |r| r.action)
    }

    /// Several names may share a number: any of them counts.
    fn names(arch: Arch, nr: u32) -> Vec<&'static str> {
        calls(arch)
            .filter(|(_, n)| *n == nr)
            .map(|(n, _)| n)
            .collect()
    }

    #[test]
    fn every_call_of_every_architecture_gets_its_rule() {
        let flags = [
            0,
            0x7e02_0000,
            0x1000_0000,
            40,
            41,
            8,
            0xffff_ffff,
            0x28_0000_0000,
        ];
        for capabilities in [0, 0xa804_25fb, Capabilities::SYS_ADMIN.0, (1 << 41) - 1] {
            let profile = docker::profile(Capabilities(capabilities));
            let program = compile(&profile, &ALL);
            assert!(program.len() < 4096, "{}", program.len());
            for arch in ALL {
                let private = 0xf_0000..0xf_0008;
                for nr in (0..600).chain(private) {
                    let called = if arch == Arch::X32 { nr | X32_BIT } else { nr };
                    let names = names(arch, nr);
                    for flag in flags {
                        let args = [flag, 0, 0, 0, 0, 0];
                        assert_eq!(
                            run(&program, arch.audit(), called, args),
                            expected(&profile, &names, args),
                            "{arch:?} {nr} {flag:#x}"
                        );
                    }
                }
            }
            assert_eq!(run(&program, 0xc000_00f3, 0, [0; 6]), KILL_PROCESS);
        }
    }

    #[test]
    fn the_default_list_keeps_what_docker_promises() {
        let choice = Choice::Docker {
            capabilities: Capabilities(0xa804_25fb),
        };
        let program = compile(&choice.profile().unwrap(), Arch::native());
        let call = |name: &str, first: u64| {
            let arch = Arch::native()[0];
            let nr = calls(arch).find(|(n, _)| *n == name).unwrap().1;
            run(&program, arch.audit(), nr, [first, 0, 0, 0, 0, 0])
        };
        for (name, first, answer) in [
            ("read", 0, ALLOW),
            ("sethostname", 0, ERRNO | EPERM),
            ("clone3", 0, ERRNO | ENOSYS),
            ("clone", 0x11, ALLOW),
            ("clone", 0x1000_0000, ERRNO | EPERM),
            ("socket", 2, ALLOW),
            ("socket", 40, ERRNO | EPERM),
            ("personality", 0x8, ALLOW),
            ("personality", 0x4, ERRNO | EPERM),
            ("io_uring_setup", 0, ERRNO | EPERM),
            ("keyctl", 0, ERRNO | EPERM),
            ("chroot", 0, ALLOW),
        ] {
            assert_eq!(call(name, first), answer, "{name}({first:#x})");
        }
    }

    #[test]
    fn all_comparisons_see_all_64_bits() {
        let numbers = [0, 1, 5, 0xffff_ffff, 1 << 32, (1 << 32) + 5, u64::MAX];
        let tests = [
            Test::Equal,
            Test::NotEqual,
            Test::Less,
            Test::LessOrEqual,
            Test::GreaterOrEqual,
            Test::Greater,
            Test::Masked(0xff_0000_00ff),
        ];
        for test in tests {
            for value in numbers {
                let condition = |argument| Condition {
                    argument,
                    test,
                    value,
                };
                let profile = Profile {
                    default: ERRNO | EPERM,
                    rules: vec![Rule {
                        calls: vec!["read".to_owned()],
                        action: ALLOW,
                        conditions: vec![condition(1), condition(5)],
                    }],
                };
                let program = compile(&profile, &[Arch::Aarch64]);
                for argument in numbers {
                    let args = [9, argument, 9, 9, 9, argument];
                    assert_eq!(
                        run(&program, Arch::Aarch64.audit(), 63, args),
                        expected(&profile, &["read"], args),
                        "{argument:#x} {test:?} {value:#x}"
                    );
                }
            }
        }
    }
}
