#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
# The library as users get it: installed, found by pkg-config, included, linked, preloaded by name.
# shellcheck disable=SC2317 # functions are called by name
# shellcheck source=tap.sh
. "$(dirname "$0")/tap.sh"
: "${ALIGNMAP?}" "${BUILD:?}" "${EXAMPLE:?}" "${CC:?}" "${CXX?}" "${SOURCE:?}"

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

same 'each page of man/ is installed, but those of a command that is not built' \
	"$(find "$SOURCE/man" -name "*.[${ALIGNMAP:+1}37]" | sed -E 's,.*/(.*\.(.)),man\2/\1,' | sort)" \
	"$(find "$root" -path '*/man/man?/*' | sed 's,.*/man/,,' | sort)"

# As strict as a user may be.
strict=(-Wall -Wextra -Wpedantic -Werror -Wconversion -Wsign-conversion -Wundef -Wcast-qual
	-Wmissing-declarations "-I$includedir" -fsyntax-only)
# alone LANGUAGE STANDARDS COMPILER EXTENSION OPTION...: each header, twice and nothing else.
alone() {
	local language=$1 standards=$2 compiler=$3 extension=$4 header standard name

	shift 4
	for header in "$includedir"/alignmap*.h; do
		printf '#include <%s>\n' "${header##*/}" "${header##*/}" >"$scratch/one.$extension"
		echo 'int x(void);' >>"$scratch/one.$extension"
		for standard in $standards; do
			name="${header##*/} alone, in $language$standard, by $compiler"
			if command -v "$compiler" >/dev/null; then
				check "$name" "$compiler" "-std=${language,,}$standard" \
					"${strict[@]}" "$@" "$scratch/one.$extension"
			else
				skip "$name" "$compiler is missing"
			fi
		done
	done
}
for compiler in gcc clang; do
	alone C '11 17' $compiler c -Wshadow -Wstrict-prototypes -Wmissing-prototypes
done
for compiler in g++ clang++; do
	alone C++ '11 17' $compiler cc -Wshadow -Wold-style-cast -Wzero-as-null-pointer-constant
done

names=(
	'examples/file.c builds with what pkg-config says'
	'and maps a file at an address as it prints it'
	'and says what is wrong with a file that is not there'
	'examples/file.c builds with the archive'
	'and runs without the shared object'
	'a C++ program links'
	'a C++17 program with windows and VFIO regions links'
	'LD_PRELOAD=libalignmap.so, literally so, places what a program maps'
	'alignmap run, as it is installed, finds the library'
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

check "${names[0]}" "${cc[@]}" -Wall -Wextra -Werror "$EXAMPLE" "${flags[@]}" -o "$scratch/file"
LD_LIBRARY_PATH=$libdir "$scratch/file" "$scratch/large" >"$scratch/out" 2>&1
check "${names[1]}" mapped_well "$scratch/out"
LD_LIBRARY_PATH=$libdir "$scratch/file" "$scratch/none" >"$scratch/out" 2>&1
same "${names[2]}" "1 file: $scratch/none: No such file or directory" "$? $(cat "$scratch/out")"

if echo 'int main(void) { return 0; }' |
	"${cc[@]}" -static -x c - -o "$scratch/nothing" 2>/dev/null; then
	check "${names[3]}" "${cc[@]}" -static "$EXAMPLE" "${static_flags[@]}" -o "$scratch/static"
	"$scratch/static" "$scratch/large" >"$scratch/out" 2>&1
	check "${names[4]}" mapped_well "$scratch/out"
else
	skip "${names[3]}" 'no static C library'
	skip "${names[4]}" 'no static C library'
fi

# program NAME STANDARD: the program on standard input builds and ends with 0.
program() {
	if [ -z "$CXX" ]; then
		skip "$1" 'no C++ compiler'
	elif "$CXX" "-std=$2" -Wall -Wextra -Werror -x c++ - -x none "${flags[@]}" \
		-o "$scratch/program"; then
		check "$1" env LD_LIBRARY_PATH="$libdir" "$scratch/program"
	else
		fail "$1"
	fi
}
program "${names[5]}" c++11 <<'END'
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
program "${names[6]}" c++17 <<'END'
#include <alignmap-vfio.h>
#include <cerrno>
#include <fcntl.h>
#include <memory>
#include <sys/mman.h>

struct release {
	void operator()(alignmap_window *window) { alignmap_window_release(window); }
};

int main()
{
	constexpr size_t length = 1 << 21;
	const alignmap_window_options options = { sizeof(options), 0, ALIGNMAP_STRICT };
	const int file = open("/proc/self/exe", O_RDONLY);
	std::unique_ptr<alignmap_window, release> window(
		alignmap_window_reserve(0, length, &options));
	alignmap_extent all, piece;

	if (!window || alignmap_window_query(window.get(), 0, &all) || all.length != length ||
	    alignmap_window_map(window.get(), length, PROT_READ, MAP_SHARED, file, 0) !=
		    all.address ||
	    alignmap_window_query(window.get(), 0, &piece) || piece.state != ALIGNMAP_MAPPED ||
	    alignmap_window_unmap(window.get(), 0, length))
		return 1;

	alignmap_vfio_options holes = {};
	holes.size = sizeof(holes);
	alignmap_vfio_region *region = alignmap_vfio_map(file, VFIO_PCI_BAR0_REGION_INDEX, &holes);
	if (region)
		return alignmap_vfio_disable(region) || alignmap_vfio_enable(region) ||
		       alignmap_vfio_unmap(region);
	return errno != ENOTTY; // no VFIO device
}
END

same "${names[7]}" 'mmap 4 mmap64 4 secure 0' \
	"$(LD_LIBRARY_PATH=$libdir LD_PRELOAD=libalignmap.so "$PROBE" placed)"
if [ -z "$ALIGNMAP" ]; then
	skip "${names[8]}" 'the command is not built: json-c or libsmartcols is missing'
else
	same "${names[8]}" 'mmap 4 mmap64 4 secure 0' \
		"$("$(find "$root" -path '*/bin/alignmap')" run "$PROBE" placed)"
fi
finish
