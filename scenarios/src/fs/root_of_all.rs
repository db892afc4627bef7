//! A tree whose root has another root directory, from where no mount can be seen; a thread of it has
//! the machine's.
//!
//! Verified: absolute paths start there, and files from outside stay open.
//! CRIU: gives the thread those of the process.

use std::sync::mpsc;

use rustix::process::{chdir, chroot, fchdir, getcwd};

use crate::{Context, Scenario, Users};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).users(Users::Root);

fn run(cx: &mut Context) {
    let jail = cx.path("jail");
    std::fs::create_dir_all(jail.join("inside")).expect("mkdir");
    std::fs::write(jail.join("here"), "the jail").expect("write");
    let null = std::fs::File::open("/dev/null").expect("open");
    let machine = std::fs::File::open("/").expect("open");
    let (gone, wait) = mpsc::channel();
    let (thread, _) = cx.thread(move |cx| {
        // SAFETY: only this thread's directories are concerned, and it uses none relative to them.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_FS) }, 0, "unshare(CLONE_FS)");
        cx.arrive(crate::sys::gettid());
        wait.recv().expect("the root has gone to jail");
        // Only from here `go` can be seen.
        cx.ready_and_wait();
    });
    chroot(&jail).expect("chroot");
    chdir("/inside").expect("chdir");
    gone.send(()).expect("the thread waits");
    thread.join().expect("no panic");
    let directory = getcwd(Vec::new()).map(|path| path.to_string_lossy().into_owned());
    check_eq!(directory.as_deref(), Ok("/inside"), "getcwd");
    for path in ["/here", "../here", "../../../here"] {
        let text = std::fs::read_to_string(path).ok();
        check_eq!(text.as_deref(), Some("the jail"), "text of {path}");
    }
    check_eq!(rustix::io::read(&null, &mut [0; 1]), Ok(0), "bytes of /dev/null");
    // How it went is told outside.
    fchdir(&machine).expect("fchdir");
    chroot(".").expect("chroot");
}
