//! A thread in 32-bit code, among others that wait with a time-out.
//!
//! Verified: the dump is refused, naming the kind; the others, which had been made to answer
//! or were about to be, wait no longer than they were to, and the thread finds out of its code.
//! CRIU: fails, as its own code is killed in that thread.

use std::arch::asm;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::context::until_forever;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).refused_task("32-bit code");

const WAIT: Duration = Duration::from_secs(3);
/// How much of that is over when it is to be dumped.
const BEFORE: Duration = Duration::from_secs(2);
/// How late one may be on a loaded machine: less than what is over.
const SLACK: Duration = Duration::from_millis(1500);

fn run(cx: &mut Context) {
    let some = |count| (0..count).map(|_| waiter(cx)).collect::<Vec<_>>();
    let mut waiters = some(3);
    let page = Page::map();
    let (thread, _) = cx.thread(move |cx| {
        cx.arrive(sys::gettid());
        page.run();
    });
    waiters.extend(some(3));
    sys::nap(BEFORE);

    cx.ready_and_wait();

    page.leave();
    check!(thread.join().is_ok(), "the thread is lost in its code");
    for waiter in waiters {
        let (found, took) = waiter.join().expect("no panic");
        check_eq!(found, 0, "what epoll_wait returns");
        check!((WAIT..=WAIT + SLACK).contains(&took), "it waited for {took:?} instead of {WAIT:?}");
    }
}

/// A thread that waits in an epoll for nothing, and how long that took.
fn waiter(cx: &Context) -> std::thread::JoinHandle<(i64, Duration)> {
    let (thread, tid) = cx.thread(|cx| {
        // SAFETY: plain numbers.
        let epoll = unsafe { libc::epoll_create1(0) };
        cx.arrive(sys::gettid());
        let begun = Instant::now();
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        let millis = WAIT.as_millis() as i32;
        // SAFETY: there is room for the one event.
        let found =
            unsafe { libc::syscall(libc::SYS_epoll_wait, epoll, &raw mut event, 1, millis) };
        let took = begun.elapsed();
        // The memory map stands still until it has been compared.
        until_forever(|| cx.gone());
        (found, took)
    });
    cx.await_blocked(tid, libc::SYS_epoll_wait);
    thread
}

/// Code below 4 GiB, and at its end a word that it looks at.
#[derive(Clone, Copy)]
struct Page(u32);

impl Page {
    const WORD: u32 = 2048;

    fn map() -> Self {
        // SAFETY: new memory.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                4096,
                libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT,
                -1,
                0,
            )
        };
        let page = Self(u32::try_from(at.addr()).expect("below 4 GiB"));
        let word = (page.0 + Self::WORD).to_le_bytes();
        let out = (page.0 + 17).to_le_bytes();
        let mut code = Vec::new();
        // cmp dword ptr cs:[word], 0; je to the beginning; jmp 0x33:out
        code.extend([&[0x2e, 0x83, 0x3d], &word[..], &[0, 0x74, 0xf6]].concat());
        code.extend([&[0xea], &out[..], &[0x33, 0]].concat());
        assert_eq!(code.len(), 17);
        // Of 64 bits again: mov rsp, r12; jmp r13
        code.extend([0x4c, 0x89, 0xe4, 0x41, 0xff, 0xe5]);
        // SAFETY: there is room, and nobody runs it yet.
        unsafe { at.copy_from_nonoverlapping(code.as_ptr().cast(), code.len()) };
        page
    }

    /// In 32-bit code until somebody has it [leave](Self::leave).
    fn run(self) {
        // SAFETY: the far return leads to the page with the 32-bit code segment, which leads back
        // here with the stack as it is, and changes nothing else.
        unsafe {
            asm!(
                "mov r12, rsp",
                "lea r13, [rip + 2f]",
                "push 0x23",
                "push {page}",
                "retfq",
                "2:",
                page = in(reg) u64::from(self.0),
                out("rax") _, out("rcx") _, out("rdx") _, out("rsi") _, out("rdi") _,
                out("r8") _, out("r9") _, out("r10") _, out("r11") _,
                out("r12") _, out("r13") _, out("r14") _, out("r15") _,
            );
        }
    }

    fn leave(self) {
        // SAFETY: a word of the page, at which the code only looks.
        let word = unsafe { AtomicU32::from_ptr((self.0 + Self::WORD) as usize as *mut u32) };
        word.store(1, Ordering::SeqCst);
    }
}
