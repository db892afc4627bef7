//! What was measured.

use std::time::Duration;

use serde::Serialize;

use crate::command::Counts;

/// One dump and one restore.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) dump: Duration,
    pub(crate) restore: Duration,
    /// How long the target stood still, as the dump tells.
    pub(crate) still: Duration,
    /// Peak memory of the commands, in bytes.
    pub(crate) peak: (u64, u64),
    /// Bytes that the images take.
    pub(crate) image: u64,
}

/// Medians over all samples.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Figures {
    pub(crate) dump_ms: f64,
    pub(crate) restore_ms: f64,
    pub(crate) still_ms: f64,
    pub(crate) peak_dump_bytes: u64,
    pub(crate) peak_restore_bytes: u64,
    pub(crate) image_bytes: u64,
    /// Of the dump.
    pub(crate) dump_counts: Option<Counts>,
    /// Of the restore, with what the restored tasks were made to call.
    pub(crate) restore_counts: Option<Counts>,
}

/// The bare work: milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Bare {
    pub(crate) dump_ms: Option<f64>,
    pub(crate) restore_ms: f64,
}

/// All about one case.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    #[serde(skip)]
    pub(crate) case: &'static crate::case::Case,
    pub(crate) name: String,
    pub(crate) dormouse: Result<Figures, String>,
    /// `None` where no CRIU was measured.
    pub(crate) criu: Option<Result<Figures, String>>,
    pub(crate) limit: Option<Bare>,
}

pub(crate) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The middle one; of an even number the lower of two.
pub(crate) fn median<T: Copy + PartialOrd>(values: impl Iterator<Item = T>) -> Option<T> {
    let mut values: Vec<T> = values.collect();
    values.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    values.get(values.len().saturating_sub(1) / 2).copied()
}

impl Figures {
    /// `None` without a sample.
    pub(crate) fn of(samples: &[Sample]) -> Option<Self> {
        let time = |of: fn(&Sample) -> Duration| median(samples.iter().map(of)).map(ms);
        let bytes = |of: fn(&Sample) -> u64| median(samples.iter().map(of));
        Some(Self {
            dump_ms: time(|sample| sample.dump)?,
            restore_ms: time(|sample| sample.restore)?,
            still_ms: time(|sample| sample.still)?,
            peak_dump_bytes: bytes(|sample| sample.peak.0)?,
            peak_restore_bytes: bytes(|sample| sample.peak.1)?,
            image_bytes: bytes(|sample| sample.image)?,
            dump_counts: None,
            restore_counts: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(median([3, 1, 2].into_iter()), Some(2));
        assert_eq!(median([4, 1, 3, 2].into_iter()), Some(2));
        assert_eq!(median([0u8; 0].into_iter()), None);
    }
}
