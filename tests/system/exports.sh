#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
# What the library shows, what it wants of others, how much it takes.
# shellcheck source=tap.sh
. "$(dirname "$0")/tap.sh"
: "${ARCHIVE:?}" "${BUILD:?}" "${SYMBOL_MAP:?}" "${HEADERS:?}" "${HEAP_COUNTER:?}"

# The names that each node of the symbol map makes public, as nm prints them.
mapped=$(awk '/^LIBALIGNMAP/ { node = $1 }
	/^\t+alignmap_[a-z0-9_]+;$/ { gsub(/[\t;]/, ""); print $0 "@@" node }' "$SYMBOL_MAP")
exported=$(nm -D --defined-only "$LIBRARY" | awk '$2 != "A" { print $3 }' |
	grep -v '^__\(odr_\)\?[at]san')
same 'the library exports what its map names, each with its version, and mmap and mmap64 without' \
	"$(printf '%s\n' "$mapped" mmap mmap64 | sort)" "$(sort <<<"$exported")"
check 'the map names something' test -n "$mapped"
same 'the map has no "local: *", which would hide mmap' 0 "$(grep -cE '^\s*local:' "$SYMBOL_MAP")"
# shellcheck disable=SC2086 # several files
declared=$(sed -nE 's/^[a-z].*[ *](alignmap_[a-z0-9_]+)\(.*/\1/p' $HEADERS | sort -u)
same 'what the headers declare is what is exported' "$declared" \
	"$(cut -d@ -f1 <<<"$mapped" | sort -u)"
same 'the archive defines no mmap' '' "$(nm --defined-only "$ARCHIVE" 2>/dev/null |
	awk '$3 ~ /^mmap/ { print $3 }')"
# Hidden names are for the objects of the archive; they may clash with nobody's.
same 'the archive defines nothing that does not begin with alignmap_' '' \
	"$(nm --defined-only "$ARCHIVE" 2>/dev/null | awk '$2 ~ /[A-Z]/ && $3 !~ /^alignmap_/ { print $3 }' |
		grep -v -e '^__\(odr_\)\?[at]san' -e '^DW\.ref\.' -e '^_\.stapsdt\.base$')"

heap='malloc calloc realloc reallocarray free strdup strndup asprintf vasprintf posix_memalign
aligned_alloc memalign valloc getline getdelim open_memstream opendir fdopendir scandir glob
fopen fopen64 fdopen fclose fread fwrite fprintf printf vprintf vfprintf dprintf vdprintf snprintf
sprintf puts fputs fputc putc putchar perror stdout stderr sscanf __isoc99_sscanf __printf_chk
__fprintf_chk __snprintf_chk __sprintf_chk syslog setenv putenv'
names=(
	'nothing but windows and VFIO regions allocates, and nothing uses stdio'
	'the library needs the C library and nothing else'
	'the library has at most 64 KiB of text'
	'the heap is asked for nothing more than without it'
)
if [ -n "$SANITIZE" ]; then
	for name in "${names[@]}"; do
		skip "$name" 'a sanitizer adds to the library'
	done
	finish
fi
# Object by object, as "lib_plan.c.o memcpy": of the archive, and of the library with its preload.
imported=$(nm -A --undefined-only "$ARCHIVE" "$BUILD"/libalignmap.so.*.p/*.o |
	sed -E 's|.*[/:]([^/:]+\.o):.* U |\1 |')
same "${names[0]}" '' "$(grep -E " (${heap//[[:space:]]/|})$" <<<"$imported" |
	grep -vE '^lib_(window|vfio)\.c\.o ((m|c|re)alloc|reallocarray|free)$')"
for object in lib_window lib_vfio lib_plan preload_report; do
	check "$object was looked at" grep -q "^$object\.c\.o " <<<"$imported"
done
# The loader is a part of it, and has _r_debug.
needed=$(readelf -d "$LIBRARY" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | grep -v '^ld-linux')
same "${names[1]}" libc.so.6 "$needed"
text=$(size "$LIBRARY" | awk 'NR == 2 { print $1 }')
check "${names[2]}" test "$text" -le 65536
echo "# $text bytes"

# count VARIABLE=VALUE...
count() {
	env "$@" HEAP_COUNT="$scratch/count" "$PROBE" placed >/dev/null 2>&1
	cat "$scratch/count"
}
unaided=$(count LD_PRELOAD="$HEAP_COUNTER")
aided=$(count LD_PRELOAD="$HEAP_COUNTER $LIBRARY" ALIGNMAP_STATS="$scratch/stats" \
	ALIGNMAP_LOG="$scratch/log" ALIGNMAP_CLAIM=wrong ALIGNMAP_MIN=wrong)
if [ -z "$unaided" ] || [ "$unaided" = 0 ]; then
	skip "${names[3]}" 'this C library has no second name for malloc'
else
	same "${names[3]}" "$unaided" "$aided"
fi
check 'with a log and a summary written meanwhile' test -s "$scratch/stats" -a -s "$scratch/log"
finish
