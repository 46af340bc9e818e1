#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
# alignmap inspect, of processes whose mappings were made on purpose. What is expected is worked out
# here from address, length and offset; the kernel's own fault counts check anonymous memory.
# shellcheck disable=SC2317 # functions are called by name
# shellcheck source=tap.sh
. "$(dirname "$0")/tap.sh"
: "${ALIGNMAP?}" "${MAPPER?}" "${SOURCE:?}" "${BUILD:?}"

need_command jq
need_common_leaves

M=$((1 << 20))
PMD=$((2 * M))
GIB=$((1 << 30))
# Where the kernel puts nothing by itself.
BASE=$((0x200000000000))
thp=/sys/kernel/mm/transparent_hugepage
unset TERM NO_COLOR
# shellcheck disable=SC2046,SC2154 # a word for each child; tap.sh sets it
trap 'kill $(jobs -rp) 2>/dev/null; rm -rf "$scratch" "$files"' EXIT

# Files of which the page cache takes PMDs; on a tmpfs that is up to its mount.
files=$scratch/files
if [ "$(stat -f -c %T "$scratch")" = tmpfs ]; then
	files=$(mktemp -d "$BUILD/alignmap-test-XXXXXX") || exit 99
fi
mkdir -p "$files" "$scratch/bin"

# mapper NAME ARGUMENT...: starts one, called NAME, and leaves its PID in $pid once all is mapped.
mapper() {
	local name=$1

	shift
	ln -sf "$MAPPER" "$scratch/bin/$name"
	: >"$scratch/$name.out"
	(exec -a "$name" "$scratch/bin/$name" "$@") >>"$scratch/$name.out" 2>&1 &
	pid=$!
	for _ in {1..200}; do
		if grep -q '^mapped' "$scratch/$name.out" || ! kill -0 "$pid" 2>/dev/null; then
			break
		fi
		sleep 0.05
	done
	grep -q '^mapped' "$scratch/$name.out"
}

# inspect ARGUMENT...: leaves status, standard output and standard error.
inspect() {
	"$ALIGNMAP" inspect "$@" >"$scratch/output" 2>"$scratch/error"
	status=$?
	output=$(cat "$scratch/output")
	error=$(cat "$scratch/error")
}
details() { printf 'status %s\n%s\n%s\n' "$status" "$output" "$error"; }

# of ADDRESS FILTER: of the mapping there, by jq.
of() { jq -r --arg at "$(printf '0x%x' "$1")" ".mappings[] | select(.address == \$at) | $2" \
	"$scratch/output"; }

# leaves OFFSET LENGTH LEAF: entries that map it by base pages, and by that leaf where whole ones
# of it lie in it.
leaves() {
	local start=$((($1 + $3 - 1) / $3)) end=$((($1 + $2) / $3))

	if ((end > start)); then
		echo $((end - start + ($2 - (end - start) * $3) / 4096))
	else
		echo $(($2 / 4096))
	fi
}

### Files

# Whether it is a file system that inspect judges files of.
case $(findmnt -n -o FSTYPE -T "$files") in
btrfs | ext4 | xfs) judged=true ;;
*) judged=false ;;
esac
at=$BASE
beside=$((BASE + GIB + 4096))
middle=$((BASE + 2 * GIB + M))
tail=$((BASE + 3 * GIB))
short=$((BASE + 4 * GIB))
if ! $judged; then
	skip 'files' "inspect knows nothing of the build folder's file system"
else
	mapper files "file,$((6 * M)),$at,0,$files/a" "file,$((7 * M)),$beside,0,$files/a" \
		"file,$((5 * M)),$middle,$M,$files/a" "file,$((5 * M)),$tail,$M,$files/a" \
		"file,$((PMD - 4096)),$short,0,$files/a"
	inspect --json "$pid"
	verdict 'one that is misplaced makes the status 1' [ "$status" = 1 ]
	for row in "$at 6 0 false" "$beside 7 0 true" "$middle 5 $M false" "$tail 5 $M true"; do
		read -r address mib offset misplaced <<<"$row"
		best=$(leaves "$offset" $((mib * M)) $PMD)
		entries=$best
		if $misplaced; then entries=$((mib * M / 4096)); fi
		same "a file's $mib MiB at $(printf %x "$address"), offset $offset: $entries, $best" \
			"$misplaced $misplaced $entries $best file $PMD" \
			"$(of "$address" '"\(.misplaced) \(.congruent | not) \(.entries) \(.best_entries)
				\(.backing) \(.alignment)"' | tr -s '\t\n ' ' ' | sed 's/ $//')"
	done
	same 'what is shorter than a PMD is left out' '' "$(of "$short" .length)"
	same 'misplaced ones come first, by what they waste' \
		"$(printf '0x%x 0x%x' "$beside" "$tail")" \
		"$(jq -r '[.mappings[:2][].address] | join(" ")' "$scratch/output")"
	sum=$((7 * 256 + 5 * 256))
	best=$(($(leaves 0 $((7 * M)) $PMD) + $(leaves "$M" $((5 * M)) $PMD)))
	same 'the sums are of the misplaced ones' "2 $sum $best" \
		"$(jq -r '"\(.misplaced_count) \(.misplaced_entries) \(.misplaced_best_entries)"' \
			"$scratch/output")"
	count=$(jq .mapping_count "$scratch/output")
	inspect "$pid"
	verdict 'the last line sums up' [ "$(tail -n 1 "$scratch/output")" = \
		"2 of $count mappings are misplaced: $(printf "%d,%03d" $((sum / 1000)) $((sum % 1000))) \
entries where $best would do." ]
	same 'README.md has the columns that are printed' \
		"$(sed -n '/^FIT/{s/  */ /g;p;q}' "$scratch/output")" \
		"$(sed -n '/^    FIT/{s/  */ /g;s/^ //p;q}' "$SOURCE/README.md")"
	same 'the text marks those that are misplaced' "$(printf 'no %x\nno %x' "$beside" "$tail")" \
		"$(awk '/^no/ { print $1, $2 }' "$scratch/output")"
	verdict 'the first line names the process' \
		[ "$(head -n 1 "$scratch/output")" = "$(basename "$MAPPER"), PID $pid" ]
	verdict 'a note names the command that helps' grep -qx \
		"Note: 'alignmap run COMMAND' starts a program so that what it maps lies well." \
		"$scratch/output"
	inspect --json "$pid"
	cp "$scratch/output" "$scratch/document"

	name='with the library loaded that is not recommended again'
	if [ -n "$SANITIZE" ]; then
		skip "$name" "the program has no sanitizer's runtime"
	else
		LD_PRELOAD=$preload mapper loaded "file,$((7 * M)),$beside,0,$files/a"
		inspect "$pid"
		verdict "$name" grep -q '^Note: libalignmap is loaded and did not place these well: ' \
			"$scratch/output"
	fi

	mapper fine "file,$((6 * M)),$at,0,$files/a"
	inspect "$pid"
	verdict 'where none is misplaced the status is 0' [ "$status" = 0 ]
	verdict 'and the last line says so' grep -qE \
		'^(The only mapping is not|None of [0-9]+ mappings is) misplaced\.$' "$scratch/output"

	### Names
	mapper names "file,$((4 * M)),$at,0,$files/with space" \
		"file,$((4 * M)),$beside,0,$files/new"$'\nline \e[31m \x9b tab\t \\012' \
		"deleted,$((4 * M)),$middle,0,$files/gone" \
		"deleted,$((4 * M)),$tail,0,$files/gone (deleted)"
	inspect --json "$pid"
	same 'a name with spaces is whole' "$files/with space" "$(of "$at" .name)"
	same 'newlines and control characters are escaped' \
		"$files/new\\012line \\033[31m \\233 tab\\011 \\012" "$(of "$beside" .name)"
	same 'a deleted file is as the kernel tells it' "$files/gone (deleted)" \
		"$(of "$middle" .name)"
	same 'a deleted file of an odd name, too' "$files/gone (deleted) (deleted)" \
		"$(of "$tail" .name)"
	verdict 'JSON has no control character' [ -z "$(tr -d '\n -~' <"$scratch/output")" ]
	inspect "$pid"
	verdict 'the text has no control character' [ -z "$(tr -d '\n -~' <"$scratch/output")" ]

	### QEMU's RAM, which is mapped into a reservation of its own

	# Leaves $pid, $output and so on, and $ram, where its RAM is; empty if it cannot be started.
	qemu_with_ram() { # COMMAND...
		"$@" qemu-system-x86_64 -nodefaults -no-user-config -display none -accel tcg -S \
			-object "memory-backend-file,id=ram,size=64M,mem-path=$files/ram,share=on" \
			-machine pc,memory-backend=ram -m 64M </dev/null >"$scratch/qemu" 2>&1 &
		pid=$!
		for _ in {1..200}; do
			ram=$(sed -n "s|^\([0-9a-f]*\)-.* $files/ram\$|0x\1|p" "/proc/$pid/maps" 2>/dev/null)
			if [ -n "$ram" ] || ! kill -0 "$pid" 2>/dev/null; then break; fi
			sleep 0.05
		done
		inspect --json "$pid"
		error+=$(cat "$scratch/qemu")
	}
	# noted 'MISPLACED SAID' TEXT: whether its RAM is so, and whether a note has the text.
	noted() {
		[ "$(of "$((ram))" .misplaced) $(jq --arg note "$2" 'any(.notes[]; contains($note))' \
			"$scratch/output")" = "$1" ]
	}
	name="QEMU's RAM on a file"
	if [ -n "$SANITIZE" ] || ! command -v qemu-system-x86_64 >/dev/null; then
		skip "$name" 'it takes qemu-system-x86_64, and no sanitizer'
	else
		# By luck, which one in 512 has, it lies well.
		for _ in {1..4}; do
			qemu_with_ram env
			if ((ram % PMD)); then break; fi
			kill "$pid"
		done
		verdict "$name is misplaced, and a note names --anon=reserve" \
			noted 'true true' "'alignmap run --anon=reserve COMMAND'"
		kill "$pid"
		qemu_with_ram "$ALIGNMAP" run
		if ((ram % PMD)); then
			verdict "$name: 'alignmap run' alone does not help, and a note says what may" \
				noted 'true true' "place these well: try 'alignmap run' with --anon=reserve"
		fi
		kill "$pid"
		qemu_with_ram "$ALIGNMAP" run --anon=reserve
		verdict "$name: what the note names helps" noted 'false false' --anon=reserve
		kill "$pid"
	fi

	### Images
	mapper image "image,$((4 * M)),$beside,0,$files/image"
	inspect --json "$pid"
	same 'a file that is executed is listed and not judged' 'image null null' \
		"$(of "$beside" '"\(.backing) \(.misplaced) \(.entries)"')"
	verdict 'and counts for nothing' [ "$status" = 0 ]
fi

### Shared memory

policy() { sed -n 's/.*\[\(.*\)\].*/\1/p' "$1" 2>/dev/null; }
mapper shared "memfd,$((4 * M)),$at,0,pc.ram" "memfd,$((4 * M)),$beside,0,pc ram" \
	"shared,$((4 * M)),$((tail + 4096)),0" "system-v,$((4 * M)),$((short + 4096)),0"
inspect --json "$pid"
case $(policy $thp/shmem_enabled) in
always | within_size | force) expected='true 1024 2' ;;
*) expected='false 1024 2' ;;
esac
same "a memfd, shmem_enabled $(policy $thp/shmem_enabled)" "$expected" \
	"$(of "$beside" '"\(.misplaced) \(.entries) \(.best_entries)"')"
same 'System V is as a memfd' "$expected" \
	"$(of $((short + 4096)) '"\(.misplaced) \(.entries) \(.best_entries)"')"
if [ "$expected" = 'true 1024 2' ]; then well='false false 2 2'; else well='false true 1024 2'; fi
same 'a memfd that is well placed' "$well" \
	"$(of "$at" '"\(.misplaced) \(.held_back) \(.entries) \(.best_entries)"')"
same 'all of them are shared memory' 3 \
	"$(jq '[.mappings[] | select(.backing == "shared_memory")] | length - 1' "$scratch/output")"
if [ "$expected" = 'false 1024 2' ]; then
	verdict 'what is held back by policy says why' [ "$(of "$beside" .reason)" != null ]
	same 'and is counted apart' "0 $(jq '[.mappings[] | select(.held_back) | .entries] |
		"\(length) \(add)"' "$scratch/output" | tr -d '"')" \
		"$(jq -r '"\(.misplaced_count) \(.held_back_count) \(.held_back_entries)"' \
			"$scratch/output")"
	inspect "$pid"
	verdict 'memory that is held back does not make the status 1' [ "$status" = 0 ]
	same 'the text marks it' "$(jq '.held_back_count' <("$ALIGNMAP" inspect --json "$pid"))" \
		"$(grep -c '^thp ' "$scratch/output")"
	verdict 'a note says what can be done' grep -q '^Note: shared memory' "$scratch/output"
	matters='^Note: with huge pages the address of shared memory matters, too; '
	verdict 'and that its address matters then, where that is bad' grep -q "$matters" \
		"$scratch/output"
	verdict 'and the verdict tells it' grep -q 'held back by policy' "$scratch/output"
	mapper well "memfd,$((4 * M)),$at,0,pc.ram"
	inspect "$pid"
	verdict 'where it is good there is no word of it' [ "$(grep -c '^thp ' "$scratch/output") \
$(grep -c '^Note: shared memory' "$scratch/output") $(grep -c "$matters" "$scratch/output")" = '1 1 0' ]
fi

# The mount is the mapper's own: its options are those of its name space.
name='a tmpfs is as it was mounted'
mkdir "$scratch/tmpfs"
if unshare -m mount -t tmpfs -o huge=always none "$scratch/tmpfs" 2>/dev/null &&
	! [[ $(policy $thp/shmem_enabled) =~ deny|force ]]; then
	for huge in always never; do
		: >"$scratch/tmpfs.out"
		# shellcheck disable=SC2016 # for that shell
		unshare -m bash -c 'mount -t tmpfs -o "huge=$1" none "$2" && exec "${@:3}"' bash \
			"$huge" "$scratch/tmpfs" "$MAPPER" \
			"file,$((4 * M)),$beside,0,$scratch/tmpfs/x" >>"$scratch/tmpfs.out" 2>&1 &
		pid=$!
		for _ in {1..100}; do grep -q '^mapped' "$scratch/tmpfs.out" && break; sleep 0.05; done
		inspect --json "$pid"
		if [ "$huge" = always ]; then expected='true 1024 2'; else expected='false 1024 2'; fi
		same "$name, huge=$huge" "shared_memory $expected" \
			"$(of "$beside" '"\(.backing) \(.misplaced) \(.entries) \(.best_entries)"')"
	done
else
	skip "$name" 'it takes the right to mount, and no shmem_enabled of deny or force'
fi

name='hugetlbfs is never misplaced'
if mapper huge "hugetlb,$((4 * M)),$at,0"; then
	inspect --json "$pid"
	same "$name" "hugetlb false 2 2 [$PMD]" \
		"$(of "$at" '"\(.backing) \(.misplaced) \(.entries) \(.best_entries) \(.leaves)"')"
else
	skip "$name" 'the kernel has no hugetlbfs'
fi

### Anonymous memory

mapper memory "anonymous,$((66 * M)),$beside,0" "reserved,$((66 * M)),$tail,0"
inspect --json "$pid"
same 'anonymous memory is not judged' 'anonymous null null' \
	"$(of "$beside" '"\(.backing) \(.misplaced) \(.offset)"')"
same 'nor is a reservation, which has no entries' 'reserved null null' \
	"$(of "$tail" '"\(.backing) \(.misplaced) \(.entries)"')"
same 'and what is in memory is known' '0 0' "$(of "$beside" '"\(.rss) \(.huge)"')"

name='the entries of anonymous memory are the faults that it takes'
if [[ $(policy $thp/enabled) =~ always|madvise ]]; then
	mapper touched "touched,$((66 * M)),$beside,0"
	inspect --json "$pid"
	expected=$(leaves "$beside" $((66 * M)) $PMD)
	if [ "$(of "$beside" .huge)" != $((64 * M)) ]; then
		skip "$name" 'the kernel had no huge pages to give'
	else
		same "$name" "$expected $expected" \
			"$(of "$beside" .entries) $(sed -n 's/mapped //p' "$scratch/touched.out")"
	fi
	same 'and best are those of its length' "$(leaves 0 $((66 * M)) $PMD)" \
		"$(of "$beside" .best_entries)"
else
	skip "$name" 'the policy forbids huge pages'
fi

mapper off "thp-off,0,0,0" "file,$((4 * M)),$beside,0,$files/a"
inspect --json "$pid"
name='a process without huge pages has nothing misplaced'
if $judged; then
	same "$name" 'false 1024 2' \
		"$(of "$beside" '"\(.misplaced) \(.entries) \(.best_entries)"')"
else
	skip "$name" "inspect knows nothing of the build folder's file system"
fi
verdict 'and a note says so' [ "$(jq '.notes | length' "$scratch/output")" = 1 ]
inspect "$pid"
verdict 'in the text too, which is no wider than 80 columns' \
	grep -q '^Note: .*transparent huge' "$scratch/output"
verdict 'in lines of 80 columns' [ -z "$(grep -A 9 '^Note' "$scratch/output" | grep '.\{81\}')" ]

### Many

if $judged; then
	mapper many "many,$PMD,$beside,10000,$files/many"
	inspect --json "$pid"
	# Each begins a page further on: one in 512 is well placed, by chance.
	good=0
	for ((i = 0; i < 10000; i++)); do
		if (((beside + i * (PMD + 4096)) % PMD == 0)); then good=$((good + 1)); fi
	done
	same '10,000 mappings are judged' "$((10000 - good)) $(((10000 - good) * 512)) $((10000 - good))" \
		"$(jq -r '"\(.misplaced_count) \(.misplaced_entries) \(.misplaced_best_entries)"' \
			"$scratch/output")"
	kill "$pid"
fi

### JSON

if [ -e "$scratch/document" ]; then
	jq -r '[paths | map(strings) | .[-1] | strings] | unique[]' "$scratch/document" | sort \
		>"$scratch/printed"
	awk '/^\.Sh JSON/ { on = 1; next } /^\.Sh/ { on = 0 } on && /^\.It Va/' \
		"$SOURCE/man/alignmap-inspect.1" | sed 's/^\.It Va //; s/ , /\n/g' | sort \
		>"$scratch/documented"
	same 'the keys that are documented are those that are printed' \
		"$(cat "$scratch/documented")" "$(cat "$scratch/printed")"
	verdict 'the first is the version, 1' \
		[ "$(jq -r 'to_entries[0] | "\(.key) \(.value)"' "$scratch/document")" = 'version 1' ]
fi

### Which process

# refused NAME PATTERN ARGUMENT...: status 2, nothing on standard output, and an error like that.
refused() {
	local name=$1 pattern=$2

	shift 2
	inspect "$@"
	verdict "$name" is_refused "$pattern"
}
is_refused() {
	[ "$status" = 2 ] && [ -z "$output" ] && grep -qE -- "$1" "$scratch/error"
}

own=an-alignmap-mapper-$$
mapper "$own" "thread,0,0,0"
thread=$(sed -n 's/^thread //p' "$scratch/$own.out")
inspect --json "$own"
same 'a process is found by its name, though the kernel cuts it' "$pid" \
	"$(jq .pid "$scratch/output")"
refused 'several of a name are listed' "^ *$pid  $own thread,0,0,0$" \
	"$(basename "$MAPPER")"
verdict 'and counted' grep -qE '^alignmap inspect: [0-9]+ processes are called .*PID of one:$' \
	"$scratch/error"
refused 'a thread names its process' "alignmap inspect $pid'" "$thread"
refused 'a name that nothing has' "no process is called 'no-such-thing'; .*ps -e" no-such-thing
refused 'a name of odd bytes is escaped' "called '\\\\033x'" $'\ex'
for none in 0 4194305 99999999999999999999; do
	refused "PID $none" "process $none: there is no such process" $none
done

bash -c 'sleep 0 & exec sleep 60' &
parent=$!
zombie=''
for _ in {1..100}; do
	read -r zombie <"/proc/$parent/task/$parent/children"
	if [ -n "$zombie" ] && grep -q '^State:.Z' "/proc/$zombie/status"; then break; fi
	sleep 0.05
done 2>/dev/null
if [ -n "$zombie" ]; then
	refused 'a zombie names its parent' "has ended.* process $parent, its parent" "$zombie"
else
	skip 'a zombie names its parent' 'this Linux does not tell of children'
fi
if [ "$(cat /proc/2/comm 2>/dev/null)" = kthreadd ]; then
	refused "a thread of the kernel is told for what it is" 'thread of the kernel' 2
else
	skip "a thread of the kernel is told for what it is" 'none is to be seen here'
fi

# as USER COMMAND...: by a number that no rights come with.
as() { setpriv --reuid="$1" --regid="$1" --clear-groups "${@:2}"; }
if [ "$(id -u)" = 0 ] && as 65534 true 2>/dev/null; then
	chmod 711 "$scratch"
	install -m 755 "$ALIGNMAP" "$scratch/alignmap"
	install -m 755 "$MAPPER" "$scratch/mapper"
	unprivileged() { as 65534 "$scratch/alignmap" "$@"; }
	command=$ALIGNMAP
	mapper roots 'anonymous,0x400000,0,0'
	ALIGNMAP=unprivileged
	refused "another user's process names its owner and sudo" \
		"belongs to root; try 'sudo alignmap inspect $pid'" "$pid"
	setpriv --reuid=65534 --regid=65534 --clear-groups \
		"$scratch/mapper" closed,0,0,0 >"$scratch/closed" 2>&1 &
	pid=$!
	for _ in {1..100}; do grep -q '^mapped' "$scratch/closed" && break; sleep 0.05; done
	refused 'what hides its memory from its owner asks for sudo' \
		"not yours to read.*'sudo alignmap inspect $pid'" "$pid"
	# Each of them is enough, on some kernels.
	caps=-sys_ptrace,-sys_admin,-perfmon
	bounded() { setpriv "--bounding-set=$caps" "--inh-caps=$caps" "$scratch/alignmap" "$@"; }
	ALIGNMAP=bounded
	refused 'root without CAP_SYS_PTRACE is told what is missing' CAP_SYS_PTRACE "$pid"
	ALIGNMAP=$command
	inspect "$pid"
	verdict 'root may look at it' [ "$status" = 0 ]
elif [ "$(id -u)" != 0 ] && [ "$(stat -c %U /proc/1)" = root ]; then
	refused "another user's process names its owner and sudo" \
		"belongs to root; try 'sudo alignmap inspect 1'" 1
else
	skip "another user's process names its owner and sudo" 'there is no other user to be'
fi

### Usage

refused 'no process' "Try 'alignmap inspect --help'"
refused 'an empty name' "Try 'alignmap inspect --help'" ''
refused 'two processes' "^alignmap inspect: 2: one process at a time" 1 2
refused 'an unknown option' "Try 'alignmap inspect --help'" --frobnicate 1
refused 'an unknown short option' "Try 'alignmap inspect --help'" -x 1
refused 'an argument that --json does not take' "Try 'alignmap inspect --help'" --json=1 1
for wrong in 0 0.05 -1 1e3 1,5 . 1.2.3 86401 abc nan ' 1' ''; do
	refused "--watch='$wrong'" 'not a number of seconds from 0.1 to 86400' "--watch=$wrong" 1
done
inspect --help
helps() { [ "$status" = 0 ] && [ -z "$error" ] && grep -q '^usage: ' "$scratch/output"; }
verdict '--help is on standard output' helps
verdict '--help fits 80 columns' [ -z "$(grep '.\{81\}' "$scratch/output")" ]
mapper full 'anonymous,0x400000,0,0'
"$ALIGNMAP" inspect "$pid" >/dev/full 2>"$scratch/error"
status=$?
verdict 'output that cannot be written is trouble, not a misplaced mapping' [ "$status" = 2 ]
mapper nothing 'thp-off,0,0,0'
inspect "$pid"
verdict 'no mapping that is large enough' [ "$(tail -n 1 "$scratch/output")" = \
	'No mapping is as long as 2M, the smallest large leaf.' ]

### Watching

# watch SECONDS ARGUMENT...: of $pid in the background, as $watcher, until it has printed that often.
watch() {
	local times=$1

	shift
	: >"$scratch/output"
	"$ALIGNMAP" inspect "$@" "$pid" >>"$scratch/output" 2>"$scratch/error" &
	watcher=$!
	for _ in {1..200}; do
		if [ "$(grep -cE '^[{]|, PID' "$scratch/output")" -ge "$times" ]; then break; fi
		sleep 0.05
	done
}

# ended: it ends by itself within 10 seconds; leaves its status.
ended() {
	for _ in {1..200}; do
		if ! kill -0 "$watcher" 2>/dev/null; then break; fi
		sleep 0.05
	done
	kill "$watcher" 2>/dev/null
	wait "$watcher"
	status=$?
	output=$(cat "$scratch/output")
	error=$(cat "$scratch/error")
}

if $judged; then
	mapper watched "file,$((4 * M)),$beside,0,$files/a"
	watch 3 --watch=0.1 --json
	kill "$pid"
	wait "$pid" 2>/dev/null
	ended
	verdict '--watch ends with the process, and the last status' [ "$status$error" = 1 ]
	verdict 'each line is a document' [ "$(jq -r .version "$scratch/output" | sort -u)" = 1 ]
	verdict 'and there are as many as lines' \
		[ "$(jq -c . "$scratch/output" | wc -l)" = "$(wc -l <"$scratch/output")" ]
	mapper watched "file,$((4 * M)),$beside,0,$files/a"
	watch 2 --watch=0.1
	kill "$pid"
	wait "$pid" 2>/dev/null
	ended
	verdict 'a blank line comes between, and none at the start' \
		[ "$(grep -c '^$' "$scratch/output")" = $(($(grep -c ', PID' "$scratch/output") - 1)) ]
fi
mapper watched 'anonymous,0x400000,0,0'
watch 1 --watch=3600
kill "$pid"
wait "$pid" 2>/dev/null
ended
verdict 'the end is noticed at once, not after SECONDS' [ "$status" = 0 ]
mapper watched 'anonymous,0x400000,0,0'
timeout --preserve-status -s INT 1 "$ALIGNMAP" inspect --watch "$pid" >/dev/null 2>"$scratch/error"
status=$?
verdict 'an interrupt just ends it' [ "$status$(cat "$scratch/error")" = 130 ]

name='a process that is killed meanwhile'
odd=0
for i in {1..30}; do
	if $judged; then
		mapper killed "many,$PMD,$beside,2000,$files/many"
	else
		mapper killed 'anonymous,0x400000,0,0'
	fi
	(sleep "0.00$((i % 10))" && kill -9 "$pid") &
	inspect --json "$pid"
	wait "$pid" $! 2>/dev/null
	case $status in
	0 | 1) jq -e '.mapping_count == (.mappings | length)' "$scratch/output" >/dev/null ;;
	2) [ -z "$output" ] && grep -qE 'has ended|is ending|no such process' "$scratch/error" ;;
	*) false ;;
	esac || odd=$((odd + 1))
done
verdict "$name, 30 times" [ "$odd" = 0 ]

### On a terminal

name='a terminal of 80 columns'
if ! command -v tmux >/dev/null; then
	skip "$name" 'tmux is missing'
elif ! $judged; then
	skip "$name" "inspect knows nothing of the build folder's file system"
else
	mkdir -p "$files/a-folder-of-a-long-name"
	mapper terminal "file,$((5 * GIB)),$beside,$((3 * GIB)),$files/a-folder-of-a-long-name/image" \
		"file,$((4 * M)),$at,0,$files/$(printf 'x%.0s' {1..120})" \
		"hugetlb,$((4 * M)),$((BASE + 8 * GIB)),0"
	# terminal COMMAND...: what it shows after that, with escape sequences if asked.
	terminals=0
	terminal() {
		local escapes=$1

		shift
		# A server that is being killed may still take sessions: a new one each time.
		terminals=$((terminals + 1))
		server=alignmap-$$-$terminals
		tmux -L "$server" -f /dev/null new-session -d -x 80 -y 50 \
			"stty -echo; $*; echo shown; sleep 30"
		for _ in {1..100}; do
			sleep 0.05
			if tmux -L "$server" capture-pane -p | grep -q "${until-shown}"; then break; fi
		done
		# shellcheck disable=SC2086
		tmux -L "$server" capture-pane -p $escapes >"$scratch/screen"
		tmux -L "$server" kill-server
	}
	terminal '' "$ALIGNMAP inspect $pid"
	output=$(cat "$scratch/screen") error='' status=''
	verdict "$name: no line is wrapped" [ -z "$(sed '/^shown/,$d; 1,2d' "$scratch/screen" |
		grep -vE '^(no |yes |-  )|^1 of|^The only|^Note: |^      [^ ]')" ]
	verdict "$name: the end of a path is seen" grep -qE '^no .*\.\.\./image$' "$scratch/screen"
	terminal -e "$ALIGNMAP inspect $pid"
	verdict "$name: a misplaced one is red" grep -q $'^\e\\[31mno ' "$scratch/screen"
	verdict "$name: and no other is" [ "$(grep -c $'\e\\[31m' "$scratch/screen")" = 1 ]
	terminal -e "NO_COLOR=1 $ALIGNMAP inspect $pid"
	verdict "$name: NO_COLOR" [ "$(grep -c $'\e\\[3' "$scratch/screen")" = 0 ]
	terminal '' "timeout 1 $ALIGNMAP inspect --watch=0.1 $pid"
	verdict "$name: --watch clears it" [ "$(grep -c ', PID' "$scratch/screen")" = 1 ]
fi
finish
