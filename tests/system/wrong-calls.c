// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Calls that mmap(2) refuses: what comes of them is compared with the system call itself, one by
 * one.
 */
#include "system.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define READ PROT_READ
#define WRITE (PROT_READ | PROT_WRITE)

static struct address_space before, after;

static size_t lengths[3];

static int learn_lengths(void **state)
{
	(void)state;
	lengths[0] = page_size();
	lengths[1] = 4 * pmd_size();
	lengths[2] = 2 * largest_leaf();
	return 0;
}

static void compare(const char *name, void *address, size_t length, int prot, int flags, int fd,
		    off_t offset)
{
	void *ours, *theirs;
	int our_errno, their_errno;

	read_address_space(&before);
	errno = EXDEV;
	theirs = map_raw(address, length, prot, flags, fd, offset);
	their_errno = errno;
	if (theirs != MAP_FAILED)
		munmap(theirs, length);
	errno = EXDEV;
	ours = map(address, length, prot, flags, fd, offset);
	our_errno = errno;
	if (ours != MAP_FAILED)
		munmap(ours, length);
	read_address_space(&after);
	/* For who compares runs. */
	if (way == WAY_RAW)
		print_message("# call %s, length %#zx: %s\n", name, length,
			      ours == MAP_FAILED ? strerror(our_errno) : "made");
	if ((ours == MAP_FAILED) != (theirs == MAP_FAILED) || our_errno != their_errno) {
		print_error("%s, length %#zx: %s (%s), but the system call %s (%s)\n", name, length,
			    ours == MAP_FAILED ? "failed" : "succeeded", strerror(our_errno),
			    theirs == MAP_FAILED ? "failed" : "succeeded", strerror(their_errno));
		fail();
	}
	assert_same_address_space(&before, &after);
}

/* The same, and it must have failed so: a row that the kernel grants would show nothing. */
static void compare_failing(const char *name, int error, size_t length, int prot, int flags, int fd,
			    off_t offset)
{
	void *theirs = map_raw(NULL, length, prot, flags, fd, offset);

	if (theirs != MAP_FAILED || errno != error) {
		print_error("%s, length %#zx: the kernel says %s\n", name, length,
			    theirs == MAP_FAILED ? strerror(errno) : "yes");
		fail();
	}
	compare(name, NULL, length, prot, flags, fd, offset);
}

static void descriptors_that_cannot_be_mapped(void **state)
{
	const int file = memfd_of((off_t)(2 * largest_leaf()));
	int pipe_ends[2], sockets[2];
	char path[64];

	(void)state;
	assert_int_equal(pipe(pipe_ends), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	for (size_t i = 0; i < COUNT(lengths); i++) {
		const struct {
			const char *name;
			int error;
			int fd;
		} rows[] = {
			{ "no descriptor", EBADF, -1 },
			{ "a negative descriptor", EBADF, -100 },
			{ "a closed descriptor", EBADF, 1000 },
			{ "a directory", ENODEV, open("/", O_RDONLY | O_DIRECTORY) },
			{ "a path descriptor", EBADF, open(path, O_PATH) },
			{ "a pipe", ENODEV, pipe_ends[0] },
			{ "a socket", ENODEV, sockets[0] },
			{ "an epoll instance", ENODEV, epoll_create1(0) },
			{ "an eventfd", ENODEV, eventfd(0, 0) },
			{ "a timerfd", ENODEV, timerfd_create(CLOCK_MONOTONIC, 0) },
			{ "a file of proc", ENODEV, open("/proc/self/status", O_RDONLY) },
		};

		for (size_t j = 0; j < COUNT(rows); j++) {
			assert_true(rows[j].fd >= 0 || rows[j].error == EBADF);
			compare_failing(rows[j].name, rows[j].error, lengths[i], READ, MAP_SHARED,
					rows[j].fd, 0);
			compare_failing(rows[j].name, rows[j].error, lengths[i], READ, MAP_PRIVATE,
					rows[j].fd, 0);
			if (j > 2 && rows[j].fd != pipe_ends[0] && rows[j].fd != sockets[0])
				close(rows[j].fd);
		}
	}
	for (int i = 0; i < 2; i++) {
		close(pipe_ends[i]);
		close(sockets[i]);
	}
	close(file);
}

static void access_that_the_descriptor_does_not_give(void **state)
{
	const int file = memfd_create("alignmap-test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	const int sealed = memfd_create("alignmap-test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	char path[64];
	int reading, writing;

	(void)state;
	assert_true(file >= 0 && sealed >= 0);
	assert_int_equal(ftruncate(file, (off_t)(2 * largest_leaf())), 0);
	assert_int_equal(ftruncate(sealed, (off_t)(2 * largest_leaf())), 0);
	assert_int_equal(fcntl(sealed, F_ADD_SEALS, F_SEAL_WRITE), 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	reading = open(path, O_RDONLY);
	writing = open(path, O_WRONLY);
	assert_true(reading >= 0 && writing >= 0);
	for (size_t i = 0; i < COUNT(lengths); i++) {
		const size_t length = lengths[i];

		compare_failing("a read-only descriptor, writable", EACCES, length, WRITE,
				MAP_SHARED, reading, 0);
		compare_failing("a read-only descriptor, writable, validated", EACCES, length,
				WRITE, MAP_SHARED_VALIDATE, reading, 0);
		compare_failing("a write-only descriptor", EACCES, length, READ, MAP_SHARED,
				writing, 0);
		compare_failing("a write-only descriptor, private", EACCES, length, READ,
				MAP_PRIVATE, writing, 0);
		compare_failing("a sealed memfd, writable", EPERM, length, WRITE, MAP_SHARED,
				sealed, 0);
		compare("a read-only descriptor, private", NULL, length, WRITE,
			MAP_PRIVATE | MAP_NORESERVE, reading, 0);
	}
	close(reading);
	close(writing);
	close(sealed);
	close(file);
}

static void lengths_and_offsets_that_are_none(void **state)
{
	const int file = memfd_of((off_t)(2 * largest_leaf()));
	const off_t page = (off_t)page_size(), pmd = (off_t)pmd_size();
	const size_t wrong_lengths[] = {
		0,
		SIZE_MAX,
		SIZE_MAX - 1,
		SIZE_MAX - page_size() + 1,
		SIZE_MAX - page_size() + 2,
		SIZE_MAX - pmd_size(),
		SIZE_MAX / 2 + 1,
		SIZE_MAX / 2,
#if SIZE_MAX > UINT32_MAX
		(size_t)1 << 62,
		((size_t)1 << 57) - page_size(),
		((size_t)1 << 48) - page_size(),
		(size_t)1 << 47,
		((size_t)1 << 47) - page_size(),
		((size_t)1 << 47) - pmd_size(),
		((size_t)1 << 47) - largest_leaf(),
#endif
	};
	const off_t offsets[] = {
		1,
		page / 2,
		pmd + 1,
		page - 1,
		-1,
		-page,
		-pmd,
		-2 * (off_t)largest_leaf(),
		-((off_t)1 << 40),
		INT64_MIN,
		INT64_MAX,
		INT64_MAX - page + 1,
		INT64_MAX - pmd + 1,
	};

	(void)state;
	for (size_t i = 0; i < COUNT(wrong_lengths); i++) {
		const size_t length = wrong_lengths[i];

		compare("a length", NULL, length, READ, MAP_SHARED, file, 0);
		compare("a length, at an offset", NULL, length, READ, MAP_PRIVATE, file, pmd);
		compare("a length, at a wrong offset", NULL, length, READ, MAP_PRIVATE, file, 1);
		compare("a length of nothing", NULL, length, READ, MAP_SHARED, -1, 0);
		compare("a length, anonymous", NULL, length, WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		compare("a length, reserved", NULL, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS,
			-1, 0);
	}
	compare_failing("a length of 0", EINVAL, 0, READ, MAP_SHARED, file, 0);
	compare_failing("a length that wraps", ENOMEM, SIZE_MAX, READ, MAP_SHARED, file, 0);
	for (size_t i = 0; i < COUNT(lengths); i++) {
		for (size_t j = 0; j < COUNT(offsets); j++) {
			compare("an offset", NULL, lengths[i], READ, MAP_SHARED, file, offsets[j]);
			compare("an offset, private", NULL, lengths[i], READ, MAP_PRIVATE, file,
				offsets[j]);
			compare("an offset, anonymous", NULL, lengths[i], READ,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, offsets[j]);
		}
		compare_failing("an unaligned offset", EINVAL, lengths[i], READ, MAP_SHARED, file,
				1);
		compare("an offset past the file", NULL, lengths[i], READ, MAP_SHARED, file,
			(off_t)(4 * largest_leaf()));
		compare("an offset far past the file", NULL, lengths[i], READ, MAP_SHARED, file,
			(off_t)1 << 50);
	}
	close(file);
}

static void types_and_flags_that_are_none(void **state)
{
	const int file = memfd_of((off_t)(2 * largest_leaf()));

	(void)state;
	for (size_t i = 0; i < COUNT(lengths); i++) {
		const size_t length = lengths[i];

		compare_failing("no map type", EINVAL, length, READ, 0, file, 0);
		compare_failing("no map type, anonymous", EINVAL, length, READ, MAP_ANONYMOUS, -1,
				0);
		compare_failing("a map type that is none", EINVAL, length, READ, 0x0f, file, 0);
		compare_failing("an unknown flag, validated", EOPNOTSUPP, length, READ,
				MAP_SHARED_VALIDATE | 0x200000, file, 0);
		compare_failing("MAP_SYNC on a file that is no DAX", EOPNOTSUPP, length, READ,
				MAP_SHARED_VALIDATE | 0x080000, file, 0);
		compare_failing("MAP_SHARED_VALIDATE of nothing", EINVAL, length, READ,
				MAP_SHARED_VALIDATE | MAP_ANONYMOUS, -1, 0);
		compare("an unknown flag", NULL, length, READ, MAP_SHARED | 0x200000, file, 0);
		compare("an unknown protection", NULL, length, READ | 0x100000, MAP_SHARED, file,
			0);
		compare("a hint that is unaligned", (void *)0x12345, length, READ, MAP_SHARED, file,
			0);
		compare("a hint beyond the address space", (void *)-4096L, length, READ, MAP_SHARED,
			file, 0);
		compare("a fixed address beyond it", (void *)-4096L, length, READ,
			MAP_SHARED | MAP_FIXED, file, 0);
		compare("an unaligned fixed address", (void *)0x700000001, length, READ,
			MAP_SHARED | MAP_FIXED, file, 0);
	}
	close(file);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(descriptors_that_cannot_be_mapped),
		cmocka_unit_test(access_that_the_descriptor_does_not_give),
		cmocka_unit_test(lengths_and_offsets_that_are_none),
		cmocka_unit_test(types_and_flags_that_are_none),
	};

	choose_way(argc, argv);
	return cmocka_run_group_tests(tests, learn_lengths, NULL);
}
