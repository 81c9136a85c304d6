//! Makes the image of the booted nodes, or finds it in the cache, and prints its path.
//!
//! A program of its own because it needs a mirror, and the private world that tests run in has no way to one.

fn main() -> anyhow::Result<()> {
    println!("{}", holdfast_tests::lab::image::make()?.display());
    Ok(())
}
