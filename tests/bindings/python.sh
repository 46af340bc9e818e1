#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
# The examples in Python, by ctypes and by cffi.
# shellcheck disable=SC2317 # functions are called by name
# shellcheck source=tests/bindings/common.sh
. "$(dirname "$0")/common.sh"

reads_it() { maps_it "$@" && [ "$(tail -n 1 "$scratch/out")" = 'the last byte: 0x7f' ]; }

# Whether cffi can build here.
can_compile() {
	python3 -c 'import os, cffi, setuptools, sysconfig
os.stat(os.path.join(sysconfig.get_path("include"), "Python.h"))' 2>/dev/null
}

if ! command -v python3 >/dev/null; then
	echo '1..0 # SKIP python3 is missing'
	exit 0
fi
for way in ctypes cffi; do
	example=$SOURCE/examples/file-$way.py
	if [ $way = cffi ] && ! can_compile; then
		skip 'examples/file-cffi.py' "cffi, setuptools or Python's headers are missing"
		continue
	fi
	verdict "examples/file-$way.py maps a file at an address as it prints it, and reads it" \
		reads_it python3 "$example"
	verdict "and raises what mmap(2) fails with" \
		fails_with 'OSError: [Errno 22]' python3 "$example" "$scratch/empty"
done
finish
