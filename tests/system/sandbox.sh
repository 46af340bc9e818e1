#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
# QEMU, which confines itself, under the preload: it runs its firmware from placed memory, and quits.
# shellcheck disable=SC2317 # functions are called by name
# shellcheck source=tap.sh
. "$(dirname "$0")/tap.sh"

qemu=$(command -v qemu-system-x86_64) || {
	echo '1..0 # SKIP qemu-system-x86_64 is missing'
	exit 0
}
if [ -n "$SANITIZE" ]; then
	echo "1..0 # SKIP a sanitizer makes system calls that QEMU's sandbox kills"
	exit 0
fi
need_common_leaves
version=$("$qemu" --version | sed -n '1s/.*version \([0-9.]*\).*/\1/p')
sandbox=on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny

# For QEMU's monitor: once the firmware has found nothing to boot. Notes what QEMU is confined by.
commands() {
	local pid=

	for ((i = 0; i < 300; i++)); do
		sleep 0.1
		read -r pid 2>/dev/null <"$scratch/pid" || continue
		grep '^Seccomp:' "/proc/$pid/status" >"$scratch/confined" || return
		grep -q 'No bootable device' "$scratch/firmware" && break
	done
	echo quit
}

# A program of 8 MiB for the guest, the first 4 of which go to 16 MiB in its memory: an ELF file of
# one segment. QEMU maps the file, in its sandbox, for which it needs no setting.
write_program() {
	printf '%b' '\177ELF\2\1\1' '\0\0\0\0\0\0\0\0\0' \
		'\2\0\76\0\1\0\0\0' '\0\0\0\0\0\0\0\0' \
		'\100\0\0\0\0\0\0\0' '\0\0\0\0\0\0\0\0' \
		'\0\0\0\0\100\0\70\0' '\1\0\100\0\0\0\0\0' \
		'\1\0\0\0\4\0\0\0' '\0\0\0\0\0\0\0\0' \
		'\0\0\0\1\0\0\0\0' '\0\0\0\1\0\0\0\0' \
		'\0\0\100\0\0\0\0\0' '\0\0\100\0\0\0\0\0' \
		'\0\0\0\0\0\0\0\0' >"$scratch/program"
	truncate -s 8M "$scratch/program"
}

# With 256 MiB of shared memory, for which QEMU reserves addresses.
run() { # [VARIABLE=VALUE...]
	rm -f "$scratch"/{firmware,confined,log,pid,stats}
	status=0
	commands | timeout 60 env "$@" "$qemu" -nodefaults -no-user-config \
		-display none -accel tcg -machine pc,memory-backend=memory -m 256M \
		-sandbox "$sandbox" -object memory-backend-memfd,id=memory,size=256M,share=on \
		-chardev "file,id=log,path=$scratch/firmware" \
		-device isa-debugcon,iobase=0x402,chardev=log -device "loader,file=$scratch/program" \
		-pidfile "$scratch/pid" -monitor stdio >"$scratch/out" 2>"$scratch/error" ||
		status=$?
}

ran_confined() {
	[ "$status" = 0 ] && grep -q 'No bootable device' "$scratch/firmware" &&
		grep -qx 'Seccomp:.2' "$scratch/confined"
}

placed() { # LEAST
	placed=$(sed -n 's/^  placed  *\([0-9]*\).*/\1/p' "$scratch/stats")
	ran_confined && [ "${placed:-0}" -ge "$1" ] &&
		[ "$(grep -c 'placed 0x' "$scratch/log")" = "$placed" ]
}

row() { # SETTINGS MAPPINGS
	echo "# trust seccomp|QEMU $version, -sandbox $sandbox|$1|$2|no violation"
}

details() {
	echo "exit status $status"
	tail -n 3 "$scratch/firmware"
	cat "$scratch"/{confined,error,stats,log} 2>/dev/null
}

write_program
run
verdict 'QEMU in its sandbox runs its firmware and quits' ran_confined
run LD_PRELOAD="$preload"
ran_confined
survived=$?
verdict 'the same under the preload with its default settings' [ "$survived" = 0 ]
counted=(LD_PRELOAD="$preload" ALIGNMAP_LOG="$scratch/log" ALIGNMAP_STATS="$scratch/stats")
run "${counted[@]}"
verdict 'the same with ALIGNMAP_LOG, ALIGNMAP_STATS: a file that it maps is placed' placed 1
placed 1 && [ "$survived" = 0 ] &&
	row 'the default (ALIGNMAP_STATS of a second run counts)' "$placed placed"
for claim in hint fixed; do
	settings="ALIGNMAP_ANON=reserve, ALIGNMAP_CLAIM=$claim, ALIGNMAP_LOG, ALIGNMAP_STATS"
	run "${counted[@]}" ALIGNMAP_ANON=reserve ALIGNMAP_CLAIM=$claim
	verdict "the same with $settings: what it reserves is placed too" placed 2
	placed 2 && row "$settings" "$placed placed"
done
finish
