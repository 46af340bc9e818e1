// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * What bench/tracing starts, linked statically: makes system calls and maps pieces of a memfd as a
 * VMM does that starts, and calls KVM_RUN, of no guest. Then it takes these out, and maps another
 * piece and unmaps it again and again.
 *
 *	started CALLS MAPPINGS TIMES [wait]
 *
 * Prints when KVM_RUN came back, by CLOCK_MONOTONIC in nanoseconds, how many mappings before lie
 * well, whether it is traced afterwards, and how many nanoseconds one of the TIMES takes. With
 * "wait" it first prints who traces it, and waits for its input.
 */
#include <err.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "calls.h"
#include "measure.h"

#define PMD ((size_t)2 << 20)
/* No multiple of a PMD, lest one mapping lies well because the one above it does. */
#define LENGTH (2 * PMD + ((size_t)64 << 10))
#define KVM_RUN 0xae80 /* include/uapi/linux/kvm.h, _IO(KVMIO, 0x80) */

enum { MOST = 1000, SETTLE = 10000 };

static int file;

static void *map(void)
{
	void *mapping = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);

	if (mapping == MAP_FAILED)
		err(1, "mmap");
	return mapping;
}

static int tracer(void)
{
	FILE *status = fopen("/proc/self/status", "re");
	char line[256];
	int pid = 0;

	while (status && fgets(line, sizeof(line), status))
		if (sscanf(line, "TracerPid: %d", &pid) == 1)
			break;
	if (status)
		fclose(status);
	return pid;
}

static void wait_for_input(void)
{
	printf("%d\n", tracer());
	fflush(stdout);
	getchar();
}

int main(int argc, char **argv)
{
	long calls, mappings, times, placed = 0;
	static void *kept[MOST];
	double ran, *each;

	if (argc < 4)
		errx(2, "usage: started CALLS MAPPINGS TIMES [wait]");
	calls = atol(argv[1]);
	mappings = atol(argv[2]);
	times = atol(argv[3]);
	each = calloc((size_t)times, sizeof(*each));
	if (mappings > MOST || times < 1 || !each)
		errx(2, "from 0 to %d mappings, 1 time or more", MOST);
	file = memfd_create("started", MFD_CLOEXEC);
	if (file < 0 || ftruncate(file, (off_t)LENGTH))
		err(1, "memfd");
	if (argc > 4)
		wait_for_input();
	for (long i = 0; i < calls; i++)
		syscall(SYS_getppid);
	for (long i = 0; i < mappings; i++) {
		kept[i] = map();
		placed += (size_t)kept[i] % PMD == 0;
	}
	ioctl(-1, KVM_RUN, 0);
	ran = now();
	syscall(MARK, 0);
	/* Lest their places make a difference, or that the tracer is about to end. */
	for (long i = 0; i < mappings; i++)
		munmap(kept[i], LENGTH);
	usleep(SETTLE);
	for (long i = 0; i < times; i++) {
		each[i] = now();
		munmap(map(), LENGTH);
		each[i] = now() - each[i];
	}
	printf("%.0f %ld %d %.1f\n", ran, placed, tracer() != 0,
	       spread_of(each, (size_t)times).median);
	free(each);
	return 0;
}
