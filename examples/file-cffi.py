#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""Maps a file by large entries, as examples/file.c does: file-cffi.py FILE

The C compiler takes structures and constants from the header, and checks the rest against it; so
this needs one, Python's headers, and pkg-config. A program would do the first part once, when it is
installed.
"""
import importlib.util
import os
import sys
import tempfile

import cffi

DECLARATIONS = """
    typedef int... off_t;
    struct alignmap_leaves { unsigned int count; size_t size[...]; ...; };
    struct alignmap_plan { size_t alignment; size_t entries; ...; };
    enum alignmap_backing { ALIGNMAP_FILE, ... };
    int alignmap_host_leaves(enum alignmap_backing, struct alignmap_leaves *);
    int alignmap_plan(const struct alignmap_leaves *, size_t, uint64_t, struct alignmap_plan *);
    void *alignmap_mmap(void *, size_t, int, int, int, off_t);
    int munmap(void *, size_t);
    #define PROT_READ ...
    #define MAP_SHARED ...
"""

with tempfile.TemporaryDirectory() as folder:
    builder = cffi.FFI()
    builder.cdef(DECLARATIONS)
    builder.set_source_pkgconfig("_alignmap", ["alignmap"],
                                 "#include <alignmap.h>\n#include <sys/mman.h>\n")
    spec = importlib.util.spec_from_file_location("_alignmap", builder.compile(tmpdir=folder))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
ffi, lib = module.ffi, module.lib


def check(failed):
    """Raises what errno says where a function has failed."""
    if failed:
        raise OSError(ffi.errno, os.strerror(ffi.errno))


with open(sys.argv[1], "rb") as file:
    length = os.fstat(file.fileno()).st_size
    mapping = lib.alignmap_mmap(ffi.NULL, length, lib.PROT_READ, lib.MAP_SHARED, file.fileno(), 0)
check(mapping == ffi.cast("void *", -1))
# The mapping itself: nothing is copied. It must not be used once it is unmapped.
content = memoryview(ffi.buffer(mapping, length)).toreadonly()

leaves, plan = ffi.new("struct alignmap_leaves *"), ffi.new("struct alignmap_plan *")
check(lib.alignmap_host_leaves(lib.ALIGNMAP_FILE, leaves))
check(lib.alignmap_plan(leaves, length, 0, plan))
address = int(ffi.cast("uintptr_t", mapping))
print(f"{sys.argv[1]}: {length} bytes at {address:#x}, congruent modulo {plan.alignment:#x}")
print(f"page-table entries: {plan.entries}, at a page-aligned address up to "
      f"{(length - 1) // leaves.size[leaves.count - 1] + 1}")
print(f"the last byte: {content[-1]:#04x}")
check(lib.munmap(mapping, length))
