// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * The first process of the guest that inner starts: maps the large BAR 2 of the first device
 * that has one, says "ready BYTES" on the console, and at each byte that it is sent there reads
 * once from each page and says "touched NANOSECONDS".
 *
 *	touch [BYTES]
 *
 *	BYTES	of the BAR, if not all of it
 *
 * sysfs fills the guest's own page tables when it maps: what is measured is what the host's cost.
 */
#include <err.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, LARGE = 2 << 20 };

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

/* A kernel panics when its first process ends: the guest is rather turned off. */
static void turn_off(void)
{
	reboot(RB_POWER_OFF);
}

/* Lets the device decode its BARs, as a driver would. */
static void enable(const char *resource)
{
	char path[PATH_MAX];
	const int folder = (int)(strrchr(resource, '/') - resource);
	int file;

	snprintf(path, sizeof(path), "%.*s/enable", folder, resource);
	file = open(path, O_WRONLY);
	if (file < 0 || write(file, "1", 1) != 1)
		err(1, "%s", path);
	close(file);
}

/* A descriptor of the BAR, and its length. */
static int open_bar(size_t *length)
{
	struct stat stat_of;
	glob_t found;
	int bar;

	if (mkdir("/sys", 0755) || mount("sysfs", "/sys", "sysfs", 0, NULL))
		err(1, "/sys");
	if (glob("/sys/bus/pci/devices/*/resource2", 0, NULL, &found))
		errx(1, "no device has a BAR 2");
	for (size_t i = 0; i < found.gl_pathc; i++) {
		if (stat(found.gl_pathv[i], &stat_of) || stat_of.st_size < LARGE)
			continue;
		enable(found.gl_pathv[i]);
		bar = open(found.gl_pathv[i], O_RDWR);
		if (bar < 0)
			err(1, "%s", found.gl_pathv[i]);
		*length = (size_t)stat_of.st_size;
		globfree(&found);
		return bar;
	}
	errx(1, "no device has a large BAR 2");
}

int main(int argc, char **argv)
{
	const volatile uint8_t *bar;
	size_t length, touched;
	int file;

	atexit(turn_off);
	file = open_bar(&length);
	bar = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (bar == MAP_FAILED)
		err(1, "mmap");
	touched = argc > 1 ? strtoull(argv[1], NULL, 0) : length;
	if (touched > length)
		errx(1, "the BAR has no more than %zu bytes", length);
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("ready %zu\n", touched);
	while (getchar() != EOF) {
		const double start = now();

		for (size_t offset = 0; offset < touched; offset += PAGE)
			(void)bar[offset];
		printf("touched %.0f\n", now() - start);
	}
	return 1;
}
