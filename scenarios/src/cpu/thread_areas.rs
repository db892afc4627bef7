//! Segments that a thread has described to the processor (`set_thread_area`, as 32-bit programs do for their
//! own memory), and selectors of one that are loaded.
//!
//! Verified: all three places; the selectors.
//! CRIU: loads no selectors.

use std::arch::asm;

use crate::sys::{Area, PAGE};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

const SET_THREAD_AREA: i32 = 243;
const GET_THREAD_AREA: i32 = 244;

/// A system call as 32-bit programs make it: there is none of 64 bits for this. `room` is below 4 GiB.
fn call(number: i32, room: Area) -> i32 {
    let mut answer = number;
    // SAFETY: the kernel reads and writes a `struct user_desc` at `room`.
    unsafe {
        asm!(
            "xchg rbx, {room}", "int 0x80", "xchg rbx, {room}",
            room = inout(reg) room.start() => _,
            inout("eax") answer,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    answer
}

/// Place, base, limit and bits.
fn put(room: Area, segment: [u32; 4]) {
    let bytes: Vec<u8> = segment.iter().flat_map(|word| word.to_ne_bytes()).collect();
    room.put(&bytes);
}

fn areas(room: Area) -> Vec<Option<(u64, u64)>> {
    let each = (12..15).map(|place| {
        put(room, [place, 0, 0, 0]);
        (call(GET_THREAD_AREA, room) == 0).then(|| (room.read(0), room.read(8)))
    });
    each.collect()
}

fn selectors() -> [u16; 2] {
    let (es, gs): (u16, u16);
    // SAFETY: they are only read.
    unsafe { asm!("mov {0:x}, es", "mov {1:x}, gs", out(reg) es, out(reg) gs) };
    [es, gs]
}

fn run(cx: &mut Context) {
    let (access, low) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_32BIT);
    let room = Area::map_at(0, PAGE, access, low, None).expect("mmap");
    // Of 32 bits, in pages, usable; then one of other bits.
    for segment in [[12, 0x1234_5000, 0xf_ffff, 0x51], [14, 0x10_0000, 77, 0x43]] {
        put(room, segment);
        check_eq!(call(SET_THREAD_AREA, room), 0, "set_thread_area");
    }
    // SAFETY: nothing uses these registers.
    unsafe { asm!("mov es, {0:x}", "mov gs, {1:x}", in(reg) 14 << 3 | 3, in(reg) 12 << 3 | 3) };
    let before = (areas(room), selectors());

    cx.ready_and_wait();

    check_eq!(selectors(), before.1, "selectors");
    check_eq!(areas(room), before.0, "segments");
    check!(before.0.iter().all(Option::is_some), "all can be read");
}
