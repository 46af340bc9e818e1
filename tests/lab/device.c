// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#include <err.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device.h"

struct alignmap_leaves leaves;

void die(const char *format, ...)
{
	int error = errno;
	va_list arguments;

	fflush(stdout);
	va_start(arguments, format);
	fprintf(stderr, "%s: ", program_invocation_short_name);
	vfprintf(stderr, format, arguments);
	fprintf(stderr, ": %s\n", strerror(error));
	va_end(arguments);
	exit(1);
}

size_t base_page(void)
{
	return leaves.size[leaves.count - 1];
}

size_t page_align(size_t length)
{
	return (length + base_page() - 1) & ~(base_page() - 1);
}

void open_device(struct device *device, const char *bdf)
{
	char *why = device_open(device, bdf);

	if (why)
		errx(1, "%s: %s", bdf, why);
	if (alignmap_host_leaves(ALIGNMAP_VFIO, &leaves) < 0)
		die("alignmap_host_leaves");
}

struct dma_map map_for_dma(const struct device *device, void *address, size_t length,
			   uint64_t offset)
{
	struct dma_map dma;
	char *why = device_map_for_dma(device, address, page_align(length), offset, &dma);

	if (why)
		errx(1, "%s", why);
	return dma;
}

size_t entries_at(uintptr_t address, uint64_t offset, size_t length)
{
	uint64_t end = offset + page_align(length);
	size_t entries = 0, leaf;
	unsigned int i;

	for (; offset < end; entries++, address += leaf, offset += leaf) {
		/* The base page, the last, always fits. */
		for (i = 0; i < leaves.count - 1; i++)
			if (!((address | offset) & (leaves.size[i] - 1)) &&
			    end - offset >= leaves.size[i])
				break;
		leaf = leaves.size[i];
	}
	return entries;
}

size_t proc_bytes(const char *path, const char *name)
{
	FILE *file = fopen(path, "re");
	const size_t length = strlen(name);
	char line[256];

	if (!file)
		die("%s", path);
	while (fgets(line, sizeof(line), file)) {
		if (strncmp(line, name, length) != 0 || line[length] != ':')
			continue;
		fclose(file);
		return strtoull(line + length + 1, NULL, 10) << 10;
	}
	fclose(file);
	errno = ENODATA;
	die("%s in %s", name, path);
}
