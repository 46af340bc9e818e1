# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
# shellcheck shell=bash
# bash's completion for alignmap(1). It makes use of the package bash-completion where that is
# loaded, and does without where it is not.

# Sets words[] and cur as they stand on the command line, up to the cursor, and first[], where in
# COMP_WORDS each begins: bash has cut them at what COMP_WORDBREAKS has of "=" and ":".
_alignmap_words() {
	local line=${COMP_LINE:0:COMP_POINT} word rest i joined=

	words=()
	first=()
	for ((i = 0; i <= COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		rest=${line#"${line%%[![:space:]]*}"}
		if ((i > 0)) && [[ $rest == "$line" && -n $line && ($joined || $word == [=:]*) ]]; then
			words[-1]+=${word:0:${#rest}}
		else
			words+=("${word:0:${#rest}}")
			first+=("$i")
		fi
		[[ $word == *[=:] ]] && joined=yes || joined=
		line=${rest:${#word}}
	done
	cur=${words[-1]}
}

# Offers those of the arguments that begin with cur.
_alignmap_offer() {
	local word kept='' end

	# Bash replaces only what is behind the last character that breaks words.
	for end in = :; do
		if [[ $COMP_WORDBREAKS == *"$end"* && ${cur%"$end"*} != "$cur" ]]; then
			word=${cur%"$end"*}$end
			((${#word} > ${#kept})) && kept=$word
		fi
	done
	for word in "$@"; do
		[[ $word == "$cur"* ]] && COMPREPLY+=("${word#"$kept"}")
	done
	# An option that takes its value in the same word.
	if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *= ]]; then
		compopt -o nospace 2>/dev/null
	fi
}

# _alignmap_files PREFIX: what begins so with files behind it, as in --file=.
_alignmap_files() {
	local -a files

	mapfile -t files < <(compgen -f -- "${cur#"$1"}")
	compopt -o filenames 2>/dev/null
	_alignmap_offer "${files[@]/#/$1}"
}

# PCI devices that are bound to vfio-pci; all where none is.
_alignmap_devices() {
	local -a devices
	local bus=/sys/bus/pci

	mapfile -t devices < <(compgen -G "$bus/drivers/vfio-pci/*:*:*.*" ||
		compgen -G "$bus/devices/*:*:*.*")
	((${#devices[@]} == 0)) || printf '%s\n' "${devices[@]##*/}"
}

# The numbers of running processes, and the names that need no quoting. What has no command line is
# a thread of the kernel, and maps nothing.
_alignmap_processes() {
	local process name line

	for process in /proc/[0-9]*; do
		{ read -r name <"$process/comm" && IFS= read -rn 1 line <"$process/cmdline"; } \
			2>/dev/null || continue
		printf '%s\n' "${process##*/}"
		[[ $name == *[!A-Za-z0-9._+-]* ]] || printf '%s\n' "$name"
	done | sort -u
}

# _alignmap_value OPTION [PREFIX]: the values of the option; PREFIX stands before them in the word.
_alignmap_value() {
	local -a values=()

	case $1 in
	--min | --max) values=(64K 2M 32M 512M 1G 16G) ;;
	--length | --offset) values=(64K 2M 32M 64M 512M 1G 2G 4G 16G) ;;
	--leaves) values=('4K,2M,1G' '4K,64K,2M,32M,1G' '16K,2M,32M,1G' '64K,2M,512M,16G') ;;
	--anon) values=(reserve all) ;;
	--trace) values=(auto always never) ;;
	--until) values=(kvm-run forever) ;;
	--bar) values=(0 1 2 3 4 5) ;;
	--device) mapfile -t values < <(_alignmap_devices) ;;
	--file | --stats | --log) _alignmap_files "${2-}" && return ;;
	esac
	_alignmap_offer "${values[@]/#/${2-}}"
}

# _alignmap_other N: what is behind "alignmap run" from the word N on.
_alignmap_other() {
	local offset

	for offset in _comp_command_offset _command_offset; do
		if declare -F "$offset" >/dev/null; then
			"$offset" "${first[$1]}"
			return
		fi
	done
	compopt -o filenames 2>/dev/null
	if (($1 == ${#words[@]} - 1)); then
		mapfile -t COMPREPLY < <(compgen -d -c -- "$cur" | sort -u)
	else
		_alignmap_files ''
	fi
}

_alignmap() {
	local subcommands='run info plan inspect bench' options='' command='' cur i
	local -a words first processes

	COMPREPLY=()
	_alignmap_words
	if ((${#words[@]} == 2)); then
		# shellcheck disable=SC2086 # names without spaces
		_alignmap_offer $subcommands help --help --version
		return
	fi
	case ${words[1]} in
	run)
		options='--min --max --anon= --hints --stats --stats= --log --log= --trace --trace='
		options+=' --until= --help'
		;;
	info) options='--device --json --help' ;;
	plan) options='--offset --leaves --address --json --help' ;;
	inspect) options='--watch --watch= --json --help' ;;
	bench) options='--device --bar --length --file --json --help' ;;
	help) options=$subcommands ;;
	*) return ;;
	esac

	# Over the options that are complete, and their values; to the first word that is neither.
	for ((i = 2; i < ${#words[@]} - 1; i++)); do
		case ${words[i]} in
		--)
			command=$((i + 1))
			break
			;;
		--min | --max | --anon | --until | --device | --offset | --leaves | --address | --bar | \
			--length | --file)
			if ((i == ${#words[@]} - 2)); then
				_alignmap_value "${words[i]}"
				return
			fi
			((i++))
			;;
		-*) ;;
		*)
			command=$i
			[[ ${words[1]} == run ]] && break
			;;
		esac
	done
	[[ $cur == -* ]] || command=${command:-$i}
	if [[ ${words[1]} == run && $command ]]; then
		_alignmap_other "$command"
	elif [[ $cur == --*=* ]]; then
		_alignmap_value "${cur%%=*}" "${cur%%=*}="
	elif [[ $cur == -* || ${words[1]} == help ]]; then
		# shellcheck disable=SC2086 # options without spaces
		_alignmap_offer $options
	elif [[ ${words[1]} == inspect ]]; then
		mapfile -t processes < <(_alignmap_processes)
		_alignmap_offer "${processes[@]}"
	elif [[ ${words[1]} == plan ]]; then
		_alignmap_value --length
	fi
}

complete -F _alignmap alignmap
