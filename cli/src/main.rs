//! The `rbox` command.

mod app;
mod command;
mod context;
mod error;
mod help;
mod option;
mod output;
mod parse;

fn main() -> std::process::ExitCode {
    app::main()
}
