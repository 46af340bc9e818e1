# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
# shellcheck shell=bash
# What the test scripts share: TAP output, a folder that goes away, and the preload.
# meson sets LIBRARY (libalignmap.so), SANITIZE (b_sanitize, or empty), RUNTIME (what goes before the
# library in LD_PRELOAD then, if anything), and what each script needs besides.
set -u
: "${LIBRARY:?}" "${SANITIZE?}" "${RUNTIME?}"

tests=0
failed=0
scratch=$(mktemp -d "${TMPDIR:-/tmp}/alignmap-test-XXXXXX") || exit 99
trap 'rm -rf "$scratch"' EXIT

# For LD_PRELOAD.
# shellcheck disable=SC2034
preload="${RUNTIME:+$RUNTIME }$LIBRARY"

# pass NAME; fail NAME [LINE...]; skip NAME REASON
pass() {
	tests=$((tests + 1))
	printf 'ok %d - %s\n' "$tests" "$1"
}

fail() {
	tests=$((tests + 1))
	failed=$((failed + 1))
	printf 'not ok %d - %s\n' "$tests" "$1"
	shift
	[ $# = 0 ] || printf '%s\n' "$@" | sed 's/^/# /'
}

skip() {
	tests=$((tests + 1))
	printf 'ok %d - %s # SKIP %s\n' "$tests" "$1" "$2"
}

# check NAME COMMAND...: passes if the command succeeds.
check() {
	local name=$1

	shift
	if "$@"; then
		pass "$name"
	else
		fail "$name" "$*"
	fi
}

# verdict NAME COMMAND...: the same, and where it fails shows what the script's own "details" prints.
verdict() {
	local name=$1

	shift
	if "$@"; then
		pass "$name"
	else
		fail "$name" "$(details)"
	fi
}

# same NAME EXPECTED ACTUAL
same() {
	if [ "$2" = "$3" ]; then
		pass "$1"
	else
		fail "$1" "expected: ${2:-nothing}" "got: ${3:-nothing}"
	fi
}

# need_command PROGRAM...: ends the script where the command is not built, or such a program missing.
need_command() {
	local program

	if [ -z "${ALIGNMAP-}" ]; then
		echo '1..0 # SKIP the command is not built: json-c or libsmartcols is missing'
		exit 0
	fi
	for program; do
		command -v "$program" >/dev/null && continue
		echo "1..0 # SKIP $program is missing"
		exit 0
	done
}

# The probe's lengths are for the commonest hosts.
need_common_leaves() {
	if [ "$(getconf PAGESIZE)" != 4096 ] ||
		[ "$(cat /sys/kernel/mm/transparent_hugepage/hpage_pmd_size 2>/dev/null)" != 2097152 ]; then
		echo '1..0 # SKIP for hosts with pages of 4 KiB and a PMD of 2 MiB'
		exit 0
	fi
}

# run [VARIABLE=VALUE...] -- ARGUMENT...: alignmap run, with what the script's "runtime" sets; out, err
# and status are what came of it.
run() {
	local -a set=("${runtime[@]}")

	while [ "$1" != -- ]; do
		set+=("$1")
		shift
	done
	shift
	env "${set[@]}" "$ALIGNMAP" run "$@" >out 2>err
	status=$?
} 2>/dev/null
details() { printf '%s\n' "status $status" "$(cat out)" "$(cat err)"; }
silent() { [ ! -s err ]; }

# Whether an example has mapped a file well, by what it printed.
mapped_well() { # FILE
	local at modulo

	at=$(sed -nE 's/.* bytes at (0x[0-9a-f]+), .*/\1/p' "$1")
	modulo=$(sed -nE 's/.* modulo (0x[0-9a-f]+)$/\1/p' "$1")
	[ -n "$at" ] && [ -n "$modulo" ] && ((modulo > 4096 && at % modulo == 0)) &&
		grep -qE '^page-table entries: [0-9]+, at a page-aligned address up to [0-9]+$' "$1"
}

# Whether Linux applies the THP policy to device memory here, and that policy is [madvise].
thp_policy_rules_bars() {
	local major minor

	grep -qF '[madvise]' /sys/kernel/mm/transparent_hugepage/enabled 2>/dev/null || return
	IFS=. read -r major minor _ < <(uname -r)
	minor=${minor%%[^0-9]*}
	((major == 6 && minor >= 16 || major == 7 && minor < 2))
}

finish() {
	printf '1..%d\n' "$tests"
	[ "$failed" = 0 ]
	exit
}
