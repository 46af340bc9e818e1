#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
# The crates of bindings/rust, by cargo, without a network: their own tests with the shared library
# and with the static one, and the ways to find the library.
# shellcheck disable=SC2317 # functions are called by name
# shellcheck source=tests/bindings/common.sh
. "$(dirname "$0")/common.sh"
: "${ARCHIVE:?}" "${CC:?}" "${VERSION:?}"
crates=$SOURCE/bindings/rust
targets=$BUILD/tests/bindings/rust
export CC CARGO_NET_OFFLINE=true CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=0

versions() { # FILE...
	sed -nE 's/^(version|alignmap-sys) = .*"=?([0-9]+\.[0-9.]+)".*/\2/p' "$@" | sort -u
}
same "the crates have the library's version" "$VERSION" \
	"$(versions "$crates"/*/Cargo.toml "$crates/Cargo.lock")"

oldest=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$crates"/*/Cargo.toml | sort -u)
found=$(rustc --version 2>/dev/null | cut -d ' ' -f 2)
if ! command -v cargo >/dev/null || ! printf '%s\n' "$oldest" "$found" | sort -VC; then
	skip 'the crates build' "no cargo, or no rustc of $oldest or newer"
	finish
fi
echo "# rustc $found"

# run_cargo FOLDER COMMAND OPTION...: what it builds is kept in that folder.
run_cargo() {
	CARGO_TARGET_DIR=$targets/$1 cargo "$2" --manifest-path "$crates/Cargo.toml" --locked "${@:3}" \
		>"$scratch/out" 2>&1
}

# clean NAME PROGRAM COMMAND...: what a program has to say of the sources.
clean() {
	if [ -x "/usr/bin/$2" ] || command -v "$2" >/dev/null; then
		verdict "$1" "${@:3}"
	else
		skip "$1" "$2 is missing"
	fi
}

# Each test of the crates is one here.
run_tests() { # FOLDER OPTION...
	local status=0 line name

	run_cargo "$1" test "${@:2}" || status=$?
	while read -r line; do
		name=${line#test }
		name="$1: ${name% ... *}"
		case $line in
		*' ... ok') pass "$name" ;;
		*) fail "$name" ;;
		esac
	done < <(grep '^test .* \.\.\. ' "$scratch/out")
	verdict "$1: cargo test" [ "$status" = 0 ]
}

is_formatted() {
	cargo fmt --all --manifest-path "$crates/Cargo.toml" --check >"$scratch/out" 2>&1
}

# Whether a program is linked with libalignmap.so.
is_dynamic() { readelf -d "$1" | grep -qF 'Shared library: [libalignmap.so.0]'; }
is_static() { ! is_dynamic "$1"; }

clean 'rustfmt changes nothing' cargo-fmt is_formatted
run_tests shared
clean 'clippy finds nothing' cargo-clippy run_cargo shared clippy --all-targets -- -D warnings
RUSTDOCFLAGS='-D warnings' verdict 'the documentation is whole' run_cargo shared doc --no-deps
example=debug/examples/file
verdict 'shared: the example builds' run_cargo shared build --example file
verdict 'shared: it is linked with libalignmap.so' is_dynamic "$targets/shared/$example"
verdict 'shared: it maps a file at an address as it prints it' maps_it "$targets/shared/$example"
verdict 'shared: it says what mmap(2) fails with' \
	fails_with 'Invalid argument' "$targets/shared/$example" "$scratch/empty"

# By the feature, and where ALIGNMAP_LIB_DIR says; then by the variable, and the whole program.
unset LD_LIBRARY_PATH
export ALIGNMAP_LIB_DIR=${ARCHIVE%/*} PKG_CONFIG=false
run_tests static --features alignmap/static
unset ALIGNMAP_LIB_DIR PKG_CONFIG
export ALIGNMAP_STATIC=1 RUSTFLAGS='-C target-feature=+crt-static'
verdict 'static: the example builds as a static program' run_cargo whole build --example file
verdict 'static: it is not linked with libalignmap.so' is_static "$targets/whole/$example"
verdict 'static: it maps a file at an address as it prints it' maps_it "$targets/whole/$example"
unset ALIGNMAP_STATIC RUSTFLAGS

says_what_to_do() {
	! run_cargo none build && grep -qF 'libalignmap was not found by pkg-config' "$scratch/out" &&
		grep -qF 'say by PKG_CONFIG_PATH or ALIGNMAP_LIB_DIR where it is' "$scratch/out"
}
export PKG_CONFIG_PATH=$scratch PKG_CONFIG_LIBDIR=$scratch
verdict 'without the library the build says what to do' says_what_to_do
finish
