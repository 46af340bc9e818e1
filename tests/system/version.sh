#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
# The version stands in meson.build; what cannot derive it says the same.
# shellcheck source=tap.sh
. "$(dirname "$0")/tap.sh"
: "${ALIGNMAP?}" "${BUILD:?}" "${SOURCE:?}" "${VERSION:?}"

# The newest entry is the first.
says() { # FILE EXPRESSION
	same "$1 says it" "$VERSION" "$(sed -nE "s/$2/\1/p" "$SOURCE/$1" | head -n 1)"
}
says CHANGELOG.md '^## \[([0-9.]+)\] - [0-9]{4}(-[0-9]{2}){2}$'
says README.md '^ +libalignmap ([0-9.]+), pid .*'
says SECURITY.md '^The newest version, ([0-9.]+) so far\..*'
says debian/changelog '^libalignmap \(([0-9.]+)-[^-]+\) .*'
says libalignmap.spec '^Version: +([0-9.]+)$'
same 'the newest entry of libalignmap.spec is of it' "$VERSION" \
	"$(sed -n '/^%changelog/,$s/^\* .* - \([0-9.]*\)-[0-9]*$/\1/p' "$SOURCE/libalignmap.spec" |
		head -n 1)"
check 'the library is called by it' test -e "$BUILD/libalignmap.so.$VERSION"
same 'alignmap.pc says it' "$VERSION" \
	"$(sed -n 's/^Version: //p' "$BUILD/meson-private/alignmap.pc")"
same 'the preload says it' "libalignmap $VERSION, pid" \
	"$(LD_PRELOAD=$preload ALIGNMAP_STATS=1 "$PROBE" exit 0 2>&1 >/dev/null |
		sed -nE 's/^(libalignmap [^ ]+, pid).*/\1/p')"
[ -z "$ALIGNMAP" ] || same 'alignmap --version says it' "alignmap $VERSION" "$("$ALIGNMAP" --version)"
finish
