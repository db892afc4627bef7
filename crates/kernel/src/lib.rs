//! A thin safe layer over the Linux interfaces that checkpointing needs.
