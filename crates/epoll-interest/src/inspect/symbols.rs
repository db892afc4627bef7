//! Where functions of the kernel are, by their names.
//!
//! Truth from: `bpf_kallsyms_lookup_name`, `bpf-helpers(7)` and
//! `kernel/bpf/syscall.c`. It searches an index where `/proc/kallsyms` writes
//! out some hundred thousand lines.

use std::io;

use super::bpf::{Program, Value, op};
use super::memory::{ADD_K, Address, CALL, EXIT, LOAD_MAP, MAP_VALUE, MOVE, MOVE_K};

const KALLSYMS_LOOKUP_NAME: i32 = 179;
/// More than any name takes with its zero (`KSYM_NAME_LEN` is more, but none known
/// here is so long), in bytes.
const NAME: usize = 64;
/// An address, then the name.
const STRIDE: usize = 8 + NAME;

/// The address of each of these symbols; `None` for those that the kernel does not
/// have, or does not tell of.
///
/// # Errors
///
/// There is no such helper (before Linux 5.16), or it may not be called: it takes
/// `CAP_BPF` and `CAP_PERFMON`.
///
/// # Panics
///
/// If a name is longer than 63 bytes.
pub fn symbols<const N: usize>(names: [&str; N]) -> io::Result<[Option<Address>; N]> {
    let mut value = Value::new(N * STRIDE)?;
    for (index, name) in names.iter().enumerate() {
        assert!(name.len() < NAME, "{name} is too long");
        value.store(index * STRIDE + 8, name.as_bytes());
    }
    let program = Program::load(&program(value.raw_fd(), &names), c"Dual MIT/GPL")?;
    program.run([0, 0])?;
    let found = |index| Some(value.word(index * STRIDE)).filter(|&address| address != 0);
    Ok(std::array::from_fn(found))
}

/// `for slot in value { lookup(slot.name, slot.name.len, 0, &slot.address) }`
fn program(map: i32, names: &[&str]) -> Vec<u64> {
    let mut program = vec![
        op(LOAD_MAP, 6, MAP_VALUE, 0, map), // r6 = value
        op(0, 0, 0, 0, 0),
    ];
    for name in names {
        program.extend([
            op(MOVE, 1, 6, 0, 0),
            op(ADD_K, 1, 0, 0, 8),                      // r1 = slot.name
            op(MOVE_K, 2, 0, 0, name.len() as i32 + 1), // r2 = its length, with the zero
            op(MOVE_K, 3, 0, 0, 0),                     // r3 = no flags
            op(MOVE, 4, 6, 0, 0),                       // r4 = slot.address
            op(CALL, 0, 0, 0, KALLSYMS_LOOKUP_NAME),
            op(ADD_K, 6, 0, 0, STRIDE as i32), // r6 = the next slot
        ]);
    }
    program.extend([op(MOVE_K, 0, 0, 0, 0), op(EXIT, 0, 0, 0, 0)]);
    program
}

#[cfg(test)]
mod tests {
    use super::symbols;

    #[test]
    fn they_are_where_proc_has_them() {
        let names = ["do_epoll_wait", "no_such_function", "ep_poll_callback"];
        let listed = std::fs::read_to_string("/proc/kallsyms").unwrap();
        let listed = names.map(|name| {
            let line = listed.lines().find(|line| line.split(' ').nth(2) == Some(name))?;
            u64::from_str_radix(line.split(' ').next()?, 16).ok()
        });
        assert!(listed[0].is_some_and(|at| at != 0) && listed[1].is_none());
        assert_eq!(symbols(names).unwrap(), listed);
    }
}
