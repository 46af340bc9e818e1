#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
# alignmap run --trace: programs that no library can be preloaded into, which do what they do
# without a tracer, but that their mappings lie well.
#
#	command-trace.sh [load]		with "load", the longer ones: a tracer that is killed a thousand
#					times, a hundred thousand mappings in eight threads
# shellcheck disable=SC2016,SC2317 # for the shells that are started; functions are called by name
# shellcheck source=tap.sh
. "$(dirname "$0")/tap.sh"
: "${ALIGNMAP?}" "${BUILD:?}" "${CC:?}" "${SOURCE:?}"
need_command
need_common_leaves

# Leaks cannot be looked for under another tracer.
export ASAN_OPTIONS=detect_leaks=0
read -ra cc <<<"$CC"
runtime=()
unset LD_PRELOAD
chmod 755 "$scratch"
cd "$scratch" || exit 99

# ends STATUS LINE...: so, without a word of error, and these are all the lines.
ends() {
	local wanted=$1

	shift
	[ "$status" = "$wanted" ] && silent && [ "$(cat out)" = "$(printf '%s\n' "$@")" ]
}
# traces NAME STATUS ARGUMENTS LINE...
traces() {
	local name=$1 wanted=$2
	local -a words

	read -ra words <<<"$3"
	shift 3
	run -- "${words[@]}"
	verdict "$name" ends "$wanted" "$@"
}

# Another thread may be faster at a window, by what is not placed: its stack, an arena of malloc().
threads() { # NAME THREADS TIMES OPTION...
	local all=$(($2 * $3))

	run -- "${@:4}" "threads=$2,$3"
	verdict "$1" eval '[ "$status" = 0 ] && silent && placed=$(sed -n "s/^threads: \([0-9]*\) of '$all' placed$/\1/p" out) &&
		[ "${placed:-0}" -ge '$((all - 2 * $2))' ]'
}

run -- --trace=always true
if [ "$status" = 126 ] && grep -qE ' (cannot be traced|may not be|may be traced|is traced)' err; then
	echo "1..0 # SKIP nothing can be traced here: $(cat err)"
	exit 0
fi
verdict '--trace=always: a program is traced that a library could be preloaded into' ends 0 ''

# The programs: by each C library that there is, and without one.
multiarch=$("${cc[@]}" -print-multiarch 2>/dev/null || gcc -print-multiarch)
ways=()
build() { # PROGRAM NAME COMPILER...
	if "${@:3}" -Wall -Wextra -Werror -O1 -D_GNU_SOURCE "$SOURCE/tests/system/$1.c" -o "$2" -pthread \
		2>"$2.log"; then
		ways+=("$2")
	else
		skip "$2" "it cannot be built here: $(head -n 1 "$2.log")"
	fi
}
build traced static "${cc[@]}" -static
build traced static-pie "${cc[@]}" -static-pie
build traced musl musl-gcc -static -idirafter /usr/include -idirafter "/usr/include/$multiarch"
check 'one that is linked statically can be built' test ${#ways[@]} -gt 0
[ ${#ways[@]} -gt 0 ] || finish
traced=./${ways[-1]}
"${cc[@]}" -Wall -Wextra -Werror -O1 -static -nostdlib -fno-pie -fno-stack-protector \
	"-I$SOURCE/lib" -D_GNU_SOURCE "$SOURCE/tests/system/bare.c" -o bare
build_status=$?
same 'one without a C library can be built' 0 $build_status

# hunts PROGRAM TIMES: how often the program ran to its end without its tracer, and what else came.
hunts() {
	for ((i = 0; i < $2; i++)); do
		"$ALIGNMAP" run --until=forever "$1" hunted 2>&1 || echo "status $?"
	done | sort | uniq -c | sed 's/^ *//'
}
hunted() { # PROGRAM TIMES
	same "$1: its tracer is killed while its threads map, $2 times" \
		"$2 fail: 1 1 1"$'\n'"$2 hunted: traced 0, signals lost 0" "$(hunts "$1" "$2")"
}

if [ "${1-}" = load ]; then
	hunted "$traced" 1000
	threads '100,000 mappings in 8 threads are placed' 8 12500 --until=forever "$traced"
	traces '100,000 mappings under signals are placed' 0 "--until=forever $traced signals=100000" \
		'signals: 100000 of 100000 placed, some: 1, odd: 0'
	finish
fi

# What they map is placed, and what must fail does.
"$traced" map >out
check 'without a tracer they are not' eval '! grep -qx "map: 8 of 8 placed" out'
for way in "${ways[@]}"; do
	traces "$way: mappings are placed" 0 "./$way map" 'map: 8 of 8 placed'
	traces "$way: what must fail does" 0 "./$way fail map" 'fail: 1 1 1' 'map: 8 of 8 placed'
	threads "$way: in threads" 8 50 "./$way"
	traces "$way: under signals" 0 "./$way signals=400" \
		'signals: 400 of 400 placed, some: 1, odd: 0'
	traces "$way: in a fork" 0 "./$way fork map" 'map: 8 of 8 placed' 'fork: 0'
	traces "$way: behind an exec" 3 "./$way exec map exit=3" 'map: 8 of 8 placed'
	traces "$way: behind one that fails" 0 "./$way no-exec map" 'no-exec: 1' \
		'map: 8 of 8 placed'
	traces "$way: behind an exec by a thread, others mapping" 3 "./$way thread-exec map exit=3" \
		'map: 8 of 8 placed'
	traces "$way: behind vfork" 0 "./$way vfork map exit=5" 'map: 8 of 8 placed' 'vfork: 0x500'
	traces "$way: under a seccomp filter" 3 "./$way filter map exit=3" 'filter: set' \
		'map: 8 of 8 placed'
	hunted "./$way" 20
done
name='behind an exec from a file system that is served by what is traced'
timeout -k 1 60 "$ALIGNMAP" run "$traced" served-exec >out 2>err
status=$?
if [ "$status" = 77 ]; then
	skip "$name" "$(cat err)"
else
	verdict "$name" ends 0 'map: 8 of 8 placed'
fi
./bare exec
check 'without a C library, without a tracer they are not' test $? != 0
traces 'without a C library: placed, failed, in a thread, a fork and behind an exec' 0 './bare exec' ''
traces 'and all the time' 0 '--until=forever ./bare exec' ''
"${cc[@]}" -Wall -Wextra -Werror -O1 -static-pie -fPIE -nostdlib -fno-stack-protector \
	"-I$SOURCE/lib" -D_GNU_SOURCE "$SOURCE/tests/system/bare.c" -o bare-pie
traces 'and where mmap itself has placed the program' 0 './bare-pie exec' ''

# The policy is the library's.
run -- --log=log --stats=stats "$traced" map fail
same '--log has a line for each' 8 \
	"$(grep -c ': placed 0x[0-9a-f]* length 0x830000 offset 0x[0-7]0* alignment 2M entries ' log)"
same 'and for those that fail' '3 , claim refused, mmap failed with errno' \
	"$(grep -o ', claim refused, mmap failed with errno' log | sort | uniq -c | sed 's/^ *//')"
mkfifo unread
exec 9<>unread
timeout -k 1 60 "$ALIGNMAP" run --log "$traced" threads=1,2000 >out 2>unread
same 'a pipe that nobody reads holds nobody up' 0 "$?"
exec 9>&-
row() { sed -nE "s/^ +$1 +([0-9]+).*/\1/p" stats; }
same '--stats counts them' '8 3 0' "$(row placed) $(row fallbacks) $(row 'landed elsewhere')"
check 'and names the program' grep -qE "^libalignmap [0-9.]+, pid [0-9]+, ${ways[-1]}\$" stats
for ((i = 0; i < 30; i++)); do
	rm -f stats
	run -- --stats=stats "$traced" thread-exec map
	[ -s stats ] || break
done
same 'the summary is there when the program has ended, 30 times' 30 "$i"
run -- --min=1G --stats=more "$traced" map
same '--min=1G: none is placed' 'placed 0' "$(sed -nE 's/^ +(placed) +/\1 /p' more)"
run ALIGNMAP_OFF=1 -- "$traced" tracer
check 'ALIGNMAP_OFF=1: there is no tracer' grep -qx 'tracer: 0' out
run ALIGNMAP_MIN=1X -- "$traced" map
check 'what the library ignores of the environment is named as it names it' \
	grep -q '^libalignmap: ALIGNMAP_MIN=1X: ignored: ' err

# The wrong calls that mmap(2) refuses, one by one.
calls() { sed -n 's/^# call //p' "$1"; }
env CMOCKA_MESSAGE_OUTPUT=TAP "$BUILD/tests/system/wrong-calls" raw >out 2>&1
calls out >untraced
run CMOCKA_MESSAGE_OUTPUT=TAP -- --trace=always --anon=all --hints --stats=refused \
	"$BUILD/tests/system/wrong-calls" raw
cat err >>out
calls out >under-tracer
verdict 'wrong calls end as without a tracer' eval \
	'[ "$status" = 0 ] && cmp untraced under-tracer'
check 'which are many' test "$(wc -l <untraced)" -ge 300
check 'and some that were refused at a window' \
	test "$(sed -nE 's/.*claim refused: ([0-9]+).*/\1/p' refused)" -ge 100

# When the tracer leaves.
traces 'at the first KVM_RUN' 0 "$traced tracer kvm-run tracer" 'tracer: 1' 'kvm-run: 1' 'tracer: 0'
traces 'at that of a child' 0 "$traced fork kvm-run tracer exit=0" 'kvm-run: 1' 'tracer: 0' 'fork: 0'
traces '--until=forever: not' 0 "--until=forever $traced kvm-run tracer" 'kvm-run: 1' 'tracer: 1'
traces '--until=1: after a second' 0 "--until=1 $traced kvm-run tracer freed" 'kvm-run: 1' \
	'tracer: 1' 'freed: 1'
traces 'where a program traces' 0 "$traced traceme tracer" 'traceme: 0' 'tracer: 0'
traces 'where one is traced by a child of its own' 0 "$traced untraced tracer" 'untraced: 0' \
	'tracer: 0'
if "$traced" narrow >/dev/null 2>&1; then
	traces 'one that makes 32-bit calls is let go of' 0 "--until=forever $traced tracer narrow tracer" \
		'tracer: 1' 'narrow: 1' 'tracer: 0'
else
	skip 'one that makes 32-bit calls is let go of' 'this Linux or machine knows none'
fi

# The process is the same, and has the same around it.
run -- --trace sh -c 'echo $$; exec "$0" run --trace=never sh -c "echo \$\$"' "$ALIGNMAP"
same 'the process stays the same' 1 "$(sort -u out | wc -l)"
list='ls -l /proc/self/fd | sed "s/.* //; /fd$/d; s/[0-9]*\]$/]/"'
sh -c "$list" >out 2>err
mv out without
run -- --trace sh -c "$list"
same 'so do its descriptors' "$(cat without)" "$(cat out)"
alone=('children: 0 pending: 0')
traces 'it has no child' 0 "$traced children" "${alone[@]}"
env --block-signal=CHLD "$ALIGNMAP" run "$traced" children >out 2>err
status=$?
verdict 'and no signal of one' ends 0 "${alone[@]}"
if unshare --pid --fork --mount-proc true 2>/dev/null; then
	unshare --pid --fork --mount-proc "$ALIGNMAP" run "$traced" children map >out 2>err
	status=$?
	verdict 'nor as the first process' ends 0 "${alone[@]}" 'map: 8 of 8 placed'
else
	skip 'nor as the first process' 'there are no PID namespaces to be had here'
fi
traces 'its exit status' 7 "$traced map exit=7" 'map: 8 of 8 placed'
run -- "$traced" die
verdict 'its signal' eval '[ "$status" = 143 ] && silent'
printf '#!%s/%s map\n' "$scratch" "$traced" >script && chmod +x script
traces 'a script for it' 0 './script' 'map: 8 of 8 placed'

# From outside, while it runs.
starts() { # ARGUMENT...: as a job of a shell, which has it go on when "hold" is gone
	rm -f out ended
	bash -c 'set -m; env --default-signal=INT "$@" >out 2>err & echo $! >pid; wait %1
		echo $? >ended
		[ -e hold ] || exit; while [ -e hold ]; do sleep 0.05; done
		kill -CONT %1; wait %1; echo $? >ended' sh "$ALIGNMAP" run --until=forever "$@" 2>/dev/null &
	within_seconds test -s out
	pid=$(cat pid)
	tracer=$(sed -n 's/^TracerPid:\t//p' "/proc/$pid/status")
}
within_seconds() { # COMMAND...: whether it succeeds before long
	for ((i = 0; i < 200; i++)); do
		! "$@" || return 0
		sleep 0.05
	done
	return 1
}
is_gone() { [ ! -e "/proc/$1" ]; }
gone() { within_seconds is_gone "$1"; }
has() { grep -q "$1" "/proc/$pid/status" 2>/dev/null; }
has_no_files() {
	[ "$(cd "/proc/$tracer/fd" && for fd in *; do echo "$fd $(readlink "$fd")"; done | paste -sd ' ')" = \
		'0 /dev/null 1 /dev/null 2 /dev/null' ]
}
# A thread that is traced and stopped is shown as "t".
is_stopped() { within_seconds has '^State:.[Tt]'; }
ended() {
	wait $!
	status=$(cat ended)
	[ "$status" = "$1" ]
}
endless="$traced map threads=3,1000000000"
# shellcheck disable=SC2086 # words
starts $endless
check 'the tracer has no files, but the maps that it reads' within_seconds has_no_files
same 'it is in a session of its own' "$tracer" "$(ps -o sid= -p "$tracer" | tr -d ' ')"
check 'and no child of the program' test "$(ps -o ppid= -p "$tracer")" != "$pid"
kill -INT -- "-$pid"
check 'Ctrl-C ends the program' ended 130
check 'and the tracer with it' gone "$tracer"
# shellcheck disable=SC2086
starts $endless
kill -KILL "$pid"
check 'so does SIGKILL' ended 137
check 'and the tracer goes' gone "$tracer"
# shellcheck disable=SC2086
starts $endless
kill -TERM "$tracer"
check 'a tracer that is to end leaves' gone "$tracer"
check 'and the program runs on' eval 'has "^State:.[RSD]" && has "^TracerPid:.0$"'
kill -INT -- "-$pid"
check 'until it is ended' ended 130

for how in 'a tracer' 'a tracer that was killed meanwhile'; do
	touch hold
	starts "$traced" map stop map exit=5
	check "$how: the program stops" is_stopped
	check "$how: its shell is told" within_seconds grep -qx "$((128 + $(kill -l STOP)))" ended
	if [ "$how" != 'a tracer' ]; then
		kill -KILL "$tracer"
		gone "$tracer"
		sleep 0.1
		check "$how: it is stopped still" within_seconds has '^State:.T'
	fi
	rm hold
	check "$how: it goes on, and ends" ended 5
done

# Others that trace.
if command -v strace >/dev/null && strace -o /dev/null true 2>/dev/null; then
	strace -o /dev/null "$ALIGNMAP" run "$traced" map >out 2>err
	status=$?
	verdict 'under strace: it runs without, and one line says so' eval \
		'[ "$status" = 0 ] && [ "$(wc -l <err)" = 1 ] && grep -q "is traced already, by process .*: nothing will be placed; " err'
	strace -o /dev/null "$ALIGNMAP" run --trace=always "$traced" map >out 2>err
	status=$?
	verdict 'with --trace=always it does not' eval \
		'[ "$status" = 126 ] && [ ! -s out ] && grep -q "is traced already, by process .*; " err'
else
	skip 'under strace' 'strace is missing, or does not work here'
fi

# A traced program gains no privileges: what has them is not traced.
other=(setpriv --reuid=65534 --regid=65534 --clear-groups)
name='what it starts set-user-ID has its privileges'
if [ "$(id -u)" = 0 ] && "${other[@]}" test -x "$ALIGNMAP" 2>/dev/null; then
	cp "$traced" setuid && chmod 4755 setuid
	printf '#!%s/setuid\n' "$scratch" >script-setuid && chmod 755 script-setuid
	for program in setuid script-setuid; do
		"${other[@]}" "$ALIGNMAP" run --until=forever "$traced" "setuid=$scratch/$program" tracer \
			>out 2>err
		status=$?
		verdict "$name, $program" ends 0 'setuid: 0' 'tracer: 1'
	done
	"${other[@]}" "$ALIGNMAP" run ./setuid map >out 2>err
	status=$?
	verdict 'and itself it is refused' eval \
		'[ "$status" = 126 ] && [ ! -s out ] && grep -q "is started setuid, as root" err'
else
	skip "$name" 'it takes root, and a build folder that others can read'
fi
finish
