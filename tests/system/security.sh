#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
# What a path in ALIGNMAP_STATS or ALIGNMAP_LOG cannot do, whoever chose it and whoever else can
# write where it points. Each refusal is beside a control: the same but for what is refused.
# shellcheck disable=SC2317 # functions are called by name
# shellcheck source=tap.sh
. "$(dirname "$0")/tap.sh"
# shellcheck source=preloaded.sh
. "$(dirname "$0")/preloaded.sh"
need_common_leaves
export ASAN_OPTIONS=detect_leaks=0
chmod 711 "$scratch"
cd "$scratch" || exit 99
mkdir folder && ln -s folder link-to-folder

trust() { # WHAT TRIED RESULT
	[ "$failed" = "$failed_before" ] && printf '# trust security|%s|%s|%s\n' "$@"
	failed_before=$failed
}
failed_before=0

# one_line_says VARIABLE=VALUE REASON
one_line_says() {
	one_line_names "$1" && grep -qF -- "$2" "$scratch/err"
}

# refuses NAME PATH REASON: both variables, each in one line, and the program runs on.
refuses() {
	local variable

	for variable in ALIGNMAP_STATS ALIGNMAP_LOG; do
		run "$variable=$2" placed
		verdict "$variable: $1: refused, in one line" \
			one_line_says "$variable=${2:0:60}" "$3"
	done
}

# takes NAME PATH
takes() {
	local variable

	for variable in ALIGNMAP_STATS ALIGNMAP_LOG; do
		run "$variable=$2" placed
		verdict "$variable: $1: taken" is_silent
	done
}

# Links of /proc, which lead where the path does not say.
link='a link of /proc is on the way'
for path in "/proc/self/root$scratch/made" /proc/self/cwd/made "/proc/$$/root$scratch/made" \
	"/proc/$$/cwd/made"; do
	refuses "$(sed "s,$scratch,...,; s,$$,PID," <<<"$path")" "$path" "$link"
done
exec 9<folder
refuses 'a folder behind /proc/self/fd' /proc/self/fd/9/made "$link"
refuses 'a folder behind /dev/fd' /dev/fd/9/made "$link"
exec 9<&-
ln -s /proc/self/cwd link-to-proc
refuses 'a link to one of /proc'"'"'s' link-to-proc/made "$link"
refuses /dev/stderr /dev/stderr 'it is a symbolic link'
refuses /proc/self/fd/2 /proc/self/fd/2 'it is a symbolic link'
check 'no such file was made' test ! -e made -a ! -e folder/made
takes 'a folder behind a link of its own' link-to-folder/made
check 'that file was made' test -s folder/made
trust 'links of /proc on the way' '9 paths, in both variables: cwd, root, fd of one'"'"'s own and of others' \
	'refused; nothing made'

# What the kernel makes of a write.
refuses /proc/self/comm /proc/self/comm 'it is an interface of the kernel'
refuses /proc/self/mem /proc/self/mem 'it is an interface of the kernel'
refuses 'a file of /sys' /sys/kernel/mm/transparent_hugepage/enabled 'it is an interface of the kernel'
ln -s /proc/sys/kernel link-to-kernel
refuses 'a file of /proc/sys, by a link on the way' link-to-kernel/printk 'it is an interface of the kernel'
for device in /dev/zero /dev/full /dev/tty; do
	refuses "$device" "$device" 'it is neither a file, a pipe nor /dev/null'
done
takes /dev/null /dev/null
check '/dev/null is what it was' test -c /dev/null

# opens_of PATH: how the library opens it, but for O_PATH, which asks no driver.
opens_of() {
	strace -f -e trace=open,openat,openat2 -o trace env ALIGNMAP_STATS="$1" \
		LD_PRELOAD="$preload" "$PROBE" placed >out 2>err
	grep -F "\"$1\"" trace | grep -vc O_PATH
}
if [ -n "$(command -v strace)" ]; then
	for path in /dev/zero /proc/self/mem /sys/kernel/mm/transparent_hugepage/enabled; do
		same "$path is looked at and not opened" 0 "$(opens_of "$path")"
		check 'by this very call' grep -q "openat2(AT_FDCWD, \"$path\", .*O_PATH" trace
	done
	same '/dev/null is opened' 1 "$(opens_of /dev/null)"
else
	skip 'devices are looked at and not opened' 'strace is missing'
fi
trust 'devices, files of /proc and /sys' '7 paths, in both variables' \
	'refused; no open(2) of them but by O_PATH'

# What is no report: whoever chooses the path adds nothing to a file that means something.
echo 'root:x:0:0' >precious
refuses 'a file of other contents' "$scratch/precious" 'it holds something else'
same 'it holds what it held' 'root:x:0:0' "$(cat precious)"
: >empty
takes 'an empty file' "$scratch/empty"
check 'it is written' test "$(grep -c "$ours" empty)" -gt 8
cp empty named && ln named other-name
refuses 'a file of two names' "$scratch/named" 'it has several names (hard links)'
check 'it is not written' cmp -s empty named
rm other-name
takes 'the same file of one name' "$scratch/named"
check 'it is written' test "$(stat -c %s named)" -gt "$(stat -c %s empty)"
trust 'a file that is no report; one with a second name' 'both variables' 'refused; not a byte added'

# Other users, in a folder where everybody writes.
others=('a file of another user' 'a file of one'"'"'s own' 'a file of root' 'a pipe of another user'
	'a pipe of one'"'"'s own')
if [ "$(id -u)" = 0 ]; then
	mkdir -m 1777 shared && cp "$PROBE" shared/probe && cp "$LIBRARY" shared/libalignmap.so.0
	chmod 755 shared/*
	as=(setpriv --reuid=65534 --regid=65534 --clear-groups)
	own_preload=$preload own_probe=$PROBE
	preload="${RUNTIME:+$RUNTIME }$PWD/shared/libalignmap.so.0" PROBE=$PWD/shared/probe
	for owner in 1 65534 0; do
		(umask 0 && : >"shared/of-$owner")
		chown "$owner:$owner" "shared/of-$owner"
	done
	refuses "${others[0]}" "$PWD/shared/of-1" 'it belongs to another user'
	check 'it has not learnt an address' test ! -s shared/of-1
	takes "${others[1]}" "$PWD/shared/of-65534"
	check 'it is written' test -s shared/of-65534
	takes "${others[2]}" "$PWD/shared/of-0"
	for owner in 1 65534; do
		(umask 0 && mkfifo "shared/pipe-$owner")
		chown "$owner:$owner" "shared/pipe-$owner"
		exec 8<>"shared/pipe-$owner"
		if [ "$owner" = 1 ]; then
			refuses "${others[3]}" "$PWD/shared/pipe-1" 'it belongs to another user'
		else
			takes "${others[4]}" "$PWD/shared/pipe-65534"
		fi
		timeout 0.2 cat <&8 >"read-$owner"
		exec 8>&-
	done
	same 'who made the pipe has not learnt an address, and one'"'"'s own reader has' 'no yes' \
		"$(test -s read-1 && echo yes || echo no) $(test -s read-65534 && echo yes || echo no)"
	as=() preload=$own_preload PROBE=$own_probe
	trust 'a file or pipe that another user has put there first' \
		'in a folder of mode 1777, both variables' 'refused; no address told'
else
	for name in "${others[@]}"; do
		skip "$name" 'needs root, to be two users'
	done
fi

# A program's name may be a line of its own, in a file that somebody else reads by lines.
name=$'x\nroot::0:0\e[31m'
ln -s "$PROBE" "$name"
LD_PRELOAD=$preload ALIGNMAP_STATS=$scratch/by-name "./$name" exit 0
check 'a program of two lines and an escape for a name: its summary has one, and none' \
	grep -q ', pid [0-9]*, x?root::0:0?\[31m$' by-name
same 'nothing else of it is in the file' '0 0' \
	"$(grep -c '^root' by-name) $(tr -cd '\000-\011\013-\037' <by-name | wc -c)"
trust 'the name of the program, in a summary' 'a line feed and an escape' 'printed as "?"'

# traced INJECTION: the probe with a summary to "traced", while openat2 does so.
traced() {
	strace -f -o trace -e trace=openat2 -e inject="openat2:$1" \
		env ALIGNMAP_STATS="$scratch/traced" LD_PRELOAD="$preload" "$PROBE" placed >out 2>err
	status=$?
}
named="ALIGNMAP_STATS=$scratch/traced"
if [ -n "$(command -v strace)" ]; then
	for error in ENOSYS EPERM; do
		traced "error=$error"
		verdict "openat2 fails with $error: one line says so, and the program runs on" \
			one_line_says "$named" openat2
		check 'nothing was made' test ! -e traced
	done
	traced delay_enter=1
	verdict 'openat2 does not fail: not a word' is_silent
	check 'the file was made' test -s traced
	trust 'a kernel or a seccomp filter without openat2' 'ENOSYS, EPERM' 'refused; nothing made'

	await_the_look() {
		for ((i = 0; i < 300; i++)); do
			! grep -q O_PATH trace 2>/dev/null || break
			sleep 0.01
		done
	}

	# The second openat2 waits until the file is another one.
	: >another
	replace() {
		await_the_look
		mv another traced
	}
	rm trace
	replace &
	traced delay_enter=2000000:when=2
	wait
	verdict 'a file that is replaced once it was looked at: refused, in one line' \
		one_line_says "$named" 'somebody replaces it'
	same 'nothing is in what replaced it' 0 "$(stat -c %s traced)"
	# File systems give a number again once it is free.
	replace_by_that_number() {
		await_the_look
		rm traced
		for ((i = 0; i < 50; i++)); do : >"other$i"; done
		mv "$(stat -c '%i %n' other* | sed -n "s/^$number //p; \$s/.* //p" | head -n 1)" traced
	}
	rm -f trace traced
	: >traced
	number=$(stat -c %i traced)
	replace_by_that_number &
	traced delay_enter=2000000:when=2
	wait
	verdict 'a file that is removed, and its number given to another: refused, in one line' \
		one_line_says "$named" 'somebody replaces it'
	same 'nothing is in the other' 0 "$(stat -c %s traced)"
	trust 'a file that is replaced between look and open' \
		'strace holds the second call; by another number, by the same' 'refused'
else
	skip 'openat2 fails' 'strace is missing'
	skip 'a file that is replaced once it was looked at' 'strace is missing'
fi
finish
