// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * page-tables PATH OFFSET LENGTH ADDRESS
 *
 * Maps a file there, all of it present, and prints the bytes of page tables that it took, and of
 * what is mapped by PMDs. PATH "-" is a memfd. Exits 77 where the mapping cannot be made.
 */
#include <err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE ((uintptr_t)4096)
#define PUD ((uintptr_t)1 << 30)

/* The sum of a field's kilobytes, in bytes. */
static unsigned long long field(const char *path, const char *name)
{
	FILE *file = fopen(path, "re");
	unsigned long long sum = 0, kib;
	char line[512];

	if (!file)
		err(1, "%s", path);
	while (fgets(line, sizeof(line), file))
		if (strncmp(line, name, strlen(name)) == 0 &&
		    sscanf(line + strlen(name), ": %llu kB", &kib) == 1)
			sum += kib * 1024;
	fclose(file);
	return sum;
}

static void map(uintptr_t address, size_t length, int kind, int fd, off_t offset)
{
	void *mapping = mmap((void *)address, length, PROT_READ | PROT_WRITE,
			     kind | MAP_FIXED_NOREPLACE | MAP_POPULATE, fd, offset);

	if (mapping != (void *)address)
		err(77, "mmap of %#zx bytes at %#" PRIxPTR, length, address);
}

int main(int argc, char **argv)
{
	unsigned long long before;
	uintptr_t address;
	uint64_t offset;
	size_t length;
	int fd;

	if (argc != 5)
		errx(1, "usage: page-tables PATH OFFSET LENGTH ADDRESS");
	offset = strtoull(argv[2], NULL, 0);
	length = strtoull(argv[3], NULL, 0);
	address = strtoull(argv[4], NULL, 0);
	if (strcmp(argv[1], "-") == 0)
		fd = memfd_create("page-tables", 0);
	else
		fd = open(argv[1], O_RDWR | O_CREAT, 0600);
	if (fd < 0 || ftruncate(fd, (off_t)(offset + length)))
		err(77, "%s", argv[1]);
	/* Tables above the PUD's are not counted: let them be there before. */
	map((address & ~(PUD - 1)) + 16 * PUD, PAGE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	before = field("/proc/self/status", "VmPTE");
	map(address, length, MAP_SHARED, fd, (off_t)offset);
	printf("%llu", field("/proc/self/status", "VmPTE") - before);
	printf(" %llu\n", field("/proc/self/smaps", "ShmemPmdMapped"));
	return 0;
}
