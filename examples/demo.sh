#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# Shows on this machine, whatever its hardware, what LD_PRELOAD=libalignmap.so does for a program
# that maps the large BAR of a PCI device through VFIO. Builds the library, boots the newest Debian
# kernel with emulated devices (tests/lab), and maps BARs of 2 and 4 GiB there, by a program that
# does what a VMM does and by Debian's QEMU, each without and with the library.
# On Debian 12 or newer, as root, it installs what it needs; elsewhere it names what is missing.
#
#	examples/demo.sh
set -euo pipefail
if [ $# != 0 ]; then
	sed -n '4,11s/^# \{0,1\}//p' "$0" >&2
	exit 2
fi
cd "$(dirname "$(realpath "$0")")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

quietly() {
	if ! "$@" >"$work/log" 2>&1; then
		cat "$work/log" >&2
		echo "demo: $1 failed" >&2
		exit 1
	fi
}

tests/lab/need build lab
echo "demo: building the library and what runs in the lab in build-demo: a minute or two" >&2
if [ -e build-demo ] && [ ! -w build-demo ]; then
	echo "demo: build-demo is somebody else's: remove it" >&2
	exit 1
fi
if [ ! -e build-demo/build.ninja ]; then quietly meson setup build-demo; fi
quietly meson compile -C build-demo
if ! tests/lab/run -v -b build-demo -p 'vmm qemu' newest >"$work/results"; then
	grep -A 5 '^not ok' "$work/results" >&2 || true
	echo "demo: the lab failed" >&2
	exit 1
fi

sed -n 's/^# row //p' "$work/results" | awk -F '|' '
	function grouped(number) {
		number = sprintf("%d", number)
		while (match(number, /^[0-9]+[0-9][0-9][0-9](,|$)/)) {
			match(number, /^[0-9]+/)
			number = substr(number, 1, RLENGTH - 3) "," substr(number, RLENGTH - 2)
		}
		return number
	}
	function row(program, kernel, bar, preloaded, address, faults, seconds, ratio) {
		printf "%-20s %-7s %-6s %-15s %14s %10s %9s %8s\n", program, kernel, bar, \
			preloaded, address, faults, seconds, ratio
	}
	BEGIN {
		print ""
		row("program", "kernel", "BAR", "LD_PRELOAD", "address", "faults", "seconds", \
			"ratio")
	}
	$4 == "unaided" {
		row($1, $2, $3, "-", $5, grouped($6), sprintf("%.4f", $7), "1")
		unaided = $7
		if (split($1, word, /[ .]/) && word[1] == "QEMU") {
			if (word[2] * 100 + word[3] >= 902)
				notes[$1 " aligns large BARs by itself, as QEMU does since 9.2."]
			else if ($5 ~ /[02468ace]00000$/)
				notes[$1 " without it is 2 MiB-aligned by luck: the kernel puts the" \
					" BAR below memory\nthat glibc has aligned for a thread."]
		}
	}
	$4 == "preload" {
		row("", "", "", "libalignmap.so", $5, grouped($6), sprintf("%.4f", $7), \
			grouped(unaided / $7 + 0.5))
	}
	END {
		print "\nFaults and seconds of VFIO_IOMMU_MAP_DMA of the BAR. Emulation is slow:" \
			" only the ratio of\nthe seconds means anything."
		for (note in notes)
			print note
	}'
