// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Threads that map at once: each gets what it asked for, and nobody loses what is his. Both are
 * tried in a process of their own, the first because ALIGNMAP_STATS is printed at its end, the
 * second because the control arm destroys mappings.
 */
#include "held.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS 8
#define HELD 8
/* Each thread makes so many mappings. */
#define EACH (SANITIZED ? 1000 : 4000)

static atomic_ulong calls, misplaced, lost, failures;
static pthread_barrier_t together;

static void run_threads(void *(**roles)(void *), size_t count)
{
	pthread_t threads[THREADS];

	if (pthread_barrier_init(&together, NULL, (unsigned int)count))
		abort();
	for (size_t i = 0; i < count; i++)
		if (pthread_create(&threads[i], NULL, roles[i], (void *)(i + 1)))
			abort();
	for (size_t i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
}

/* Each with a file and a phase of its own. */
static void *map_and_check(void *number)
{
	const size_t id = (uintptr_t)number, length = 4 * pmd_size();
	const off_t offset = (off_t)(id * page_size());
	const int file = memfd_of((off_t)(8 * pmd_size()));
	struct held held[HELD] = { 0 };

	pthread_barrier_wait(&together);
	for (size_t i = 0; i < EACH + HELD; i++) {
		struct held *mine = &held[i % HELD];

		if (mine->at) {
			if (!still_there(mine))
				lost++;
			else if (munmap(mine->at, mine->length))
				abort();
		}
		mine->at = NULL;
		if (i >= EACH)
			continue;
		errno = EXDEV;
		*mine = (struct held){ map(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, file,
					   offset),
				       length, (uint64_t)id << 32 };
		calls++;
		if (mine->at == MAP_FAILED || errno != EXDEV)
			abort();
		if (!congruent(mine->at, (uint64_t)offset, pmd_size()))
			misplaced++;
		write_words(mine);
	}
	close(file);
	return NULL;
}

static int map_by_eight_threads(void)
{
	void *(*roles[THREADS])(void *);

	for (int i = 0; i < THREADS; i++)
		roles[i] = map_and_check;
	run_threads(roles, THREADS);
	printf("%lu %lu %lu\n", calls, misplaced, lost);
	return 0;
}

static void eight_threads_that_map_at_once_get_what_they_asked_for(void **state)
{
	char *const arguments[] = { (char *)"eight", NULL };
	unsigned long seen = 0, astray = 0, gone = 1;
	long elsewhere, fallbacks, placed;
	FILE *said;
	int status;
	pid_t pid;

	(void)state;
	said = run_again(arguments, &pid);
	assert_int_equal(fscanf(said, "%lu %lu %lu", &seen, &astray, &gone), 3);
	fclose(said);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	elsewhere = summary_number(stats_path, "landed elsewhere");
	fallbacks = summary_number(stats_path, "fallbacks");
	placed = summary_number(stats_path, "placed");

	print_message("# %lu of %lu mappings landed elsewhere\n", astray, seen);
	assert_int_equal(status, 0);
	assert_int_equal(seen, THREADS * EACH);
	assert_int_equal(gone, 0);
	if (insists())
		assert_int_equal(astray, 0);
	if (way == WAY_API)
		return;
	/* A sanitizer's runtime may map files, too. */
	if (SANITIZED) {
		assert_true(placed >= (long)(seen - astray) && elsewhere >= (long)astray);
		return;
	}
	assert_int_equal(elsewhere, astray);
	assert_int_equal(placed, seen - astray);
	assert_int_equal(fallbacks, 0);
}

static int refusing;
static atomic_bool over;
static unsigned long rounds;

static void *fail_in_the_driver(void *number)
{
	const size_t length = 4 * pmd_size();

	(void)number;
	pthread_barrier_wait(&together);
	for (unsigned long i = 0; i < rounds; i++) {
		if (map(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, refusing, 0) !=
			    MAP_FAILED ||
		    errno != EINVAL)
			abort();
		failures++;
	}
	over = true;
	return NULL;
}

static void *fail_naively(void *number)
{
	(void)number;
	pthread_barrier_wait(&together);
	for (unsigned long i = 0; i < rounds && !lost; i++) {
		fail_naively_once(refusing);
		failures++;
	}
	over = true;
	return NULL;
}

/* Somebody who has nothing to do with it: now anonymous memory, now a file through the library. */
static void *mind_own_memory(void *number)
{
	const uint64_t id = (uintptr_t)number;
	const int file = memfd_of((off_t)(8 * pmd_size()));
	struct held held[HELD] = { 0 };

	pthread_barrier_wait(&together);
	for (uint64_t i = 0; !over || held[i % HELD].at; i++) {
		struct held *mine = &held[i % HELD];
		const size_t length = page_size() << (i * 7 + id) % 11;

		if (mine->at) {
			if (!still_there(mine))
				lost++;
			else
				munmap(mine->at, mine->length);
		}
		mine->at = NULL;
		if (over)
			continue;
		mine->length = length;
		mine->word = id << 48 | i << 24;
		/* The file's content is the same for all that map it. */
		if (i % 4 == 3 && length >= pmd_size())
			mine->word = id << 48;
		if (i % 4 == 3)
			mine->at = map(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
		else
			mine->at = map_raw(NULL, length, PROT_READ | PROT_WRITE,
					   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (mine->at == MAP_FAILED)
			abort();
		write_words(mine);
		calls++;
	}
	close(file);
	return NULL;
}

/* Returns how a process ended in which others mind their own memory. */
static int fail_beside_others(void *(*fail)(void *), unsigned long most)
{
	void *(*roles[])(void *) = { fail, mind_own_memory, mind_own_memory, mind_own_memory };
	int status;
	pid_t pid;

	rounds = most;
	pid = fork_child();
	if (pid == 0) {
		run_threads(roles, COUNT(roles));
		printf("# %lu mappings failed beside %lu of others, %lu of which were lost\n",
		       failures, calls, lost);
		fflush(NULL);
		_exit(lost ? HAS_LOST : 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void begin(void)
{
	refusing = perf_event();
	if (refusing < 0)
		skip_because("perf_event_open is not permitted: %s", strerror(errno));
}

static void a_foreign_mapping_is_never_lost(void **state)
{
	(void)state;
	begin();
	assert_int_equal(fail_beside_others(fail_in_the_driver, 20000), 0);
	close(refusing);
}

/* The control: what is asserted above would be seen. */
static void a_foreign_mapping_is_lost_by_those_who_map_over_a_reservation(void **state)
{
	(void)state;
	begin();
	assert_true(has_lost(fail_beside_others(fail_naively, 1000000)));
	close(refusing);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			eight_threads_that_map_at_once_get_what_they_asked_for, make_stats,
			remove_stats),
		cmocka_unit_test(a_foreign_mapping_is_never_lost),
	};
	const struct CMUnitTest control[] = {
		cmocka_unit_test(a_foreign_mapping_is_lost_by_those_who_map_over_a_reservation),
	};

	choose_way(argc, argv);
	if (argc > 2 && strcmp(argv[2], "eight") == 0)
		return map_by_eight_threads();
	if (way == WAY_RAW)
		return cmocka_run_group_tests(control, NULL, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
