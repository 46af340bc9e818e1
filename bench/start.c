// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * What preloading costs a program that maps nothing: starts /bin/true without a preloaded object,
 * with an empty one and with libalignmap, in turn, and prints the medians and their differences.
 *
 *	start [--quick] [--json] LIBALIGNMAP EMPTY
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "measure.h"

enum { PLAIN, EMPTY, OURS, WAYS };

/* Nanoseconds from before the start to after the end. */
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
	return now() - begin;
}

static const char *const names[WAYS] = { "none", "empty object", "libalignmap" };

static void show(const struct spread *spread, bool json)
{
	if (!json)
		printf("%-14s %10s %10s %10s %14s %14s\n", "PRELOADED", "10% us", "MEDIAN us",
		       "90% us", "OVER NONE us", "OVER EMPTY us");
	for (int way = 0; way < WAYS; way++) {
		const double plain = spread[way].median - spread[PLAIN].median;
		const double empty = spread[way].median - spread[way ? EMPTY : PLAIN].median;

		if (json)
			printf("{\"benchmark\":\"start\",\"way\":\"%s\",\"median\":%.0f,\"low\":%."
			       "0f,"
			       "\"high\":%.0f,\"over_none\":%.0f,\"over_empty\":%.0f}\n",
			       names[way], spread[way].median, spread[way].low, spread[way].high,
			       plain, empty);
		else
			printf("%-14s %10.1f %10.1f %10.1f %14.1f %14.1f\n", names[way],
			       spread[way].low / 1e3, spread[way].median / 1e3,
			       spread[way].high / 1e3, plain / 1e3, empty / 1e3);
	}
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "quick", no_argument, NULL, 'q' },
						 { "json", no_argument, NULL, 'j' },
						 { NULL, 0, NULL, 0 } };
	char preload[WAYS][PATH_MAX + 16];
	char path[2][PATH_MAX];
	double *times[WAYS];
	struct spread spread[WAYS];
	int rounds = 1000;
	bool json = false;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'q')
			rounds = 100;
		json |= option == 'j';
		if (option == '?')
			argc = 0;
	}
	if (argc - optind != 2) {
		fprintf(stderr, "usage: start [--quick] [--json] LIBALIGNMAP EMPTY\n");
		return 2;
	}
	for (int i = 0; i < 2; i++) {
		const char *object = argv[optind + i];

		/* ld.so only warns of what it cannot load, and looks elsewhere without a slash. */
		if (access(object, R_OK) || !realpath(object, path[i])) {
			fprintf(stderr, "start: %s: %s\n", object, strerror(errno));
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
	for (int way = 0; way < WAYS; way++) {
		spread[way] = spread_of(times[way], (size_t)rounds);
		free(times[way]);
	}
	show(spread, json);
	return 0;
}
