// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * What alignmap run's tracer costs a program that is linked statically: how long it takes from its
 * start until it would run a guest, after so many system calls and mappings, which are placed; and
 * what mapping takes then, when the tracer has left.
 *
 *	tracing [--quick] [--json] ALIGNMAP STARTED
 *
 * In turn: the program alone, once more (the noise), by alignmap run that does not trace
 * (ALIGNMAP_OFF=1), and traced. Ratios are medians of those within the rounds. CALLS are all that
 *the program makes until then, from its exec on, and TRACER'S those that the tracer makes from its
 *main on, counted in runs that are not timed.
 *
 * The exit status is 1 where a mapping is not placed, where the tracer has not left, or where the
 * program does not make the system calls that it is told to.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "calls.h"
#include "measure.h"

enum way { ALONE, AGAIN, OFF, TRACED, WAYS };

static const char *const way_names[WAYS] = { "alone", "alone again", "not traced", "traced" };

static const struct work {
	int calls, mappings;
} works[] = { { 0, 0 }, { 1000, 0 }, { 0, 100 } };

static char *alignmap, *program;

/* What the program has printed, and been counted. */
struct outcome {
	double start, each; /* nanoseconds */
	int placed, traced;
};

struct child {
	pid_t pid;
	FILE *output;
	int input;
};

/* The program's arguments, behind those of alignmap run if it is to start it. */
static void fill_arguments(char **arguments, enum way way, const struct work *work, int times,
			   bool wait)
{
	static char numbers[3][16];

	if (way >= OFF) {
		*arguments++ = alignmap;
		*arguments++ = (char *)"run";
	}
	snprintf(numbers[0], sizeof(numbers[0]), "%d", work->calls);
	snprintf(numbers[1], sizeof(numbers[1]), "%d", work->mappings);
	snprintf(numbers[2], sizeof(numbers[2]), "%d", times);
	*arguments++ = program;
	for (int i = 0; i < 3; i++)
		*arguments++ = numbers[i];
	if (wait)
		*arguments++ = (char *)"wait";
	*arguments = NULL;
}

static struct child start(enum way way, const struct work *work, int times, bool wait)
{
	char *off[] = { (char *)"ALIGNMAP_OFF=1", NULL }, *nothing[] = { NULL };
	char *arguments[8];
	posix_spawn_file_actions_t actions;
	int input[2], output[2];
	struct child child;

	fill_arguments(arguments, way, work, times, wait);
	if (pipe2(input, O_CLOEXEC) || pipe2(output, O_CLOEXEC))
		err(1, "pipe");
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, input[0], STDIN_FILENO);
	posix_spawn_file_actions_adddup2(&actions, output[1], STDOUT_FILENO);
	/* alignmap run says that ALIGNMAP_OFF is set. */
	if (way == OFF)
		posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
	errno = posix_spawn(&child.pid, arguments[0], &actions, NULL, arguments,
			    way == OFF ? off : nothing);
	if (errno)
		err(1, "%s", arguments[0]);
	posix_spawn_file_actions_destroy(&actions);
	close(input[0]);
	close(output[1]);
	child.input = input[1];
	child.output = fdopen(output[0], "r");
	if (!child.output)
		err(1, "fdopen");
	return child;
}

static struct outcome end(struct child *child)
{
	struct outcome outcome;
	double ran;
	int status;

	if (fscanf(child->output, "%lf %d %d %lf", &ran, &outcome.placed, &outcome.traced,
		   &outcome.each) != 4 ||
	    waitpid(child->pid, &status, 0) != child->pid || status)
		errx(1, "%s has failed", program);
	outcome.start = ran;
	fclose(child->output);
	close(child->input);
	return outcome;
}

static struct outcome run(enum way way, const struct work *work, int times)
{
	const double begin = now();
	struct child child = start(way, work, times, false);
	struct outcome outcome = end(&child);

	outcome.start -= begin;
	if (outcome.traced)
		errx(1, "the tracer is there after KVM_RUN");
	if (way == TRACED && outcome.placed != work->mappings)
		errx(1, "%d of %d mappings are placed under the tracer", outcome.placed,
		     work->mappings);
	return outcome;
}

static const struct work *counted;

static void execute(void)
{
	char *arguments[8];

	fill_arguments(arguments, ALONE, counted, 1, false);
	if (freopen("/dev/null", "w", stdout))
		execv(program, arguments);
}

/* -1 where nobody may trace the tracer. */
static long calls_of_tracer(const struct work *work)
{
	struct child child = start(TRACED, work, 1, true);
	long calls = -1;
	bool halted;
	int tracer;

	if (fscanf(child.output, "%d", &tracer) != 1)
		errx(1, "%s has failed", program);
	if (!tracer) {
		kill(child.pid, SIGKILL);
		waitpid(child.pid, NULL, 0);
		fclose(child.output);
		close(child.input);
		return 0;
	}
	halted = halt_before_calls(tracer);
	if (write(child.input, "\n", 1) != 1)
		err(1, "write");
	if (halted)
		calls = calls_to_end(tracer);
	end(&child);
	return calls;
}

struct measured {
	double *start[WAYS], *each[WAYS];
	long calls, tracers_calls;
};

static void measure(const struct work *work, size_t rounds, int times, struct measured *measured)
{
	/* Lest the child that is counted prints it, too. */
	fflush(stdout);
	counted = work;
	measured->calls = calls_of(execute);
	measured->tracers_calls = calls_of_tracer(work);
	for (enum way way = 0; way < WAYS; way++) {
		measured->start[way] = calloc(rounds, sizeof(double));
		measured->each[way] = calloc(rounds, sizeof(double));
		if (!measured->start[way] || !measured->each[way])
			err(1, "times");
		/* Warms the caches up. */
		run(way, work, times);
	}
	for (size_t round = 0; round < rounds; round++)
		for (size_t turn = 0; turn < WAYS; turn++) {
			/* Who follows whom differs by the rounds, too. */
			const enum way way = (turn * (round % 2 ? 1 : WAYS - 1) + round / 2) % WAYS;
			const struct outcome outcome = run(way, work, times);

			measured->start[way][round] = outcome.start;
			measured->each[way][round] = outcome.each;
		}
}

/* How far from 1 a ratio of nothing may be, with 95 %. */
static double noise_of(const struct spread *again)
{
	return fmax(again->high - 1, 1 - again->low);
}

static void show(const struct work *work, const struct measured *measured, size_t rounds, bool json)
{
	struct spread start[WAYS], each[WAYS];

	for (enum way way = 0; way < WAYS; way++) {
		start[way] = ratio_of(measured->start[way], measured->start[ALONE], rounds);
		each[way] = ratio_of(measured->each[way], measured->each[ALONE], rounds);
	}
	for (enum way way = 0; way < WAYS; way++) {
		/* They sort what the ratios are of. */
		const struct spread begin = spread_of(measured->start[way], rounds);
		const struct spread then = spread_of(measured->each[way], rounds);
		const long tracers = way == TRACED ? measured->tracers_calls : 0;

		if (json)
			printf("{\"benchmark\":\"tracing\",\"way\":\"%s\",\"calls\":%d,"
			       "\"mappings\":"
			       "%d,\"rounds\":%zu,\"calls_made\":%ld,\"tracers_calls\":%ld,"
			       "\"median\":%.0f,\"low\":%.0f,\"high\":%.0f,\"ratio\":%.3f,"
			       "\"noise\":%.3f,\"mapping_median\":%.1f,\"mapping_ratio\":%.4f,"
			       "\"mapping_low\":%.4f,\"mapping_high\":%.4f,\"mapping_noise\":%.4f}"
			       "\n",
			       way_names[way], work->calls, work->mappings, rounds, measured->calls,
			       tracers, begin.median, begin.low, begin.high, start[way].median,
			       noise_of(&start[AGAIN]), then.median, each[way].median,
			       each[way].low, each[way].high, noise_of(&each[AGAIN]));
		else
			printf("%6d %8d %-12s %7ld %9ld %9.1f %9.1f %9.1f %7.2f %10.1f %6.3f "
			       "%6.3f\n",
			       work->calls, work->mappings, way_names[way], measured->calls,
			       tracers, begin.low / 1e3, begin.median / 1e3, begin.high / 1e3,
			       start[way].median, then.median, each[way].median,
			       noise_of(&each[AGAIN]));
	}
}

/* Of the program, by what it is told; of the tracer some for each. */
static bool counts_are_right(const struct measured *measured)
{
	bool right = true;

	for (size_t i = 1; i < COUNT(works); i++) {
		const long asked = works[i].calls + works[i].mappings;

		right = right && measured[i].calls - measured[0].calls == asked &&
			measured[i].tracers_calls - measured[0].tracers_calls > asked;
	}
	return right;
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "quick", no_argument, NULL, 'q' },
						 { "json", no_argument, NULL, 'j' },
						 { NULL, 0, NULL, 0 } };
	struct measured measured[COUNT(works)];
	size_t rounds = 200;
	bool json = false;
	int times = 1000;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'q')
			rounds = 10;
		json |= option == 'j';
		if (option == '?')
			argc = 0;
	}
	if (argc - optind != 2) {
		fprintf(stderr, "usage: tracing [--quick] [--json] ALIGNMAP STARTED\n");
		return 2;
	}
	alignmap = argv[optind];
	program = argv[optind + 1];
	if (calls_of_tracer(&works[0]) <= 0) {
		if (json)
			puts("{\"benchmark\":\"tracing\",\"skipped\":\"nothing may be traced\"}");
		fprintf(stderr, "tracing: skipped: nothing may be traced here\n");
		return 0;
	}
	if (!json)
		printf("%6s %8s %-12s %7s %9s %9s %9s %9s %7s %10s %6s %6s\n", "CALLED", "MAPPINGS",
		       "WAY", "CALLS", "TRACER'S", "10% us", "MEDIAN us", "90% us", "RATIO",
		       "THEN ns", "RATIO", "NOISE");
	for (size_t i = 0; i < COUNT(works); i++) {
		measure(&works[i], rounds, times, &measured[i]);
		show(&works[i], &measured[i], rounds, json);
	}
	if (!counts_are_right(measured)) {
		fprintf(stderr, "tracing: system calls are not as many as they should be\n");
		return 1;
	}
	return 0;
}
