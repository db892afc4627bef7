//! What of tasks and of trees is refused, each with its reason: by the rooms here, and by the engine.

use std::ffi::OsString;

use crate::Error;
use crate::refusal::refusals;

refusals! {
    /// State of a task, or of a tree, that is refused: at a dump or, from [`HardLimit`](Self::HardLimit)
    /// on, at a restore.
    Refusal
    /// `PF_KTHREAD`.
    KernelThread: "a kernel thread",
        "there is no program in it",
        "give the pid of a process";
    /// `CLONE_VFORK`.
    Vfork: "a process that waits in vfork(2) for long",
        "it cannot be stopped before its child has ended or runs another program",
        "dump again when the child has run its program";
    /// `close(2)` or `dup2(2)` meanwhile.
    StaleNumber: "a call that waits with a file whose number is closed, or another file's, by now",
        "a stop interrupts the call, and it can only be made again by the number",
        "dump again when the call has returned, and have the program close no number that a call waits with";
    /// Of a program for i386 or x32, or by a far jump.
    Ia32: "a thread in 32-bit code",
        "its registers are other ones",
        "run a program built for 64 bits";
    /// What the plan of forks finds: see the engine's `spawn_plan`.
    NoOrder: "sessions, process groups or shared memory that no order of forks gives",
        "the kernel lets a process get them only from who forks it",
        "end the processes that are named, and dump again";
    /// `CLONE_NEWPID`.
    PidNamespace: "a pid namespace",
        "namespaces of a tree's own are not saved yet",
        "run dormouse inside of the namespace";
    /// `unshare(2)` and `setns(2)`.
    Namespace: "a namespace that is not that of dormouse",
        "namespaces of a tree's own are not saved yet",
        "run dormouse inside of the namespace (nsenter)";
    /// `PF_MEMALLOC_NOIO` and `PF_LOCAL_THROTTLE`.
    IoFlusher: "a thread that has said to be behind a disk (PR_SET_IO_FLUSHER)",
        "it would come back without, and might wait for itself when memory is short",
        "end the program";
    /// The leader of the session, or who has ended as that.
    ForeignSession: "a session whose leader is outside of the tree",
        "the process would be restored into another session",
        "start the program with setsid(1), or dump it with --shell-job";
    /// `TIOCSCTTY`.
    ForeignTerminal: "a session whose controlling terminal is outside of the tree",
        "the session could not get that terminal back",
        "dump the process that holds the other end of the terminal as well";
    /// `SECCOMP_RET_KILL_THREAD`.
    KilledLeader: "a first thread that was killed while others go on",
        "only a seccomp filter of its own can end it in this way",
        "end the process";
    /// `unshare(2)` with `CLONE_FILES`, before Linux 6.9.
    ThreadTable: "a thread with an fd table of its own",
        "this kernel gives no access to it",
        "Linux 6.9 and later do";
    /// `CLONE_PARENT`.
    UnlikeSibling: "a process whose session comes from a sibling which another thread made, or which ends with another signal",
        "it can only be made as that sibling was",
        "end one of the tasks that share, and dump again";
    /// `clone(2)` with an exit signal, and a parent that has ended.
    UnlikeOrphan: "an orphan which is another thread's child, or which ends with another signal",
        "whoever is adopted is a child of the first thread",
        "end one of the tasks that share, and dump again";
    /// `CLONE_VM` and the like, with who is not the parent.
    SharedAside: "memory, signal handlers, an fd table or directories shared with a process that is not the parent",
        "they can only be had from who makes the process",
        "end one of the tasks that share, and dump again";
    /// `CLONE_FILES` and the like, with several.
    SharedApart: "a thread that shares one thing with one task and another with another",
        "it can only have them all from who makes it",
        "end one of the tasks that share, and dump again";
    /// `modify_ldt(2)`.
    LocalDescriptors: "a local descriptor table",
        "segments made by modify_ldt(2) are not saved yet",
        "run the program without modify_ldt(2)";
    /// `ARCH_REQ_XCOMP_PERM`, and used.
    Tiles: "a tile of AMX in use",
        "the kernel gives a thread room for tiles when it uses one, and not before",
        "dump again when the thread has released its tiles";
    /// `PR_SCHED_CORE`.
    CoreScheduling: "a core scheduling cookie",
        "the kernel does not tell who else has the same",
        "run the program without PR_SCHED_CORE";
    /// `PR_SET_SYSCALL_USER_DISPATCH`.
    SyscallDispatch: "syscall user dispatch",
        "the thread was stopped while its calls are blocked",
        "dump again when the program's own code runs, not what it emulates";
    /// `PR_SET_THP_DISABLE`.
    HugePageRule: "a rule for transparent huge pages that is not known",
        "the kernel has a newer PR_SET_THP_DISABLE(2const)",
        "use a newer dormouse, if there is one";
    /// `mbind(2)`.
    MappingPolicy: "a mapping with a NUMA policy of its own (mbind)",
        "only policies of threads are saved",
        "run the program without it (numactl sets one for all memory)";
    /// `vm.max_map_count`.
    ManyMappings: "a process with nearly as many mappings as there may be",
        "it needs a few more while it is dumped, and while it is restored",
        "raise vm.max_map_count by 10 (sysctl)";
    /// `timer_create(2)` with a thread's clock.
    ThreadTimer: "a POSIX timer on a thread's processor time",
        "it does not run, and so does not show which thread it belongs to",
        "let the program start or delete it (timer_settime, timer_delete) before the dump";
    /// `SECCOMP_RET_USER_NOTIF`.
    SeccompNotification: "a seccomp filter with user notification",
        "whoever is asked for permission by it would be lost",
        "run the program without a supervisor for its system calls";
    /// `landlock_restrict_self(2)`.
    LandlockDomain: "a Landlock domain",
        "the kernel does not tell its rules, and the thread would come back without",
        "have the program run without Landlock, or end it";
    /// The same, where nobody can look.
    HiddenLandlock: "a thread that may be in a Landlock domain",
        "it cannot look into dormouse, and neither can dormouse into the kernel's memory",
        "give dormouse CAP_BPF and CAP_PERFMON, and a kernel with BTF";
    /// `semop(2)` with `SEM_UNDO`.
    UndoneValue: "a semaphore adjustment (SEM_UNDO)",
        "the value has become such that the kernel cannot take back the whole of it",
        "dump again when the semaphore has another value";
    /// The same, where nobody can look.
    HiddenUndo: "a task that may have operated on semaphores with SEM_UNDO",
        "there are semaphores, and the kernel's memory cannot be read here",
        "give dormouse CAP_BPF and CAP_PERFMON, or remove the semaphores (ipcs -s)";
    /// `flock(2)`, `fcntl(2)`.
    Lock: "a locked file",
        "saving locks and leases was not asked for",
        "use --file-locks to have them saved";
    /// `IORING_REGISTER_RING_FDS`.
    RegisteredRing: "an io_uring",
        "the thread has registered its descriptor (IORING_REGISTER_RING_FDS)",
        "have the program do without, many have a setting for it";
    /// `io_uring_enter(2)`.
    RestlessRing: "an io_uring",
        "its requests complete without a pause",
        "dump again when less is going on";
    /// `userfaultfd(2)`.
    Unanswered: "a call that waits for the handler of a userfaultfd",
        "nothing interrupts it until the handler has filled the page, or read the event",
        "dump again when the handler has answered";
    /// `mmap(2)` of a ring, and `close(2)`.
    ClosedRing: "an io_uring that is mapped, and not open",
        "nobody in the tree has a descriptor that its state could be read by",
        "have the program keep the descriptor open";
    /// `mmap(2)` of a socket that is no packet socket, or is closed.
    MappedSocket: "a socket's buffer that is mapped",
        "it is of no packet socket that somebody in the tree has open, or a part of it is not mapped",
        "have the program keep it open and mapped as a whole, and do without TCP_ZEROCOPY_RECEIVE";
    /// Keys, where nobody can look.
    HiddenKeys: "a thread that possesses keys",
        "which they are is in the kernel's memory, and that cannot be read here",
        "give dormouse CAP_BPF and CAP_PERFMON, and a kernel with BTF";
    /// `KEY_SPEC_PROCESS_KEYRING`.
    SharedProcessKeyring: "a process keyring that several threads have",
        "threads only come to share one when they are made",
        "have the program put the keys into its session keyring";
    /// `KEYCTL_ASSUME_AUTHORITY`.
    KeyMaker: "a thread that makes a key for another (request-key)",
        "the kernel lets nobody else take over what it was told to do",
        "dump again when the key has been made";
    /// `KEYCTL_SET_REQKEY_KEYRING`.
    RequestedKeys: "requested keys that go to a keyring which is not there (KEYCTL_SET_REQKEY_KEYRING)",
        "the thread has this from its parent; who says it is given the keyring too",
        "have the process choose the place itself, or none";
    /// `request_key(2)` under way.
    UnfinishedKey: "a key",
        "whoever is to make it has not done so yet",
        "dump again when the key has been made";
    /// `KEYCTL_RESTRICT_KEYRING`.
    RestrictedKeyring: "a key",
        "the kernel does not tell what may be linked to it",
        "have the program unlink it from its keyrings (keyctl unlink)";
    /// A keyring with a dot before its name.
    KernelKeyring: "a key",
        "only the kernel itself makes such keyrings",
        "have the program unlink it from its keyrings (keyctl unlink)";
    /// Neither a keyring, nor `user`, nor `logon`.
    KeyType: "a key",
        "what a key of this type holds cannot be read",
        "have the program unlink it from its keyrings (keyctl unlink)";
    /// `RLIMIT_NOFILE` of dormouse.
    ManyFiles: "a tree with more files and shared memory objects than dormouse may open",
        "a restore holds all of them at once, and the tree would be gone by then",
        "start dormouse with a higher hard limit (ulimit -Hn), here and where the tree is restored";
    /// `setrlimit(2)`.
    HardLimit: "a hard resource limit above that of dormouse",
        "raising one takes CAP_SYS_RESOURCE",
        "give dormouse that capability, or start it with higher limits";
    /// `no_new_privs` and what else is inherited.
    Restriction: "a thread without a restriction that dormouse itself runs under",
        "the kernel passes it on to every process made, for good",
        "start dormouse from where it is not set";
    /// `timer_create(2)` before `PR_TIMER_CREATE_RESTORE_IDS`.
    HighTimer: "a POSIX timer with a high number",
        "this kernel gives numbers only one after the other",
        "restore on Linux 6.15 or later";
    /// `SEM_UNDO`, and the value is another.
    TakenUndo: "a semaphore operation to be undone (SEM_UNDO)",
        "another process has operated on it since the dump",
        "restore when the semaphore has its former value";
    /// `SEM_UNDO`, and the set is another or none.
    MissingSemaphores: "a semaphore adjustment (SEM_UNDO)",
        "this set of semaphores is not on this machine",
        "dump and restore on the same machine, or end the program before";
    /// `KEYCTL_JOIN_SESSION_KEYRING` cannot be undone.
    NoSessionKeyring: "a thread without a session keyring",
        "dormouse has one itself, and a process cannot get rid of it",
        "start dormouse from where there is none (systemd-run -p KeyringMode=inherit)";
    /// `KEY_SPEC_SESSION_KEYRING` of a session.
    ForeignSessionKeyring: "a session keyring that others than the tree have, too",
        "dormouse does not have it, and none can be joined from elsewhere",
        "start dormouse from the session that the program was started from, or use --shell-job to give it the keyring of this one";
    /// `KEYCTL_JOIN_SESSION_KEYRING` by name.
    NamedSessionKeyring: "a session keyring with the name of another one",
        "the kernel joins whichever it finds first",
        "restore when nobody has a keyring of that name that others may search (keyctl show)";
    /// `--network-lock iptables` at the dump.
    IptablesLock: "a network that was locked by iptables",
        "the rules for each connection cannot be taken back",
        "dump with --network-lock nftables, or restore with CRIU";
}

impl Refusal {
    /// The error for one, with what identifies it.
    #[must_use]
    pub fn error(self, detail: impl Into<OsString>) -> Error {
        let (object, reason, hint) = (self.object(), self.reason(), self.hint());
        Error::Unsupported { object, detail: detail.into(), reason, hint }
    }
}
