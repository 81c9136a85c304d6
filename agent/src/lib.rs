//! The agent: what is.
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "tests set up their own files, processes and clocks"
    )
)]
