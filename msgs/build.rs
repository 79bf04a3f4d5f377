//! Generates the Rust message types from the .msg and .srv files of this crate.

#[path = "codegen/mod.rs"]
mod codegen;

use std::{env, fs, path::Path, process::ExitCode};

fn main() -> ExitCode {
    println!("cargo:rerun-if-changed=msg");
    println!("cargo:rerun-if-changed=srv");
    println!("cargo:rerun-if-changed=interfaces");
    println!("cargo:rerun-if-changed=codegen");
    let generated = codegen::collect(Path::new(".")).and_then(|packages| codegen::generate(&packages));
    let out = match env::var("OUT_DIR") {
        Ok(dir) => Path::new(&dir).join("messages.rs"),
        Err(error) => return fail(&format!("OUT_DIR: {error}")),
    };
    match generated {
        Ok(source) => match fs::write(&out, source) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&format!("{}: {error}", out.display())),
        },
        Err(error) => fail(&error),
    }
}

fn fail(message: &str) -> ExitCode {
    eprintln!("spikewing-msgs: {message}");
    ExitCode::FAILURE
}
