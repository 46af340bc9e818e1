# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
# shellcheck shell=bash
# The library as it was built, to be found by pkg-config, and a file to be mapped.
# shellcheck source=tests/system/tap.sh
. "$(dirname "$0")/../system/tap.sh"
: "${BUILD:?}" "${SOURCE:?}"

if [ -n "$SANITIZE" ]; then
	echo "1..0 # SKIP what users build has no sanitizer's runtime"
	exit 0
fi
need_common_leaves
# What Debian has packaged before what a user has of his own: on Debian 12 these are the oldest
# versions that are promised.
PATH=/usr/bin:$PATH
export PKG_CONFIG_PATH=$BUILD/meson-uninstalled LD_LIBRARY_PATH=${LIBRARY%/*}

# 1281 pages, two PMDs among them.
large=$scratch/large
truncate -s $((5 * 1024 * 1024)) "$large"
printf '\177' >>"$large"
: >"$scratch/empty"

# maps_it COMMAND...: an example that is run so prints of that file what examples/file.c does.
maps_it() {
	"$@" "$large" >"$scratch/out" 2>&1 && mapped_well "$scratch/out" &&
		grep -qx 'page-table entries: 259, at a page-aligned address up to 1281' "$scratch/out"
}

# fails_with TEXT COMMAND...: it ends badly, with that text in its last line.
fails_with() {
	! "${@:2}" >"$scratch/out" 2>&1 && tail -n 1 "$scratch/out" | grep -qF -- "$1"
}

details() { cat "$scratch/out"; }
