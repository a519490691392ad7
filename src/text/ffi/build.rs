// Only generates the bridge's header and source: the C++ build compiles them with its own flags.
fn main() {
    drop(cxx_build::bridge("src/lib.rs"));
    println!("cargo:rerun-if-changed=src/lib.rs");
}
