#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
# The manual pages against the headers and the subcommands, and their examples.
# shellcheck disable=SC2317 # functions are called by name
# shellcheck source=tap.sh
. "$(dirname "$0")/tap.sh"
: "${SOURCE:?}" "${HEADERS:?}" "${CC:?}"

man=$SOURCE/man
pages=("$man"/*.[1-9])
interface=("$man"/*.3 "$man/alignmap.7")
read -ra headers <<<"$HEADERS"

# agree NAME COMMAND: the command prints something, the same for "header" as for "page".
details() { cat "$scratch/difference"; }
agree() {
	"$2" header | sort >"$scratch/header"
	"$2" page | sort >"$scratch/page"
	verdict "$1" alike
}
alike() {
	diff -u "$scratch/header" "$scratch/page" >"$scratch/difference" && [ -s "$scratch/header" ]
}

# functions FIELD: a line for each function of the headers, the field of which is its comment, or
# its header and its prototype.
functions() {
	awk -v field="$1" '
		/^\/\*\*/ { comment = prototype = ""; inside = 1 }
		inside { comment = comment " " $0; if (/\*\//) { inside = 0; behind = 1 } next }
		behind { prototype = prototype " " $0 }
		behind && /;$/ {
			behind = 0
			if (prototype !~ /[{]/ && match(prototype, /alignmap_[a-z0-9_]+\(/)) {
				header = FILENAME
				sub(/.*\//, "", header)
				print substr(prototype, RSTART, RLENGTH - 1), \
					field == "comment" ? comment : header prototype
			}
		}' "${headers[@]}" | tr -s '\t ' ' '
}

# section NAME PAGE
section() { awk -v name="$1" '/^\.Sh / { on = $0 == ".Sh " name; next } on' "$2"; }

each_page() { # COMMAND: runs it for each page of a function
	local page

	for page in "$man"/*.3; do
		"$1" "$(basename "$page" .3)" "$page"
	done
}

declared() {
	if [ "$1" = header ]; then
		sed -nE 's/^[a-z].*[ *](alignmap_[a-z0-9_]+)\(.*/\1.3/p' "${headers[@]}"
		sed -nE 's/^\t[{] "([a-z]+)", [a-z]+_command, .*/alignmap-\1.1/p' \
			"$SOURCE/tools/alignmap.c"
		printf '%s\n' alignmap.1 alignmap.7 alignmap-deploy.7
	else
		basename -a "${pages[@]}"
	fi
}
agree 'each function and subcommand has a page, and there are three besides' declared

title_of() { sed -nE "s/^\.Dt ([A-Z_-]+) ([0-9])$/\1.\2/p" "$1" | tr '[:upper:]' '[:lower:]'; }
name_of() { echo "$(section NAME "$1" | sed -n 's/^\.Nm //p').${1##*.}"; }
titles() {
	local page

	for page in "${pages[@]}"; do
		if [ "$1" = header ]; then
			echo "$(basename "$page") $(basename "$page")"
		else
			echo "$(title_of "$page") $(name_of "$page")"
		fi
	done
}
agree 'title and NAME of each page are its file name' titles

page_prototype() {
	section SYNOPSIS "$2" | awk -v name="$1" '
		/^\.In alignmap/ { header = $2 }
		/^\.Ft / { type = substr($0, 5) }
		/^\.Fo / { text = type " " $2 "("; separator = "" }
		/^\.Fa / {
			gsub(/^\.Fa |"/, "")
			text = text separator $0
			separator = ", "
		}
		/^\.Fc/ { gsub(/\* /, "*", text); print name, header, text ");" }'
}
prototypes() { if [ "$1" = header ]; then functions prototype; else each_page page_prototype; fi; }
agree 'each SYNOPSIS has the prototype of the header, and includes that' prototypes

page_errors() {
	section ERRORS "$2" | sed -nE "s/^\.It Bq Er (E[A-Z0-9]+)$/$1 \1/p"
}
errors() {
	local name comment

	if [ "$1" = page ]; then
		each_page page_errors
	else
		functions comment | while read -r name comment; do
			grep -oE '\bE[A-Z0-9]{3,}\b' <<<"$comment" | sort -u | sed "s/^/$name /"
		done
	fi
}
agree 'ERRORS has each errno that the header names, once, and no other' errors

page_safety() { sed -nE "s/^It is (safe in threads[^.]* handlers)[,.].*/$1 \1/p" "$2"; }
safety() {
	if [ "$1" = page ]; then
		each_page page_safety
	else
		functions comment |
			sed -nE 's/^(\S+) .*\* (Safe in threads[^.]* handlers)[,.].*/\1 \l\2/p'
	fi
}
agree 'each page says what the header says of threads and signal handlers' safety

# structures FILE...: and constants, each on a line.
structures() {
	awk '/^struct [a-z_]+ [{]$/ { on = 1 } on { text = text " " $0 }
		/^};$/ && on { print text; text = ""; on = 0 }
		/^#define ALIGNMAP_[A-Z_]+ / { print }' "$@" | tr -s '\t ' ' ' | sed 's/^ //'
}
shown() {
	if [ "$1" = header ]; then structures "${headers[@]}"; else structures "${pages[@]}"; fi
}
agree 'each structure and constant of the headers is shown on one page as it is' shown

variables() {
	if [ "$1" = header ]; then
		grep -E '^\| `ALIGNMAP_' "$SOURCE/README.md" | grep -oE '^\| `[^|]*' |
			grep -oE 'ALIGNMAP_[A-Z]+'
	else
		section ENVIRONMENT "$man/alignmap.7" | sed -n 's/^\.It Ev //p' |
			grep -oE 'ALIGNMAP_[A-Z]+'
	fi
}
agree "alignmap(7) has the variables of README.md's table" variables

referred() {
	if [ "$1" = header ]; then
		declared header
	else
		sed -nE 's/^\.Xr (alignmap[a-z_-]*) ([0-9]).*/\1.\2/p' "${pages[@]}" | sort -u
	fi
}
agree 'every page is referred to, and each that is referred to is there' referred

silent() { "$@" >"$scratch/difference" 2>&1 && [ ! -s "$scratch/difference" ]; }
if command -v mandoc >/dev/null; then
	verdict 'mandoc -Tlint warns of nothing' silent mandoc -Tlint -Wwarning "${pages[@]}"
else
	skip 'mandoc -Tlint warns of nothing' 'mandoc is missing'
fi
if command -v groff >/dev/null; then
	verdict 'groff warns of nothing' silent groff -mdoc -Tutf8 -ww -z "${pages[@]}"
else
	skip 'groff warns of nothing' 'groff is missing'
fi

# The examples as files, PAGE.NUMBER.c, with what roff escapes as a reader sees it.
for page in "${interface[@]}"; do
	section EXAMPLES "$page" | awk -v stem="$scratch/$(basename "${page%.?}")" '
		/^\.Bd -literal/ { count++; on = 1; next }
		/^\.Ed/ { on = 0 }
		on { gsub(/\\e/, "\\"); print >(stem "." count ".c") }'
done
exemplified() {
	if [ "$1" = header ]; then
		basename -a "${interface[@]%.?}"
	else
		find "$scratch" -name 'alignmap*.1.c' -printf '%f\n' | sed 's/\.1\.c$//'
	fi
}
agree 'each page of the interface has an example' exemplified

exemplified_commands() {
	local page

	if [ "$1" = header ]; then
		basename -a "$man"/*.1
	else
		for page in "$man"/*.1; do
			section EXAMPLES "$page" | grep -q '^\.Dl\|^\.Bd' && basename "$page"
		done
	fi
}
agree 'and each page of a command' exemplified_commands

# compile COMPILER: each example alone, as it stands.
compile() {
	local example

	for example in "$scratch"/alignmap*.c; do
		"$1" -std=c11 -Wall -Wextra -Werror "-I$SOURCE/include" -c "$example" -o /dev/null
	done >"$scratch/difference" 2>&1
	[ ! -s "$scratch/difference" ]
}
for compiler in gcc clang; do
	if command -v $compiler >/dev/null; then
		verdict "the examples compile, by $compiler" compile $compiler
	else
		skip "the examples compile, by $compiler" "$compiler is missing"
	fi
done

name='the examples that are programs run'
read -ra cc <<<"$CC"
run_examples() {
	local example programs

	mapfile -t programs < <(grep -l '^int main(' "$scratch"/alignmap*.c)
	for example in "${programs[@]}"; do
		"${cc[@]}" "-I$SOURCE/include" "$example" "$LIBRARY" -o "${example%.c}" &&
			LD_LIBRARY_PATH=$(dirname "$LIBRARY") "${example%.c}" >/dev/null ||
			echo "$(basename "$example") failed" >&2
	done 2>"$scratch/difference"
	# All but those that take a VFIO device.
	[ ${#programs[@]} = "$(printf '%s\n' "${interface[@]}" | grep -vcE 'vfio|\.7$')" ] &&
		[ ! -s "$scratch/difference" ]
}
if [ -n "$SANITIZE" ]; then
	skip "$name" "what users build has no sanitizer's runtime"
else
	verdict "$name" run_examples
fi
finish
