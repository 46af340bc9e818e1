// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
//! Finds libalignmap: in the folder that ALIGNMAP_LIB_DIR names, else by pkg-config. The static
//! library is linked with the feature `static` or ALIGNMAP_STATIC=1.

use std::env;
use std::process::Command;

const VARIABLES: [&str; 6] = [
    "ALIGNMAP_LIB_DIR",
    "ALIGNMAP_STATIC",
    "PKG_CONFIG",
    "PKG_CONFIG_PATH",
    "PKG_CONFIG_LIBDIR",
    "PKG_CONFIG_SYSROOT_DIR",
];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    for name in VARIABLES {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let asked = env::var("ALIGNMAP_STATIC").map_or(false, |value| !["", "0"].contains(&&*value));
    let is_static = asked || env::var_os("CARGO_FEATURE_STATIC").is_some();
    let options = match env::var("ALIGNMAP_LIB_DIR") {
        Ok(folder) => vec![format!("-L{folder}"), "-lalignmap".to_string()],
        Err(_) => ask_pkg_config(is_static),
    };
    for option in options {
        if let Some(folder) = option.strip_prefix("-L") {
            println!("cargo:rustc-link-search=native={folder}");
        } else if option == "-lalignmap" && is_static {
            println!("cargo:rustc-link-lib=static=alignmap");
        } else if let Some(library) = option.strip_prefix("-l") {
            println!("cargo:rustc-link-lib={library}");
        }
    }
}

/// What a C program would be linked with, with the system's own folders, in which rustc does not
/// look for a static library by itself.
fn ask_pkg_config(is_static: bool) -> Vec<String> {
    let program = env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".to_string());
    let mut command = Command::new(&program);
    command.args(["--libs", "alignmap"]);
    command.args(is_static.then(|| "--static"));
    command.env("PKG_CONFIG_ALLOW_SYSTEM_LIBS", "1");
    let why = match command.output() {
        Ok(said) if said.status.success() => {
            let options = String::from_utf8_lossy(&said.stdout).into_owned();
            return options.split_whitespace().map(String::from).collect();
        }
        Ok(said) => String::from_utf8_lossy(&said.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    eprintln!("libalignmap was not found by {program}: {}", why.trim());
    eprintln!("Install it, or say by PKG_CONFIG_PATH or ALIGNMAP_LIB_DIR where it is.");
    std::process::exit(1)
}
