//! One room per kernel object: recognised, read, encoded, validated, created and filled.
