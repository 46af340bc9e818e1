// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * A program that knows nothing of the library, for the scripts beside it to run under the preload;
 * built with -DLINKED it is linked against it and can call it, too.
 *
 *   probe placed             how many of four mappings, by mmap and by mmap64, lie as they deserve
 *   probe dlopen OBJECT      the same after a dlopen(), for which libalignmap.so is meant
 *   probe call WAY KIND      one call of that kind between two marks, for strace
 *   probe known              calls whose numbers are known, one of each kind
 *   probe fork               two mappings, and one more in a child; both exit()
 *   probe daemon FIFO        exits; a child without standard streams waits until FIFO is written
 *   probe close2             closes standard error first
 *   probe reuse2 FILE        puts a file of its own there
 *   probe closeall DIR       closes every descriptor, and opens as many files of its own as it can
 *   probe brokenpipe STATUS  runs "probe exit" with a standard error that nobody reads any more
 *   probe heldpipe           the same, holding SIGPIPE back: whether it is pending, then raised
 *   probe heldlimit          may not write to files any more, and holds SIGPIPE back, pending:
 * whether that is raised then probe cancelled          maps in a thread that is to be cancelled:
 * whether that runs on probe exit STATUS        maps, and exits so probe list               runs
 * ls, without the preload, on its descriptors probe nothp              runs "probe exit 0" after
 * PR_SET_THP_DISABLE
 */
#undef _FILE_OFFSET_BITS
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef LINKED
/* The header speaks of the build's off_t; musl has no other. */
#ifndef mmap64
#define off_t off64_t
#endif
#include "alignmap.h"
#undef off_t
#endif

#define M ((size_t)1 << 20)
#define G ((size_t)1 << 30)
#define PMD (2 * M)

static void die(const char *what)
{
	fprintf(stderr, "probe: %s: %s\n", what, strerror(errno));
	exit(99);
}

static int file_of(off64_t length)
{
	int fd = memfd_create("alignmap-probe", MFD_CLOEXEC);

	if (fd < 0 || ftruncate64(fd, length))
		die("memfd");
	return fd;
}

enum way { BY_MMAP, BY_MMAP64, BY_API };

static void *map(enum way way, void *address, size_t length, int prot, int flags, int fd,
		 off64_t offset)
{
	switch (way) {
	case BY_MMAP:
		return mmap(address, length, prot, flags, fd, offset);
	case BY_MMAP64:
		return mmap64(address, length, prot, flags, fd, offset);
	case BY_API:
		break;
	}
#ifdef LINKED
	return alignmap_mmap(address, length, prot, flags, fd, offset);
#else
	exit(2);
#endif
}

/*
 * Four phases, lengths of whole leaves: each that came to lie well by accident would put the next,
 * just below it, a page beside.
 */
static int count_placed(enum way way)
{
	const long page = sysconf(_SC_PAGESIZE);
	int placed = 0;
	int fd = file_of((off64_t)(16 * PMD));

	for (int i = 0; i < 4; i++) {
		char *mapping =
			map(way, NULL, 4 * PMD, PROT_READ, MAP_PRIVATE, fd, (off64_t)(i * page));

		if (mapping == MAP_FAILED)
			die("mmap");
		placed += ((uintptr_t)mapping - (uintptr_t)(i * page)) % PMD == 0;
	}
	close(fd);
	return placed;
}

static int show_placed(void)
{
	printf("mmap %d mmap64 %d", count_placed(BY_MMAP), count_placed(BY_MMAP64));
#ifdef LINKED
	printf(" api %d", count_placed(BY_API));
#endif
	printf(" secure %lu\n", getauxval(AT_SECURE));
	return 0;
}

static int show_placed_after_dlopen(const char *object)
{
	if (!dlopen(object, RTLD_NOW | RTLD_GLOBAL)) {
		fprintf(stderr, "probe: %s\n", dlerror());
		return 99;
	}
	return show_placed();
}

static void mark(const char *name)
{
	syscall(SYS_write, -1, name, strlen(name));
}

/* Kinds beginning with "left" are left to the kernel by the preload. */
static const struct {
	const char *name;
	size_t length;
	int prot;
	int flags;
	enum { NOTHING, A_FILE, DEV_ZERO } of;
	off64_t offset;
	bool hint;
} kinds[] = {
	{ "private", 4 * PMD, PROT_READ, MAP_PRIVATE, A_FILE, 0, false },
	{ "private-large", 2 * G, PROT_READ, MAP_PRIVATE | MAP_NORESERVE, A_FILE, 8192, false },
	{ "shared", 4 * PMD, PROT_READ | PROT_WRITE, MAP_SHARED, A_FILE, 0, false },
	{ "device", 4 * PMD, PROT_READ | PROT_WRITE, MAP_SHARED, DEV_ZERO, 0, false },
	{ "anonymous", 64 * M, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, NOTHING, 0,
	  false },
	{ "wrong", 4 * PMD, PROT_READ, MAP_PRIVATE, NOTHING, 0, false },
	{ "left-small", PMD / 2, PROT_READ, MAP_PRIVATE, A_FILE, 0, false },
	{ "left-stack", 4 * PMD, PROT_READ, MAP_PRIVATE | MAP_STACK, A_FILE, 0, false },
	{ "left-32bit", 4 * PMD, PROT_READ, MAP_PRIVATE | 0x40, A_FILE, 0, false },
	{ "left-fixed", 4 * PMD, PROT_READ, MAP_PRIVATE | MAP_FIXED, A_FILE, 0, true },
	{ "left-noreplace", 4 * PMD, PROT_READ, MAP_PRIVATE | MAP_FIXED_NOREPLACE, A_FILE, 0,
	  true },
	{ "left-hint", 4 * PMD, PROT_READ, MAP_PRIVATE, A_FILE, 0, true },
	{ "left-drm", 4 * PMD, PROT_READ, MAP_SHARED, A_FILE, ((off64_t)4 << 30) + 4096, false },
	{ "left-anonymous", 4 * PMD, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, NOTHING, 0, false },
};

static int make_call(const char *way_name, const char *kind)
{
	const enum way way = strcmp(way_name, "mmap") == 0     ? BY_MMAP
			     : strcmp(way_name, "mmap64") == 0 ? BY_MMAP64
							       : BY_API;

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		int fd = -1;
		char *hint = NULL, *mapping;

		if (strcmp(kinds[i].name, kind) != 0)
			continue;
		if (kinds[i].of == A_FILE)
			fd = file_of((off64_t)8 << 30);
		if (kinds[i].of == DEV_ZERO)
			fd = open("/dev/zero", O_RDWR | O_CLOEXEC);
		if (kinds[i].hint) {
			hint = mmap(NULL, kinds[i].length + PMD, PROT_NONE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
			munmap(hint, kinds[i].length + PMD);
			/* A page beside the congruent address. */
			hint += (-(uintptr_t)hint & (PMD - 1)) + 4096;
		}
		mark("begin");
		mapping = map(way, hint, kinds[i].length, kinds[i].prot, kinds[i].flags, fd,
			      kinds[i].offset);
		mark("end");
		if (fd >= 0)
			close(fd);
		return mapping == MAP_FAILED;
	}
	return 2;
}

/* 3 placed modulo 2M, 2 fixed, 1 hint, 2 of other flags, 1 anonymous, 2 small, 1 DRM, 1 refused. */
static int make_known_calls(void)
{
	static const char *const made[] = {
		"private",    "shared",	    "shared",	  "left-fixed",	    "left-noreplace",
		"left-hint",  "left-stack", "left-stack", "left-anonymous", "left-small",
		"left-small", "left-drm",   "wrong",
	};

	for (size_t i = 0; i < sizeof(made) / sizeof(made[0]); i++)
		make_call(i % 2 ? "mmap" : "mmap64", made[i]);
	return 0;
}

static void map_some(int times)
{
	for (int i = 0; i < times; i++)
		make_call("mmap", "private");
}

static int map_in_fork(void)
{
	int status = 99;
	pid_t pid;

	map_some(2);
	pid = fork();
	if (pid == 0) {
		map_some(1);
		exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		die("fork");
	return status != 0;
}

static int leave_daemon(const char *fifo)
{
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	if (pid == 0) {
		/* The test's failure must not leave it behind for ever. */
		alarm(60);
		close(STDIN_FILENO);
		close(STDOUT_FILENO);
		close(STDERR_FILENO);
		_exit(open(fifo, O_RDONLY) < 0);
	}
	return 0;
}

static int reuse_standard_error(const char *path)
{
	if (close(STDERR_FILENO) || open(path, O_RDWR | O_CREAT | O_TRUNC, 0600) != STDERR_FILENO)
		return 99;
	map_some(3);
	if (write(STDERR_FILENO, "mine\n", 5) != 5)
		return 99;
	map_some(3);
	return 0;
}

/* Every number that a descriptor can have becomes a file of this program's. */
static int close_all(const char *directory)
{
	char path[4096];
	int opened = 0;

	syscall(SYS_close_range, 0, ~0U, 0);
	for (;; opened++) {
		snprintf(path, sizeof(path), "%s/%d", directory, opened);
		if (open(path, O_RDWR | O_CREAT | O_TRUNC | O_APPEND, 0600) != opened)
			break;
	}
	/* One that the mappings are of. */
	close(opened - 1);
	map_some(3);
	for (int fd = 0; fd < opened - 1; fd++)
		if (write(fd, "mine\n", 5) != 5)
			return 99;
	map_some(3);
	return opened > 3 ? 0 : 99;
}

static int run_probe(const char *mode, const char *status)
{
	char *arguments[] = { (char *)"probe", (char *)mode, (char *)status, NULL };

	execv("/proc/self/exe", arguments);
	return 99;
}

static bool is_pending(int signal)
{
	sigset_t pending;

	sigpending(&pending);
	return sigismember(&pending, signal);
}

static int show_held_signal(void)
{
	sigset_t held;
	bool left;

	sigemptyset(&held);
	sigaddset(&held, SIGPIPE);
	sigprocmask(SIG_BLOCK, &held, NULL);
	map_some(1);
	left = is_pending(SIGPIPE);
	raise(SIGPIPE);
	map_some(1);
	printf("pending %d, raised %d\n", left, is_pending(SIGPIPE));
	return 0;
}

static volatile sig_atomic_t raised;

static void note(int signal)
{
	(void)signal;
	raised++;
}

static void map_only(int file)
{
	if (mmap(NULL, 4 * PMD, PROT_READ, MAP_PRIVATE, file, 0) == MAP_FAILED)
		die("mmap");
}

static int show_held_signal_at_limit(void)
{
	const int file = memfd_create("alignmap-test", MFD_CLOEXEC);
	struct rlimit limit;
	sigset_t held;

	sigemptyset(&held);
	sigaddset(&held, SIGPIPE);
	signal(SIGPIPE, note);
	sigprocmask(SIG_BLOCK, &held, NULL);
	raise(SIGPIPE);
	if (getrlimit(RLIMIT_FSIZE, &limit) ||
	    setrlimit(RLIMIT_FSIZE, &(struct rlimit){ 0, limit.rlim_max }))
		return 99;
	map_only(file);
	setrlimit(RLIMIT_FSIZE, &limit);
	sigprocmask(SIG_UNBLOCK, &held, NULL);
	printf("raised %d\n", (int)raised);
	return 0;
}

static volatile bool ran_on;

/* Makes no call in between that may be one. */
static void *map_when_cancelled(void *file)
{
	pthread_cancel(pthread_self());
	map_only(*(int *)file);
	ran_on = true;
	return file;
}

static int show_cancelled_thread(void)
{
	pthread_t thread;
	int file = memfd_create("alignmap-test", MFD_CLOEXEC);

	if (pthread_create(&thread, NULL, map_when_cancelled, &file) || pthread_join(thread, NULL))
		return 99;
	printf("ran on %d\n", ran_on);
	return 0;
}

static int run_with_broken_pipe(const char *mode, const char *status)
{
	int ends[2];

	signal(SIGPIPE, SIG_DFL);
	if (pipe(ends) || dup2(ends[1], STDERR_FILENO) < 0)
		return 99;
	close(ends[0]);
	close(ends[1]);
	return run_probe(mode, status);
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";

	if (strcmp(mode, "placed") == 0)
		return show_placed();
	if (strcmp(mode, "dlopen") == 0 && argc == 3)
		return show_placed_after_dlopen(argv[2]);
	if (strcmp(mode, "call") == 0 && argc == 4)
		return make_call(argv[2], argv[3]);
	if (strcmp(mode, "known") == 0)
		return make_known_calls();
	if (strcmp(mode, "fork") == 0)
		return map_in_fork();
	if (strcmp(mode, "daemon") == 0 && argc == 3)
		return leave_daemon(argv[2]);
	if (strcmp(mode, "close2") == 0) {
		close(STDERR_FILENO);
		return show_placed();
	}
	if (strcmp(mode, "reuse2") == 0 && argc == 3)
		return reuse_standard_error(argv[2]);
	if (strcmp(mode, "closeall") == 0 && argc == 3)
		return close_all(argv[2]);
	if (strcmp(mode, "brokenpipe") == 0 && argc == 3)
		return run_with_broken_pipe("exit", argv[2]);
	if (strcmp(mode, "heldpipe") == 0)
		return run_with_broken_pipe("held", "");
	if (strcmp(mode, "held") == 0)
		return show_held_signal();
	if (strcmp(mode, "heldlimit") == 0)
		return show_held_signal_at_limit();
	if (strcmp(mode, "cancelled") == 0)
		return show_cancelled_thread();
	if (strcmp(mode, "exit") == 0 && argc == 3) {
		map_some(3);
		return atoi(argv[2]);
	}
	if (strcmp(mode, "nothp") == 0)
		return prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) ? 99 : run_probe("exit", "0");
	if (strcmp(mode, "list") == 0) {
		unsetenv("LD_PRELOAD");
		return execlp("ls", "ls", "-l", "/proc/self/fd", NULL);
	}
	fprintf(stderr, "probe: see its source for how to call it\n");
	return 2;
}
