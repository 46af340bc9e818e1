#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
# The USDT probes: as the object notes them, and as bpftrace sees them in a running program.
# shellcheck disable=SC2317 # functions are called by name
# shellcheck source=tap.sh
. "$(dirname "$0")/tap.sh"
: "${SOURCE:?}"
need_common_leaves

noted=$(readelf -n "$LIBRARY" 2>/dev/null | awk '/Provider: alignmap/ { getline; print $2 }' | sort -u)
if [ -z "$noted" ]; then
	echo '1..0 # SKIP the library is built without probes'
	exit 0
fi
documented=$(sed -n '/^\.Ss Probes/,/^\.El/s/^\.It //p' "$SOURCE/man/alignmap.7" | sort)
same 'the object notes the probes that the manual page lists' "$documented" "$noted"
same 'each has four arguments' 4 "$(readelf -n "$LIBRARY" | awk '
	/Provider: / { ours = /alignmap/ } ours && /Arguments:/ { print NF - 1 }' | sort -u)"

names=(
	'a placed mapping is told with its address, length, offset and alignment'
	'a mapping for which there is no room is told as a fallback'
	'a refused mapping is told with the address of a failure'
	'calls that are left to the kernel are counted'
)
unwatched() { # WHY
	for name in "${names[@]}"; do skip "$name" "$1"; done
	finish
}
command -v bpftrace >/dev/null || unwatched 'bpftrace is missing'
[ "$(id -u)" = 0 ] || unwatched 'bpftrace wants root'
[ -z "$SANITIZE" ] || unwatched 'a sanitizer has mappings of its own'

timeout 60 bpftrace -e 'BEGIN { exit(); }' >"$scratch/why" 2>&1 ||
	unwatched "bpftrace does not work here: $(grep -v RLIMIT "$scratch/why" | head -n 1)"

# It is one line for each event, and must be there before them: a pipe tells when it is.
mkfifo "$scratch/lines"
bpftrace -B line "$SOURCE/tools/alignmap.bt" "$LIBRARY" >"$scratch/lines" 2>"$scratch/why" &
bpftrace=$!
exec 3<"$scratch/lines"
for _ in attaching header; do
	if ! read -r -t 60 -u 3; then
		fail 'bpftrace takes tools/alignmap.bt' "$(cat "$scratch/why")"
		finish
	fi
done

# Room for the mapping, and less than what a placement reserves for an instant beside it.
least=0
until prlimit --as=$((least += 1 << 20)) "$PROBE" call mmap private 2>/dev/null; do :; done
watched() { LD_PRELOAD=$preload "$PROBE" call mmap "$1" 2>/dev/null; }
watched private-large
LD_PRELOAD=$preload prlimit --as=$((least + (1 << 20))) "$PROBE" call mmap private
watched wrong
watched left-hint
# bpftrace takes a moment to read what the kernel has told it.
sleep 2
kill -INT "$bpftrace"
cat <&3 >"$scratch/told"
wait "$bpftrace" 2>/dev/null

told() { grep -qE "$1" "$scratch/told"; }
details() { cat "$scratch/told" "$scratch/why"; }
verdict "${names[0]}" told ' probe +placed +0x[0-9a-f]+2000 +0x80000000 +0x2000 +1048576$'
verdict "${names[1]}" told ' probe +fallback +0x[0-9a-f]+ +0x800000 +0x0 +2048$'
verdict "${names[2]}" told ' probe +refused +0xf{16} +0x800000 +0x0 +2048$'
verdict "${names[3]}" told '^@calls\[probe, [0-9]+, left\]: 2$'
finish
