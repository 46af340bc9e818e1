#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
# What makes the library place a program's own mappings, and what does not.
# shellcheck disable=SC2317 # functions are called by name
# shellcheck source=tap.sh
. "$(dirname "$0")/tap.sh"
: "${LINKED:?}"
need_common_leaves

# Mapped as they deserve: four of four. Unaided it may be one or two, by accident.
placed() {
	case $1 in
	'mmap 4 mmap64 4'*) return 0 ;;
	esac
	return 1
}

left_alone() {
	case $1 in
	'mmap '[012]' mmap64 '[012]' '*) return 0 ;;
	esac
	return 1
}

interpreter=$(readelf -p .interp "$PROBE" | sed -n 's/^ *\[ *0\] *//p')

for name in mmap mmap64; do
	if [ -n "$SANITIZE" ]; then
		skip "the program calls $name with a symbol version" "it calls a sanitizer's"
	else
		check "the program calls $name with a symbol version" \
			grep -q " $name@GLIBC_" <(nm -D "$PROBE")
	fi
done
check 'without the preload the kernel places its mappings' \
	left_alone "$("$PROBE" placed)"
check 'LD_PRELOAD places what it maps, by mmap and by mmap64' \
	placed "$(LD_PRELOAD=$preload "$PROBE" placed)"
check 'LD_PRELOAD with colons, other objects and no folder' \
	placed "$(LD_LIBRARY_PATH=$(dirname "$LIBRARY") \
		LD_PRELOAD="$RUNTIME:libm.so.6:libalignmap.so.0:" "$PROBE" placed)"
check 'ALIGNMAP_OFF=1 leaves them to the kernel' \
	left_alone "$(LD_PRELOAD=$preload ALIGNMAP_OFF=1 "$PROBE" placed)"
if "$interpreter" --help 2>&1 | grep -q -- --preload; then
	check 'ld.so --preload, which sets no variable, places them' \
		placed "$("$interpreter" --preload "$preload" "$PROBE" placed)"
else
	skip 'ld.so --preload, which sets no variable, places them' 'this ld.so has no such option'
fi

check 'the linked program needs the library' \
	grep -q 'NEEDED.*libalignmap\.so\.0' <(readelf -d "$LINKED")
linked=$("$LINKED" placed)
check 'a linked program has its own mmap left alone' left_alone "$linked"
check 'a linked program has what it asks the API for' \
	grep -q ' api 4 ' <<<"$linked"
check 'a linked program under LD_PRELOAD has its own mappings placed' \
	placed "$(LD_PRELOAD=$preload "$LINKED" placed)"
check 'another preloaded object does not make a linked program place its own' \
	left_alone "$(LD_PRELOAD="$RUNTIME libm.so.6" "$LINKED" placed)"
check 'dlopen() of the library leaves mmap alone' \
	left_alone "$("$PROBE" dlopen "$LIBRARY")"
check 'dlopen() of the library leaves alone what LD_PRELOAD places' \
	placed "$(LD_PRELOAD=$preload "$PROBE" dlopen "$LIBRARY")"

# /etc/ld.so.preload is the one place that ld.so minds for setuid programs, too; a copy of the few
# files that are needed from /etc is mounted over it where nobody else sees that. The library is
# copied to where everybody can read it.
system_wide=(
	'/etc/ld.so.preload places what a program maps'
	'/etc/ld.so.preload places what a linked program maps'
	'a comment in /etc/ld.so.preload does not make a linked program place its own'
)
declare -A kinds=(
	[plain]='an ordinary program'
	[setuid]='a set-user-ID program'
	[setgid]='a set-group-ID program'
	[capable]='a program with file capabilities'
)
for kind in "${!kinds[@]}"; do
	if [ "$kind" = plain ]; then
		system_wide+=("${kinds[$kind]} is placed" "${kinds[$kind]} writes its log and its summary"
			"${kinds[$kind]} is told of a wrong variable")
	else
		system_wide+=("${kinds[$kind]} is left alone" "${kinds[$kind]} writes no file"
			"${kinds[$kind]} says nothing")
	fi
done
run_system_wide() {
	local etc=$scratch/etc kind

	mount --make-rprivate / || return
	mkdir "$etc" && chmod 755 "$etc" "$scratch" || return
	cp /etc/ld.so.cache /etc/passwd /etc/group /etc/nsswitch.conf "$etc" 2>/dev/null
	echo "$scratch/libalignmap.so.0" >"$etc/ld.so.preload"
	mount --bind "$etc" /etc || return
	"$PROBE" placed >"$scratch/ordinary"
	"$LINKED" placed >"$scratch/linked"
	for kind in plain setuid setgid capable; do
		mkdir -m 777 "$scratch/of-$kind"
		setpriv --reuid=65534 --regid=65534 --clear-groups env ALIGNMAP_CLAIM=wrong \
			ALIGNMAP_STATS="$scratch/of-$kind/stats" ALIGNMAP_LOG="$scratch/of-$kind/log" \
			"$scratch/$kind" placed >"$scratch/$kind.out" 2>"$scratch/$kind.err"
	done
	printf 'libm.so.6 # not %s\n' "$scratch/libalignmap.so.0" >"$etc/ld.so.preload"
	"$LINKED" placed >"$scratch/comment"
}
reason=
if [ "$(id -u)" != 0 ]; then
	reason='needs root, to mount over /etc and to make a setuid program'
elif [ -n "$SANITIZE" ]; then
	reason="a sanitizer's runtime is not to be had in every program of a system"
else
	cp "$LIBRARY" "$scratch/libalignmap.so.0"
	for kind in "${!kinds[@]}"; do
		cp "$PROBE" "$scratch/$kind"
	done
	chmod 755 "$scratch/libalignmap.so.0" "$scratch/plain" "$scratch/capable"
	# Neither root's, nor that of the user who runs it.
	chown 1:1 "$scratch/setuid" "$scratch/setgid"
	chmod 4755 "$scratch/setuid" && chmod 2755 "$scratch/setgid"
	setcap cap_net_raw+ep "$scratch/capable" 2>/dev/null || rm "$scratch/capable"
	export -f run_system_wide
	export scratch
	if ! unshare -m bash -c run_system_wide 2>"$scratch/why"; then
		reason="no private mounts: $(head -n 1 "$scratch/why")"
	elif ! grep -q ' secure 1$' "$scratch/setuid.out"; then
		reason="setuid programs are none in $scratch"
	fi
fi
if [ -n "$reason" ]; then
	for name in "${system_wide[@]}"; do
		skip "$name" "$reason"
	done
else
	check "${system_wide[0]}" placed "$(cat "$scratch/ordinary")"
	check "${system_wide[1]}" placed "$(cat "$scratch/linked")"
	check "${system_wide[2]}" left_alone "$(cat "$scratch/comment")"
	for kind in "${!kinds[@]}"; do
		name=${kinds[$kind]} written=$(ls "$scratch/of-$kind")
		if [ "$kind" = plain ]; then
			check "$name is placed" placed "$(cat "$scratch/plain.out")"
			same "$name writes its log and its summary" $'log\nstats' "$written"
			check "$name is told of a wrong variable" \
				grep -q ALIGNMAP_CLAIM=wrong "$scratch/plain.err"
		elif ! grep -q ' secure 1$' "$scratch/$kind.out"; then
			for claim in 'is left alone' 'writes no file' 'says nothing'; do
				skip "$name $claim" 'there can be none here (setcap, or the file system)'
			done
		else
			check "$name is left alone" left_alone "$(cat "$scratch/$kind.out")"
			same "$name writes no file" '' "$written"
			same "$name says nothing" '' "$(cat "$scratch/$kind.err")"
			[ "$failed" != 0 ] || printf '# trust security|%s|%s|%s\n' "$name" \
				'/etc/ld.so.preload; a log, a summary, a wrong variable' \
				'nothing placed, written or said'
		fi
	done
fi
finish
