//! Real servers, frozen and brought back while clients outside of their tree talk to them. The
//! clients check every answer; all that they may notice is that one takes longer.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use crate::cases::Lacks;
use crate::checkpointer::Checkpointer;
use crate::failure::{Failure, io_failure};
use crate::program::{self, Program, Running};
use crate::target::none_left;

/// A real server with its clients.
pub struct Server {
    /// The server: it listens on port `$PORT` of 127.0.0.1, and ends by SIGTERM.
    pub server: Program,
    /// The clients: what a shell is to `exec`, one process for all of them. It waits for the server
    /// to listen, and then writes to the file `answers`, again and again, how many right answers
    /// it has had. When there is a file `stop` it ends, with status 0 if all was well. What it
    /// prints is shown.
    pub clients: &'static str,
}

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(60);
/// How many answers there have to be between one freeze and the next.
const ANSWERS: u64 = 200;
const POLL: Duration = Duration::from_millis(5);

/// The `main` of a test executable over these servers, see [`cases::main`].
#[must_use]
pub fn main(scenario: &Path, servers: &[Server], lacks: Lacks<'_>) -> ExitCode {
    program::run_all(scenario, servers, |server| &server.server, Server::run, lacks)
}

impl Server {
    fn run(&self, scenario: &Path, checkpointer: &Checkpointer, dir: &Path) -> Result<(), Failure> {
        let port = free_port()?.to_string();
        let env = [("PORT", port.as_str())];
        let home = dir.join("server");
        let mut server = self.server.start(scenario, &home, &env)?;
        let mut clients = Clients::start(self.clients, &home, &env)?;
        for number in 1..=program::freezes() {
            clients.wait_for_answers(&server)?;
            let images = dir.join(format!("images-{number}"));
            let others = [clients.process.id() as i32];
            server.freeze(checkpointer, &images, self.server.options, &others)?;
            fs::remove_dir_all(&images).map_err(io_failure("remove", &images))?;
        }
        clients.wait_for_answers(&server)?;
        clients.stop()?;
        terminate(server.root)?;
        none_left("after the server's end", &[])
    }
}

/// A port nobody listens on. Nobody else gets it soon: the kernel goes on to others.
fn free_port() -> Result<u16, Failure> {
    let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    address.map(|address| address.port()).map_err(io_failure("bind", "127.0.0.1:0"))
}

struct Clients {
    process: Child,
    dir: PathBuf,
    seen: u64,
}

impl Clients {
    fn start(clients: &str, dir: &Path, env: &[(&str, &str)]) -> Result<Self, Failure> {
        let script = format!("exec {clients}");
        let files = ["clients", "clients-err"];
        let process = program::shell(Command::new("bash"), &script, dir, env, files)?.spawn();
        let process = process.map_err(io_failure("run", "bash"))?;
        Ok(Self { process, dir: dir.to_owned(), seen: 0 })
    }

    fn answers(&self) -> u64 {
        let text = fs::read_to_string(self.dir.join("answers")).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }

    /// What they have printed.
    fn said(&self) -> String {
        ["clients", "clients-err"]
            .map(|name| fs::read_to_string(self.dir.join(name)).unwrap_or_default())
            .concat()
    }

    /// Waits until they have had many answers since the last time.
    fn wait_for_answers(&mut self, server: &Running) -> Result<(), Failure> {
        let began = Instant::now();
        while self.answers() < self.seen + ANSWERS {
            if let Some(status) =
                self.process.try_wait().map_err(io_failure("wait for", "clients"))?
            {
                return Err(Failure::Verdict(format!(
                    "the clients ended ({status}): {}",
                    self.said()
                )));
            }
            if server.is_over() {
                let status = "by itself".into();
                return Err(Failure::Ended { step: "serving", status });
            }
            if began.elapsed() > LIMIT {
                eprintln!("clients: {}", self.said());
                return Err(Failure::Late { step: "answers to clients", limit: LIMIT });
            }
            thread::sleep(POLL);
        }
        self.seen = self.answers();
        Ok(())
    }

    /// Has them end, and shows what they say.
    fn stop(&mut self) -> Result<(), Failure> {
        let stop = self.dir.join("stop");
        fs::write(&stop, "").map_err(io_failure("create", stop))?;
        let status = self.process.wait().map_err(io_failure("wait for", "clients"))?;
        if status.success() {
            eprintln!("{}", self.said());
            return Ok(());
        }
        Err(Failure::Verdict(format!("the clients ended ({status}): {}", self.said())))
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        // Where all is well they have ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Has a server end, and waits for that.
fn terminate(root: i32) -> Result<(), Failure> {
    let pid = Pid::from_raw(root).expect("the pid of a child");
    kill_process(pid, Signal::TERM).map_err(|e| io_failure("kill", "the server")(e.into()))?;
    let began = Instant::now();
    while let Ok(None) = waitpid(Some(pid), WaitOptions::NOHANG) {
        if began.elapsed() > LIMIT {
            return Err(Failure::Late { step: "the server's end", limit: LIMIT });
        }
        thread::sleep(POLL);
    }
    Ok(())
}
