//! Where the variables are that the kernel has once for each processor.
//!
//! A `__percpu` pointer is the same distance away from what each of them
//! stands for. The kernel's list of distances is no symbol of every kernel:
//! but a map with a value for each processor has such a pointer, and tells
//! where the values are.
//!
//! Truth from: `percpu_array_map_lookup_percpu_elem` in
//! `kernel/bpf/arraymap.c`; Linux 5.19 (`bpf_map_lookup_percpu_elem`).

use std::io;

use super::bpf::{PerProcessor, Program, Value, op};
use super::memory::{Address, KernelMemory, ReadError};

impl KernelMemory {
    /// What to add to a `__percpu` pointer, for each of the processors.
    /// `pointers` is the offset of `pptrs` in `struct bpf_array`.
    ///
    /// # Errors
    ///
    /// [`ReadError::Run`]; there is no such processor.
    pub fn of_processors(
        &mut self,
        processors: &[u32],
        pointers: usize,
    ) -> Result<Vec<Address>, ReadError> {
        let places = places(processors).map_err(ReadError::Run)?;
        let mut distances = Vec::with_capacity(places.len());
        for (map, value) in places {
            let pointer = self.word(map + pointers as u64)?;
            distances.push(value.wrapping_sub(pointer));
        }
        Ok(distances)
    }
}

/// Where a map is, and where its value for each of the processors is.
fn places(processors: &[u32]) -> io::Result<Vec<(Address, Address)>> {
    let map = PerProcessor::new()?;
    let found = Value::new(16)?;
    let program = Program::load(&program(map.raw_fd(), found.raw_fd()), c"Dual MIT/GPL")?;
    let place = |&processor: &u32| {
        program.run([processor, 0])?;
        match (found.word(0), found.word(8)) {
            (_, 0) => Err(io::ErrorKind::NotFound.into()),
            place => Ok(place),
        }
    };
    processors.iter().map(place).collect()
}

/// `found[0] = map; found[1] = lookup(map, 0, context[0])`
fn program(map: i32, found: i32) -> Vec<u64> {
    const MOVE: u64 = 0xbf;
    const MOVE_K: u64 = 0xb7;
    const ADD_K: u64 = 0x07;
    const LOAD_W: u64 = 0x61;
    const STORE: u64 = 0x7b;
    const STORE_KW: u64 = 0x62;
    const LOAD_MAP: u64 = 0x18;
    const CALL: u64 = 0x85;
    const EXIT: u64 = 0x95;
    const MAP: u64 = 1;
    const MAP_VALUE: u64 = 2;
    const LOOKUP_PERCPU: i32 = 195;

    vec![
        op(LOAD_W, 3, 1, 0, 0),               // r3 = context[0]
        op(LOAD_MAP, 7, MAP_VALUE, 0, found), // r7 = found
        op(0, 0, 0, 0, 0),
        op(LOAD_MAP, 1, MAP, 0, map), // r1 = map
        op(0, 0, 0, 0, 0),
        op(STORE, 7, 1, 0, 0),      // found[0] = r1
        op(STORE_KW, 10, 0, -8, 0), // key = 0
        op(MOVE, 2, 10, 0, 0),
        op(ADD_K, 2, 0, 0, -8), // r2 = key
        op(CALL, 0, 0, 0, LOOKUP_PERCPU),
        op(STORE, 7, 0, 8, 0), // found[1] = r0
        op(MOVE_K, 0, 0, 0, 0),
        op(EXIT, 0, 0, 0, 0),
    ]
}
