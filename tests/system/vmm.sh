#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
# examples/vmm.c: that it builds with old and new kernel headers, what it says when things are
# wrong, and what it does with a cdev, which is made-up-cdev.c's. Real groups are the lab's.
# shellcheck disable=SC2317 # functions are called by name
# shellcheck source=tap.sh
. "$(dirname "$0")/tap.sh"
: "${BUILD:?}" "${CC:?}" "${SOURCE:?}"

if [ -n "$SANITIZE" ]; then
	echo "1..0 # SKIP what users build has no sanitizer's runtime"
	exit 0
fi
need_common_leaves
read -ra cc <<<"$CC"
read -ra flags < <(PKG_CONFIG_PATH=$BUILD/meson-uninstalled pkg-config --cflags --libs alignmap)
bdf=0000:65:00.0
root=$scratch/root
devices=$root/sys/bus/pci/devices/$bdf
export MADE_UP=$root LD_LIBRARY_PATH=${LIBRARY%/*}

build() { # PROGRAM OPTION...
	check "examples/vmm.c builds with the $1 headers" "${cc[@]}" -Wall -Wextra -Wshadow -Werror \
		"${@:2}" "$SOURCE/examples/vmm.c" "${flags[@]}" -o "$scratch/$1"
}

# Runs the example on the stand-in, and leaves $status, $scratch/out, $scratch/error, $root/log.
run() { # [VARIABLE=VALUE...] PROGRAM [BDF]
	rm -f "$root/log"
	status=0
	env LD_PRELOAD="$scratch/made-up-cdev.so" "$@" >"$scratch/out" 2>"$scratch/error" ||
		status=$?
}

details() {
	echo "exit status $status"
	cat "$scratch/out" "$scratch/error"
	cat "$root/log" 2>/dev/null
}

# says STATUS TEXT: ended so, with one line of error that has that text.
says() {
	[ "$status" = "$1" ] && [ "$(wc -l <"$scratch/error")" = 1 ] &&
		grep -qF -- "$2" "$scratch/error"
}

# Sets up what exists of the device: cdev, group, or group-dev for the group's file too.
exists() {
	rm -rf "$root"
	mkdir -p "$devices/vfio-dev/vfio3" "$root/dev/vfio/devices"
	case $1 in cdev) touch "$root/dev/vfio/devices/vfio3" "$root/dev/iommu" ;; esac
	case $1 in group*) ln -s ../../../../kernel/iommu_groups/7 "$devices/iommu_group" ;; esac
	case $1 in group-dev) touch "$root/dev/vfio/7" ;; esac
}

build installed
mkdir -p "$root"
names=('without a device it says how to call it' 'a device that is not there is named')
status=0
"$scratch/installed" >"$scratch/out" 2>"$scratch/error" || status=$?
verdict "${names[0]}" says 2 'usage: vmm BDF, as lspci -D prints it'
status=0
"$scratch/installed" 9999:65:00.0 >"$scratch/out" 2>"$scratch/error" || status=$?
verdict "${names[1]}" says 1 '9999:65:00.0: no such device (name it as lspci -D does'

# The headers that this machine has, if they know of cdevs; else those that were fetched.
cache=${LAB_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/libalignmap-lab}/headers/usr/include
new=()
knows_cdevs() {
	printf '#include <linux/vfio.h>\n#include <linux/iommufd.h>\nint x = %s;\n' \
		'VFIO_DEVICE_BIND_IOMMUFD' | "${cc[@]}" "${new[@]}" -fsyntax-only -x c - 2>/dev/null
}
if ! knows_cdevs; then
	new=(-isystem "$cache" -isystem "$cache/$("${cc[@]}" -print-multiarch 2>/dev/null ||
		gcc -print-multiarch)")
fi
if ! knows_cdevs; then
	skip 'the example with a cdev' 'headers of Linux 6.6 or newer: tests/lab/fetch headers'
	finish
fi
build newer "${new[@]}"
check 'the stand-in builds' "${cc[@]}" -Wall -Wextra -Werror -D_GNU_SOURCE -fPIC -shared \
	"${new[@]}" "$SOURCE/tests/system/made-up-cdev.c" -o "$scratch/made-up-cdev.so" -ldl
[ -e "$scratch/made-up-cdev.so" ] || finish

for program in installed newer; do
	exists nothing
	run "$scratch/$program" "$bdf"
	verdict "$program: where no IOMMU is, it says how to turn it on" says 1 \
		"$bdf: has no IOMMU group (turn the IOMMU on in the firmware; Intel's also by intel_iommu=on)"
	exists group
	run "$scratch/$program" "$bdf"
	verdict "$program: a device that is not vfio-pci's: it says to bind it" says 1 \
		"cannot open /dev/vfio/7 (bind the device to vfio-pci"
	exists group-dev
	run "$scratch/$program" "$bdf"
	verdict "$program: a group that is not viable: it says what to bind" says 1 \
		"group not viable (bind all of /sys/bus/pci/devices/$bdf/iommu_group/devices to vfio-pci)"
done

# Region, offset, length, rights, IOVA: what of made-up-cdev.c's regions is left around its MSI-X
# table and PBA in BAR 0 and around the kernel's holes in BAR 2; BAR 5 is read-only and less than a
# page. The IOVAs are where a guest can have BARs: at multiples of their length.
areas='0 0 0x3000 rw rw-s 0x1000000000
0 0x5000 0x2fc000 rw rw-s 0x1000005000
0 0x302000 0xfe000 rw rw-s 0x1000302000
2 0 0x201000 rw rw-s 0x1001000000
2 0x400000 0x200000 rw rw-s 0x1001400000
2 0xfff000 0x1000 rw rw-s 0x1001fff000
5 0 0x1000 r- r--s 0x1002000000'
unmapped='unmap iova 0x1000000000 length 0x400000: 3
unmap iova 0x1001000000 length 0x1000000: 3
unmap iova 0x1002000000 length 0x10000: 1'

maps() {
	awk '{ print "map region " $1 " offset " $2 " length " $3 " " $4 " " $5 " iova " $6 }' \
		<<<"$areas"
}

# Without addresses and counts, which are different each time.
logged() { sed 's/ away .*//' "$root/log"; }

whole_log() { # UNMAPPED
	printf '%s\n' "open /dev/vfio/devices/vfio3" "open /dev/iommu" bind alloc attach "$(maps)" "$1" \
		'reset, mapped 0, held 0x1401000, iommu 0' "$(maps)" "$1" \
		'close device, mapped 0, held 0, iommu 0' 'close iommu'
}

# BAR|offset|address|length|IOVA|leaves|faults N, or "not for DMA"
printed() {
	sed -nE '/^BAR/ { s/, (length|IOVA|leaves)? ?/|/g; s/^BAR ([0-9]) \+ (\w+): /\1|\2|/p }' \
		"$scratch/out"
}

# Twice the same, but for the faults; the areas that the stand-in was given.
prints_areas() {
	local all half

	all=$(printed | cut -d '|' -f 1-6)
	half=$(head -n 7 <<<"$all")
	[ "$all" = "$half"$'\n'"$half" ] &&
		[ "$(awk -F '|' '{ print $1, $2, $4, $5 }' <<<"$half")" = \
			"$(cut -d ' ' -f 1-3,6 <<<"$areas")" ]
}

# Counted on their own: as many blocks of 2 MiB as lie whole in an area, and pages.
prints_leaves() {
	local offset length leaves large pages expected rows=0

	while IFS='|' read -r offset length leaves; do
		large=$(((offset + length) / 0x200000 - (offset + 0x1fffff) / 0x200000))
		if ((large < 0)); then large=0; fi
		pages=$(((length - large * 0x200000) / 4096))
		expected=
		if ((large)); then expected="$large*2048 KiB"; fi
		if ((pages)); then expected+="${expected:+ }$pages*4 KiB"; fi
		[ "$leaves" = "$expected" ] || return 1
		rows=$((rows + 1))
	done < <(printed | cut -d '|' -f 2,4,6)
	[ "$rows" = 14 ]
}

# Modulo 2 MiB in the BARs that hold as much, by what /proc/self/maps says in the stand-in.
congruent() {
	[ "$(grep -c '^map region [02] .* away 0 ' "$root/log")" = 12 ]
}

# The first is left out: the stand-in's own first faults are counted in it.
same_faults() {
	[ "$(printed | sed '1d; s/.*|faults //')" = \
		"$(sed -n 's/^map .* faults //p' "$root/log" | sed 1d)" ] &&
		grep -q ' faults [1-9]' "$root/log"
}

exists cdev
run "$scratch/newer" "$bdf"
verdict 'with a cdev it ends well' [ "$status" = 0 ]
same 'it binds, then attaches, takes all out before the reset, and leaves nothing' \
	"$(whole_log "${unmapped//: ?/: 0}")" "$(logged)"
verdict 'its areas are those around the holes, with the same addresses after the reset' prints_areas
verdict 'it prints the leaves of each area' prints_leaves
verdict 'the areas are congruent with their offsets' congruent
verdict 'where iommufd refuses device memory, it says so and counts nothing' \
	[ "$(printed | grep -c '|not for DMA$')" = 14 ]

run MADE_UP_DMA=1 "$scratch/newer" "$bdf"
same 'where the IOMMU takes device memory, each area is taken back before the reset and the end' \
	"$(whole_log "$unmapped")" "$(logged)"
verdict 'it counts the faults of that' same_faults

run MADE_UP_RESET=0 "$scratch/newer" "$bdf"
same 'a device that cannot be reset is not' "0 $bdf has no reset" \
	"$status $(grep 'reset$' "$scratch/out")$(grep '^reset' "$root/log")"
run MADE_UP_LOOP=1 timeout 20 "$scratch/newer" "$bdf"
verdict 'a list of capabilities that loops ends, and cuts nothing' \
	[ "$status $(printed | grep -c '^0|')" = '0 2' ]

exists cdev
rm "$root/dev/iommu"
run "$scratch/newer" "$bdf"
verdict 'without /dev/iommu it says that' says 1 'cannot open /dev/iommu'
exists group-dev
touch "$root/dev/iommu"
run "$scratch/newer" "$bdf"
verdict 'on a kernel without cdevs it takes the group' says 1 'group not viable'
finish
