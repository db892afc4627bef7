//! CRIU image model: framing, magics, messages and the directory store.
