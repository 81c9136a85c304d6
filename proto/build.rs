//! Generates `holdfast.v1` from the .proto files with protox, so that no machine needs `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=holdfast/v1");
    let files = protox::compile(["holdfast/v1/holdfast.proto"], ["."])?;
    tonic_prost_build::configure()
        // Whoever calls over the network owns the connection: no generated `connect`.
        .build_transport(false)
        // Chunks and envelopes are handed on without a copy.
        .bytes(".")
        // Maps have one order.
        .btree_map(".")
        .compile_fds(files)?;
    Ok(())
}
