// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
//! The declarations against the headers: a C program, made from the same list, prints what its
//! compiler makes of them.

use alignmap_sys as sys;
use std::fmt::Write;
use std::mem::{align_of, size_of, MaybeUninit};
use std::path::Path;
use std::process::Command;
use std::ptr::addr_of;
use std::{env, fs};

const DECLARATIONS: &str = include_str!("../src/lib.rs");
const HEADERS: [&str; 2] = [
    include_str!("../../../../include/alignmap.h"),
    include_str!("../../../../include/alignmap-vfio.h"),
];
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../include");

fn size_behind<T>(_: *const T) -> usize {
    size_of::<T>()
}

/// `rust()` says what Rust has, a line for each structure, field and constant; `c()` is the program
/// that says it for C.
macro_rules! compared {
    (structures { $($structure:ident { $($field:ident)* })* } constants { $($constant:ident)* }) => {
        fn rust() -> String {
            let mut lines = String::new();
            $({
                // This does not compile where a field is missing in the list.
                let _ = |all: sys::$structure| { let sys::$structure { $($field: _),* } = all; };
                let name = stringify!($structure);
                let size = size_of::<sys::$structure>();
                writeln!(lines, "{name} {size} {}", align_of::<sys::$structure>()).unwrap();
                let place = MaybeUninit::<sys::$structure>::uninit();
                $({
                    // SAFETY: nothing is read.
                    let field = unsafe { addr_of!((*place.as_ptr()).$field) };
                    let offset = field as usize - place.as_ptr() as usize;
                    let size = size_behind(field);
                    writeln!(lines, "{name}.{} {offset} {size}", stringify!($field)).unwrap();
                })*
            })*
            $(writeln!(lines, "{} {}", stringify!($constant), sys::$constant).unwrap();)*
            lines
        }

        fn c() -> String {
            let mut lines = String::new();
            $({
                let of = concat!("struct ", stringify!($structure));
                let name = stringify!($structure);
                writeln!(lines, "\tsay(\"{name}\", sizeof({of}), _Alignof({of}));").unwrap();
                $({
                    let field = stringify!($field);
                    let size = format!("sizeof((({of} *)0)->{field})");
                    writeln!(lines, "\tsay(\"{name}.{field}\", offsetof({of}, {field}), {size});")
                        .unwrap();
                })*
            })*
            $(
                let name = stringify!($constant);
                writeln!(lines, "\tprintf(\"{name} %llu\\n\", 0ULL + {name});").unwrap();
            )*
            lines
        }

        const LISTED: &[&str] = &[$(stringify!($structure),)* $(stringify!($constant),)*];
    };
}

compared! {
    structures {
        alignmap_leaves { count size }
        alignmap_plan { alignment phase entries count }
        alignmap_window_options { size max_alignment flags }
        alignmap_extent { address length offset state prot }
        alignmap_vfio_hole { offset length }
        alignmap_vfio_options { size max_alignment flags holes hole_count }
        alignmap_vfio_area { address length offset prot }
        alignmap_vfio_region { address length offset flags index area_count areas }
    }
    constants {
        ALIGNMAP_LEAVES_MAX
        ALIGNMAP_ANY ALIGNMAP_VFIO ALIGNMAP_FILE ALIGNMAP_ANONYMOUS
        ALIGNMAP_STRICT
        ALIGNMAP_RESERVED ALIGNMAP_MAPPED ALIGNMAP_LOST
    }
}

/// What a C program prints.
fn run(program: &str) -> String {
    let source = Path::new(env!("CARGO_TARGET_TMPDIR")).join("layouts.c");
    let binary = source.with_extension("");
    fs::write(&source, program).unwrap();
    let compiler = env::var("CC").unwrap_or_else(|_| "cc".to_string());
    let built = Command::new(compiler)
        .args(["-D_FILE_OFFSET_BITS=64", "-I", FOLDER, "-o"])
        .args([&binary, &source])
        .status()
        .expect("a C compiler is needed");
    assert!(built.success());
    String::from_utf8(Command::new(binary).output().unwrap().stdout).unwrap()
}

#[test]
fn structures_and_constants_are_as_c_has_them() {
    let said = run(&format!(
        "#include <stdio.h>\n#include <alignmap-vfio.h>\n\
         static void say(const char *name, size_t at, size_t size)\n\
         {{\n\tprintf(\"%s %zu %zu\\n\", name, at, size);\n}}\n\
         int main(void)\n{{\n\
         {}\
         \treturn 0;\n}}\n",
        c()
    ));
    assert!(said.lines().count() > LISTED.len());
    assert_eq!(rust(), said);
    let types = run("#include <stdio.h>\n#include <alignmap.h>\n\
         int main(void)\n{\n\
         \tprintf(\"%zu %zu %zu\\n\", sizeof(off_t), sizeof(enum alignmap_backing),\n\
         \t       sizeof(enum alignmap_extent_state));\n}\n");
    assert_eq!(types, "8 4 4\n");
}

/// The public names that a text has outside of comments.
fn names(text: &str) -> Vec<String> {
    let code = text.split("/*").map(|part| part.rsplit("*/").next().unwrap());
    let code = code.collect::<String>();
    let mut names: Vec<String> = code
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.to_ascii_lowercase().starts_with("alignmap_"))
        .map(String::from)
        .collect();
    names.sort();
    names.dedup();
    names
}

#[test]
fn every_name_of_the_headers_is_declared() {
    let own = ["ALIGNMAP_H", "ALIGNMAP_VFIO_H", "alignmap_needs_an_off_t_of_64_bits"];
    let all: Vec<String> = HEADERS.iter().flat_map(|header| names(header)).collect();
    assert!(all.len() > LISTED.len());
    for name in all.iter().filter(|name| !own.contains(&name.as_str())) {
        let found = ["const", "fn", "struct", "type"].iter().any(|kind| {
            [" ", ":", "(", ";"]
                .iter()
                .any(|end| DECLARATIONS.contains(&format!("pub {kind} {name}{end}")))
        });
        assert!(found, "{name} is not declared");
    }
}

#[test]
fn every_structure_and_constant_is_compared() {
    for line in DECLARATIONS.lines() {
        let words: Vec<&str> = line.split([' ', ':']).collect();
        if let ["pub", "struct" | "const", name, ..] = words[..] {
            assert!(name == "alignmap_window" || LISTED.contains(&name), "{name} is not compared");
        }
    }
}
