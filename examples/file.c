// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Maps a file by large entries: cc file.c $(pkg-config --cflags --libs alignmap) -o file */
#include <alignmap.h>
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

int main(int argc, char **argv)
{
	struct alignmap_leaves leaves;
	struct alignmap_plan plan;
	struct stat status;
	void *mapping;
	size_t length;
	int fd;

	if (argc != 2)
		errx(2, "usage: %s FILE", argv[0]);
	fd = open(argv[1], O_RDONLY);
	if (fd < 0 || fstat(fd, &status))
		err(1, "%s", argv[1]);
	length = (size_t)status.st_size;

	/* Exactly mmap(2), but for the address that comes back. */
	mapping = alignmap_mmap(NULL, length, PROT_READ, MAP_SHARED, fd, 0);
	if (mapping == MAP_FAILED)
		err(1, "cannot map %s", argv[1]);

	/* What that is worth, if all of the file is in large folios of the page cache. */
	if (alignmap_host_leaves(ALIGNMAP_FILE, &leaves) ||
	    alignmap_plan(&leaves, length, 0, &plan))
		err(1, "cannot plan %s", argv[1]);
	printf("%s: %zu bytes at %p, congruent modulo %#zx\n", argv[1], length, mapping,
	       plan.alignment);
	printf("page-table entries: %zu, at a page-aligned address up to %zu\n", plan.entries,
	       (length - 1) / leaves.size[leaves.count - 1] + 1);
	return munmap(mapping, length);
}
