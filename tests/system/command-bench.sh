#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
# alignmap bench: memory and files of this machine, and what it refuses. BARs are the lab's.
# shellcheck disable=SC2317 # functions are called by name
# shellcheck source=tap.sh
. "$(dirname "$0")/tap.sh"
: "${ALIGNMAP?}" "${SOURCE:?}"
need_command jq
need_common_leaves
page=4096 pmd=2097152
thp=/sys/kernel/mm/transparent_hugepage
reader=$SOURCE/man/alignmap-bench.1

# Leaves $status, $scratch/out, $scratch/error.
bench() {
	status=0
	"${under[@]}" "$ALIGNMAP" bench "$@" >"$scratch/out" 2>"$scratch/error" </dev/null || status=$?
}
under=()

details() {
	echo "exit status $status"
	cat "$scratch/out" "$scratch/error"
}

# Status 2, and what is wrong, and where to read on; nothing else.
wrong() {
	[ "$status" = 2 ] && [ ! -s "$scratch/out" ] && [ "$(wc -l <"$scratch/error")" = 2 ] &&
		head -n 1 "$scratch/error" | grep -q '^alignmap bench: .*'"$1" &&
		[ "$(tail -n 1 "$scratch/error")" = "Try 'alignmap bench --help'." ]
}

# Status 1, and one line that has that text.
refused() {
	[ "$status" = 1 ] && [ ! -s "$scratch/out" ] && [ "$(wc -l <"$scratch/error")" = 1 ] &&
		grep -qF -- "$1" "$scratch/error" && grep -q '^alignmap bench: ' "$scratch/error"
}

bench --help
helpful() {
	[ "$status" = 0 ] && [ ! -s "$scratch/error" ] &&
		[ "$(sed -nE 's/^  (--[a-z]+) .*/\1/p' "$scratch/out" | sort)" = \
			"$(sed -nE 's/^\.It Fl -([a-z]+).*/--\1/p' "$reader" | sort)" ] &&
		[ "$(wc -L <"$scratch/out")" -le 80 ]
}
verdict 'it helps, in 80 columns, with the options of its manual' helpful

while IFS='|' read -r arguments text; do
	read -ra words <<<"$arguments"
	bench "${words[@]}"
	verdict "bench $arguments: wrong usage" wrong "$text"
done <<'END'
--nonsense|nonsense
-l 4M|invalid option
--device|device
--length|length
--json=1|json
--device 0000:65:00.0 --bar 6|--bar 6: a BAR's number is 0 to 5
--device 0000:65:00.0 --bar -1|--bar -1: a BAR
--device 0000:65:00.0 --bar 1x|--bar 1x: a BAR
--bar 0|--bar: of which device
--length 0|--length 0: there is nothing to map
--length 1X|--length 1X: not a size
--length -1|--length -1: not a size
--device 0000:65:00.0 --file /|exclude each other
0000:65:00.0|0000:65:00.0: no arguments
END

for name in '' 65 65:00 65:00.0x 65:00.8 65:20.0 0000:65:00 0000:65:00.0/.. ../../.. ' 65:00.0' \
	-1:00.0 0000:-1:00.0 0:0:0:0.0 \
	65:00.00 65:00.0: 0000:65:00.0.1; do
	bench --device "$name"
	verdict "\"$name\" is no PCI address" wrong 'not a PCI address such as 0000:65:00.0'
done
for name in fffe:ff:1f.7 FFFE:ff:1F.7 ff:1f.7; do
	bench --device "$name"
	verdict "$name is not there" refused "$name: there is no such PCI device here"
done

name='a device that VFIO has not is refused with the reason'
device=
for folder in /sys/bus/pci/devices/*; do
	driver=$(basename "$(readlink "$folder/driver")")
	if [ -n "$driver" ] && [[ $driver != *vfio* ]]; then device=${folder##*/}; break; fi
done
if [ -z "$device" ]; then
	skip "$name" 'no PCI device here has another driver'
else
	bench --device "$device"
	if [[ $(cat "/sys/bus/pci/devices/$device/class") == 0x06[0-7]* ]]; then
		verdict "$name" refused 'it is a bridge'
	elif [ -e "/sys/bus/pci/devices/$device/iommu_group" ]; then
		verdict "$name" refused "it is bound to the driver $driver; bind it to vfio-pci"
	else
		verdict "$name" refused 'it has no IOMMU group: turn the IOMMU on'
	fi
fi

name='a bridge is refused as such'
bridge=$(grep -l '^0x06[0-7]' /sys/bus/pci/devices/*/class 2>/dev/null | head -n 1)
if [ -z "$bridge" ]; then
	skip "$name" 'no PCI device here is one'
else
	bench --device "$(basename "$(dirname "$bridge")")"
	verdict "$name" refused 'it is a bridge (PCI class 06), which cannot be passed through'
fi

mkfifo "$scratch/pipe"
: >"$scratch/empty"
head -c 10000 /dev/zero >"$scratch/short"
while IFS='|' read -r arguments text; do
	read -ra words <<<"$arguments"
	bench --file "$scratch/${words[0]}" "${words[@]:1}"
	verdict "a file is refused: $text" refused "$text"
done <<'END'
missing|missing: cannot be opened: No such file or directory
.|is a directory; name a file
pipe|is no regular file
../../dev/null|is no regular file
empty|is empty
short --length 10001|--length 10,001 is more than the file has: 10,000
short --length 1G|--length 1G is more than the file has
END
bench --length 16E
verdict 'a length that is too large is wrong usage' wrong '--length 16E: not a size'
for length in 15E 0xffffffffffffffff; do
	bench --length $length
	verdict "$length of memory fit nowhere" refused 'is more than an address space has'
done
available=$(sed -nE 's/^MemAvailable: *([0-9]+) kB/\1/p' /proc/meminfo)
truncate -s 8T "$scratch/long"
for arguments in "--length $((available * 9 / 10))K" '--length 4P' "--file $scratch/long --length 8T"; do
	read -ra words <<<"$arguments"
	bench "${words[@]}"
	verdict "$arguments would take too much memory" refused 'three quarters at most; ask for less by'
done
name='of a long file a gigabyte is mapped'
if ((available < 4 << 20)); then
	skip "$name" 'there is little memory'
else
	bench --json --file "$scratch/long"
	verdict "$name" [ "$(jq .length "$scratch/out")" = $((1 << 30)) ]
	rm "$scratch/long"
fi
bench --file $'\e[31m'
verdict 'what is typed is printed without escape sequences' refused '\033[31m: cannot be opened'
name='a limit of address space is named'
if [ -n "$SANITIZE" ]; then
	skip "$name" 'AddressSanitizer takes more'
else
	status=0
	(ulimit -v 200000; "$ALIGNMAP" bench --length 512M) >"$scratch/out" 2>"$scratch/error" || status=$?
	verdict "$name" refused \
		'cannot map 512M (kernel): Cannot allocate memory; ask for less by --length, or raise'
fi

# What a mapping of anonymous memory takes: whole PMDs if @huge, and pages.
faults_at() { # HUGE ADDRESS LENGTH
	local first last
	first=$((($2 + pmd - 1) / pmd)) last=$((($2 + $3) / pmd))
	if [ "$1" = 1 ] && ((last > first)); then
		echo $((last - first + ($3 - (last - first) * pmd) / page))
	else
		echo $(($3 / page))
	fi
}

# rows FILTER: a line a row, of what jq's FILTER makes of each.
rows() { jq -r ".placements[] | $1" "$scratch/out"; }

# Judges the placements of a mapping of $1 bytes: whose, and congruent modulo what.
placed_well() {
	local address modulo placed
	[ "$status" = 0 ] && [ ! -s "$scratch/error" ] &&
		[ "$(rows .placed | paste -sd ' ')" = "$1" ] || return
	while read -r placed address modulo; do
		case $modulo in
		"$page") ((address % pmd != 0 && address % page == 0)) || return ;;
		"$pmd") ((address % pmd == 0)) || return ;;
		*) return 1 ;;
		esac
		case $placed in
		leaf) ((address % (2 * page) == page)) || return ;;
		library) [ "$modulo" = "$2" ] || return ;;
		esac
	done < <(rows '"\(.placed) \(.address) \(.modulus)"')
}

huge=1 why=
grep -qF '[never]' $thp/enabled && huge=0
for size in "$thp"/hugepages-*kB; do
	case $size:$(cat "$size/enabled" 2>/dev/null) in
	*-2048kB:*'[never]'*) huge=0 ;;
	*-2048kB:*'[inherit]'* | *'[never]'* | *:) ;;
	*) why="$size is enabled" ;;
	esac
done
fallbacks() { sed -n 's/^thp_fault_fallback //p' /proc/vmstat; }
faults_are_right() {
	local placed address faults count=0
	while read -r placed address faults; do
		[ "$faults" = "$(faults_at "$huge" "$address" "$1")" ] || return
		count=$((count + 1))
	done < <(rows '"\(.placed) \(.address) \(.faults)"')
	[ "$count" -ge 2 ]
}
for length in 8 2052 65536 65540; do
	before=$(fallbacks)
	bench --json --length "${length}K"
	bytes=$((length << 10))
	if [ $length = 8 ]; then
		verdict "${length}K of memory deserve base pages" placed_well 'kernel library' "$page"
	else
		verdict "${length}K of memory deserve PMDs" placed_well 'kernel leaf library' "$pmd"
	fi
	name="${length}K of memory take the faults that follow from their addresses"
	if [ -n "$why" ]; then
		skip "$name" "$why"
	elif [ "$(fallbacks)" != "$before" ]; then
		skip "$name" 'there were no huge pages to be had'
	else
		verdict "$name" faults_are_right "$bytes"
	fi
done
few() { [ "$(jq .rounds "$scratch/out")" -gt 1 ] && [ "$(jq .rounds "$scratch/out")" -le 15 ]; }
bench --json --length 4M
verdict 'what is short is measured in several rounds' few
rounded() { [ "$(jq .length "$scratch/out")" = 65536 ]; }
bench --json --length 61441
verdict 'a length is rounded up to pages' rounded

# In the table what is in the document, for the eye.
bench --length 64M
table() {
	[ "$status" = 0 ] && [ ! -s "$scratch/error" ] && [ "$(wc -L <"$scratch/out")" -le 80 ] &&
		[ "$(grep -cE '^(kernel|at 4K|library) +0x[0-9a-f]+ +(4K|2M) +[0-9,]+ +[0-9.]+ +[0-9.KM]+ +([0-9.,]+|-)$' \
			"$scratch/out")" = 3 ] && grep -q '^PLACED .*RATIO$' "$scratch/out"
}
verdict 'a table in 80 columns, and no progress where there is no terminal' table
noise_has_no_ratio() {
	awk '/^kernel / { faults = $4; modulo = $3; next }
		/^(at|library) / { sub(/^at /, ""); wrong += ($NF == "-") != ($4 == faults && $3 == modulo) }
		END { exit !faults || wrong }' "$scratch/out"
}
verdict 'it has no ratio where faults and modulus are the kernel'\''s' noise_has_no_ratio
policy=$(sed 's/.*\[\(.*\)\].*/\1/' $thp/enabled)
note() {
	case $policy in
	madvise) grep -q 'are \[madvise\]: every row is under MADV_HUGEPAGE' "$scratch/out" ;;
	never) grep -q 'are \[never\], so that all rows take base pages' "$scratch/out" ;;
	*) ! grep -q huge "$scratch/out" ;;
	esac
}
verdict "it says what the policy $policy does" note

# The page cache of a file on a file system that gives it no large folio.
fault_around=16
head -c 20M /dev/zero >"$scratch/file"
bench --json --file "$scratch/file"
file_is_right() { # Faults lie between one for each 16 pages, and one for each.
	local faults tables by_pmd
	placed_well 'kernel leaf library' "$pmd" &&
		[ "$(jq -r '"\(.file) \(.length)"' "$scratch/out")" = "$scratch/file 20971520" ] || return
	while read -r faults tables by_pmd; do
		if [ "$by_pmd" = 0 ]; then
			((faults >= 5120 / fault_around && faults <= 5120)) &&
				((tables >= 40960 && tables <= 40960 + 4 * page)) || return
		else
			((by_pmd % pmd == 0 && by_pmd <= 20971520)) || return
		fi
	done < <(rows '"\(.faults) \(.page_table_bytes) \(.by_pmd)"')
}
verdict 'a file is mapped whole, and its page tables are counted' file_is_right
bench --json --file "$scratch/file" --length 3M
verdict 'a part of it is mapped' [ "$(jq .length "$scratch/out")" = 3145728 ]
ln "$scratch/short" "$scratch/$(printf 'a\e"b')"
bench --json --file "$scratch/$(printf 'a\e"b')"
verdict 'a name with control characters is printed without them' \
	[ "$(jq -r .file "$scratch/out")" = "$scratch/a\\033\"b" ]

# In a mount namespace of its own.
namespace=-m
[ "$(id -u)" = 0 ] || namespace=-rm
mounted() { # TYPE OPTIONS
	# In a chroot there may be no other name space.
	status=99
	unshare "$namespace" true 2>/dev/null || return
	mkdir -p "$scratch/mount"
	# shellcheck disable=SC2016 # for that bash
	under=(unshare "$namespace" bash -c 'mount -t "$0" -o "$1" none "$2" || exit 99
		if [ "$0" = tmpfs ]; then head -c 20M /dev/zero >"$2/file"; else truncate -s 2M "$2/file"; fi
		exec "${@:3}"' "$1" "$2" "$scratch/mount")
	bench --json --file "$scratch/mount/file"
	under=()
}
name='a file whose page cache has PMDs takes a fault for each'
mounted tmpfs huge=always
pmds_are_mapped() {
	placed_well 'kernel leaf library' "$pmd" &&
		[ "$(rows 'select(.placed == "library") | "\(.faults) \(.by_pmd)"')" = '10 20971520' ] &&
		[ "$(rows 'select(.placed == "leaf") | .by_pmd')" = 0 ] &&
		jq -r '.notes[]' "$scratch/out" | grep -q '20M of 20M are mapped by PMDs'
}
if [ "$status" = 99 ] || [ "$huge" = 0 ] || [ "$(rows .by_pmd | sort -u)" = 0 ]; then
	skip "$name" "tmpfs with huge pages cannot be mounted here, or has none"
else
	verdict "$name" pmds_are_mapped
fi
name='a file on hugetlbfs is refused'
mounted hugetlbfs rw
if [ "$status" = 99 ] || [ "$status" = 127 ]; then
	skip "$name" 'hugetlbfs cannot be mounted here'
else
	verdict "$name" refused 'is on hugetlbfs'
fi

name='the keys of the document are those that the manual has'
documented() { sed -n '/^\.Sh JSON/,/^\.Sh EXIT/s/^\.It Va //p' "$reader" | sort; }
bench --json --length 4M
same "$name" "$(documented)" \
	"$(jq -r '[paths | map(select(type == "string")) | last] | unique[]' "$scratch/out")"
types() {
	jq -e '.version == 1 and .device == null and .bar == null and .file == null and
		.alignment == 2097152 and .leaves == [2097152, 4096] and .offset == 0 and
		(.notes | type == "array") and (.placements | all((.address | test("^0x[0-9a-f]+$")) and
			.seconds > 0 and .page_table_bytes % 4096 == 0 and .by_pmd % 4096 == 0 and
			(.ratio == null or .ratio > 0))) and .placements[0].ratio == 1' "$scratch/out" \
		>"$scratch/error"
}
verdict 'what they hold is of the kind that the manual says' types

# By the kernel 64M lie as the library's or as those at 4K: there is a row of noise.
name='a row has no ratio if, and only if, its faults and modulus are the kernel'\''s, and a note says so'
noise_is_told() {
	jq -e '.placements[0] as $kernel | ([.placements[1:][].ratio] | any(. == null)) and
		all(.placements[1:][]; (.ratio == null) ==
			(.modulus == $kernel.modulus and .faults == $kernel.faults)) and
		any(.notes[]; test("what their seconds differ by is noise")) ==
			(.placements[-1].ratio == null)' "$scratch/out" >"$scratch/error"
}
before=$(fallbacks)
bench --json --length 64M
if [ "$(fallbacks)" != "$before" ]; then
	skip "$name" 'there were no huge pages to be had'
else
	verdict "$name" noise_is_told
fi

name='a preloaded library does not place what is to be the kernel'\''s'
if [ -n "$SANITIZE" ]; then
	skip "$name" 'the sanitizers map by themselves'
else
	ALIGNMAP_ANON=all ALIGNMAP_LOG=$scratch/log LD_PRELOAD=$preload "$ALIGNMAP" bench \
		--length 64M >/dev/null
	ALIGNMAP_ANON=all ALIGNMAP_LOG=$scratch/control LD_PRELOAD=$preload "$PROBE" placed >/dev/null
	left_alone() { [ -s "$scratch/control" ] && ! grep -q 'length 0x4000000 ' "$scratch/log"; }
	status=0
	verdict "$name" left_alone
fi

# At a terminal: an interrupt in the middle ends it at once.
name='progress at a terminal, and an interrupt ends it'
if ! command -v script >/dev/null; then
	skip "$name" 'script(1) is missing'
else
	mkfifo "$scratch/keys"
	# With job control, or it would ignore the interrupt.
	set -m
	TERM=xterm script -qefc "$ALIGNMAP bench --length 2G" "$scratch/screen" <"$scratch/keys" >/dev/null 2>&1 &
	set +m
	exec 3>"$scratch/keys"
	for _ in {1..200}; do
		if grep -q '1 of 3: kernel' "$scratch/screen" 2>/dev/null; then break; fi
		sleep 0.05
	done
	printf '\003' >&3
	status=0
	wait $! || status=$?
	exec 3>&-
	interrupted() {
		[ "$status" = 130 ] && grep -q '1 of 3: kernel' "$scratch/screen" &&
			! grep -q 'PLACED' "$scratch/screen"
	}
	details() { cat -v "$scratch/screen"; echo "status $status"; }
	verdict "$name" interrupted
	TERM=dumb script -qec "$ALIGNMAP bench --length 4M" /dev/null </dev/null >"$scratch/screen"
	plain() { grep -q PLACED "$scratch/screen" && ! grep -q $'\e' "$scratch/screen"; }
	verdict 'no escape sequences where the terminal is dumb' plain
fi

bench --length 4M
same 'README.md has the columns that are printed' \
	"$(sed -n '/^PLACED/{s/  */ /g;p;q}' "$scratch/out")" \
	"$(sed -n '/^    PLACED/{s/  */ /g;s/^ //p;q}' "$SOURCE/README.md")"
finish
