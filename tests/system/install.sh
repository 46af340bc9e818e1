#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
# The library as users get it: installed, found by pkg-config, included, linked, preloaded by name.
# shellcheck disable=SC2317 # functions are called by name
# shellcheck source=tap.sh
. "$(dirname "$0")/tap.sh"
: "${BUILD:?}" "${EXAMPLE:?}" "${CC:?}" "${CXX?}"

read -ra cc <<<"$CC"
root=$scratch/root
if [ ! -w "$BUILD/meson-logs" ]; then
	echo "1..0 # SKIP meson install wants to write into $BUILD"
	exit 0
fi
# What `ninja uninstall` would remove is the user's last installation, not this one.
installed=$BUILD/meson-logs/install-log.txt
[ ! -e "$installed" ] || cp -p "$installed" "$scratch/install-log.txt"
status=0
meson install -C "$BUILD" --no-rebuild --destdir "$root" >"$scratch/log" 2>&1 || status=$?
[ ! -e "$scratch/install-log.txt" ] || cp -p "$scratch/install-log.txt" "$installed"
if [ "$status" = 0 ]; then
	pass 'meson install with DESTDIR'
else
	fail 'meson install with DESTDIR' "$(cat "$scratch/log")"
fi
libdir=$(dirname "$(find "$root" -name libalignmap.so)")
includedir=$(dirname "$(find "$root" -name alignmap.h)")
export PKG_CONFIG_SYSROOT_DIR=$root PKG_CONFIG_LIBDIR=$libdir/pkgconfig
for file in libalignmap.so.0 libalignmap.a pkgconfig/alignmap.pc; do
	check "$file is installed" test -e "$libdir/$file"
done

# As strict as a user may be.
strict=(-Wall -Wextra -Wpedantic -Werror -Wconversion "-I$includedir" -fsyntax-only)
for header in "$includedir"/*.h; do
	name=$(basename "$header")
	printf '#include <%s>\n#include <%s>\nint x;\n' "$name" "$name" >"$scratch/one.c"
	cp "$scratch/one.c" "$scratch/one.cc"
	check "$name alone, in C11" "${cc[@]}" -std=c11 -Wshadow "${strict[@]}" "$scratch/one.c"
	if [ -n "$CXX" ]; then
		check "$name alone, in C++11" "$CXX" -std=c++11 "${strict[@]}" "$scratch/one.cc"
	else
		skip "$name alone, in C++11" 'no C++ compiler'
	fi
done

names=(
	'examples/file.c builds with what pkg-config says'
	'and maps a file at an address as it prints it'
	'and says what is wrong with a file that is not there'
	'examples/file.c builds with the archive'
	'and runs without the shared object'
	'a C++ program links'
	'LD_PRELOAD=libalignmap.so, literally so, places what a program maps'
)
if [ -n "$SANITIZE" ]; then
	for name in "${names[@]}"; do
		skip "$name" "what users build has no sanitizer's runtime"
	done
	finish
fi

# What pkg-config prints is to be split.
read -ra flags < <(pkg-config --cflags --libs alignmap)
read -ra static_flags < <(pkg-config --cflags --libs --static alignmap)
truncate -s $((5 * 1024 * 1024 + 1)) "$scratch/large"
good_output() {
	local at modulo

	at=$(sed -nE 's/.* bytes at (0x[0-9a-f]+), .*/\1/p' "$1")
	modulo=$(sed -nE 's/.* modulo (0x[0-9a-f]+)$/\1/p' "$1")
	[ -n "$at" ] && [ -n "$modulo" ] && ((modulo > 4096 && at % modulo == 0)) &&
		grep -qE '^page-table entries: [0-9]+, at a page-aligned address up to [0-9]+$' "$1"
}

check "${names[0]}" "${cc[@]}" -Wall -Wextra -Werror "$EXAMPLE" "${flags[@]}" -o "$scratch/file"
LD_LIBRARY_PATH=$libdir "$scratch/file" "$scratch/large" >"$scratch/out" 2>&1
check "${names[1]}" good_output "$scratch/out"
LD_LIBRARY_PATH=$libdir "$scratch/file" "$scratch/none" >"$scratch/out" 2>&1
same "${names[2]}" "1 file: $scratch/none: No such file or directory" "$? $(cat "$scratch/out")"

if echo 'int main(void) { return 0; }' |
	"${cc[@]}" -static -x c - -o "$scratch/nothing" 2>/dev/null; then
	check "${names[3]}" "${cc[@]}" -static "$EXAMPLE" "${static_flags[@]}" -o "$scratch/static"
	"$scratch/static" "$scratch/large" >"$scratch/out" 2>&1
	check "${names[4]}" good_output "$scratch/out"
else
	skip "${names[3]}" 'no static C library'
	skip "${names[4]}" 'no static C library'
fi

if [ -n "$CXX" ]; then
	cat >"$scratch/program.cc" <<-'END'
		#include <alignmap.h>

		int main()
		{
			alignmap_leaves leaves;
			struct alignmap_plan plan; // there is a function of that name

			return alignmap_host_leaves(ALIGNMAP_ANY, &leaves) ||
			       ::alignmap_plan(&leaves, 1 << 30, 0, &plan) ||
			       alignmap_mmap(nullptr, 4096, 0, 0, -1, 0) != (void *)-1;
		}
	END
	if "$CXX" -Wall -Wextra -Werror "$scratch/program.cc" "${flags[@]}" -o "$scratch/program"; then
		check "${names[5]}" env LD_LIBRARY_PATH="$libdir" "$scratch/program"
	else
		fail "${names[5]}"
	fi
else
	skip "${names[5]}" 'no C++ compiler'
fi

same "${names[6]}" 'mmap 4 mmap64 4 secure 0' \
	"$(LD_LIBRARY_PATH=$libdir LD_PRELOAD=libalignmap.so "$PROBE" placed)"
finish
