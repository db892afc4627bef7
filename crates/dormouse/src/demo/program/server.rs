//! The server: one epoll for the listening socket, the connections, and the workers' answers.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use super::worker::Worker;
use super::{Ledger, REQUEST, broken};

/// How many processes compute.
const WORKERS: usize = 2;
/// The epoll's word for the listening socket.
const LISTENER: u64 = 0;
/// The epoll's word for the eventfd that tells of answers.
const BELL: u64 = 1;

/// A client, and what it asks for or is to be told.
#[derive(Clone, Copy, Debug)]
struct Message {
    client: u64,
    /// A block, or how many primes are in it.
    number: u64,
}

/// Runs the server: prints its address, serves whoever connects, and ends with the last connection.
pub(super) fn run() -> io::Result<()> {
    rustix::process::setsid()?;
    rustix::thread::set_name(c"primes")?;
    let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    let (ask, requests) = mpsc::channel();
    let (answer, answers) = mpsc::channel();
    let requests = Arc::new(Mutex::new(requests));
    let threads: Vec<_> = (0..WORKERS)
        .map(|_| {
            let worker = Worker::spawn()?;
            let (requests, answer, bell) =
                (Arc::clone(&requests), answer.clone(), Arc::clone(&bell));
            Ok(thread::spawn(move || employ(worker, &requests, &answer, &bell)))
        })
        .collect::<io::Result<_>>()?;
    Server::new(bell, ask)?.serve(&answers)?;
    // With the server the channel of requests has ended, so the threads do.
    threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| broken())?)
}

/// Has a worker answer requests until there will be no more.
fn employ(
    mut worker: Worker,
    requests: &Mutex<mpsc::Receiver<Message>>,
    answer: &mpsc::Sender<Message>,
    bell: &OwnedFd,
) -> io::Result<()> {
    loop {
        let request = requests.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Message { client, number }) = request else { break };
        let number = worker.count(number)?;
        if answer.send(Message { client, number }).is_err() {
            break;
        }
        rustix::io::write(bell, &1u64.to_ne_bytes())?;
    }
    worker.finish()
}

struct Server {
    epoll: OwnedFd,
    listener: TcpListener,
    bell: Arc<OwnedFd>,
    ask: mpsc::Sender<Message>,
    connections: BTreeMap<u64, Connection>,
    /// The next connection's word.
    next: u64,
}

struct Connection {
    stream: TcpStream,
    ledger: Ledger,
    /// Of a request that has not come whole.
    read: Vec<u8>,
}

impl Server {
    fn new(bell: Arc<OwnedFd>, ask: mpsc::Sender<Message>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        println!("{}", listener.local_addr()?);
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        epoll::add(&epoll, bell.as_fd(), EventData::new_u64(BELL), EventFlags::IN)?;
        Ok(Self { epoll, listener, bell, ask, connections: BTreeMap::new(), next: BELL + 1 })
    }

    fn serve(mut self, answers: &mpsc::Receiver<Message>) -> io::Result<()> {
        let mut events = Vec::with_capacity(16);
        loop {
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in events.drain(..) {
                match event.data.u64() {
                    LISTENER => self.accept()?,
                    BELL => self.tell(answers)?,
                    client => self.hear(client)?,
                }
            }
            let had_some = self.next > BELL + 1;
            if had_some && self.connections.is_empty() {
                return Ok(());
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        let (stream, _) = match self.listener.accept() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            accepted => accepted?,
        };
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let word = EventData::new_u64(self.next);
        epoll::add(
            &self.epoll,
            &stream,
            word,
            EventFlags::IN | EventFlags::RDHUP | EventFlags::ET,
        )?;
        let connection = Connection { stream, ledger: Ledger::new(), read: Vec::new() };
        self.connections.insert(self.next, connection);
        self.next += 1;
        Ok(())
    }

    /// Takes a client's requests; it has one open at a time.
    fn hear(&mut self, client: u64) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(&client) else { return Ok(()) };
        let mut buffer = [0; 256];
        loop {
            match connection.stream.read(&mut buffer) {
                Ok(0) => {
                    self.connections.remove(&client);
                    return Ok(());
                }
                Ok(count) => connection.read.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if connection.read == REQUEST {
            connection.read.clear();
            let number = connection.ledger.next();
            self.ask.send(Message { client, number }).map_err(|_| broken())?;
        }
        Ok(())
    }

    /// Hands the workers' answers on.
    fn tell(&mut self, answers: &mpsc::Receiver<Message>) -> io::Result<()> {
        match rustix::io::read(&self.bell, &mut [0; 8]) {
            Ok(_) | Err(Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
        for Message { client, number } in answers.try_iter() {
            if let Some(connection) = self.connections.get_mut(&client) {
                let line = connection.ledger.enter(number);
                writeln!(connection.stream, "{line}")?;
            }
        }
        Ok(())
    }
}
