//! The demo: a hub and three nodes, the whole path from a policy file to a dropped packet.
//!
//! `cargo xtask demo` runs it in a private world. What it promises is in [`story`]; if anything is not as promised, it
//! says what and exits with 1.

mod keep;
mod show;
mod story;

use std::process::ExitCode;

use anyhow::Result;
use holdfast_pki::clock::{Clock as _, SystemClock};
use holdfast_tests::need;
use holdfast_tests::world::World;

use show::Show;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let keep = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => false,
        ["--keep"] => true,
        _ => {
            eprintln!("usage: holdfast-demo [--keep]");
            return ExitCode::from(2);
        }
    };
    let mut show = Show::on_stdout();
    match run(&mut show, keep) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            show.broken(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(show: &mut Show, keep: bool) -> Result<()> {
    let start = SystemClock.since_boot();
    show.title("Holdfast: a hub, three nodes, and one signed firewall that holds");
    let (fleet, services) = match need::namespaces() {
        None => {
            let fleet = story::enrol(show, World::new("demo")?)?;
            let services = story::open_services(&fleet.world)?;
            story::firewall_holds(show, &fleet)?;
            (fleet, services)
        }
        Some(reason) => {
            show.note("This machine allows no network namespaces, so there will be no packets to see:");
            show.note(&reason);
            show.note("Hub and agents run on the loopback device, without the right to touch your firewall.");
            let fleet = story::enrol(show, World::on_loopback("demo")?)?;
            story::release_is_judged(show, &fleet)?;
            (fleet, Vec::new())
        }
    };
    let took = (SystemClock.since_boot() - start).as_secs();
    if keep {
        return keep::until_interrupted(show, fleet);
    }
    drop((services, fleet));
    show.title(&format!(
        "All as promised, in {took} s. Nothing of it is left on this machine."
    ));
    Ok(())
}
