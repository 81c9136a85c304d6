#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    holdfast_tests::fuzz::run("envelope", input);
});
