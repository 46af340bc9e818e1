#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
# The system calls of one mapping, as strace sees them: those between the marks that the probe sets.
# shellcheck disable=SC2317 # functions are called by name
# shellcheck source=tap.sh
. "$(dirname "$0")/tap.sh"
need_common_leaves

# Leaves cannot be looked for under a tracer.
export ASAN_OPTIONS=detect_leaks=0

# trace PROGRAM WAY KIND [VARIABLE=VALUE...]: into the array "calls", without their names' padding.
trace() {
	local program=$1 way=$2 kind=$3 variable
	local -a set=()

	shift 3
	for variable; do
		set+=(-E "$variable")
	done
	strace -o "$scratch/trace" "${set[@]}" "$program" call "$way" "$kind" \
		>/dev/null 2>"$scratch/why" || true
	mapfile -t calls < <(sed -n '/^write(-1, "begin"/,/^write(-1, "end"/{//!s/  *= / = /p}' \
		"$scratch/trace")
}

# A call without its result, and without its address.
unplaced() {
	sed -E 's/^mmap\([^,]*,/mmap(*,/; s/ = .*//' <<<"$1"
}

# A placed mapping: a reservation, its release, and the program's own call at an address within.
# With MORE, what comes after it. FLAG is what the claim adds.
placed_as_promised() {
	local unaided=$1 flag=$2 start room window
	shift 2
	local -a expected=("$@")

	[[ ${calls[0]-} =~ ^mmap\(NULL,\ ([0-9]+),\ PROT_NONE,\ MAP_PRIVATE\|MAP_ANONYMOUS,\ -1,\ 0\)\ =\ (0x[0-9a-f]+)$ ]] ||
		return
	room=${BASH_REMATCH[1]} start=${BASH_REMATCH[2]}
	[ "${calls[1]-}" = "munmap($start, $room) = 0" ] || return
	[[ ${calls[2]-} =~ ^mmap\((0x[0-9a-f]+),\ ([0-9]+),.*\ =\ (0x[0-9a-f]+)$ ]] || return
	window=${BASH_REMATCH[1]}
	[ "$window" = "${BASH_REMATCH[3]}" ] || return
	((window >= start && window + BASH_REMATCH[2] <= start + room)) || return
	[ "$(unplaced "${calls[2]/$flag/}")" = "$(unplaced "$unaided")" ] || return
	[ "${#calls[@]}" = $((3 + ${#expected[@]})) ] || return
	for i in "${!expected[@]}"; do
		[[ ${calls[3 + i]} =~ ${expected[i]} ]] || return
	done
}

# left NAME: one call, as the program made it.
left_as_it_was() {
	[ "${#calls[@]}" = 1 ] && [ "$(unplaced "${calls[0]}")" = "$(unplaced "$1")" ]
}

details() {
	printf '%s\n' "calls:" "${calls[@]-none}" "$(cat "$scratch/why")"
}

if ! strace -o "$scratch/trace" true 2>"$scratch/why"; then
	echo "1..0 # SKIP strace does not work here: $(head -n 1 "$scratch/why")"
	exit 0
fi

# Where Linux applies the THP policy to device memory, shared mappings take more calls.
rules_bars=false
thp_policy_rules_bars && rules_bars=true
status_call='^(newfstatat|fstat)\('
advice='^madvise\(0x[0-9a-f]+, [0-9]+, MADV_HUGEPAGE\) = '

for kind in private private-large shared device anonymous; do
	trace "$PROBE" mmap "$kind"
	unaided=${calls[0]-}
	case $kind in
	shared) more=("$status_call") ;;
	device) more=("$status_call" "$advice") ;;
	*) more=() ;;
	esac
	$rules_bars || more=()
	for way in mmap mmap64; do
		trace "$PROBE" "$way" "$kind" LD_PRELOAD="$preload" ALIGNMAP_ANON=all
		verdict "$kind by $way: at most three calls, the last the program's but for its address" \
			placed_as_promised "$unaided" '' "${more[@]}"
		trace "$PROBE" "$way" "$kind" LD_PRELOAD="$preload" ALIGNMAP_ANON=all \
			ALIGNMAP_CLAIM=fixed ALIGNMAP_STATS=/dev/null
		verdict "$kind by $way, fixed: the same with MAP_FIXED_NOREPLACE" \
			placed_as_promised "$unaided" '|MAP_FIXED_NOREPLACE' "${more[@]}"
	done
	trace "$PROBE" mmap "$kind" LD_PRELOAD="$preload" ALIGNMAP_ANON=all ALIGNMAP_MADVISE=off
	verdict "$kind with ALIGNMAP_MADVISE=off: three calls" placed_as_promised "$unaided" ''
	trace "$LINKED" api "$kind"
	verdict "$kind by the API: the same with MAP_FIXED_NOREPLACE" \
		placed_as_promised "$unaided" '|MAP_FIXED_NOREPLACE' "${more[@]}"
done

trace "$PROBE" mmap private
unaided=${calls[0]-}
trace "$PROBE" mmap private LD_PRELOAD="$preload" ALIGNMAP_LOG="$scratch/log"
log_is_one_write() {
	local -a others
	mapfile -t others < <(printf '%s\n' "${calls[@]:3}" |
		grep -vE '^(newfstatat|fstat|rt_sig[a-z]*|getpid)\(')

	[[ ${#others[@]} = 1 && ${others[0]} =~ ^write\([0-9]+,\ \"libalignmap\[ ]] &&
		calls=("${calls[@]:0:3}") && placed_as_promised "$unaided" ''
}
verdict 'with ALIGNMAP_LOG one write comes after them' log_is_one_write

for kind in left-{small,stack,32bit,fixed,noreplace,hint,drm,anonymous}; do
	if [ "$kind" = left-32bit ] && [ "$(uname -m)" != x86_64 ]; then
		continue
	fi
	trace "$PROBE" mmap "$kind"
	unaided=${calls[0]-}
	trace "$PROBE" mmap "$kind" LD_PRELOAD="$preload"
	verdict "$kind: one call, as the program made it" left_as_it_was "$unaided"
	trace "$PROBE" mmap64 "$kind" LD_PRELOAD="$preload" ALIGNMAP_CLAIM=fixed \
		ALIGNMAP_STATS=/dev/null
	verdict "$kind, fixed: one call, as the program made it" left_as_it_was "$unaided"
	case $kind in
	left-drm | left-anonymous) continue ;;
	esac
	trace "$LINKED" api "$kind"
	verdict "$kind, by the API: one call, as the program made it" left_as_it_was "$unaided"
done

# A refused one: the reservation, its release, the claim, the call as it was.
trace "$PROBE" mmap wrong
unaided=${calls[0]-}
trace "$PROBE" mmap wrong LD_PRELOAD="$preload"
refused_as_promised() {
	[ "${#calls[@]}" = 4 ] &&
		[ "$(unplaced "${calls[2]}")" = "$(unplaced "$unaided")" ] &&
		[ "${calls[3]}" = "$unaided" ]
}
verdict 'a refused claim: four calls, the last one as the program made it' refused_as_promised

trace "$PROBE" mmap private LD_PRELOAD="$preload" ALIGNMAP_OFF=1
same 'ALIGNMAP_OFF=1: one call' 1 "${#calls[@]}"
finish
