// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Runs a program again and again, by turns without a preloaded object, so once more, with an empty
 * one and with libalignmap, and prints what each takes, one JSON object a line. Two groups of the
 * same way show how much is noise.
 *
 * Ratios are medians of the ratios within the rounds: what slows the machine down for a while slows
 * down all that run in it. The median of the ratios of all rounds there could be lies between
 * ratio_low and ratio_high with a probability of 95 %.
 *
 *	repeat ROUNDS NAME LIBALIGNMAP EMPTY COMMAND...
 */
#include <err.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "measure.h"

extern char **environ;

enum way { NONE, AGAIN, EMPTY, LIBRARY, WAYS };
enum clock { WALL, CPU, CLOCKS };

static const char *const way_names[WAYS] = { "none", "none again", "empty object", "libalignmap" };
static const char *const clock_names[CLOCKS] = { "wall", "user and system" };

static double nanoseconds(const struct timeval *time)
{
	return (double)time->tv_sec * 1e9 + (double)time->tv_usec * 1e3;
}

/* The times of the command and of all that it starts. */
static void run(char **command, const char *preload, double times[CLOCKS])
{
	posix_spawn_file_actions_t actions;
	struct rusage usage;
	double begin;
	int status;
	pid_t pid;

	if (preload ? setenv("LD_PRELOAD", preload, 1) : unsetenv("LD_PRELOAD"))
		err(1, "LD_PRELOAD");
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
	begin = now();
	if (posix_spawnp(&pid, command[0], &actions, NULL, command, environ) ||
	    wait4(pid, &status, 0, &usage) != pid || status)
		errx(1, "%s has failed", command[0]);
	times[WALL] = now() - begin;
	times[CPU] = nanoseconds(&usage.ru_utime) + nanoseconds(&usage.ru_stime);
	posix_spawn_file_actions_destroy(&actions);
}

static void print(const char *name, double *times[WAYS][CLOCKS], size_t rounds, enum clock clock)
{
	struct spread to_none[WAYS], to_empty[WAYS];
	double noise;

	/* Before spread_of() sorts the times. */
	for (enum way way = 0; way < WAYS; way++) {
		to_none[way] = ratio_of(times[way][clock], times[NONE][clock], rounds);
		to_empty[way] = ratio_of(times[way][clock], times[EMPTY][clock], rounds);
	}
	noise = fmax(to_none[AGAIN].high - 1, 1 - to_none[AGAIN].low);
	for (enum way way = 0; way < WAYS; way++) {
		const struct spread spread = spread_of(times[way][clock], rounds);

		printf("{\"benchmark\":\"programs\",\"program\":\"%s\",\"way\":\"%s\",\"time\":\"%"
		       "s\","
		       "\"rounds\":%zu,\"median\":%.0f,\"low\":%.0f,\"high\":%.0f,"
		       "\"ratio\":%.5f,\"ratio_low\":%.5f,\"ratio_high\":%.5f,"
		       "\"ratio_empty\":%.5f,\"noise\":%.5f}\n",
		       name, way_names[way], clock_names[clock], rounds, spread.median, spread.low,
		       spread.high, to_none[way].median, to_none[way].low, to_none[way].high,
		       to_empty[way].median, noise);
	}
}

int main(int argc, char **argv)
{
	const size_t rounds = argc > 5 ? strtoul(argv[1], NULL, 10) : 0;
	char library[PATH_MAX], empty[PATH_MAX];
	const char *preload[WAYS] = { [EMPTY] = empty, [LIBRARY] = library };
	double *times[WAYS][CLOCKS], unused[CLOCKS];

	if (!rounds) {
		fprintf(stderr, "usage: repeat ROUNDS NAME LIBALIGNMAP EMPTY COMMAND...\n");
		return 2;
	}
	if (!realpath(argv[3], library))
		err(1, "%s", argv[3]);
	if (!realpath(argv[4], empty))
		err(1, "%s", argv[4]);
	for (enum way way = 0; way < WAYS; way++) {
		for (enum clock clock = 0; clock < CLOCKS; clock++) {
			times[way][clock] = calloc(rounds, sizeof(double));
			if (!times[way][clock])
				err(1, "times");
		}
		/* Warms the caches up. */
		run(argv + 5, preload[way], unused);
	}
	for (size_t round = 0; round < rounds; round++)
		for (size_t turn = 0; turn < WAYS; turn++) {
			/* Who follows whom differs by the rounds, too. */
			const enum way way = (turn * (round % 2 ? 1 : WAYS - 1) + round / 2) % WAYS;
			double taken[CLOCKS];

			run(argv + 5, preload[way], taken);
			for (enum clock clock = 0; clock < CLOCKS; clock++)
				times[way][clock][round] = taken[clock];
		}
	for (enum clock clock = 0; clock < CLOCKS; clock++)
		print(argv[2], times, rounds, clock);
	for (enum way way = 0; way < WAYS; way++)
		for (enum clock clock = 0; clock < CLOCKS; clock++)
			free(times[way][clock]);
	return 0;
}
