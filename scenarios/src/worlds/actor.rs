//! Who carries operations out: the root itself, a child, and a thread with its own table.

use std::fs::File;
use std::io::{Read, Write};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use super::op::{History, Op};
use super::world;
use crate::sys;

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
}

fn pipe() -> (File, File) {
    let (reader, writer) = std::io::pipe().expect("pipe");
    let file = |end: std::os::fd::OwnedFd| File::from(end);
    (file(reader.into()), file(writer.into()))
}

impl Actors {
    pub(super) fn start(histories: &[History]) -> Self {
        let (commands, to_child) = pipe();
        let (from_child, replies) = pipe();
        let pid = sys::fork();
        if pid == 0 {
            // Its commands end when the root's end is the last.
            drop(to_child);
            serve(histories, commands, replies);
            sys::exit(0);
        }
        let child = Line { commands: to_child, replies: from_child };
        let (commands, to_thread) = pipe();
        let (from_thread, replies) = pipe();
        let own: Arc<[History]> = histories.into();
        let (tell, hear) = std::sync::mpsc::channel();
        let handle = thread::spawn(move || {
            // SAFETY: what this thread does with numbers from here on it does in its own copy.
            assert_eq!(unsafe { libc::unshare(libc::CLONE_FILES) }, 0, "unshare(CLONE_FILES)");
            tell.send(()).expect("the root listens");
            serve(&own, commands, replies);
        });
        hear.recv().expect("the thread has its table");
        Self { child, pid, thread: Line { commands: to_thread, replies: from_thread }, handle }
    }

    /// Plays operations, which are those of the world from number `first` on.
    pub(super) fn play(&mut self, world: usize, ops: &[Op], first: usize, outcomes: &mut String) {
        for (number, op) in ops.iter().enumerate() {
            let outcome = match op.actor {
                0 => world::play(world, op),
                1 => self.child.ask(world, first + number),
                _ => self.thread.ask(world, first + number),
            };
            outcomes.push_str(&outcome);
            outcomes.push('\n');
        }
    }

    pub(super) fn end(self) {
        let Self { mut child, pid, mut thread, handle } = self;
        // A thread's own table has copies of all ends, so the end is said in words.
        child.say(usize::MAX, 0);
        thread.say(usize::MAX, 0);
        let ended = sys::wait_status(pid) == Ok(0) && handle.join().is_ok();
        assert!(ended, "an actor failed");
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

fn serve(histories: &[History], mut commands: File, mut replies: File) {
    loop {
        let mut command = [0; 16];
        commands.read_exact(&mut command).expect("the root speaks");
        let [world, number] = [&command[..8], &command[8..]]
            .map(|half| u64::from_ne_bytes(half.try_into().expect("eight bytes")) as usize);
        let Some(op) = histories.get(world).and_then(|history| history.op(number)) else { return };
        let mut text = world::play(world, op).into_bytes();
        let length = text.len().div_ceil(16);
        text.resize(length * 16, 0);
        let reply = [&[length as u8], &text[..]].concat();
        replies.write_all(&reply).expect("the root listens");
    }
}
