// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Maps a file or anonymous memory, touches all of it, and tells by leaf size how many of its blocks
 * the kernel can map by one entry, or by one run of entries: those whose pages follow each other in
 * memory (/proc/self/pagemap, for root), where virtual and physical address agree.
 *
 * It is linked with the archive, which has no mmap, so that LD_PRELOAD decides about its own.
 */
#include <err.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <alignmap.h>

#define FRAME ((UINT64_C(1) << 55) - 1) /* Documentation/admin-guide/mm/pagemap.rst */
#define PRESENT (UINT64_C(1) << 63)

struct memory {
	unsigned char *address;
	uint64_t *frames; /* the number of each page's frame */
	size_t pages, page;
	uint64_t offset; /* in the file */
};

static void read_frames(struct memory *memory)
{
	const size_t length = memory->pages * sizeof(*memory->frames);
	int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	memory->frames = malloc(length);
	if (pagemap < 0 || !memory->frames ||
	    pread(pagemap, memory->frames, length,
		  (off_t)((uintptr_t)memory->address / memory->page * sizeof(*memory->frames))) !=
		    (ssize_t)length)
		err(1, "/proc/self/pagemap");
	close(pagemap);
	for (size_t i = 0; i < memory->pages; i++) {
		if (!(memory->frames[i] & PRESENT) || !(memory->frames[i] & FRAME))
			errx(1, "/proc/self/pagemap tells no frame of page %zu: be root", i);
		memory->frames[i] &= FRAME;
	}
}

static bool is_block(const uint64_t *frames, size_t pages)
{
	if (frames[0] & (pages - 1))
		return false;
	for (size_t i = 1; i < pages; i++)
		if (frames[i] != frames[0] + i)
			return false;
	return true;
}

/* Of a leaf's blocks, counted from where @place, the first page's, is its multiple. */
static size_t blocks(const struct memory *memory, size_t leaf, uint64_t place, bool any)
{
	const size_t pages = leaf / memory->page;
	size_t count = 0;

	for (size_t i = -place % leaf / memory->page; i + pages <= memory->pages; i += pages)
		count += any || is_block(memory->frames + i, pages);
	return count;
}

static int open_file(const char *path)
{
	int fd = strcmp(path, "memfd") ? open(path, O_RDWR | O_CLOEXEC)
				       : memfd_create("contiguous", MFD_CLOEXEC);

	if (fd < 0)
		err(1, "%s", path);
	return fd;
}

int main(int argc, char **argv)
{
	const bool api = argc > 1 && strcmp(argv[1], "--api") == 0;
	const char *path = argc > 2 + api ? argv[2 + api] : NULL;
	struct memory memory = { .page = (size_t)sysconf(_SC_PAGESIZE) };
	const int prot = PROT_READ | PROT_WRITE;
	struct alignmap_leaves leaves;
	int fd = -1, flags = MAP_PRIVATE | MAP_ANONYMOUS;
	size_t length;

	if (argc < 2 + api || argc > 4 + api) {
		fputs("usage: contiguous [--api] LENGTH [FILE|memfd [OFFSET]]\n"
		      "prints of each leaf size, in KiB: how many blocks there are in the file, "
		      "how\n"
		      "many of them lie together in memory, and how many can be mapped as one\n",
		      stderr);
		return 2;
	}
	length = strtoull(argv[1 + api], NULL, 0);
	memory.pages = length / memory.page;
	if (!memory.pages)
		errx(2, "%s is not a page", argv[1 + api]);
	if (argc > 3 + api)
		memory.offset = strtoull(argv[3 + api], NULL, 0);
	if (path) {
		fd = open_file(path);
		flags = MAP_SHARED;
		if (strcmp(path, "memfd") == 0 && ftruncate(fd, (off_t)(memory.offset + length)))
			err(1, "memfd");
	}
	memory.address = api ? alignmap_mmap(NULL, length, prot, flags, fd, (off_t)memory.offset)
			     : mmap(NULL, length, prot, flags, fd, (off_t)memory.offset);
	if (memory.address == MAP_FAILED ||
	    alignmap_host_leaves(path ? ALIGNMAP_FILE : ALIGNMAP_ANONYMOUS, &leaves))
		err(1, "%zu bytes of %s", length, path ? path : "anonymous memory");

	for (size_t i = 0; i < memory.pages; i++)
		memory.address[i * memory.page] = 1;
	read_frames(&memory);
	printf("# at %p\n", (void *)memory.address);
	for (unsigned int i = 0; i < leaves.count - 1; i++) {
		const size_t leaf = leaves.size[i];

		printf("%zu %zu %zu %zu\n", leaf >> 10, blocks(&memory, leaf, memory.offset, true),
		       blocks(&memory, leaf, memory.offset, false),
		       blocks(&memory, leaf, (uintptr_t)memory.address, false));
	}
	free(memory.frames);
	return 0;
}
