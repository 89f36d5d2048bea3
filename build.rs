//! Makes sure that the folder of the browser app is there to be embedded, even when it has not been built.

fn main() {
    println!("cargo::rerun-if-changed=web/dist");
    if let Err(error) = std::fs::create_dir_all("web/dist") {
        println!("cargo::error=web/dist cannot be made: {error}");
    }
}
