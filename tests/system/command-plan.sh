#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
# alignmap plan against a count leaf by leaf, against the kernel's own count of its page tables, and
# as people see it.
# shellcheck disable=SC2317 # functions are called by name
# shellcheck source=tap.sh
. "$(dirname "$0")/tap.sh"
: "${SOURCE:?}" "${PAGE_TABLES:?}"
need_command jq

plan() { "$ALIGNMAP" plan "$@"; }
# facts PLACEMENT ARGUMENT...: of its JSON: entries, bytes of page tables, runs as "COUNTxLEAF@OFFSET".
facts() {
	local placement=$1

	shift
	plan "$@" --json | jq -r --arg placement "$placement" '.placements[]
		| select(.placement == $placement)
		| "\(.entries) \(.page_table_bytes) "
			+ ([.runs[] | "\(.count)x\(.leaf)@\(.offset)"] | join(","))'
}

# walk LENGTH OFFSET ADDRESS PAGE PMD PUD TABLE_BYTES UPPER_BYTES LEAF...: the same facts, from one
# leaf to the next, each the largest that fits; the leaves are given largest first.
walk() {
	awk 'BEGIN {
		length_ = ARGV[1]; offset = ARGV[2]; address = ARGV[3]; pmd = ARGV[5]; pud = ARGV[6]
		for (at = offset; at < offset + length_; at += leaf) {
			place = address + at - offset
			for (i = 9; i < ARGC; i++) {
				leaf = ARGV[i]
				if (at % leaf == 0 && place % leaf == 0 &&
				    at + leaf <= offset + length_)
					break
			}
			if (leaf != last) {
				runs = runs (n ? sprintf("%.0fx%.0f@%.0f,", n, last, start) : "")
				last = leaf; n = 0; start = at
			}
			if (leaf < pmd && !((t = int(place / pmd)) in tables)) {
				tables[t] = 1; bytes += ARGV[7]
			}
			if (leaf < pud && !((t = int(place / pud)) in uppers)) {
				uppers[t] = 1; bytes += ARGV[8]
			}
			entries++; n++
		}
		printf "%.0f %.0f %s%.0fx%.0f@%.0f\n", entries, bytes, runs, n, last, start
	}' "$@"
}

k=1024 m=$((1024 * 1024)) g=$((1024 * 1024 * 1024))
x86="4096 $((2 * m)) $g 4096 4096"
s390="4096 $m $((2 * g)) 2048 16384"
ppc="65536 $((2 * m)) $g 256 4096"
arm16="16384 $((32 * m)) $((64 * g)) 16384 16384"

# walked NAME LENGTH OFFSET ADDRESS SHAPE LEAF...
walked() {
	local name=$1 length=$2 offset=$3 address=$4 shape=$5 list

	shift 5
	list=$(printf '%s\n' "$@" | shuf | paste -sd,)
	# shellcheck disable=SC2086 # the shape is five words
	same "$name" "$(walk "$length" "$offset" "$address" $shape "$@")" \
		"$(facts address "$length" --offset "$offset" --address "$address" --leaves "$list")"
}
far=$((0x7f0000000000))
walked 'x86-64: a whole BAR' $((2 * g)) 0 $far "$x86" $g $((2 * m)) 4096
walked 'x86-64: a head and a tail at a good address' $((2 * g + 5 * m)) $((g - m - 8 * k)) \
	$((far + g - m - 8 * k)) "$x86" $g $((2 * m)) 4096
walked 'x86-64: the same, congruent modulo 2M only' $((g + 5 * m)) $((g - m - 8 * k)) \
	$((far + m - 8 * k)) "$x86" $g $((2 * m)) 4096
walked 'x86-64: the same, congruent modulo 4K only' $((20 * m)) $((g - m - 8 * k)) \
	$((far + 12 * k)) "$x86" $g $((2 * m)) 4096
walked 'x86-64: over the end of a PUD' $((10 * m)) 0 $((far + g - 4 * m)) "$x86" $g $((2 * m)) 4096
walked 'arm64, 4K: five leaf sizes' $((2 * g + 100 * m)) $((g - 50 * m - 100 * k)) \
	$((far + g - 50 * m - 100 * k)) "$x86" $g $((32 * m)) $((2 * m)) $((64 * k)) 4096
walked 'arm64, 4K: congruent modulo 64K' $((10 * m)) $((m + 4 * k)) \
	$((far + 64 * k + 4 * k)) "$x86" $g $((32 * m)) $((2 * m)) $((64 * k)) 4096
walked 'arm64, 16K: a PUD is no leaf' $((3 * g)) $((16 * k)) $((far + 16 * k)) "$arm16" \
	$g $((32 * m)) $((2 * m)) 16384
walked 's390x: tables of 2 KiB' $((2 * g + 3 * m)) $((m - 8 * k)) $((far + m - 8 * k)) "$s390" \
	$((2 * g)) $m 4096
walked 's390x without 2G' $((3 * m)) $((m - 8 * k)) $((far + m - 8 * k)) "$s390" $m 4096
walked 'ppc64: 32 entries a table' $((g + 3 * m)) $((64 * k)) $((far + 64 * k)) "$ppc" \
	$g $((2 * m)) 65536
RANDOM=4
for i in {1..12}; do
	length=$(((RANDOM % 4000 + 1) * 4096)) offset=$(((RANDOM % 6000) * 4096))
	address=$((far + offset % (16 * m) + (RANDOM % 8) * (i % 3 == 0 ? 4096 : 2 * m)))
	walked "random $i: $length at $offset, $address" $length $offset $address "$x86" \
		$((16 * m)) $((2 * m)) $((128 * k)) 4096
done

# The best and the page-aligned: as many tables as at the worst address of that kind, no more.
worst() {
	local most=0 address bytes

	for address in "$@"; do
		bytes=$(facts address "${planned[@]}" --address "$address" | cut -d' ' -f2)
		((bytes > most)) && most=$bytes
	done
	echo "$most"
}
leaves=4K,2M,1G
planned=($((5 * m)) --offset $((2 * m - 4096)) --leaves "$leaves")
mapfile -t congruent < <(seq $((far + g - 10 * m - 4096)) $((2 * m)) $((far + g + 4 * m)))
same 'best: the most tables at any congruent address' "$(worst "${congruent[@]}")" \
	"$(facts best "${planned[@]}" | cut -d' ' -f2)"
planned=($((600 * k)) --leaves "$leaves")
mapfile -t congruent < <(seq $((far + g - 160 * k)) 4096 $((far + g + 8 * k)))
same 'best, of no large leaf: the most tables at any page' "$(worst "${congruent[@]}")" \
	"$(facts best "${planned[@]}" | cut -d' ' -f2)"
same 'page-aligned: the most tables, at the last page of a PUD' \
	"$(walk $((20 * m)) 0 $((far + g - 4096)) 4096 $((2 * m)) $g 4096 4096 4096)" \
	"$(facts page-aligned $((20 * m)) --leaves "$leaves")"

# Known figures.
same 'DESIGN.md: 2 entries for a BAR of 2 GiB, 524,288 at pages' '2 0 524288' \
	"$(facts best 2G --leaves $leaves | cut -d' ' -f1,2) $(facts page-aligned 2G --leaves \
		$leaves | cut -d' ' -f1)"
same "alignmap_plan(3)'s example: 511 and 511" '1022 511x2097152@1075838976' \
	"$(facts best $((g - 4096)) --offset $((g + 4096)) --leaves $leaves |
		sed -E 's/^([0-9]+) [0-9]+ 511x4096@[0-9]+,/\1 /')"
same 'a length is rounded up' '8192 5000' \
	"$(plan 5000 --leaves $leaves --json | jq -r '"\(.length) \(.length_asked)"')"
check 'and that is said' grep -q '5000 is rounded up' <(plan 5000 --leaves $leaves)
check 'and only then' test -z "$(plan 8K --leaves $leaves | grep rounded)"
host=$(plan 1M --json | jq -c .leaves)
same "the leaf sizes are this host's" "$("$ALIGNMAP" info --json | jq -c '[.leaves[].size]')" "$host"
same 'those that are given are sorted' '[1073741824,33554432,2097152,65536,4096]' \
	"$(plan 1M --leaves 64K,1G,4096,0x200000,32MiB --json | jq -c .leaves)"

# The kernel's count. Base pages of shared memory, and of a tmpfs whole large ones.
kernel_name='the kernel needs as many page tables'
if [ "$(getconf PAGESIZE)" != 4096 ] || [ "$(uname -m)" != x86_64 ]; then
	skip "$kernel_name" 'the addresses are for x86-64'
elif ! grep -qE '\[(never|deny|advise)\]' /sys/kernel/mm/transparent_hugepage/shmem_enabled; then
	skip "$kernel_name" 'shared memory gets huge pages here'
else
	for address in 0x200000000000 0x200000001000 0x20003ffff000 0x20003fc01000; do
		"$PAGE_TABLES" - 0 $((64 * m)) $address >"$scratch/out" || break
		same "$kernel_name for base pages at $address" \
			"$(facts address 64M --address $address --leaves 4K | cut -d' ' -f2) 0" \
			"$(cat "$scratch/out")"
	done
	[ -s "$scratch/out" ] || skip "$kernel_name" 'the addresses are taken'
fi

# huge LENGTH OFFSET ADDRESS
huge() {
	local name="$kernel_name for $1 at $2 in huge pages at $3" tables mapped

	read -r _ tables runs <<<"$(facts address "$1" --offset "$2" --address "$3" \
		--leaves 4K,2M)"
	mapped=$(tr , '\n' <<<"$runs" | sed -nE 's/^([0-9]+)x2097152@.*/\1/p')
	# shellcheck disable=SC2016 # it is the inner shell's
	if ! unshare -m sh -c 'mount -t tmpfs -o huge=always none "$1" &&
		"$2" "$1/file" "$3" "$4" "$5"' sh "$scratch/huge" "$PAGE_TABLES" "$(($2))" \
		"$(($1))" "$3" >"$scratch/out" 2>"$scratch/err"; then
		skip "$name" "no tmpfs with huge pages: $(tail -n 1 "$scratch/err")"
	elif [ "${mapped:-0}" != 0 ] && grep -q ' 0$' "$scratch/out"; then
		skip "$name" 'there was no huge page to be had'
	else
		same "$name" "$tables $((${mapped:-0} * 2 * m))" "$(cat "$scratch/out")"
	fi
}
mkdir "$scratch/huge"
if [ "$(uname -m)" = x86_64 ] && [ "$(id -u)" = 0 ]; then
	huge $((64 * m)) 0 0x200000000000
	huge $((64 * m)) 0 0x20003fe00000
	huge $((16 * m)) 0x1ff000 0x2000001ff000
	huge $((16 * m)) 0x1ff000 0x200000200000
else
	skip "$kernel_name, in huge pages" 'only root on x86-64 can mount it'
fi

# What people see.
shown=(
	"2G"
	"16M --offset 0x1ff000 --address 0x7f1fe2e00000"
	"5G --offset 0x2003ffff000 --address 0x7f123f0ff000"
	"1G --leaves 4K,64K,2M,32M,1G --offset 0x101000"
	"3T --leaves 4K --address 0x1000"
	"4E --leaves 4K,64K,2M,32M,1G,16G,512G,128T --offset 4K --address 0x7f123f0ff000"
	"64T --leaves 4K,8K,16K,32K,64K,128K,256K,512K --offset 4K --address 0x7f123f0fe000"
	"1E --leaves 4K,2M --offset 0x3fffffffffff000 --address 0x7ffffffffffff000"
)
for arguments in "${shown[@]}"; do
	read -ra words <<<"$arguments"
	plan "${words[@]}" >"$scratch/out"
	same "80 columns at most: $arguments" '' "$(awk 'length > 80' "$scratch/out")"
	same "the bars show the runs: $arguments" \
		"$(plan "${words[@]}" --json | jq -r '.placements as $p | $p[0], ($p[2] // empty
			| select(.entries != $p[0].entries)) | .runs[] | .count')" \
		"$(grep '^|' "$scratch/out" | grep -oE '[0-9,]+ x' | tr -d ', x')"
done
for _ in {1..150}; do
	plan $((RANDOM * RANDOM + 1))M --offset $((RANDOM * RANDOM * RANDOM * 4096)) \
		--address $((far + RANDOM * 4096)) --leaves "4K,$(shuf -n 7 -e 8K 64K 128K 1M 2M 32M 512M 1G 4G 16G 1T 2T | paste -sd,)"
done >"$scratch/out"
same '80 columns at most: whatever lengths, offsets and leaves' '0 150' \
	"$(awk 'length > 80 { wide++ } /^PLACEMENT/ { plans++ } END { print wide + 0, plans }' \
		"$scratch/out")"
plan 16M --offset 0x1ff000 --leaves $leaves --address 0x7f1fe2e00000 >"$scratch/out"
same 'the figures of the table are those of the JSON' "$(plan 16M --offset 0x1ff000 --leaves $leaves \
	--address 0x7f1fe2e00000 --json | jq -r '.placements[]
		| [.address // .placement, .counts[], .entries] | join(" ")')" \
	"$(sed -n '/^PLACEMENT/,/^$/p' "$scratch/out" | sed '1d;$d' | tr -d , |
		awk '{ gsub(/ - /, " 0 "); gsub(/ - /, " 0 "); print $1, $3, $4, $5, $6 }')"
same 'the offsets of the runs stand beneath where they begin' 'true true true' \
	"$(awk '/^\|/ && !bar { bar = $0; getline; for (i = 1; i < length(bar); i++)
		if (substr(bar, i, 1) == "|") printf "%s%s", n++ ? " " : "",
			substr($0, i, 2) == "0x" ? "true" : "false" }' "$scratch/out")"

# colours VARIABLE=VALUE...: of what a terminal gets.
colours() {
	env TERM=xterm "$@" script -qec "'$ALIGNMAP' plan 16M --offset 0x1ff000" /dev/null \
		</dev/null | grep -c $'\e\[3'
}
if command -v script >/dev/null; then
	check 'a terminal gets colours' test "$(colours)" -gt 0
	same 'not with NO_COLOR' 0 "$(colours NO_COLOR=1)"
	same 'not where it is dumb' 0 "$(colours TERM=dumb)"
else
	skip 'a terminal gets colours' 'script is missing'
fi
same 'a pipe gets no colours' 0 "$(TERM=xterm plan 2G | grep -c $'\e')"

# wrong PATTERN ARGUMENT...: status 2, nothing on standard output, the reason and where to read on.
wrong() {
	local pattern=$1

	shift
	plan "$@" >"$scratch/out" 2>"$scratch/err"
	status=$?
	verdict "wrong: plan $*" is_wrong "$pattern"
}
details() { printf '%s\n' "status $status" "$(cat "$scratch/out" "$scratch/err")"; }
is_wrong() {
	[ "$status" = 2 ] && [ ! -s "$scratch/out" ] && [ "$(wc -l <"$scratch/err")" = 2 ] &&
		head -n 1 "$scratch/err" | grep -q "^alignmap plan: .*$1" &&
		tail -n 1 "$scratch/err" | grep -qF "Try 'alignmap plan --help'."
}
wrong 'LENGTH is missing'
wrong '2M: one LENGTH only' 1M 2M
wrong 'LENGTH 0:' 0
wrong 'LENGTH 1.5G:' 1.5G
wrong 'longer than' 5E
wrong 'unrecognized option' 2M --bogus
wrong 'requires an argument' 2M --leaves
wrong '0x1001: no multiple of the base page, 4K' 2M --offset 0x1001 --leaves 4K
wrong '0x4000: no multiple of the base page, 64K' 2M --offset 16K --leaves 2M,64K
wrong 'no multiple of the base page' 2M --address 0x7f0000000001
wrong 'not an address.*0x before it' 2M --address 7f0000000000
wrong 'is it 0x1fff000?' 2M --offset 1fff000
wrong 'no multiple of the base page, 4K; hexadecimal takes 0x' 2M --offset 1000 --leaves 4K
wrong 'LENGTH \\033\[31m: not a size' $'\e[31m'
wrong 'exceed 64 bits' 8K --offset 0xfffffffffffff000 --leaves 4K
wrong 'exceed 64 bits' 8K --address 0xfffffffffffff000 --leaves 4K
wrong 'a size is missing' 2M --leaves ''
wrong 'a size is missing' 2M --leaves 4K,
wrong 'not a size' 2M --leaves 4K,two
wrong '3K is no power of two' 2M --leaves 4K,3K
wrong '0 is no power of two' 2M --leaves 4K,0
wrong '4096 is there twice' 2M --leaves 4K,2M,4096
wrong 'more than 8' 2M --leaves 4K,8K,16K,32K,64K,128K,256K,512K,1M
wrong 'must be the base page' 2M --leaves 2M,1G
wrong 'must be the base page' 2M --leaves 2K,2M
plan --help >"$scratch/out" 2>"$scratch/err"
same '--help: status 0, on standard output' '0 0' "$? $(wc -c <"$scratch/err")"
same '--help: 80 columns at most' '' "$(awk 'length > 80' "$scratch/out")"
check '--help names every option' test "$(grep -oE '^  --[a-z]+' "$scratch/out" | wc -l)" = 5
if [ -c /dev/full ]; then
	plan 2G >/dev/full 2>"$scratch/err"
	same 'a full disk: status 1' 1 $?
fi

same 'the manual page documents the keys of the JSON' \
	"$(plan 16M --offset 0x1ff000 --address 0x7f1fe2e00000 --json | jq -r '[paths
		| map(if type == "number" then "[]" else "." + . end) | join("")] | unique[]
		| select(endswith("[]") | not) | .[1:]')" \
	"$(awk '/^\.Sh / { on = $2 == "JSON" } on && /^\.It Va / { print $3 }' \
		"$SOURCE/man/alignmap-plan.1" | LC_ALL=C sort)"

# README.md's example: the command behind "$", and what stands indented beneath.
name='README.md shows what is printed'
if [ "$(plan 2M --json | jq -c .leaves)" != '[1073741824,2097152,4096]' ]; then
	skip "$name" 'its leaf sizes are not those of this host'
else
	read -ra example < <(sed -n 's/^    \$ alignmap plan //p' "$SOURCE/README.md")
	same "$name" "$(plan "${example[@]}")" \
		"$(sed -n '/^    \$ alignmap plan /,/^[^ ]/{ s/^    //p; /^$/p; }' "$SOURCE/README.md" |
			sed 1d | sed -e :a -e '/^\n*$/{ $d; N; ba; }')"
fi
finish
