//! The order of things: the phases of a dump and of a restore.
