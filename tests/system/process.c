// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Where a mapping can be made from: children, signal handlers, and threads that a filter allows
 * next to nothing.
 */
#include "system.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/filter.h>
#include <linux/seccomp.h>

static int file;
static size_t length;

static int open_file(void **state)
{
	(void)state;
	file = memfd_of((off_t)(8 * pmd_size()));
	length = 4 * pmd_size();
	return 0;
}

/* Maps, looks, unmaps: whether all of it went as it should. */
static bool maps(int flags)
{
	char *mapping;
	bool good;

	errno = EXDEV;
	mapping = map(NULL, length, PROT_READ, flags, file, (off_t)page_size());
	good = mapping != MAP_FAILED && errno == EXDEV &&
	       congruent(mapping, page_size(), pmd_size()) && mapping[0] == 0;
	return munmap(mapping, length) == 0 && good;
}

static void assert_child_succeeds(pid_t pid)
{
	int status;

	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void a_forked_child_maps(void **state)
{
	pid_t pid;

	(void)state;
	assert_true(maps(MAP_SHARED));
	pid = fork_child();
	if (pid == 0)
		_exit(maps(MAP_SHARED) && maps(MAP_PRIVATE) ? 0 : 1);
	assert_child_succeeds(pid);
}

static volatile bool enough;

static void *map_all_the_time(void *unused)
{
	while (!enough)
		maps(MAP_PRIVATE);
	return unused;
}

/* A lock held by a thread that is not there any more would stop it. */
static void a_child_forked_while_a_thread_is_mapping_maps(void **state)
{
	pthread_t thread;

	(void)state;
	enough = false;
	assert_int_equal(pthread_create(&thread, NULL, map_all_the_time, NULL), 0);
	for (int i = 0; i < 100; i++) {
		pid_t pid = fork_child();

		if (pid == 0)
			_exit(maps(MAP_SHARED) && maps(MAP_PRIVATE) ? 0 : 1);
		assert_child_succeeds(pid);
	}
	enough = true;
	pthread_join(thread, NULL);
}

static void a_vforked_child_maps(void **state)
{
	static volatile bool went_well;
	volatile pid_t pid;

	(void)state;
	if (SANITIZED)
		skip_because("a sanitizer's mmap may not be called in a vfork child");
	went_well = false;
	pid = vfork();
	if (pid == 0) {
		went_well = maps(MAP_SHARED) && maps(MAP_PRIVATE);
		_exit(0);
	}
	assert_child_succeeds(pid);
	assert_true(went_well);
	assert_true(maps(MAP_SHARED));
}

static volatile sig_atomic_t mapping_now, interrupted, handled, wrong;
static char *volatile held_by_handler;

/* Keeps its mapping until the next time, so that it does take what was found free. */
static void map_in_handler(int signal)
{
	const int saved = errno;
	char *mapping;

	(void)signal;
	handled++;
	if (mapping_now)
		interrupted++;
	if (held_by_handler)
		munmap(held_by_handler, length);
	errno = EXDEV;
	mapping = map(NULL, length, PROT_READ, MAP_SHARED, file, 0);
	if (mapping == MAP_FAILED || errno != EXDEV || !congruent(mapping, 0, pmd_size()))
		wrong++;
	held_by_handler = mapping == MAP_FAILED ? NULL : mapping;
	errno = saved;
}

static void a_signal_handler_maps_while_its_thread_is_mapping(void **state)
{
	const struct itimerval often = { { 0, 50 }, { 0, 50 } }, never = { { 0, 0 }, { 0, 0 } };
	const struct sigaction action = { .sa_handler = map_in_handler, .sa_flags = SA_RESTART };
	unsigned int misplaced = 0, misplaced_alone = 0;

	(void)state;
	/* The sizes are looked up before: that is not for handlers. */
	pmd_size();
	assert_int_equal(sigaction(SIGALRM, &action, NULL), 0);
	assert_int_equal(setitimer(ITIMER_REAL, &often, NULL), 0);
	for (int i = 0; i < 2000000 && interrupted < 500; i++) {
		const sig_atomic_t before = interrupted;
		char *mapping;

		errno = EXDEV;
		mapping_now = 1;
		mapping = map(NULL, length, PROT_READ, MAP_SHARED, file, (off_t)page_size());
		mapping_now = 0;
		if (mapping == MAP_FAILED || errno != EXDEV || mapping[0] != 0)
			wrong++;
		if (!congruent(mapping, page_size(), pmd_size())) {
			misplaced++;
			misplaced_alone += interrupted == before;
		}
		if (munmap(mapping, length))
			wrong++;
	}
	assert_int_equal(setitimer(ITIMER_REAL, &never, NULL), 0);
	signal(SIGALRM, SIG_DFL);
	if (held_by_handler)
		munmap(held_by_handler, length);
	print_message("# %d signals, %d of them in the call, %u of these took its place\n",
		      (int)handled, (int)interrupted, misplaced);
	assert_int_equal(wrong, 0);
	assert_true(interrupted > 0);
	assert_int_equal(misplaced_alone, 0);
	if (insists())
		assert_int_equal(misplaced, 0);
}

/* What a program allows its thread that maps files and, as malloc() does, anonymous memory. */
static const int own_flags[] = { MAP_PRIVATE, MAP_SHARED, MAP_PRIVATE | MAP_ANONYMOUS };

#define FILTER_MOST 32

static int filter(bool allow_noreplace, bool allow_fstat)
{
	const int allowed[] = { SYS_munmap, SYS_write, SYS_exit };
	const int status_calls[] = { SYS_fstat, SYS_newfstatat };
	struct sock_filter steps[FILTER_MOST];
	unsigned short count = 0;
	const struct sock_fprog program = { .filter = steps };
	struct sock_fprog whole = program;

#define STEP(...) steps[count++] = (struct sock_filter)__VA_ARGS__
#define ALLOW_IF(value)                                                                 \
	do {                                                                            \
		STEP(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned int)(value), 0, 1)); \
		STEP(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));                     \
	} while (0)
	STEP(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)));
	for (size_t i = 0; i < COUNT(allowed); i++)
		ALLOW_IF(allowed[i]);
	for (size_t i = 0; i < COUNT(status_calls) && allow_fstat; i++)
		ALLOW_IF(status_calls[i]);
	STEP(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 1, 0));
	STEP(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS));
	STEP(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[3])));
	for (size_t i = 0; i < COUNT(own_flags); i++) {
		ALLOW_IF(own_flags[i]);
		if (allow_noreplace)
			ALLOW_IF(own_flags[i] | MAP_FIXED_NOREPLACE);
	}
	STEP(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS));
#undef ALLOW_IF
#undef STEP
	whole.len = count;
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &whole);
}

static struct {
	bool allow_noreplace, allow_fstat, call_getpid;
	int flags;
	int pipe[2];
} filtered;

static void *map_under_filter(void *unused)
{
	char result = 'n';

	if (filter(filtered.allow_noreplace, filtered.allow_fstat)) {
		result = 'f';
	} else {
		int good = 0;

		if (filtered.call_getpid)
			syscall(SYS_getpid);
		for (int i = 0; i < 100; i++)
			good += maps(filtered.flags);
		/* A wrong call is no reason to make others. */
		errno = 0;
		good += map(NULL, length, PROT_READ, filtered.flags, -1, 0) == MAP_FAILED &&
			errno == EBADF;
		result = good == 101 ? 'y' : 'n';
	}
	syscall(SYS_write, filtered.pipe[1], &result, 1);
	/* What pthread_exit() would call is not allowed. */
	syscall(SYS_exit, 0);
	return unused;
}

/* Returns how a process ended in which one thread maps under the filter: 0, or by SIGSYS. */
static int map_in_filtered_thread(int flags, bool allow_noreplace, bool allow_fstat,
				  bool call_getpid)
{
	int status;
	pid_t pid;

	filtered.flags = flags;
	filtered.allow_noreplace = allow_noreplace;
	filtered.allow_fstat = allow_fstat;
	filtered.call_getpid = call_getpid;
	/* Looked up before: it is a file that is read. */
	pmd_size();
	assert_int_equal(pipe(filtered.pipe), 0);
	pid = fork_child();
	if (pid == 0) {
		pthread_t thread;
		char result;

		if (pthread_create(&thread, NULL, map_under_filter, NULL) ||
		    read(filtered.pipe[0], &result, 1) != 1)
			_exit(99);
		_exit(result == 'y' ? 0 : result == 'f' ? 77 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	close(filtered.pipe[0]);
	close(filtered.pipe[1]);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		skip_because("seccomp filters are not to be had here");
	return status;
}

static bool killed(int status)
{
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
}

static void need_kills(void)
{
	if (SANITIZED)
		skip_because("a sanitizer makes system calls that a seccomp filter kills");
}

/* fstat() is another system call, which such a filter need not know. */
static bool fstat_is_made(void)
{
	const char *madvise = getenv("ALIGNMAP_MADVISE");

	return policy_rules_bars() && (way == WAY_API || !madvise || strcmp(madvise, "off") != 0);
}

static void a_thread_under_a_seccomp_filter_maps(void **state)
{
	(void)state;
	need_kills();
	assert_int_equal(map_in_filtered_thread(MAP_PRIVATE, insists(), false, false), 0);
	assert_int_equal(map_in_filtered_thread(MAP_SHARED, insists(), fstat_is_made(), false), 0);
}

static void a_filter_kills_what_it_should(void **state)
{
	(void)state;
	need_kills();
	assert_true(killed(map_in_filtered_thread(MAP_PRIVATE, true, true, true)));
	assert_true(killed(map_in_filtered_thread(MAP_PRIVATE | MAP_NORESERVE, true, true, false)));
	/* Why the preload does not insist. */
	if (insists())
		assert_true(killed(map_in_filtered_thread(MAP_PRIVATE, false, false, false)));
}

/*
 * The one case that takes another system call than mmap and munmap. The file is a regular one, and
 * so no madvise() comes after it.
 */
static void where_the_thp_policy_rules_bars_a_shared_mapping_takes_fstat(void **state)
{
	int status;

	(void)state;
	need_kills();
	status = map_in_filtered_thread(MAP_SHARED, insists(), false, false);
	if (fstat_is_made())
		assert_true(killed(status));
	else
		assert_int_equal(status, 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_forked_child_maps),
		cmocka_unit_test(a_child_forked_while_a_thread_is_mapping_maps),
		cmocka_unit_test(a_vforked_child_maps),
		cmocka_unit_test(a_signal_handler_maps_while_its_thread_is_mapping),
		cmocka_unit_test(a_thread_under_a_seccomp_filter_maps),
		cmocka_unit_test(a_filter_kills_what_it_should),
		cmocka_unit_test(where_the_thp_policy_rules_bars_a_shared_mapping_takes_fstat),
	};

	choose_way(argc, argv);
	return cmocka_run_group_tests(tests, open_file, NULL);
}
