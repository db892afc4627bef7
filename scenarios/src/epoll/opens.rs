//! Objects that are open three times, by open file descriptions whose items hang on one wait queue.

use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::fs::{CWD, Mode, OFlags, mkfifoat, open};
use rustix::io::{ioctl_fionbio, read, write};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

use super::target::{free, send};
use super::watch::{signalfd, take_signal};
use crate::sys::{Queue, queue_name, unlink_queue};
use crate::tty::{pseudo_terminal, slave};
use crate::{Context, sys};

/// One of them.
pub(super) struct Opened {
    pub(super) name: &'static str,
    pub(super) files: [Rc<OwnedFd>; 3],
    /// Makes all ready to be read.
    pub(super) rouse: Box<dyn Fn()>,
    /// Reads what there is.
    pub(super) calm: Box<dyn Fn()>,
}

/// How to make one of each kind.
pub(super) const KINDS: &[fn(&Context) -> Opened] = &[fifo, pipe, terminal, queue, signals];

fn read_only(path: impl rustix::path::Arg) -> OwnedFd {
    open(path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).expect("open")
}

fn of_bytes(name: &'static str, files: [OwnedFd; 3], writer: OwnedFd) -> Opened {
    let files = files.map(Rc::new);
    let reader = Rc::clone(&files[1]);
    let rouse = move || check_eq!(write(&writer, b"x"), Ok(1), "writing");
    let calm = move || check_eq!(read(&*reader, &mut [0; 8]), Ok(1), "reading");
    Opened { name, files, rouse: Box::new(rouse), calm: Box::new(calm) }
}

fn fifo(cx: &Context) -> Opened {
    let path = free(cx, "fifo");
    mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).expect("mkfifo");
    let readers = [(); 3].map(|()| read_only(&path));
    let writer = open(&path, OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty()).expect("open");
    of_bytes("fifo", readers, writer)
}

fn pipe(_: &Context) -> Opened {
    let (reader, writer) = pipe_with(PipeFlags::NONBLOCK).expect("pipe");
    let again = || read_only(format!("/proc/self/fd/{}", reader.as_raw_fd()));
    let (second, third) = (again(), again());
    of_bytes("pipe", [reader, second, third], writer)
}

fn terminal(_: &Context) -> Opened {
    let (master, path) = pseudo_terminal();
    let files = [(); 3].map(|()| Rc::new(slave(&path)));
    let mut settings = tcgetattr(&files[0]).expect("tcgetattr");
    settings.make_raw();
    tcsetattr(&files[0], OptionalActions::Now, &settings).expect("tcsetattr");
    let reader = Rc::clone(&files[1]);
    let of = Rc::clone(&reader);
    let rouse = move || send(&of, &master);
    let calm = move || check_eq!(read(&*reader, &mut [0; 8]), Ok(1), "reading");
    Opened { name: "terminal", files, rouse: Box::new(rouse), calm: Box::new(calm) }
}

fn queue(_: &Context) -> Opened {
    let name = queue_name("opens");
    let sender = Queue::create(&name, libc::O_NONBLOCK, (3, 8)).expect("mq_open");
    let own = || OwnedFd::from(Queue::open(&name, libc::O_RDONLY).expect("mq_open"));
    let files = [(); 3].map(|()| Rc::new(own()));
    unlink_queue(&name).expect("mq_unlink");
    for file in &files {
        ioctl_fionbio(&**file, true).expect("FIONBIO");
    }
    let sender = Rc::new(sender);
    let receiver = Rc::clone(&sender);
    let rouse = move || sender.send(b"x", 0).expect("mq_send");
    let calm = move || drop(receiver.receive().expect("mq_receive"));
    Opened { name: "message queue", files, rouse: Box::new(rouse), calm: Box::new(calm) }
}

fn signals(_: &Context) -> Opened {
    static NEXT: AtomicI32 = AtomicI32::new(0);
    let signal = libc::SIGRTMIN() + NEXT.fetch_add(1, Ordering::Relaxed);
    let files = [(); 3].map(|()| Rc::new(signalfd(signal)));
    let reader = Rc::clone(&files[1]);
    let rouse = move || sys::kill(sys::own_pid(), signal);
    let calm = move || take_signal(&*reader);
    Opened { name: "signals", files, rouse: Box::new(rouse), calm: Box::new(calm) }
}
