#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
# What makes the library place a program's own mappings, and what does not.
# shellcheck disable=SC2317 # functions are called by name
# shellcheck source=tap.sh
. "$(dirname "$0")/tap.sh"
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
	'a setuid program is left alone'
	'a setuid program writes no file that ALIGNMAP_STATS names'
	'the same program, not setuid, writes it'
)
run_system_wide() {
	local etc=$scratch/etc stats=$scratch/all/stats

	mount --make-rprivate / || return
	mkdir "$etc" && chmod 755 "$etc" "$scratch" || return
	cp /etc/ld.so.cache /etc/passwd /etc/group /etc/nsswitch.conf "$etc" 2>/dev/null
	echo "$scratch/libalignmap.so.0" >"$etc/ld.so.preload"
	mount --bind "$etc" /etc || return
	"$PROBE" placed >"$scratch/ordinary"
	"$LINKED" placed >"$scratch/linked"
	mkdir -m 777 "$scratch/all"
	setpriv --reuid=65534 --regid=65534 --clear-groups \
		env ALIGNMAP_STATS="$stats" "$scratch/setuid" placed >"$scratch/secure"
	test -e "$stats" && touch "$scratch/secure-stats"
	rm -f "$stats"
	setpriv --reuid=65534 --regid=65534 --clear-groups \
		env ALIGNMAP_STATS="$stats" "$scratch/plain" placed >"$scratch/insecure"
	test -s "$stats" && touch "$scratch/insecure-stats"
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
	cp "$PROBE" "$scratch/plain"
	cp "$PROBE" "$scratch/setuid"
	chmod 755 "$scratch/libalignmap.so.0" "$scratch/plain"
	# Neither root's, nor that of the user who runs it.
	chown 1:1 "$scratch/setuid" && chmod 6755 "$scratch/setuid"
	export -f run_system_wide
	export scratch
	if ! unshare -m bash -c run_system_wide 2>"$scratch/why"; then
		reason="no private mounts: $(head -n 1 "$scratch/why")"
	elif ! grep -q ' secure 1$' "$scratch/secure"; then
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
	check "${system_wide[3]}" left_alone "$(cat "$scratch/secure")"
	check "${system_wide[4]}" test ! -e "$scratch/secure-stats"
	check "${system_wide[5]}" test -e "$scratch/insecure-stats"
fi
finish
