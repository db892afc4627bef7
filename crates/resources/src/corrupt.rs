//! Short ways to say that an image is damaged.

use dormouse_image::ImageName;

use crate::Error;

/// An entry of `image` that describes the object with the number `id` is
/// wrong.
pub(crate) fn corrupt(
    image: ImageName,
    object: &'static str,
    id: impl Into<u64>,
    reason: &'static str,
) -> Error {
    Error::Corrupt { image, object, id: id.into(), reason }
}

/// A task's core image is wrong about `object`.
pub(crate) fn corrupt_core(object: &'static str, reason: &'static str) -> Error {
    Error::CorruptCore { object, reason }
}
