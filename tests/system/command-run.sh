#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
# alignmap run: what the program finds, how it ends, and what is refused. env(1), which starts
# programs as well, is the oracle for how a start ends.
# shellcheck disable=SC2016,SC2317 # for the shells that are started; functions are called by name
# shellcheck source=tap.sh
. "$(dirname "$0")/tap.sh"
: "${ALIGNMAP?}" "${CC:?}"
need_command

read -ra cc <<<"$CC"
library=$(dirname "$LIBRARY")/libalignmap.so.0
runtime=(${RUNTIME:+"LD_PRELOAD=$RUNTIME"})
unset LD_PRELOAD
chmod 755 "$scratch"
cd "$scratch" || exit 99

ended() { [ "$status" = "$1" ]; }
says() { # TEXT...: all of it, in one line
	[ "$(wc -l <err)" = 1 ] && [[ $(cat err) == 'alignmap run: '* ]] && all_of "$@"
}
all_of() {
	local text

	for text; do
		grep -qF -- "$text" err || return
	done
}

# Help.
run -- --help
verdict '--help ends with 0, and prints no error' eval 'ended 0 && silent'
check '--help fits 80 columns' test "$(wc -L <out)" -le 80
run -- --hints --help false
verdict '--help before a command starts nothing' eval 'ended 0 && grep -q ^usage: out'

# Wrong usage: named, where to read on, and nothing started.
wrong() { # TEXT OPTION...
	local text=$1

	shift
	run "${set[@]}" -- "$@" touch started
	verdict "$*${set[*]:+, ${set[*]}}: wrong usage" refuses_usage "$text"
}
refuses_usage() {
	ended 2 && [ ! -e started ] && [ ! -s out ] && [ "$(wc -l <err)" = 2 ] && all_of "$1" &&
		[ "$(tail -n 1 err)" = "Try 'alignmap run --help'." ]
}
set=()
wrong '--min 3X: not a size such as 2M or 1G' --min 3X
wrong '--min=3X: not a size such as 2M or 1G' --min=3X
wrong '--max -1: not a size such as 2M or 1G' --max -1
wrong '--mi 0: no power of two' --mi 0
wrong '--min 3M: no power of two' --min 3M
wrong '--max=0x1001: no power of two' --hints --max=0x1001
wrong '--min=: has no value' --min=
wrong '--stats=: has no value' --stats=
wrong '--log=: has no value' --log=
wrong '--anon=some: neither none, reserve nor all' --anon=some
wrong '--anon ALL: neither none, reserve nor all' --anon ALL
wrong '--trace=some: neither auto, always nor never' --trace=some
wrong '--until -1: neither kvm-run, forever nor a number of seconds' --until -1
wrong '--until=0: neither kvm-run, forever nor' --until=0
wrong '--until=1h: neither kvm-run, forever nor' --until=1h
wrong '--until=9999999999: neither kvm-run, forever nor' --until=9999999999
wrong '--until says when a tracer leaves, and --trace=never wants none' --until=5 --trace=never
wrong "unrecognized option '--nonsense'" --nonsense
wrong "invalid option -- 'x'" -x
wrong "option '--hints' doesn't allow an argument" --hints=1
wrong '--min 1G: larger than ALIGNMAP_MAX, which --max=2M sets' --min 1G --max=2M
set=(ALIGNMAP_MAX=2M)
wrong '--min=1G: larger than ALIGNMAP_MAX, which is 2M in the environment' --min=1G
set=(ALIGNMAP_MIN=1G)
wrong '--max 2M: ALIGNMAP_MIN=1G of the environment would be larger than' --max 2M
set=()
if [ "$(getconf PAGESIZE)" = 4096 ] && [ "$(uname -m)" = x86_64 ]; then
	host="this host's leaf sizes above its base page are 1G 2M: none is from"
	wrong "--max 4K: $host 0 to 4K, so that nothing would be placed" --max 4K
	wrong "--min=2G: $host 2G to any, so that" --min=2G
	wrong "--min 4M --max=512M: $host 4M to 512M" --min 4M --max=512M
	set=(ALIGNMAP_MAX=512M)
	wrong "--min 4M: $host 4M to 512M" --min 4M
	set=()
	run -- --min 4M true
	verdict '--min 4M leaves 1G' eval 'ended 0 && silent'
else
	skip 'sizes that the host has not' 'written for x86-64'
fi
for arguments in '' '--hints' '--' '--stats --'; do
	read -ra words <<<"$arguments"
	run -- "${words[@]}"
	verdict "'$arguments' without a command: wrong usage" refuses_usage 'no COMMAND'
done
run -- ''
verdict 'an empty command: wrong usage' refuses_usage 'no COMMAND'
run -- --min
verdict '--min at the end: wrong usage' refuses_usage "option '--min' requires an argument"

# What the program finds in its environment: all that was there, and a few lines more.
ours="LD_PRELOAD=${RUNTIME:+$RUNTIME:}$library"
finds() { # NAME OPTIONS EXPECTED [VARIABLE=VALUE...]: EXPECTED besides LD_PRELOAD
	local name=$1
	local -a words expected

	read -ra words <<<"$2"
	read -ra expected <<<"$3"
	shift 3
	run "$@" -- "${words[@]}" env
	env "${runtime[@]}" "$@" env | sort >before
	sort out >after
	same "$name" "$(printf '%s\n' "${expected[@]}" "$ours" | sort)" "$(comm -13 before after)"
	# What is gone stands there with another value.
	same "$name: nothing is gone" '' \
		"$(comm -23 <(cut -d= -f1 before | sort -u) <(cut -d= -f1 after | sort -u))"
}
finds 'without options: the library' '' ''
finds '--min' '--min 2M' ALIGNMAP_MIN=2097152
finds '--min in other words' '--min 2MiB' ALIGNMAP_MIN=2097152
finds '--min in hexadecimal' '--min=0x200000' ALIGNMAP_MIN=2097152
finds '--min=' '--min=4096' ALIGNMAP_MIN=4096
finds '--max' '--max 1g' ALIGNMAP_MAX=1073741824
finds '--anon=reserve' --anon=reserve ALIGNMAP_ANON=reserve
finds '--anon all' '--anon all' ALIGNMAP_ANON=all
finds '--anon=none' --anon=none ALIGNMAP_ANON=none
finds '--hints' --hints ALIGNMAP_HINTS=1
finds '--stats' --stats ALIGNMAP_STATS=1
finds '--log' --log ALIGNMAP_LOG=1
finds '--stats=FILE' --stats=some "ALIGNMAP_STATS=$scratch/some"
finds '--stats=1 is a file' --stats=1 "ALIGNMAP_STATS=$scratch/1"
finds '--log=FILE' "--log=$scratch/logged" "ALIGNMAP_LOG=$scratch/logged"
finds 'abbreviations' '--mi 2M --an all' 'ALIGNMAP_MIN=2097152 ALIGNMAP_ANON=all'
finds 'the last of an option' '--min 1G --min 2M --stats=some --stats' \
	'ALIGNMAP_MIN=2097152 ALIGNMAP_STATS=1'
finds 'all of them' "--min 2M --max 1G --anon=all --hints --stats --log=logged --" \
	"ALIGNMAP_MIN=2097152 ALIGNMAP_MAX=1073741824 ALIGNMAP_ANON=all ALIGNMAP_HINTS=1 \
ALIGNMAP_STATS=1 ALIGNMAP_LOG=$scratch/logged"
finds 'variables of the user stay' '--max 1G' ALIGNMAP_MAX=1073741824 ALIGNMAP_CLAIM=fixed \
	ALIGNMAP_MIN=4M
finds 'options win over variables' '--min 2M --log --anon=reserve' \
	'ALIGNMAP_MIN=2097152 ALIGNMAP_LOG=1 ALIGNMAP_ANON=reserve' ALIGNMAP_MIN=4M ALIGNMAP_LOG=wrong \
	ALIGNMAP_ANON=all
run -- sh -c 'cd / && exec "$0" run --stats="$1" env' "$ALIGNMAP" "${scratch#/}/in-root"
check 'a file relative to the root' grep -qxF "ALIGNMAP_STATS=$scratch/in-root" out

name='a variable that stands there twice is replaced twice'
cat >twice.c <<'END'
#include <unistd.h>

int main(int argc, char **argv)
{
	char *environment[] = { "ALIGNMAP_MIN=1G", "A=1", "ALIGNMAP_MIN=4M", NULL };

	(void)argc;
	return execve(argv[1], argv + 1, environment);
}
END
"${cc[@]}" -w twice.c -o twice
if [ -n "$SANITIZE" ]; then
	skip "$name" "the environment is made up, without the sanitizer's runtime"
else
	same "$name" "A=1 ALIGNMAP_MIN=2097152 LD_PRELOAD=$library" \
		"$(./twice "$ALIGNMAP" run --min 2M /usr/bin/env | sort | tr '\n' ' ' | sed 's/ $//')"
fi

run ALIGNMAP_MIN=1X -- --hints true
verdict 'a wrong variable of the user is left to the library to name' \
	eval 'ended 0 && [ "$(cut -d: -f1-2 err)" = "libalignmap: ALIGNMAP_MIN=1X" ]'
run ALIGNMAP_MIN=1G ALIGNMAP_MAX=2M -- --hints true
verdict 'so are two that do not go together' \
	eval 'ended 0 && [ "$(cut -d: -f1-2 err)" = "libalignmap: ALIGNMAP_MIN=1G" ]'
run ALIGNMAP_OFF=on -- true
verdict 'ALIGNMAP_OFF: a warning, and the program runs' \
	eval 'ended 0 && says "ALIGNMAP_OFF=on is in the environment: nothing will be placed"'
run ALIGNMAP_OFF=0 -- true
verdict 'ALIGNMAP_OFF=0: not a word' eval 'ended 0 && silent'

# LD_PRELOAD.
preloads() { # NAME EXPECTED BEFORE
	run LD_PRELOAD="${RUNTIME:+$RUNTIME }$3" -- env
	same "$1" "${RUNTIME:+$RUNTIME }$2" "$(sed -n 's/^LD_PRELOAD=//p' out)"
}
[ -n "$RUNTIME" ] || preloads 'an empty LD_PRELOAD is as good as none' "$library" ''
preloads 'what is in LD_PRELOAD stays, in front' "libm.so.6:$library" libm.so.6
preloads 'with its spaces and colons' "libm.so.6 :libdl.so.2:$library" 'libm.so.6 :libdl.so.2'
for there in "$LIBRARY" "$library" "$library.1.0" "libm.so.6:$library" "$LIBRARY libm.so.6" \
	"libm.so.6  $LIBRARY:"; do
	preloads "the library is not added to ${there//"${LIBRARY%/*}"/...}" "$there" "$there"
done
touch libalignmap.sox notlibalignmap.so
mkdir -p libalignmap.so.d
cp "$library" libalignmap.so.d/other.so
for there in "$scratch/libalignmap.sox" "$scratch/notlibalignmap.so" libalignmap.so.d/other.so; do
	preloads "the library is added to ${there##*/}" "$there:$library" "$there"
done

# It is loaded, it places, and the options reach it.
if [ "$(getconf PAGESIZE)" = 4096 ] &&
	[ "$(cat /sys/kernel/mm/transparent_hugepage/hpage_pmd_size 2>/dev/null)" = 2097152 ]; then
	all='mmap 4 mmap64 4 secure 0'
	placed() { run "${set[@]}" -- "$@" "$PROBE" placed && [ "$(cat out)" = "$all" ]; }
	not_placed() { ! placed "$@" && [ "$status" = 0 ]; }
	run_logged() { # KIND OPTION...: how many placements the log has
		local kind=$1

		shift
		rm -f log
		run -- --log=log "$@" "$PROBE" call mmap "$kind"
		grep -c ': placed ' log
	}
	verdict 'what a program maps is placed' placed
	verdict 'by its name and PATH, too' eval \
		'run PATH="$(dirname "$PROBE"):$PATH" -- probe placed && [ "$(cat out)" = "$all" ]'
	verdict '--min 1G: mappings of 8 MiB are not' not_placed --min 1G
	set=(ALIGNMAP_OFF=1)
	verdict 'ALIGNMAP_OFF=1: nothing is' not_placed
	set=()
	same '--log=FILE has a line for each placement' 1 "$(run_logged shared)"
	same 'anonymous memory is left alone' 0 "$(run_logged anonymous)"
	same 'but with --anon=all' 1 "$(run_logged anonymous --anon=all)"
	same 'calls with a hint are left alone' 0 "$(run_logged left-hint)"
	same 'but with --hints' 1 "$(run_logged left-hint --hints)"
	run -- --stats "$PROBE" placed
	verdict '--stats prints the summary on standard error' eval \
		'[ "$(cat out)" = "$all" ] && grep -q ", pid [0-9]*, probe$" err'
else
	skip 'what a program maps is placed' 'for hosts with pages of 4 KiB and a PMD of 2 MiB'
fi
run -- sh -c 'test -n "$1" && grep -q "$1" /proc/self/maps' sh "$(basename "$(readlink -f "$library")")"
verdict 'the library is among the mappings' ended 0

# Files of --stats and --log.
mkdir directory
mkfifo fifo
ln -s target link
unwritable() { # FILE TEXT
	for option in stats log; do
		run -- "--$option=$1" touch started
		verdict "--$option=$1: $2" eval "ended 1 && [ ! -e started ] && says '$1:' '$2'"
	done
}
unwritable "$scratch/none/file" 'No such file or directory'
unwritable "$scratch/directory" 'Is a directory'
unwritable "$scratch/link" 'it is a symbolic link'
check 'a symbolic link is not followed' test ! -e target
# A look would be the end of what its reader reads: there it is the library that says it.
run -- --stats="$scratch/fifo" true
verdict 'a pipe that nobody reads: one line says so, and the program is started' \
	eval 'ended 0 && grep -q "fifo: ignored: it is a pipe that nobody reads" err'
timeout 20 cat fifo >piped &
reader=$!
# Until it has begun to read.
for ((i = 0; i < 50; i++)); do
	run -- --stats="$scratch/fifo" true
	if ! grep -q 'nobody reads' err; then break; fi
	sleep 0.1
done
wait $reader
verdict 'a pipe that is read: the summary is in it' grep -q ', pid [0-9]*, true$' piped
echo 'root:x:0:0' >precious
unwritable "$scratch/precious" 'it holds something else'
if [ "$(id -u)" != 0 ]; then
	mkdir -m 500 unwritable
	unwritable "$scratch/unwritable/file" 'Permission denied'
else
	skip 'a file in a folder without permission' 'root may write everywhere'
fi
mkdir gone
run -- sh -c 'cd gone && rmdir ../gone && exec "$0" run --stats=file true' "$ALIGNMAP"
verdict 'a file in a directory that is gone' \
	eval 'ended 1 && says file "No such file or directory"'
echo 'libalignmap wrote this' >appended
run -- --stats=appended sh -c 'cd / && exec "$0" exit 0' "$PROBE"
same 'a relative file is found by a program that changes its directory' 1 \
	"$(grep -c ', pid [0-9]*, probe$' appended)"
same 'and is not truncated' 'libalignmap wrote this' "$(head -n 1 appended)"
(umask 0 && run -- --log=made true)
same 'a file that is made is its owner'"'"'s alone' 600 "$(stat -c %a made)"
run -- --stats=unmade --log=unmade ./none
check 'no file is made for a program that is not there' test ! -e unmade

# Where the library is: looked for beside the command, wherever that was put.
mkdir -p moved/bin 'a b/c'
cp "$ALIGNMAP" moved/bin
run_moved() { # FOLDER
	env "${runtime[@]}" "$1/bin/alignmap" run env >out 2>err
	status=$?
}
run_moved moved
verdict 'a command without its library says where it looked' eval \
	'ended 1 && says "neither $scratch/moved/" " nor $scratch/moved/libalignmap.so.0 to be"'
place=$(sed -n 's,.*neither \(.*/libalignmap.so.0\) nor .*,\1,p' err)
place=$(realpath -ms "${place:-none}")
mkdir -p "${place%/*}"
cp "$library" "$place"
run_moved moved
verdict 'and finds it when it is there' eval \
	'ended 0 && grep -qxF "LD_PRELOAD=${RUNTIME:+$RUNTIME:}$place" out'
check 'which is in no folder that the name of the build says' eval '[[ $place == $scratch/moved/* ]]'
for folder in 'a b/c' 'a:b' 'a$LIB'; do
	mkdir -p "$folder"
	cp -r moved/* "$folder"
	run_moved "$folder"
	verdict "in a folder that LD_PRELOAD cannot name, $folder, it says so" eval \
		'ended 1 && says "$scratch/$folder" "in a folder without them"'
done

# How the program ends, and that it is the same process with what that inherits.
run -- sh -c 'exit 7'
verdict "the program's exit status" ended 7
run -- sh -c 'kill -TERM $$'
verdict "the program's signal" ended 143
run -- sh -c 'echo $$; exec "$0" run sh -c "echo \$\$"' "$ALIGNMAP"
same 'the process stays the same' 1 "$(sort -u out | wc -l)"
run -- sh -c 'ls /proc/self/fd'
env sh -c 'ls /proc/self/fd' >without 2>/dev/null
same 'so do its descriptors' "$(cat without)" "$(cat out)"
run -- sh -c 'printf "%s|" "$0" "$@"' '--min' --stats '' 'a b'
same 'its arguments are its own' '--min|--stats||a b|' "$(cat out)"
run -- -- printf %s --hints
same 'behind -- too' --hints "$(cat out)"
mkdir bin other
printf '#!/bin/sh\necho "$0"\n' >bin/named
chmod +x bin/named
run PATH="bin:$PATH" -- named
same 'a program is found by PATH' bin/named "$(cat out)"
ln -s "$(command -v sh)" bin/linked
run PATH="bin:$PATH" -- linked -c 'echo "$0"'
same 'and is told the name that was written' linked "$(cat out)"

# as_env NAME STATUS [VARIABLE=VALUE...] -- COMMAND...: it ends so, and as env(1) does.
as_env() {
	local name=$1 wanted=$2
	local -a set=()

	shift 2
	while [ "$1" != -- ]; do
		set+=("$1")
		shift
	done
	shift
	run "${set[@]}" -- "$@"
	verdict "$name: $wanted" ended "$wanted"
	PATH=$PATH env "${set[@]}" "$@" >/dev/null 2>&1
	same "$name: as env(1)" $? "$status"
}
: >bin/plain
: >other/plain
chmod +x other/plain
mkdir bin/folder
ln -s nothing bin/dangling
here=$scratch
# The PATH of who runs this may have folders that he cannot search: then it is 126.
as_env 'no such program' 127 PATH=/usr/bin:/bin -- alignmap-no-such-program
as_env 'no such path' 127 -- ./none
as_env 'a link to nothing' 127 -- bin/dangling
as_env 'not executable' 126 -- bin/plain
as_env 'a directory' 126 -- bin/folder
as_env 'below what is no directory' 126 -- bin/plain/none
as_env 'not executable in PATH' 126 PATH="$here/bin:/usr/bin:/bin" -- plain
as_env 'a directory in PATH' 126 PATH="$here/bin:/usr/bin:/bin" -- folder
as_env 'executable behind that in PATH' 0 PATH="$here/bin:$here/other:/usr/bin:/bin" -- plain
as_env 'an empty file' 0 -- other/plain
echo 'exit 9' >other/text && chmod +x other/text
as_env 'a text without interpreter' 9 -- other/text
cp other/text text
as_env 'here, by an empty folder in PATH' 9 PATH=":/usr/bin:/bin" -- text
as_env 'here, by an empty folder at the end of PATH' 9 PATH="/usr/bin:/bin:" -- text
printf '#!\nexit 8\n' >blank && chmod +x blank
as_env 'a script whose interpreter is nothing' 8 -- ./blank
printf '#!%0300d' 0 >long && chmod +x long
as_env 'a first line without end' 0 -- ./long
run PATH=/usr/bin:/bin -- alignmap-no-such-program
verdict 'what is not found is named' says alignmap-no-such-program PATH
run PATH=/usr/bin:/bin -- --stats file-for-stats
verdict 'a file behind --stats is told from a program' \
	eval 'ended 127 && says "--stats=file-for-stats"'
run -- bin/plain
verdict 'what cannot be started is named' \
	says 'bin/plain: cannot be started: it is not executable; chmod +x bin/plain'

# What no library can be preloaded into.
refused() { # NAME COMMAND TEXT...
	local name=$1

	run -- --trace=never "$2"
	shift 2
	verdict "$name" refuses "$@"
}
refuses() { ended 126 && [ ! -s out ] && [ ! -e started ] && says "$@"; }
printf '#include <stdio.h>\nint main(void) { puts("started"); fclose(fopen("started", "w")); return 0; }\n' \
	>program.c
for way in static static-pie; do
	names=("$way: refused" "$way: so is a script for it" "$way: so is a script for that"
		"$way: so is a script by env" "$way: and by env -S"
		"$way: but env does not start what it sets")
	if ! "${cc[@]}" "-$way" program.c -o $way 2>/dev/null; then
		for name in "${names[@]}"; do
			skip "$name" "nothing can be linked with -$way here"
		done
		continue
	fi
	link='link the library instead: alignmap(7)'
	write="write 'alignmap run' into the script"
	printf '#! %s/%s -x y\n' "$scratch" $way >script-$way
	printf '#!%s/script-%s' "$scratch" $way >nested-$way
	printf '#!/usr/bin/env %s/%s\n' "$scratch" $way >env-$way
	printf '#!/usr/bin/env -S  %s/script-%s -x\n' "$scratch" $way >split-$way
	printf '#!/usr/bin/env -S A=%s/%s sh\necho fine\n' "$scratch" $way >fine-$way
	chmod +x ./*-$way
	refused "${names[0]}" ./$way "./$way is statically linked" "$link"
	refused "${names[1]}" ./script-$way "./script-$way is a script for $scratch/$way, which is" \
		statically "$write"
	refused "${names[2]}" ./nested-$way "./nested-$way is a script for $scratch/script-$way, which \
is a script for $scratch/$way, which is" statically "$write"
	refused "${names[3]}" ./env-$way "by env, a script for $scratch/$way, which is statically" "$write"
	refused "${names[4]}" ./split-$way \
		"by env, a script for $scratch/script-$way, which is a script for $scratch/$way"
	run -- ./fine-$way
	same "${names[5]}" fine "$(cat out)"
done
"${cc[@]}" -shared -fPIC -Wl,-z,now program.c -o lib.so
refused 'a shared object' ./lib.so './lib.so is a shared object, and no program; name a program'
"${cc[@]}" program.c -o dynamic
run -- ./dynamic
verdict 'the same program, dynamically linked, is started' eval 'ended 0 && [ -e started ] && silent'
rm -f started
loader=$(LC_ALL=C readelf -l dynamic | sed -n 's/.*interpreter: \(.*\)]/\1/p')
"${cc[@]}" "-Wl,--dynamic-linker=/lib/ld-musl-x86_64.so.1" program.c -o musl
refused "a program for another C library" ./musl 'is loaded by /lib/ld-musl-x86_64.so.1' \
	"for ${loader##*/}" 'built against its C library'
printf '#!%s/musl\n' "$scratch" >script-musl && chmod +x script-musl
refused 'a script for it' ./script-musl "is a script for $scratch/musl, which is loaded by /lib/ld-musl"
"${cc[@]}" "-Wl,--dynamic-linker=/none/${loader##*/}" program.c -o homeless
refused 'a program whose loader is not there' ./homeless "/none/${loader##*/}" \
	'No such file or directory'
if [ -n "$SANITIZE" ]; then
	skip 'the loader as a program' "it would not find the sanitizer's runtime first"
else
	run -- "$loader" ./dynamic
	verdict 'the loader as a program heeds LD_PRELOAD, and is started' eval 'ended 0 && silent'
	rm -f started
fi

# Other machines: the header is made up, and so short that nothing can be started.
header() { # CLASS ENCODING MACHINE FILE
	{
		printf '%b' "\\0177ELF\\0$1\\0$2\\01"
		head -c 9 /dev/zero
		if [ "$2" = 1 ]; then printf '\2\0'; else printf '\0\2'; fi
		printf '%b' "$3"
		head -c $((44 + $1 * 10 - 20)) /dev/zero
	} >"$4"
	chmod +x "$4"
}
while read -r machine class encoding number text; do
	if [ "$(uname -m)" = "$machine" ]; then
		skip "a program for $text" 'it is this machine'
		continue
	fi
	header "$class" "$encoding" "$number" "made-up-$machine"
	refused "a program for $text" "./made-up-$machine" "is for $text, and this libalignmap for " \
		"an alignmap that is built for $text"
	printf '#!%s/made-up-%s\n' "$scratch" "$machine" >for-machine && chmod +x for-machine
	refused "a script for a program for $text" ./for-machine \
		"is a script for $scratch/made-up-$machine, which is for $text"
done <<'END'
i686 1 1 \03\0 32-bit x86
x32 1 1 \076\0 ELF machine 62, 32-bit
x86_64 2 1 \076\0 x86-64
aarch64 2 1 \0267\0 arm64
riscv64 2 1 \0363\0 riscv64
arm 1 1 \050\0 32-bit arm
s390x 2 2 \0\026 ELF machine 22, 64-bit, big-endian
END

# Scripts in a row, as many as Linux follows.
ln -s "$scratch/dynamic" row0
for number in 1 2 3 4 5 6; do
	printf '#!%s/row%d\n' "$scratch" $((number - 1)) >row$number
	chmod +x row$number
done
as_env 'five scripts in a row' 0 -- ./row5
as_env 'six scripts in a row' 126 -- ./row6
rm -f started
verdict 'are named' says './row6 is a script for' 'one more in a row than Linux follows'
printf '#!%s/circle\n' "$scratch" >circle && chmod +x circle
as_env 'a script for itself' 126 -- ./circle
printf '#!/none/interpreter\n' >missing && chmod +x missing
refused 'a script whose interpreter is not there' ./missing \
	'./missing is a script for /none/interpreter, which cannot be started (No such file'
printf '#!/bin/sh\r\n' >carriage && chmod +x carriage
refused 'a script with carriage returns' ./carriage '/bin/sh\015'
printf '#!%s/bin/plain\n' "$scratch" >unfit && chmod +x unfit
refused 'a script whose interpreter is not executable' ./unfit 'plain, which cannot be started (Perm'
printf '#!/usr/bin/env alignmap-no-such-program\n' >lost && chmod +x lost
as_env 'a script for a program that env does not find' 127 PATH=/usr/bin:/bin -- ./lost

# Damaged programs: cut short, and with each byte of the headers changed.
cp "$(type -P true)" whole
damage() { # NUMBER: how the damaged program ended, unless refused or as without alignmap
	# Of those that look as if they were to be traced: leaks cannot be looked for then.
	run ASAN_OPTIONS=detect_leaks=0 -- ./damaged
	ended 126 && says '' && return
	env "${runtime[@]}" ./damaged >/dev/null 2>without
	[ $? = "$status" ] && [ "$(grep -c Sanitizer: without)" = "$(grep -c Sanitizer: err)" ] &&
		return
	echo "$1: $status: $(head -n 1 err)"
} 2>/dev/null
bad=
for ((length = 1; length <= 200; length++)); do
	head -c "$length" whole >damaged
	chmod +x damaged
	bad+=$(damage "$length")
done
same 'a program that is cut within 200 bytes is refused, or ends as without alignmap' '' "$bad"
head -c 64 whole >damaged
refused 'a program that is cut behind its header is refused' ./damaged 'is an ELF file, but no whole'
head -c 120 whole >damaged
printf '#!%s/damaged' "$scratch" >script-damaged && chmod +x script-damaged
refused 'a script for one is refused' ./script-damaged 'is an ELF file, but no whole program'
bad=
for ((at = 0; at < 184; at++)); do
	cp whole damaged
	printf '\377' | dd of=damaged bs=1 seek="$at" conv=notrunc status=none
	bad+=$(damage "$at")
done
same 'a program of which a byte is wrong is refused, or ends as without alignmap' '' "$bad"

# Where the loader does not heed LD_PRELOAD: the probe prints whether the kernel has told it so.
# refused_as_secure NAME WHAT [WRAPPER...] -- COMMAND: refused just if it is so, which WHAT expects.
# By env(1) both times: setpriv(1) keeps capabilities up to the exec.
refused_as_secure() {
	local name=$1 wanted=$2 secure
	local -a with=()

	shift 2
	while [ "$1" != -- ]; do
		with+=("$1")
		shift
	done
	shift
	if ! "${with[@]}" true 2>/dev/null; then
		skip "$name" "it cannot be had here: ${with[*]}"
		return
	fi
	secure=$("${with[@]}" env "$@" placed | sed -n 's/.* secure //p')
	"${with[@]}" env "${runtime[@]}" "$ALIGNMAP" run "$@" placed >out 2>err
	status=$?
	same "$name: AT_SECURE" "$wanted" "$secure"
	verdict "$name: refused just if the kernel says so ($secure)" agrees_with "$secure"
}
agrees_with() {
	case $1 in
	1) refuses 'then the loader ignores LD_PRELOAD; start it as' ;;
	0) ended 0 && grep -q ' secure 0$' out ;;
	*) false ;;
	esac
}
other=(setpriv --reuid=65534 --regid=65534 --clear-groups)
if [ "$(id -u)" != 0 ]; then
	reason='needs root, to make programs of other users'
elif [ -n "$SANITIZE" ]; then
	reason="a setuid program does not have the sanitizer's runtime"
elif ! "${other[@]}" test -x "$ALIGNMAP" -a -r "$library"; then
	reason='another user cannot read the build folder'
else
	reason=
fi
if [ -n "$reason" ]; then
	skip 'programs for which the loader ignores LD_PRELOAD' "$reason"
	skip 'a program that cannot be read' "$reason"
	finish
fi
own() { # FILE OWNER MODE
	cp "$PROBE" "$1"
	chown "$2" "$1"
	chmod "$3" "$1"
}
own setuid 1:0 4755
own setuid-group 1:99 4755
own setgid 0:1 2755
own setgid-only 0:1 2745
own root 0:0 6755
own unread 0:0 0111
own unread-setuid 0:0 4111
printf '#!%s/setuid\n' "$scratch" >script-setuid
printf '#!%s placed\n' "$PROBE" >script-probe
printf '#!%s placed\n' "$PROBE" >setuid-script
chown 1:1 setuid-script
chmod 755 script-setuid script-probe && chmod 4755 setuid-script
nobody=$(id -nu 65534)
refused_as_secure 'setuid for another user' 1 -- ./setuid
verdict 'setuid for another user: who' \
	says "is started setuid, as $(id -nu 1)" "sudo -u $(id -nu 1) alignmap run"
refused_as_secure 'setgid for another group' 1 -- ./setgid
verdict 'setgid for another group: which' \
	says "is started setgid, as $(id -ng 1)" "sudo -g"
refused_as_secure 'setgid without execution by the group' 0 -- ./setgid-only
refused_as_secure 'setuid for who starts it' 0 -- ./root
refused_as_secure 'the same, by another' 1 "${other[@]}" -- ./root
verdict 'and it says how' says 'is started setuid, as root' ': sudo alignmap run ...'
mkdir nosuid
on_nosuid() {
	unshare -m sh -c 'mount -t tmpfs -o nosuid none nosuid && cp -p setuid nosuid && exec "$@"' \
		sh "$@"
}
refused_as_secure 'setuid on a nosuid mount' 0 on_nosuid -- nosuid/setuid
refused_as_secure 'setuid without new privileges' 0 setpriv --no-new-privs -- ./setuid
refused_as_secure 'setgid without new privileges' 0 setpriv --no-new-privs -- ./setgid
run -- ./script-setuid
verdict 'a script for a setuid program' \
	refuses "is a script for $scratch/setuid, which is started setuid"
refused_as_secure 'a setuid script' 0 -- ./setuid-script
refused_as_secure 'a setuid program that cannot be read' 1 "${other[@]}" -- ./unread-setuid

# A process that is two users at once, whatever it starts.
for option in --euid=65534 --ruid=65534; do
	refused_as_secure "$option" 1 setpriv "$option" -- "$PROBE"
	refused_as_secure "$option, a script" 1 setpriv "$option" -- ./script-probe
	refused_as_secure "$option, a setuid program" 1 setpriv "$option" -- ./setuid
done
setpriv --euid=65534 "$ALIGNMAP" run "$PROBE" placed >out 2>err
status=$?
verdict '--euid: who, and what to do' refuses "with another effective user, $nobody, and then" \
	"start it as that user: sudo -u $nobody alignmap run"
refused_as_secure --egid=65534 1 setpriv --egid=65534 --clear-groups -- "$PROBE"
verdict '--egid: who, and what to do' refuses 'with another effective group,' 'sudo -g '
refused_as_secure '--egid without new privileges' 1 \
	setpriv --egid=65534 --clear-groups --no-new-privs -- "$PROBE"

# User namespaces: a bit is worth nothing for owners that they do not have.
ten_mapped() { # COMMAND...: where the users and groups 0 to 9 are themselves
	local map

	unshare --user sh -c 'until read -r _ && read -r _ <"$0"; do sleep 0.01; done 2>/dev/null \
		</proc/self/uid_map; exec "$@"' /proc/self/gid_map "$@" &
	for map in uid_map gid_map; do
		while kill -0 $! && ! echo '0 0 10' >"/proc/$!/$map"; do sleep 0.01; done 2>/dev/null
	done
	wait $!
}
refused_as_secure 'setuid, the owner not mapped' 0 unshare --user --map-root-user -- ./setuid
refused_as_secure 'setgid, the group not mapped' 0 unshare --user --map-root-user -- ./setgid
refused_as_secure 'setuid, nobody mapped' 0 unshare --user -- ./setuid
refused_as_secure 'setuid, the owner mapped' 1 ten_mapped -- ./setuid
refused_as_secure 'setgid, the group mapped' 1 ten_mapped -- ./setgid
refused_as_secure 'setuid, the owner mapped but not the group' 0 ten_mapped -- ./setuid-group

# File capabilities. Root has what they give; "unshare -U" leaves no root.
inheriting=("${other[@]}" --inh-caps=+net_raw)
having=("${inheriting[@]}" --ambient-caps=+net_raw)
if cp "$PROBE" capable && setcap cap_net_raw+ep capable 2>/dev/null; then
	# NAME, then what AT_SECURE is for +ep, +p, +i, and who starts it.
	while read -r ep p i words; do
		read -ra with <<<"${words#*:}"
		for flags in "ep $ep" "p $p" "i $i"; do
			setcap "cap_net_raw+${flags% *}" capable
			refused_as_secure "capabilities +${flags% *}, ${words%%:*}" "${flags#* }" \
				"${with[@]}" -- ./capable
		done
	done <<-END
		0 0 0 by root: env
		1 1 0 by another: ${other[*]}
		1 0 0 by another without new privileges: ${other[*]} --no-new-privs
		1 1 1 by one who inherits: ${inheriting[*]}
		1 0 0 by one who inherits, without new privileges: ${inheriting[*]} --no-new-privs
		1 1 1 by one who has them: ${having[*]}
		1 1 1 by one who has them, without new privileges: ${having[*]} --no-new-privs
		1 1 0 in a user namespace with nobody: unshare --user
		1 1 0 in a user namespace with root as another: unshare --user --map-user=5
		0 0 0 in a user namespace with root: unshare --user --map-root-user
	END
	setcap cap_net_raw+p capable
	refused_as_secure 'capabilities +p that are in no bounding set' 0 \
		"${other[@]}" --bounding-set=-net_raw -- ./capable
	setcap -n 1000 cap_net_raw+ep capable
	refused_as_secure "capabilities of another namespace's root" 0 "${other[@]}" -- ./capable
	setcap -r capable
	refused_as_secure 'capabilities that are gone' 0 "${other[@]}" -- ./capable
else
	skip 'file capabilities' 'none can be set here'
fi
"${other[@]}" "$ALIGNMAP" run ./unread placed >out 2>err
status=$?
verdict 'a program that cannot be read is started, with a note' eval \
	'ended 0 && grep -q " secure 0$" out && says "./unread cannot be read (Permission denied)"'
finish
