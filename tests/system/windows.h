/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * What the tests of windows share: calls that must succeed and leave errno alone, and the kernel's
 * own account of what lies in a window.
 */
#ifndef WINDOWS_H
#define WINDOWS_H

#include "system.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

/* How a child ends that cannot do its part here. */
#define SKIPPED 77

/* Returns how it ended, as waitpid(2) does; a claim that does not hold aborts it. */
static inline int end_of_child(void (*child)(void))
{
	int status;
	pid_t pid;

	pid = fork_child();
	if (pid == 0) {
		/* cmocka would go on with the next test otherwise. */
		setenv("CMOCKA_TEST_ABORT", "1", 1);
		child();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

/* Returns 0 or SKIPPED; fails the test where a claim of the child's does not hold. */
static inline int in_a_child(void (*child)(void))
{
	const int status = end_of_child(child);

	if (!WIFEXITED(status) || (WEXITSTATUS(status) && WEXITSTATUS(status) != SKIPPED))
		fail_msg("the child ended with status %#x", (unsigned int)status);
	return WEXITSTATUS(status);
}

static inline struct alignmap_window *reserve(uint64_t offset, size_t length,
					      const struct alignmap_window_options *options)
{
	struct alignmap_window *window;

	errno = EXDEV;
	window = alignmap_window_reserve(offset, length, options);
	if (!window)
		fail_msg("not reserved: %s", strerror(errno));
	assert_int_equal(errno, EXDEV);
	return window;
}

static inline void release(struct alignmap_window *window)
{
	errno = EXDEV;
	assert_int_equal(alignmap_window_release(window), 0);
	assert_int_equal(errno, EXDEV);
}

static inline struct alignmap_extent extent_at(struct alignmap_window *window, uint64_t offset)
{
	struct alignmap_extent extent;

	errno = EXDEV;
	assert_int_equal(alignmap_window_query(window, offset, &extent), 0);
	assert_int_equal(errno, EXDEV);
	return extent;
}

/* Where that offset lies. */
static inline char *address_in(struct alignmap_window *window, uint64_t offset)
{
	const struct alignmap_extent extent = extent_at(window, offset);

	return (char *)extent.address + (offset - extent.offset);
}

static inline char *put(struct alignmap_window *window, size_t length, int prot, int flags, int fd,
			off_t offset)
{
	char *piece;

	errno = EXDEV;
	piece = alignmap_window_map(window, length, prot, flags, fd, offset);
	if (piece == MAP_FAILED)
		fail_msg("length %#zx at %#lx: %s", length, (long)offset, strerror(errno));
	assert_int_equal(errno, EXDEV);
	assert_ptr_equal(piece, address_in(window, (uint64_t)offset));
	return piece;
}

static inline void take_out(struct alignmap_window *window, uint64_t offset, size_t length)
{
	errno = EXDEV;
	assert_int_equal(alignmap_window_unmap(window, offset, length), 0);
	assert_int_equal(errno, EXDEV);
}

/* Each page of a file bears its number. */
static inline uint64_t stamp(uint64_t page)
{
	return page * 0x9e3779b97f4a7c15 + 1;
}

static inline int stamped_file(size_t pages)
{
	int fd = memfd_of((off_t)(pages * page_size()));

	for (uint64_t page = 0; page < pages; page++) {
		const uint64_t value = stamp(page);

		assert_int_equal(pwrite(fd, &value, sizeof(value), (off_t)(page * page_size())),
				 sizeof(value));
	}
	return fd;
}

/* What a page is, without touching it and however many mappings there are. */
enum page_state { UNMAPPED, HELD, READABLE };

static inline enum page_state look_for(const void *page, uint64_t *word)
{
	struct iovec local = { word, sizeof(*word) };
	struct iovec remote = { (void *)(uintptr_t)page, sizeof(*word) };
	unsigned char resident;

	if (mincore((void *)(uintptr_t)page, 1, &resident))
		return UNMAPPED;
	return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == sizeof(*word) ? READABLE
										     : HELD;
}

static inline enum page_state look(const void *page)
{
	uint64_t word;

	return look_for(page, &word);
}

/* VmSize in pages, however many mappings there are. */
static inline unsigned long pages_held(void)
{
	char statm[128] = "";
	int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0 && read(fd, statm, sizeof(statm) - 1) > 0);
	close(fd);
	return strtoul(statm, NULL, 10);
}

struct vma {
	uintptr_t start, end;
	char permissions[5];
	uint64_t offset;
	unsigned long inode;
};

/* The kernel's mapping at that address; false if there is none. */
static inline bool find_vma(const struct address_space *space, uintptr_t address, struct vma *vma)
{
	for (const char *line = space->vmas; *line; line = strchr(line, '\n') + 1) {
		if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %4s %" SCNx64 " %*s %lu", &vma->start,
			   &vma->end, vma->permissions, &vma->offset, &vma->inode) != 5)
			fail();
		if (address >= vma->start && address < vma->end)
			return true;
	}
	return false;
}

static inline bool permits(const struct vma *vma, int prot)
{
	return (vma->permissions[0] == 'r') == !!(prot & PROT_READ) &&
	       (vma->permissions[1] == 'w') == !!(prot & PROT_WRITE) &&
	       (vma->permissions[2] == 'x') == !!(prot & PROT_EXEC);
}

/* Whether the kernel has exactly that mapping there. */
static inline bool is_mapped(const char *address, size_t length, int prot, int flags, int fd,
			     uint64_t offset)
{
	static struct address_space space;
	struct stat status;
	struct vma vma;

	read_address_space(&space);
	assert_int_equal(fstat(fd, &status), 0);
	for (uintptr_t at = (uintptr_t)address; at < (uintptr_t)address + length; at = vma.end) {
		if (!find_vma(&space, at, &vma) || !permits(&vma, prot))
			return false;
		if ((vma.permissions[3] == 's') != ((flags & MAP_TYPE) != MAP_PRIVATE))
			return false;
		if (vma.inode != status.st_ino ||
		    vma.offset + (at - vma.start) != offset + (at - (uintptr_t)address))
			return false;
	}
	return true;
}

/* How many bytes of a window are what. */
struct census {
	size_t reserved, mapped, lost;
	size_t extents;
};

/*
 * Walks the whole window by its query, and holds what it says against the kernel's list: what is
 * reserved is anonymous and PROT_NONE, what is mapped is a file's, with the protection that is
 * told.
 */
static inline struct census take_census(struct alignmap_window *window, uint64_t offset,
					size_t length)
{
	static struct address_space space;
	const uint64_t end = offset + length;
	const char *address = address_in(window, offset);
	enum alignmap_extent_state last = ALIGNMAP_MAPPED;
	struct census census = { 0 };
	struct alignmap_extent extent;

	read_address_space(&space);
	while (alignmap_window_query(window, offset, &extent) == 0) {
		uintptr_t at = (uintptr_t)extent.address;
		struct vma vma;

		assert_int_equal(extent.offset, offset);
		assert_ptr_equal(extent.address, address);
		assert_true(extent.length && extent.length % page_size() == 0);
		/* fail_msg() does not return. */
		/* NOLINTNEXTLINE(clang-analyzer-core.uninitialized.Assign) */
		for (; at < (uintptr_t)extent.address + extent.length; at = vma.end) {
			if (extent.state == ALIGNMAP_LOST)
				break;
			if (!find_vma(&space, at, &vma) || !permits(&vma, extent.prot) ||
			    (extent.state == ALIGNMAP_MAPPED) == !vma.inode)
				fail_msg("state %d at offset %#lx is none to the kernel",
					 (int)extent.state, (long)offset);
		}
		switch (extent.state) {
		case ALIGNMAP_RESERVED:
			assert_int_not_equal(last, ALIGNMAP_RESERVED);
			assert_int_equal(extent.prot, PROT_NONE);
			census.reserved += extent.length;
			break;
		case ALIGNMAP_MAPPED:
			census.mapped += extent.length;
			break;
		case ALIGNMAP_LOST:
			census.lost += extent.length;
		}
		census.extents++;
		last = extent.state;
		offset += extent.length;
		address += extent.length;
	}
	assert_int_equal(errno, EINVAL);
	assert_int_equal(offset, end);
	assert_int_equal(census.reserved + census.mapped + census.lost, length);
	return census;
}

#endif /* WINDOWS_H */
