//! One entry point for people and CI.
//!
//! `demo` shows the product, `test` is the gate, `bench` measures, `soak` looks for what nobody thought of. Each installs what it needs where it may, builds
//! the binaries once and runs them in a private world (see [`world`]), so that nothing is left on the machine.

mod bench;
mod demo;
mod packages;
mod shell;
mod soak;
mod step;
mod test;
mod world;

use std::process::ExitCode;

use anyhow::Result;

const USAGE: &str = "\
usage: cargo xtask demo [--keep]
           a hub and three nodes on this machine, the whole path from a policy to a dropped packet;
           --keep leaves it running and says what to try
       cargo xtask test [--strict] [--only NAME]
           the gate; with --strict, or CI=true, a skipped test is a failure; --only runs the tests named like NAME
       cargo xtask bench
           what the agent costs; fails where a limit is passed
       cargo xtask soak [--seconds N] [--only NAME] [--seed S]
           each fuzz target for N seconds (60), then the property tests over many more cases; --only runs one target, or
           `properties`";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match dispatch(&args) {
        Some(Ok(code)) => code,
        Some(Err(error)) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
        None => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// Runs what `args` ask for; nothing for a command line that is not in [`USAGE`].
fn dispatch(args: &[&str]) -> Option<Result<ExitCode>> {
    match args {
        ["demo"] => Some(demo::run(false)),
        ["demo", "--keep"] => Some(demo::run(true)),
        ["test", options @ ..] => test::Options::parse(options).map(|options| test::run(&options)),
        ["bench"] => Some(bench::run()),
        ["soak", options @ ..] => soak::Options::parse(options).map(|options| soak::run(&options)),
        _ => None,
    }
}
