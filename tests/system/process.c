// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Where a mapping can be made from: children and signal handlers. (Confined threads: filters.c.) */
#include "system.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

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
		/* NOLINTNEXTLINE(clang-analyzer-unix.Vfork): that it may be called is the claim. */
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

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_forked_child_maps),
		cmocka_unit_test(a_child_forked_while_a_thread_is_mapping_maps),
		cmocka_unit_test(a_vforked_child_maps),
		cmocka_unit_test(a_signal_handler_maps_while_its_thread_is_mapping),
	};

	choose_way(argc, argv);
	return cmocka_run_group_tests(tests, open_file, NULL);
}
