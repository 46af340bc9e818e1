#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""Maps a file by large entries, as examples/file.c does: file-ctypes.py FILE"""
import ctypes
import mmap
import os
import sys

ALIGNMAP_FILE = 2
MAP_FAILED = ctypes.c_void_p(-1).value


class Leaves(ctypes.Structure):
    """struct alignmap_leaves"""
    _fields_ = [("count", ctypes.c_uint), ("size", ctypes.c_size_t * 8)]


class Plan(ctypes.Structure):
    """struct alignmap_plan"""
    _fields_ = [("alignment", ctypes.c_size_t), ("phase", ctypes.c_size_t),
                ("entries", ctypes.c_size_t), ("count", ctypes.c_size_t * 8)]


def check(result, function, _arguments):
    """Raises what errno says where a function has failed."""
    if result in (-1, MAP_FAILED):
        error = ctypes.get_errno()
        raise OSError(error, f"{function.__name__}: {os.strerror(error)}")
    return result


library = ctypes.CDLL("libalignmap.so.0", use_errno=True)
# Offsets have 64 bits everywhere.
library.alignmap_mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int,
                                  ctypes.c_int, ctypes.c_int64]
library.alignmap_mmap.restype = ctypes.c_void_p
library.alignmap_host_leaves.argtypes = [ctypes.c_int, ctypes.POINTER(Leaves)]
library.alignmap_plan.argtypes = [ctypes.POINTER(Leaves), ctypes.c_size_t, ctypes.c_uint64,
                                  ctypes.POINTER(Plan)]
for name in "alignmap_mmap", "alignmap_host_leaves", "alignmap_plan":
    getattr(library, name).errcheck = check
munmap = ctypes.CDLL(None).munmap
munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]

with open(sys.argv[1], "rb") as file:
    length = os.fstat(file.fileno()).st_size
    address = library.alignmap_mmap(None, length, mmap.PROT_READ, mmap.MAP_SHARED,
                                    file.fileno(), 0)
# The mapping itself: nothing is copied. It must not be written, nor used once it is unmapped.
content = (ctypes.c_ubyte * length).from_address(address)

leaves, plan = Leaves(), Plan()
library.alignmap_host_leaves(ALIGNMAP_FILE, leaves)
library.alignmap_plan(leaves, length, 0, plan)
print(f"{sys.argv[1]}: {length} bytes at {address:#x}, congruent modulo {plan.alignment:#x}")
print(f"page-table entries: {plan.entries}, at a page-aligned address up to "
      f"{(length - 1) // leaves.size[leaves.count - 1] + 1}")
print(f"the last byte: {content[-1]:#04x}")
munmap(address, length)
