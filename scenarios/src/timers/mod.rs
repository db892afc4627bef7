//! Timers that run in the kernel.

pub(crate) mod alarm;
pub(crate) mod interval;
pub(crate) mod interval_expired;
pub(crate) mod posix;
pub(crate) mod posix_cpu;
pub(crate) mod posix_many;
pub(crate) mod posix_numbers;
pub(crate) mod posix_overrun;
pub(crate) mod posix_pending;
pub(crate) mod posix_thread;
pub(crate) mod posix_thread_clock;
pub(crate) mod posix_thread_clock_idle;
