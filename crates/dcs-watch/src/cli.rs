//! The `dcs-watch` command: its arguments (`command`) and the lines that it prints (`printer`).

mod command;
mod printer;

pub use command::main;
