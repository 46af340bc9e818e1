// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
//! Maps a file by large entries, as examples/file.c does: cargo run --example file FILE

use alignmap::{Backing, Leaves, Mapping, Protection, Sharing};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let name = env::args().nth(1).ok_or(io::ErrorKind::InvalidInput)?;
    let file = fs::File::open(&name)?;
    let length = file.metadata()?.len() as usize;

    // Exactly mmap(2), but for the address; it is unmapped at the end.
    let mapping = Mapping::new(&file, 0, length, Protection::READ, Sharing::Shared)?;

    // What that is worth, if all of the file is in large folios of the page cache.
    let leaves = Leaves::host(Backing::File);
    let plan = leaves.plan(0, length)?;
    println!(
        "{name}: {length} bytes at {:p}, congruent modulo {:#x}",
        mapping.address(),
        plan.alignment
    );
    println!(
        "page-table entries: {}, at a page-aligned address up to {}",
        plan.entries,
        (length - 1) / leaves.sizes().last().unwrap() + 1
    );
    Ok(())
}
