//! Interval and POSIX timers (inside `core-PID.img`).

/// `itimer_entry`: `struct itimerval`, interval (`i`) and time left (`v`) in seconds and
/// microseconds.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ItimerEntry {
    #[prost(uint64, required, tag = "1")]
    pub isec: u64,
    #[prost(uint64, required, tag = "2")]
    pub iusec: u64,
    #[prost(uint64, required, tag = "3")]
    pub vsec: u64,
    #[prost(uint64, required, tag = "4")]
    pub vusec: u64,
}

/// `posix_timer_entry`: interval (`i`) and time left (`v`) in seconds and nanoseconds.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PosixTimerEntry {
    /// The timer's id.
    #[prost(uint32, required, tag = "1")]
    pub it_id: u32,
    #[prost(uint32, required, tag = "2")]
    pub clock_id: u32,
    #[prost(uint32, required, tag = "3")]
    pub si_signo: u32,
    /// `SIGEV_*`.
    #[prost(uint32, required, tag = "4")]
    pub it_sigev_notify: u32,
    /// `sigev_value`.
    #[prost(uint64, required, tag = "5")]
    pub sival_ptr: u64,
    #[prost(uint32, required, tag = "6")]
    pub overrun: u32,
    #[prost(uint64, required, tag = "7")]
    pub isec: u64,
    #[prost(uint64, required, tag = "8")]
    pub insec: u64,
    #[prost(uint64, required, tag = "9")]
    pub vsec: u64,
    #[prost(uint64, required, tag = "10")]
    pub vnsec: u64,
    /// Tid for `SIGEV_THREAD_ID`.
    #[prost(int32, optional, tag = "11")]
    pub notify_thread_id: Option<i32>,
}

/// `task_timers_entry`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TaskTimersEntry {
    #[prost(message, required, tag = "1")]
    pub real: ItimerEntry,
    #[prost(message, required, tag = "2")]
    pub virt: ItimerEntry,
    #[prost(message, required, tag = "3")]
    pub prof: ItimerEntry,
    #[prost(message, repeated, tag = "4")]
    pub posix: Vec<PosixTimerEntry>,
}
