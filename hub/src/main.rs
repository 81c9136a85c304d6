//! `holdfast`: the hub, and the operator's CLI.

fn main() -> std::process::ExitCode {
    holdfast_hub::cli::main()
}
