//! Who carries operations out.

use std::fs::File;
use std::io::{Read, Write};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use super::file::World;
use super::op::{History, Op};
use super::waiter::Waiters;
use super::world;
use crate::sys::{self, Clone3};

/// The root's way to another actor.
struct Line {
    /// World and number of an operation.
    commands: File,
    /// What it gave, with its length before it.
    replies: File,
}

pub(super) struct Actors {
    child: Line,
    pid: i32,
    thread: Line,
    handle: JoinHandle<()>,
    sharer: Line,
    sharer_pid: i32,
    grandchild: Line,
}

/// An actor's way to the root.
type Ends = (File, File);

fn line() -> (Line, Ends) {
    let pipe = || {
        let (reader, writer) = std::io::pipe().expect("pipe");
        let file = |end: std::os::fd::OwnedFd| File::from(end);
        (file(reader.into()), file(writer.into()))
    };
    let (heard, commands) = pipe();
    let (replies, said) = pipe();
    (Line { commands, replies }, (heard, said))
}

impl Actors {
    pub(super) fn start(histories: &[History]) -> Self {
        // Ends that others have, too, end nothing: an actor is told its end in words.
        let (grandchild, its_ends) = line();
        let (child, ends) = line();
        let pid = sys::fork();
        if pid == 0 {
            let below = sys::fork();
            if below == 0 {
                serve(histories, its_ends);
                sys::exit(0);
            }
            serve(histories, ends);
            sys::exit(if sys::wait_status(below) == Ok(0) { 0 } else { 1 });
        }
        drop((its_ends, ends));
        let (sharer, ends) = line();
        let flags = libc::CLONE_FILES as u64;
        let ask = Clone3 { flags, pid: 0, exit_signal: libc::SIGCHLD };
        let sharer_pid = sys::clone3(&ask).expect("clone3");
        if sharer_pid == 0 {
            serve(histories, ends);
            sys::exit(0);
        }
        // Its numbers are the root's.
        std::mem::forget(ends);
        let (thread, ends) = line();
        let own: Arc<[History]> = histories.into();
        let (tell, hear) = std::sync::mpsc::channel();
        let handle = thread::spawn(move || {
            // SAFETY: what this thread does with numbers from here on it does in its own copy.
            assert_eq!(unsafe { libc::unshare(libc::CLONE_FILES) }, 0, "unshare(CLONE_FILES)");
            tell.send(()).expect("the root listens");
            serve(&own, ends);
        });
        hear.recv().expect("the thread has its table");
        Self { child, pid, thread, handle, sharer, sharer_pid, grandchild }
    }

    /// Plays operations, which are those of the world from number `first` on.
    pub(super) fn play(
        &mut self,
        world: World,
        ops: &[Op],
        first: usize,
        outcomes: &mut String,
        waiters: &Waiters,
    ) {
        for (number, op) in ops.iter().enumerate() {
            let line = match op.actor {
                0 => None,
                1 => Some(&mut self.child),
                2 => Some(&mut self.thread),
                3 => Some(&mut self.sharer),
                _ => Some(&mut self.grandchild),
            };
            let outcome = match line {
                None => world::play(world, op),
                Some(line) => line.ask(world.number, first + number),
            };
            waiters.settle(world);
            outcomes.push_str(&outcome);
            outcomes.push('\n');
        }
    }

    pub(super) fn end(self) {
        let Self { mut child, pid, mut thread, handle, mut sharer, sharer_pid, mut grandchild } =
            self;
        for line in [&mut grandchild, &mut child, &mut thread, &mut sharer] {
            line.say(usize::MAX, 0);
        }
        let ended = [pid, sharer_pid].map(|pid| sys::wait_status(pid) == Ok(0));
        assert!(ended == [true; 2] && handle.join().is_ok(), "an actor failed");
    }
}

impl Line {
    fn say(&mut self, world: usize, number: usize) {
        let command = [(world as u64).to_ne_bytes(), (number as u64).to_ne_bytes()].concat();
        self.commands.write_all(&command).expect("the actor listens");
    }

    fn ask(&mut self, world: usize, number: usize) -> String {
        self.say(world, number);
        let mut length = [0];
        self.replies.read_exact(&mut length).expect("the actor answers");
        let mut text = vec![0; length[0] as usize * 16];
        self.replies.read_exact(&mut text).expect("the actor answers");
        String::from_utf8_lossy(&text).trim_end_matches('\0').to_owned()
    }
}

fn serve(histories: &[History], (mut commands, mut replies): Ends) {
    loop {
        let mut command = [0; 16];
        commands.read_exact(&mut command).expect("the root speaks");
        let [world, number] = [&command[..8], &command[8..]]
            .map(|half| u64::from_ne_bytes(half.try_into().expect("eight bytes")) as usize);
        let Some(history) = histories.get(world) else { return };
        let Some(op) = history.op(number) else { return };
        let world = World { number: world, kind: history.kind };
        let mut text = world::play(world, op).into_bytes();
        let length = text.len().div_ceil(16);
        text.resize(length * 16, 0);
        let reply = [&[length as u8], &text[..]].concat();
        replies.write_all(&reply).expect("the root listens");
    }
}
