//! Habits of the project as commands.

fn main() {}
