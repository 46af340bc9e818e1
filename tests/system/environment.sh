#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
# What the environment asks for: wrong values, the summary and the log, and the descriptors they use.
# shellcheck disable=SC2317 # functions are called by name
# shellcheck source=tap.sh
. "$(dirname "$0")/tap.sh"
# shellcheck source=preloaded.sh
. "$(dirname "$0")/preloaded.sh"
need_common_leaves

long=$(printf 'x%.0s' {1..5000})
for wrong in OFF=maybe OFF=2 OFF=YES MIN=0 MIN=-1 MIN=2X MIN=2MB MIN=' 2M' MIN=0x200000 MIN=M \
	MIN=99999999999999999999 MIN=16777216T MAX=-2M MAX=1.5G MAX=1g MAX=' ' ANON=some ANON=ALL \
	HINTS=all CLAIM=soft CLAIM=FIXED MADVISE=never STATS=maybe STATS=stderr LOG=2 LOG=file \
	NONSENSE=1 =1 CLAIMS=hint; do
	run "ALIGNMAP_$wrong" placed
	verdict "ALIGNMAP_$wrong: one line names it, and the program runs on" \
		one_line_names "ALIGNMAP_$wrong"
done
run "ALIGNMAP_CLAIM=$long" placed
verdict 'a value of 5,000 letters: one line names it, and not all of it' \
	one_line_names "ALIGNMAP_CLAIM=${long:0:20}"
check 'that line is short' test "$(wc -c <"$scratch/err")" -lt 200
run ALIGNMAP_CLAIM=$'so\nft\e[31m' placed
verdict 'a value with control characters: one line, without them' one_line_names ALIGNMAP_CLAIM=so
check 'they are not printed' test "$(tr -cd '\000-\011\013-\037' <"$scratch/err" | wc -c)" = 0
run ALIGNMAP_MIN=1G ALIGNMAP_MAX=2M placed
verdict 'ALIGNMAP_MIN=1G above ALIGNMAP_MAX=2M: one line names it' one_line_names ALIGNMAP_MIN=1G
run ALIGNMAP_MIN=wrong ALIGNMAP_CLAIM=wrong ALIGNMAP_HINTS=1 placed
same 'two wrong values: two lines' 2 "$(grep -c "$ours" "$scratch/err")"
same 'wrong values are ignored, not obeyed' 'mmap 4 mmap64 4 secure 0' "$(cat "$scratch/out")"
run ALIGNMAP_OFF=1 ALIGNMAP_CLAIM=wrong placed
verdict 'a wrong value beside ALIGNMAP_OFF=1 is named, too' one_line_names ALIGNMAP_CLAIM=wrong

for good in OFF=0 OFF=off OFF=1 OFF=on MIN=2M MIN=4096 MIN=1G MAX=2M MAX=1G MAX=1T MIN=16777215T \
	ANON=reserve ANON=all HINTS=1 HINTS=off CLAIM=hint CLAIM=fixed MADVISE=off MADVISE=on \
	STATS=0 LOG=off OFF= MIN= MAX= ANON= HINTS= CLAIM= MADVISE= STATS= LOG=; do
	run "ALIGNMAP_$good" placed
	verdict "ALIGNMAP_$good: not a word" is_silent
done
run placed
verdict 'without variables: not a word' is_silent
run OTHER_ALIGNMAP_CLAIM=wrong ALIGNMAPCLAIM=wrong placed
verdict 'names that are not ours: not a word' is_silent

# Files that cannot be opened.
ln -s "$scratch/target" "$scratch/link"
mkdir "$scratch/directory"
mkfifo "$scratch/fifo"
for variable in STATS LOG; do
	for path in "$scratch/none/file" "$scratch/directory" "$scratch/link" "$scratch/fifo"; do
		run "ALIGNMAP_$variable=$path" placed
		verdict "ALIGNMAP_$variable=$(basename "$path"), which cannot be written: one line names it" \
			one_line_names "$(cut -c 1-75 <<<"ALIGNMAP_$variable=$path")"
	done
done
check 'a symbolic link is not followed' test ! -e "$scratch/target"

# The summary and the log.
run ALIGNMAP_STATS=1 placed
same 'ALIGNMAP_STATS=1 prints one summary to standard error' 1 \
	"$(grep -c "$ours.*, pid [0-9]*, probe$" "$scratch/err")"
same 'the program prints what it prints' 'mmap 4 mmap64 4 secure 0' "$(cat "$scratch/out")"
check 'the summary fits on a screen' test "$(wc -l <"$scratch/err")" -le 24
check 'and in 100 columns' test "$(wc -L <"$scratch/err")" -le 100
run ALIGNMAP_LOG=1 placed
same 'ALIGNMAP_LOG=1 prints a line for each placed mapping' 8 \
	"$(grep -cE "$ours\[[0-9]+\]: placed 0x[0-9a-f]+ length 0x800000 offset 0x[0-3]?0*" "$scratch/err")"
same 'and nothing else' 8 "$(wc -l <"$scratch/err")"
run ALIGNMAP_LOG=1 call mmap wrong
check 'ALIGNMAP_LOG=1 says why one was given up' \
	grep -qE "$ours\[[0-9]+\]: gave up .*errno 9$" "$scratch/err"

for variable in STATS LOG; do
	file=$scratch/$variable
	(umask 0 && run "ALIGNMAP_$variable=$file" placed && cat "$scratch/err" >"$scratch/said")
	check "ALIGNMAP_$variable=file writes nothing elsewhere" test ! -s "$scratch/said"
	same "ALIGNMAP_$variable=file makes a file that only its owner reads" 600 "$(stat -c %a "$file")"
	first=$(wc -l <"$file")
	echo 'somebody wrote this' >>"$file"
	run "ALIGNMAP_$variable=$file" placed
	same "ALIGNMAP_$variable=file is appended to, not truncated" \
		"$((2 * first + 1)) 1" "$(wc -l <"$file") $(grep -c 'somebody wrote' "$file")"
	check "ALIGNMAP_$variable=file is written" test "$first" -gt 0
done
(cd "$scratch" && run ALIGNMAP_STATS=./relative placed)
check 'a relative path is one' test -s "$scratch/relative"

# The numbers, of calls that the probe's source counts.
run ALIGNMAP_STATS="$scratch/known" known
row() {
	sed -n "s/^ *$1  *\([0-9]*\).*/\1/p" "$scratch/known"
}
numbers=
for name in 'mmap calls' placed 'left to the kernel' 'fixed address' 'address hint' \
	'32-bit, stack, hugetlb' 'anonymous (ALIGNMAP_ANON)' 'holds no larger leaf' \
	'offset of a DRM object' 'landed elsewhere' 'races lost, tried again' fallbacks; do
	numbers+="$name $(row "$name"), "
done
if [ -n "$SANITIZE" ]; then
	skip 'the summary counts what is known' "a sanitizer's runtime maps, too"
else
	# The probe looks for room for three of its calls by another.
	same 'the summary counts what is known' \
		'mmap calls 16, placed 3, left to the kernel 12, fixed address 2, address hint 1, 32-bit, stack, hugetlb 2, anonymous (ALIGNMAP_ANON) 4, holds no larger leaf 2, offset of a DRM object 1, landed elsewhere 0, races lost, tried again 0, fallbacks 1, ' \
		"$numbers"
fi
check 'by leaf size' grep -q '^  placed  *3  2M: 3$' "$scratch/known"
check 'with the reasons of fallbacks' \
	grep -q '^  fallbacks  *1  no window: 0, claim refused: 1, smaller leaf: 0$' "$scratch/known"
check 'entries: two for each 4 MiB and more, where pages would be 1,024' \
	grep -q '^  entries needed at best  *12  at page-aligned addresses: 6144$' "$scratch/known"

# Where the THP policy undoes the placement, and only there, the summary says so.
if thp_policy_rules_bars; then
	expected=1
else
	expected=0
fi
run ALIGNMAP_STATS=1 ALIGNMAP_MADVISE=off exit 0
same 'the summary says when ALIGNMAP_MADVISE=off leaves BARs to base pages' "$expected" \
	"$(grep -c '^  THP: .*\[madvise\]$' "$scratch/err")"
run ALIGNMAP_STATS=1 exit 0
case $(cat /sys/kernel/mm/transparent_hugepage/enabled 2>/dev/null) in
*'[never]'*) skip 'and nothing of THP where nothing stands in the way' 'the policy here is [never]' ;;
*) same 'and nothing of THP where nothing stands in the way' 0 "$(grep -c THP "$scratch/err")" ;;
esac
run ALIGNMAP_STATS=1 nothp
same 'the summary says when PR_SET_THP_DISABLE stands in the way' 1 \
	"$(grep -c '^  THP: PR_SET_THP_DISABLE' "$scratch/err")"

run ALIGNMAP_STATS=1 fork
same 'a fork that exits prints no summary' 1 "$(grep -c "$ours.*, pid" "$scratch/err")"
check 'and counts for itself' grep -q '^  placed  *2 ' "$scratch/err"
run ALIGNMAP_LOG="$scratch/forks" fork
same 'a fork logs what it maps, under its own number' '3 2' \
	"$(grep -c "$ours.*: placed" "$scratch/forks") $(grep -o "$ours\[[0-9]*" "$scratch/forks" | sort -u | wc -l)"

# Whoever reads a program's standard error to its end does not wait for its daemon.
for variable in STATS LOG; do
	env LD_PRELOAD="$preload" "ALIGNMAP_$variable=1" "$PROBE" daemon "$scratch/fifo" 2>&1 >/dev/null |
		timeout 20 cat >/dev/null
	same "ALIGNMAP_$variable=1: a daemon does not keep standard error open" 0 "${PIPESTATUS[1]}"
	timeout 20 tee "$scratch/fifo" </dev/null
done

run ALIGNMAP_STATS="$scratch/inherited" ALIGNMAP_LOG="$scratch/inherited" list
same 'the files are closed on exec' 0 "$(grep -c inherited "$scratch/out")"
check 'which were open' test -e "$scratch/inherited"

# Descriptor 2, and all others.
run ALIGNMAP_STATS=1 ALIGNMAP_LOG=1 close2
same 'a program that closes standard error runs on' 'mmap 4 mmap64 4 secure 0' \
	"$(cat "$scratch/out")"
same 'and its log and summary come all the same' '8 1' \
	"$(grep -c "$ours.*: placed" "$scratch/err") $(grep -c "$ours.*, pid" "$scratch/err")"
run ALIGNMAP_STATS=1 ALIGNMAP_LOG=1 reuse2 "$scratch/own"
same 'a program that puts its own file there exits as it would' 0 "$status"
same 'and that file gets not one byte of ours' mine "$(cat "$scratch/own")"
same 'which go where they went before' '6 1' \
	"$(grep -c "$ours.*: placed" "$scratch/err") $(grep -c "$ours.*, pid" "$scratch/err")"

# A number that was ours may be the program's now.
for variables in ALIGNMAP_STATS=1 ALIGNMAP_LOG=1 "ALIGNMAP_STATS=$scratch/stats-file" \
	"ALIGNMAP_LOG=$scratch/log-file"; do
	name=${variables/$scratch\//}
	rm -rf "$scratch/all" && mkdir "$scratch/all"
	(ulimit -n 300 && run "$variables" closeall "$scratch/all" && exit "$status")
	same "$name, and a program that closes everything: it exits as it would" 0 $?
	same "$name: its own files get not one byte of ours" mine \
		"$(cat "$scratch/all"/* | sort -u)"
done

for variables in ALIGNMAP_STATS=1 ALIGNMAP_LOG=1 ALIGNMAP_CLAIM=wrong; do
	run "$variables" brokenpipe 7
	same "$variables, and a standard error that nobody reads: the exit status is the program's" 7 \
		"$status"
done
run ALIGNMAP_LOG=1 heldpipe
same 'a program that holds SIGPIPE back has none of ours pending, and its own still' \
	'pending 0, raised 1' "$(cat "$scratch/out")"
run ALIGNMAP_LOG="$scratch/heldlimit" heldlimit
same 'a program that may write no more runs on, and its own SIGPIPE is still to come' 'raised 1' \
	"$(cat "$scratch/out")"
for variables in '' "ALIGNMAP_LOG=$scratch/cancelled" ALIGNMAP_LOG=1; do
	run ${variables:+"$variables"} cancelled
	same "${variables/$scratch\//}, and a thread that is to be cancelled: mmap does not do it" \
		'ran on 1' "$(cat "$scratch/out")"
done
# A line at the end of a file that is larger than the limit would raise SIGXFSZ.
for variable in ALIGNMAP_STATS ALIGNMAP_LOG; do
	echo libalignmap >"$scratch/limited" && truncate -s 16G "$scratch/limited"
	(ulimit -f $((8 << 20)) && run "$variable=$scratch/limited" exit 7 && exit "$status")
	same "$variable to a file that may not grow: the exit status is the program's" 7 $?
	rm "$scratch/limited"
done
run_without() (
	exec 2>&-
	LD_PRELOAD=$preload ALIGNMAP_STATS=1 ALIGNMAP_LOG=1 ALIGNMAP_CLAIM=wrong "$PROBE" exit 7
)
run_without
same 'started without standard error, it exits as it would' 7 $?
# limited NUMBER COMMAND...: with at most so many descriptors.
limited() {
	bash -c 'ulimit -n "$0" && exec "$@"' "$@" >"$scratch/out" 2>"$scratch/err"
}
for limit in 10 63 64; do
	limited "$limit" "$PROBE" placed
	unaided=$?
	limited "$limit" env LD_PRELOAD="$preload" ALIGNMAP_STATS="$scratch/few" "$PROBE" placed
	aided=$?
	same "with $limit descriptors at most, it exits as it would" "$unaided" "$aided"
done
finish
