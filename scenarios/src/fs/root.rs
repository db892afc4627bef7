//! A process in another root directory.
//!
//! Verified: absolute paths start there, `..` does not lead out of it, and the working directory is
//! inside.
//! CRIU: works.

use rustix::process::{chdir, chroot, getcwd};

use crate::{Context, Scenario, Users, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).users(Users::Root);

fn run(cx: &mut Context) {
    let jail = cx.path("jail");
    std::fs::create_dir_all(jail.join("inside")).expect("mkdir");
    std::fs::write(jail.join("here"), "the jail").expect("write");
    let child = cx.fork(|cx| {
        cx.arrive(sys::gettid());
        chroot(&jail).expect("chroot");
        chdir("/inside").expect("chdir");
        // `go` is out of reach: it shows as this file, which the root makes.
        crate::context::until("the root's sign", || std::path::Path::new("/go").exists());
        check_eq!(
            getcwd(Vec::new()).map(|p| p.to_string_lossy().into_owned()).as_deref(),
            Ok("/inside"),
            "getcwd"
        );
        for path in ["/here", "../here", "../../../here"] {
            check_eq!(
                std::fs::read_to_string(path).ok().as_deref(),
                Some("the jail"),
                "text of {path}"
            );
        }
        check!(!std::path::Path::new("/proc/self").exists(), "the jail has a /proc");
    });
    cx.await_arrival(child);
    let link = format!("/proc/{child}/cwd");
    let inside = jail.join("inside");
    crate::context::until("the child's chroot", || {
        std::fs::read_link(&link).is_ok_and(|l| l == inside)
    });
    cx.ready_and_wait();
    std::fs::write(jail.join("go"), "").expect("write");
    cx.reap(child);
}
