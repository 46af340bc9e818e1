// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Maps a file around its second page, as a VMM maps a BAR around what it traps:
 *
 *	c++ window.cc $(pkg-config --cflags --libs alignmap) -o window
 */
#include <alignmap.h>
#include <cstdio>
#include <fcntl.h>
#include <memory>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct release {
	void operator()(alignmap_window *window) const
	{
		alignmap_window_release(window);
	}
};
using window_holder = std::unique_ptr<alignmap_window, release>;

/* A piece, with the file's content at its offset. */
static void *map(const window_holder &window, size_t offset, size_t length, int file)
{
	return alignmap_window_map(window.get(), length, PROT_READ, MAP_SHARED, file,
				   static_cast<off_t>(offset));
}

int main(int argc, char **argv)
{
	const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
	const int file = argc == 2 ? open(argv[1], O_RDONLY) : -1;
	struct stat status;

	if (file < 0 || fstat(file, &status) || static_cast<size_t>(status.st_size) <= 2 * page) {
		std::fprintf(stderr, "usage: %s FILE, of more than two pages\n", argv[0]);
		return 2;
	}
	/* In whole pages. */
	const size_t length = (static_cast<size_t>(status.st_size) + page - 1) / page * page;
	const window_holder window(alignmap_window_reserve(0, length, nullptr));

	if (!window || map(window, 0, page, file) == MAP_FAILED ||
	    map(window, 2 * page, length - 2 * page, file) == MAP_FAILED) {
		std::perror(argv[1]);
		return 1;
	}
	alignmap_extent extent;
	for (uint64_t offset = 0; !alignmap_window_query(window.get(), offset, &extent);
	     offset += extent.length)
		std::printf("%p: %zu bytes, %s\n", extent.address, extent.length,
			    extent.state == ALIGNMAP_MAPPED ? "mapped" : "held");
	return 0;
}
