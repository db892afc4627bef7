//! System calls under way: none may return early, late or with `EINTR`.

mod blocking;

pub(crate) mod accept;
pub(crate) mod clock_nanosleep_until;
pub(crate) mod cond_timedwait;
pub(crate) mod epoll_pwait;
pub(crate) mod epoll_pwait2;
pub(crate) mod epoll_pwait2_timeout;
pub(crate) mod epoll_pwait_timeout;
pub(crate) mod epoll_wait;
pub(crate) mod epoll_wait_timeout;
pub(crate) mod fcntl_lock;
pub(crate) mod fifo_open;
pub(crate) mod flock;
pub(crate) mod futex;
pub(crate) mod futex_timeout;
pub(crate) mod io_uring_enter_timeout;
pub(crate) mod moved_in_part;
pub(crate) mod msgrcv;
pub(crate) mod nanosleep;
pub(crate) mod nanosleep_null;
pub(crate) mod pause;
pub(crate) mod poll;
pub(crate) mod poll_timeout;
pub(crate) mod ppoll;
pub(crate) mod ppoll_timeout;
pub(crate) mod pselect;
pub(crate) mod pselect_timeout;
pub(crate) mod read;
pub(crate) mod select;
pub(crate) mod select_timeout;
pub(crate) mod semop;
pub(crate) mod sigsuspend;
pub(crate) mod sigtimedwait_timeout;
pub(crate) mod sigwaitinfo;
pub(crate) mod wait;
pub(crate) mod write;
