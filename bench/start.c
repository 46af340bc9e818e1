// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * What preloading costs a program that maps nothing: starts /bin/true without a preloaded object,
 * with an empty one and with libalignmap, in turn, and prints the medians and their differences.
 *
 *	start LIBALIGNMAP EMPTY [ROUNDS]
 */
#include <errno.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "measure.h"

enum { PLAIN, EMPTY, OURS, WAYS };

/* Microseconds from before the start to after the end. */
static double start(char *preload)
{
	char *argument[] = { (char *)"true", NULL };
	char *environment[] = { preload, NULL };
	double begin = now();
	int status;
	pid_t pid;

	errno = posix_spawn(&pid, "/bin/true", NULL, NULL, argument, environment);
	if (errno || waitpid(pid, &status, 0) != pid || status) {
		fprintf(stderr, "start: /bin/true with %s does not run: %s\n",
			preload ? preload : "nothing", strerror(errno));
		exit(1);
	}
	return (now() - begin) / 1e3;
}

int main(int argc, char **argv)
{
	static const char *const names[WAYS] = { "no preload", "empty object", "libalignmap" };
	char preload[WAYS][PATH_MAX + 16];
	char path[2][PATH_MAX];
	double *times[WAYS];
	struct spread spread[WAYS];
	int rounds = argc == 4 ? atoi(argv[3]) : 1000;

	if (argc < 3 || argc > 4 || rounds < 1) {
		fprintf(stderr, "usage: start LIBALIGNMAP EMPTY [ROUNDS]\n");
		return 2;
	}
	for (int i = 1; i <= 2; i++) {
		/* ld.so only warns of what it cannot load, and looks elsewhere without a slash. */
		if (access(argv[i], R_OK) || !realpath(argv[i], path[i - 1])) {
			fprintf(stderr, "start: %s: %s\n", argv[i], strerror(errno));
			return 1;
		}
	}
	snprintf(preload[EMPTY], sizeof(preload[EMPTY]), "LD_PRELOAD=%s", path[1]);
	snprintf(preload[OURS], sizeof(preload[OURS]), "LD_PRELOAD=%s", path[0]);
	for (int way = 0; way < WAYS; way++)
		times[way] = calloc((size_t)rounds, sizeof(*times[way]));
	/* The first tenth warms the caches up and is overwritten. */
	for (int round = -rounds / 10; round < rounds; round++)
		for (int i = 0; i < WAYS; i++) {
			int way = (i + round + rounds) % WAYS;

			times[way][round < 0 ? 0 : round] = start(way ? preload[way] : NULL);
		}
	printf("%-14s %10s %10s %10s %14s %14s\n", "/bin/true", "10% us", "median us", "90% us",
	       "over plain us", "over empty us");
	for (int way = 0; way < WAYS; way++) {
		spread[way] = spread_of(times[way], (size_t)rounds);
		printf("%-14s %10.1f %10.1f %10.1f %14.1f %14.1f\n", names[way], spread[way].low,
		       spread[way].median, spread[way].high,
		       spread[way].median - spread[PLAIN].median,
		       spread[way].median - spread[way ? EMPTY : PLAIN].median);
		free(times[way]);
	}
	return 0;
}
