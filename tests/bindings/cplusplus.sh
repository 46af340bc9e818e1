#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
# examples/window.cc. tests/system/install.sh has both headers in C++, and what they declare linked.
# shellcheck disable=SC2317 # functions are called by name
# shellcheck source=tests/bindings/common.sh
. "$(dirname "$0")/common.sh"
: "${CXX?}"

if [ -z "$CXX" ]; then
	echo '1..0 # SKIP no C++ compiler'
	exit 0
fi
read -ra flags < <(pkg-config --cflags --libs alignmap)

# Its first page mapped at a multiple of a PMD, the second held, the rest mapped behind.
maps_around_a_page() {
	"$scratch/window" "$large" >"$scratch/out" 2>&1 || return
	local places lengths states first
	mapfile -t places < <(sed 's/:.*//' "$scratch/out")
	mapfile -t lengths < <(sed -E 's/.*: ([0-9]+) bytes.*/\1/' "$scratch/out")
	mapfile -t states < <(sed 's/.*, //' "$scratch/out")
	first=${places[0]}
	[ "${states[*]}" = 'mapped held mapped' ] && [ "${lengths[*]}" = '4096 4096 5238784' ] &&
		((first % 0x200000 == 0 && places[1] == first + 4096 && places[2] == first + 8192))
}

for standard in 11 20; do
	check "examples/window.cc builds as C++$standard" "$CXX" -std=c++$standard -Wall -Wextra \
		-Wshadow -Wold-style-cast -Wconversion -Werror "$SOURCE/examples/window.cc" "${flags[@]}" \
		-o "$scratch/window"
	verdict 'and maps a file around its second page' maps_around_a_page
	verdict 'and says how to call it' fails_with "usage: $scratch/window FILE" "$scratch/window"
done
finish
