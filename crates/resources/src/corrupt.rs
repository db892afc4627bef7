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
