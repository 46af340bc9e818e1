#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
# The ABI is what tests/abi says. After a change that is meant to be:
#
#	tests/abi/describe build/libalignmap.so >tests/abi/x86_64.abi
# shellcheck disable=SC2317 # functions are called by name
# shellcheck source=tap.sh
. "$(dirname "$0")/tap.sh"
: "${SOURCE:?}"

abi=$SOURCE/tests/abi
names=(
	'the ABI has not changed, compatibly or not'
	'a changed value of an enumeration would be seen'
	'a changed order of fields would be seen'
	'a function that is gone would be seen'
)
reason=
if [ "$(uname -m)" != x86_64 ]; then
	reason='the ABI is written down for x86-64'
elif [ -n "$SANITIZE" ]; then
	reason='a sanitizer adds to the library'
elif ! readelf -S "$LIBRARY" | grep -q '\.debug_info'; then
	reason='the library was built without debug information'
elif ! command -v abidiff >/dev/null; then
	reason='abidiff (abigail-tools) is missing'
fi
if [ -n "$reason" ]; then
	for name in "${names[@]}"; do
		skip "$name" "$reason"
	done
	finish
fi

details() { cat "$scratch/difference"; }
# Every difference counts, so also one that abidiff calls harmless, such as a new enumerator.
unchanged() { # DESCRIPTION
	abidiff --harmless --redundant --suppressions "$abi/opaque" "$1" "$scratch/abi" \
		>"$scratch/difference" 2>&1
}

# Whether a description that was made wrong is told from the library's.
seen() { # SED_COMMAND
	sed -E "$1" "$abi/x86_64.abi" >"$scratch/changed"
	! cmp -s "$abi/x86_64.abi" "$scratch/changed" && ! unchanged "$scratch/changed" &&
		grep -qE '^Functions changes summary: .*[1-9][0-9]* (Removed|Changed|Added)( |,)' \
			"$scratch/difference"
}

"$abi/describe" "$LIBRARY" >"$scratch/abi"
verdict "${names[0]}" unchanged "$abi/x86_64.abi"
verdict "${names[1]}" seen "/name='ALIGNMAP_LOST'/s/value='2'/value='3'/"
verdict "${names[2]}" seen "s/(var-decl name=)'phase'/\1'swapped'/
	s/(var-decl name=)'entries'/\1'phase'/; s/(var-decl name=)'swapped'/\1'entries'/"
verdict "${names[3]}" seen 's/alignmap_window_query/alignmap_window_ask/g'
finish
