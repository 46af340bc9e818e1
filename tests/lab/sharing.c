// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * How much memory the page tables take of a file on hugetlbfs that many processes share. Linux lets
 * them share these too where each has mapped whole GiBs at addresses that are alike modulo 1 GiB
 * (mm/hugetlb.c, huge_pmd_share). Each process is a program started anew, with addresses of its
 * own; they touch all pages, one after the other.
 *
 *	sharing [--api] FILE PROCESSES
 *
 * It is linked with the archive, which has no mmap, so that LD_PRELOAD decides about its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "device.h"

/* A member's name, and where it finds its ends of the pipes. */
static char member[] = "member";
enum { SAYS = 3, WAITS, ENDS };

static void say(size_t number)
{
	if (write(SAYS, &number, sizeof(number)) != sizeof(number))
		die("write");
}

/* For a byte, or the end of the pipe. */
static void wait_for(int pipe)
{
	char byte;

	if (read(pipe, &byte, 1) < 0)
		die("read");
}

static void *map(size_t length, int fd, bool api)
{
	const int prot = PROT_READ | PROT_WRITE;
	void *address = api ? alignmap_mmap(NULL, length, prot, MAP_SHARED, fd, 0)
			    : mmap(NULL, length, prot, MAP_SHARED, fd, 0);

	if (address == MAP_FAILED)
		die("mmap of %zu bytes", length);
	return address;
}

/* One of the processes: says where it has mapped, and later how many faults it took. */
static int be_member(const char *path, bool api)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	size_t length = fd < 0 ? 0 : (size_t)lseek(fd, 0, SEEK_END);
	struct rusage before, after;
	struct statfs file_system;
	char *address;

	if (fd < 0 || fstatfs(fd, &file_system) < 0)
		die("%s", path);
	address = map(length, fd, api);
	say((size_t)address);
	wait_for(WAITS);
	getrusage(RUSAGE_SELF, &before);
	for (size_t at = 0; at < length; at += (size_t)file_system.f_bsize)
		((volatile char *)address)[at] = 1;
	getrusage(RUSAGE_SELF, &after);
	say((size_t)(after.ru_minflt - before.ru_minflt));
	wait_for(ENDS);
	return 0;
}

static void start_member(char **argv, const int *says, const int *waits, const int *ends)
{
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	if (pid > 0)
		return;
	if (dup2(says[1], SAYS) < 0 || dup2(waits[0], WAITS) < 0 || dup2(ends[0], ENDS) < 0)
		die("dup2");
	argv[0] = member;
	execv("/proc/self/exe", argv);
	die("exec");
}

/* Of the whole system, in bytes. */
static size_t page_tables(void)
{
	int refresh = open("/proc/sys/vm/stat_refresh", O_WRONLY | O_CLOEXEC);

	/* What each processor has counted by itself is added up. */
	if (refresh < 0 || write(refresh, "1", 1) != 1)
		die("/proc/sys/vm/stat_refresh");
	close(refresh);
	return proc_bytes("/proc/meminfo", "PageTables");
}

static void open_pipe(int *ends)
{
	int pair[2];

	if (pipe(pair) < 0)
		die("pipe");
	/* Out of the way of a member's own, and not left open in it. */
	for (int i = 0; i < 2; i++) {
		ends[i] = fcntl(pair[i], F_DUPFD_CLOEXEC, 10);
		close(pair[i]);
	}
	if (ends[0] < 0 || ends[1] < 0)
		die("fcntl");
}

static size_t hear(const int *says)
{
	size_t number;

	if (read(says[0], &number, sizeof(number)) != sizeof(number))
		die("a process has ended early");
	return number;
}

int main(int argc, char **argv)
{
	const bool api = argc > 1 && strcmp(argv[1], "--api") == 0;
	size_t processes, congruent = 0, faults = 0, before, after;
	int says[2], waits[2], ends[2];

	if (argc != 3 + api) {
		fputs("usage: sharing [--api] FILE PROCESSES\n", stderr);
		return 2;
	}
	if (strcmp(argv[0], member) == 0)
		return be_member(argv[1 + api], api);

	/* Rather than wait for one that has failed. */
	alarm(120);
	processes = strtoul(argv[2 + api], NULL, 10);
	open_pipe(says);
	open_pipe(waits);
	open_pipe(ends);
	for (size_t i = 0; i < processes; i++)
		start_member(argv, says, waits, ends);
	close(says[1]);
	for (size_t i = 0; i < processes; i++)
		congruent += !(hear(says) & (((size_t)1 << 30) - 1));
	before = page_tables();
	for (size_t i = 0; i < processes; i++) {
		if (write(waits[1], "", 1) != 1)
			die("write");
		faults += hear(says);
	}
	after = page_tables();
	printf("processes=%zu congruent=%zu faults=%zu tables=%zu\n", processes, congruent, faults,
	       (after - before) / 1024);
	close(ends[1]);
	while (wait(NULL) > 0)
		;
	return 0;
}
