//! Device rules on cgroup version 2, which has no device controller: a small
//! program that the kernel asks about every node that is opened or made.
//!
//! Without it a container, which may make nodes by Docker's default
//! capabilities, could open the host's disks.

use super::{cgroup, kernel};
use serde_json::Value;
use std::path::Path;

/// Attaches the rules of `spec` to the container's cgroup; between its
/// creation and its start. A kernel without such programs is a warning.
pub(super) fn confine(cgroup_path: &Path, spec: &Value) -> Option<String> {
    let rules = spec.pointer("/linux/resources/devices")?.as_array()?;
    let folder = cgroup::unified(cgroup_path)?;
    let attach = || -> std::io::Result<()> {
        let folder: std::os::fd::OwnedFd = std::fs::File::open(&folder)?.into();
        kernel::attach_device_program(&folder, &program(rules))
    };
    attach().err().map(|e| {
        format!(
            "Your kernel does not support cgroup device programs ({e}). Device rules discarded."
        )
    })
}

const R1: u64 = 1;
const R2: u64 = 2;
const R3: u64 = 3;
const R4: u64 = 4;
const R5: u64 = 5;
const R6: u64 = 6;

/// One eBPF instruction: code 8, destination 4, source 4, offset 16, immediate 32.
fn op(code: u64, to: u64, from: u64, offset: i16, immediate: i32) -> u64 {
    code | to << 8 | from << 12 | u64::from(offset as u16) << 16 | u64::from(immediate as u32) << 32
}

/// Load a word of the context (`struct bpf_cgroup_dev_ctx`).
fn load(to: u64, offset: i16) -> u64 {
    op(0x61, to, R1, offset, 0)
}

/// Jump when unequal to a number.
fn unequal(register: u64, number: i32) -> u64 {
    op(0x55, register, 0, 0, number)
}

fn is_jump(word: u64) -> bool {
    matches!(word & 0xff, 0x55 | 0x15)
}

/// Rules in order: of those that match, the last one wins, as in version 1;
/// so the program asks them from the last to the first.
fn program(rules: &[Value]) -> Vec<u64> {
    // access_type: type in the lower half, access in the upper.
    let mut code = vec![
        load(R2, 0),
        op(0xbf, R3, R2, 0, 0),
        op(0x57, R2, 0, 0, 0xffff),
        op(0x77, R3, 0, 0, 16),
        load(R4, 4),
        load(R5, 8),
    ];
    for rule in rules.iter().rev() {
        let block = block(rule);
        let asks = block.iter().any(|word| is_jump(*word));
        code.extend(block);
        if !asks {
            // It answers for everything: the verifier refuses code that can
            // never be reached.
            return code;
        }
    }
    code.extend([op(0xb7, 0, 0, 0, 0), op(0x95, 0, 0, 0, 0)]);
    code
}

fn block(rule: &Value) -> Vec<u64> {
    let word = |name: &str| rule.get(name).and_then(Value::as_str).unwrap_or_default();
    let number = |name: &str| {
        let number = rule.get(name).and_then(Value::as_i64)?;
        i32::try_from(number).ok().filter(|n| *n >= 0)
    };
    let mut code = Vec::new();
    match word("type") {
        "b" => code.push(unequal(R2, 1)),
        "c" => code.push(unequal(R2, 2)),
        _ => {}
    }
    let access = match word("access") {
        "" => "rwm",
        given => given,
    };
    let bits = [('m', 1), ('r', 2), ('w', 4)];
    let mask: i32 = bits
        .iter()
        .filter(|(c, _)| access.contains(*c))
        .map(|(_, bit)| bit)
        .sum();
    let allow = rule.get("allow").and_then(Value::as_bool) == Some(true);
    if mask != 7 {
        // An allowance must cover all that is asked; a denial any of it.
        code.push(op(0xbf, R6, R3, 0, 0));
        if allow {
            code.push(op(0x57, R6, 0, 0, !mask));
            code.push(unequal(R6, 0));
        } else {
            code.push(op(0x57, R6, 0, 0, mask));
            code.push(op(0x15, R6, 0, 0, 0));
        }
    }
    if let Some(major) = number("major") {
        code.push(unequal(R4, major));
    }
    if let Some(minor) = number("minor") {
        code.push(unequal(R5, minor));
    }
    code.push(op(0xb7, 0, 0, 0, i32::from(allow)));
    code.push(op(0x95, 0, 0, 0, 0));
    // Every conditional jump so far leaves the block.
    let length = code.len();
    for (at, instruction) in code.iter_mut().enumerate() {
        if is_jump(*instruction) {
            *instruction |= ((length - at - 1) as u64) << 16;
        }
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The kernel's reading, for the instructions used here.
    fn run(code: &[u64], kind: u64, access: u64, major: u64, minor: u64) -> bool {
        let context = [access << 16 | kind, major, minor];
        let mut registers = [0_u64; 7];
        let mut at = 0;
        loop {
            let word = code[at];
            let (to, from) = ((word >> 8 & 15) as usize, (word >> 12 & 15) as usize);
            let offset = (word >> 16 & 0xffff) as usize;
            let immediate = i64::from((word >> 32) as u32 as i32) as u64;
            at += 1;
            match word & 0xff {
                0x61 => registers[to] = context[offset / 4],
                0xbf => registers[to] = registers[from],
                0x57 => registers[to] &= immediate,
                0x77 => registers[to] >>= immediate,
                0xb7 => registers[to] = immediate,
                0x55 if registers[to] != immediate => at += offset,
                0x15 if registers[to] == immediate => at += offset,
                0x55 | 0x15 => {}
                0x95 => return registers[0] == 1,
                other => panic!("not an instruction: {other:#x}"),
            }
        }
    }

    #[test]
    fn the_last_matching_rule_wins() {
        const BLOCK: u64 = 1;
        const CHAR: u64 = 2;
        let code = program(&[
            json!({"allow": false, "access": "rwm"}),
            json!({"allow": true, "type": "c", "access": "m"}),
            json!({"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"}),
            json!({"allow": true, "type": "c", "major": 136, "access": "rw"}),
            json!({"allow": false, "type": "c", "major": 136, "minor": 9, "access": "w"}),
        ]);
        assert!(run(&code, CHAR, 6, 1, 3));
        assert!(run(&code, CHAR, 1, 8, 0));
        assert!(!run(&code, CHAR, 2, 8, 0));
        assert!(!run(&code, BLOCK, 1, 8, 0));
        assert!(run(&code, CHAR, 6, 136, 0));
        assert!(!run(&code, CHAR, 7, 136, 0));
        assert!(run(&code, CHAR, 2, 136, 9));
        assert!(!run(&code, CHAR, 6, 136, 9));
        let all = program(&[json!({"allow": true, "access": "rwm"})]);
        assert!(run(&all, BLOCK, 7, 8, 1));
    }

    /// The kernel takes the program; needs root and a version 2 mount.
    #[test]
    fn the_kernel_accepts_it() {
        let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
        let Some(root) = roots
            .iter()
            .find(|r| Path::new(r).join("cgroup.controllers").exists())
            .filter(|_| rustix::process::geteuid().is_root())
        else {
            return;
        };
        let folder = Path::new(root).join(format!("skep-devices-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let fd = std::fs::File::open(&folder).unwrap().into();
        let rules = [
            json!({"allow": false, "access": "rwm"}),
            json!({"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rw"}),
        ];
        let attached = kernel::attach_device_program(&fd, &program(&rules));
        drop(fd);
        std::fs::remove_dir(&folder).unwrap();
        attached.unwrap();
    }
}
