// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * What preloading costs a call that is left alone. The next mmap in line is a stub that returns at
 * once: the difference between a call of it alone and one through libalignmap is the cost. Beside
 * it the whole call, an mmap and its munmap by the kernel. The ways are processes that take turns,
 * batch by batch, on one processor, and are started anew some times, since addresses that differ
 * are faster or slower by themselves.
 *
 *	passthrough [--quick] [--json] LIBALIGNMAP STUB
 */
#include <dlfcn.h>
#include <err.h>
#include <getopt.h>
#include <limits.h>
#include <sched.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "measure.h"

#define LARGE ((size_t)4 << 20)

enum call { SMALL, FIXED, ANONYMOUS, HINT, CALLS };

static const char *const call_names[CALLS] = { "small file mapping", "MAP_FIXED", "anonymous",
					       "address hint" };

static const struct way {
	const char *name;
	bool stub, library, counting;
} ways[] = {
	{ "stub", true, false, false },
	{ "stub behind libalignmap", true, true, false },
	{ "stub behind libalignmap, counting", true, true, true },
	{ "mmap and munmap", false, false, false },
	{ "mmap and munmap behind libalignmap", false, true, false },
	{ "mmap and munmap behind libalignmap, counting", false, true, true },
};

/* The way that a way is compared with: the one without libalignmap. */
static size_t alone(size_t way)
{
	while (ways[way].library)
		way--;
	return way;
}

static size_t length_of(enum call call)
{
	return call == SMALL ? (size_t)sysconf(_SC_PAGESIZE) : LARGE;
}

/* --- A worker: this program, started anew under its way's LD_PRELOAD, with a socket as input. */

static void *place; /* free, but for the batch */
static int file;

static void *map(enum call call, size_t length)
{
	switch (call) {
	case SMALL:
		return mmap(NULL, length, PROT_READ, MAP_SHARED, file, 0);
	case FIXED:
		return mmap(place, length, PROT_READ, MAP_SHARED | MAP_FIXED, file, 0);
	case ANONYMOUS:
		return mmap(NULL, length, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	default:
		return mmap(place, length, PROT_READ, MAP_SHARED, file, 0);
	}
}

/* Nanoseconds a call. The first tenth, which warms up, is not counted. */
static double stub_batch(enum call call, const bool *stub)
{
	enum { BATCH = 10000 };
	const size_t length = length_of(call);
	double begin = 0;

	for (int i = -BATCH / 10; i < BATCH; i++) {
		if (!i)
			begin = now();
		if (map(call, length) != (const void *)stub)
			errx(1, "a call did not end in the stub");
	}
	return (now() - begin) / BATCH;
}

static double kernel_batch(enum call call)
{
	enum { BATCH = 100 };
	const size_t length = length_of(call);
	double begin = 0;

	for (int i = -BATCH / 10; i < BATCH; i++) {
		void *mapping;

		if (!i)
			begin = now();
		mapping = map(call, length);
		if (mapping == MAP_FAILED || munmap(mapping, length))
			err(1, "mmap and munmap");
	}
	return (now() - begin) / BATCH;
}

static int work(const struct way *way)
{
	bool *stub = dlsym(RTLD_DEFAULT, "stub_returns_at_once");
	enum call call;

	/* ld.so only warns of what it cannot load. */
	if (!stub == way->stub || !dlsym(RTLD_DEFAULT, "alignmap_mmap") == way->library)
		errx(1, "%s: LD_PRELOAD was not loaded", way->name);
	file = memfd_create("passthrough", MFD_CLOEXEC);
	if (file < 0 || ftruncate(file, (off_t)LARGE))
		err(1, "memfd");
	place = mmap(NULL, LARGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (place == MAP_FAILED || munmap(place, LARGE))
		err(1, "mmap");
	while (read(STDIN_FILENO, &call, sizeof(call)) == sizeof(call)) {
		double time;

		if (stub)
			*stub = true;
		time = stub ? stub_batch(call, stub) : kernel_batch(call);
		if (stub)
			*stub = false;
		if (write(STDIN_FILENO, &time, sizeof(time)) != sizeof(time))
			return 1;
	}
	return 0;
}

/* --- What starts the workers and has them take turns. */

struct worker {
	pid_t pid;
	int socket;
};

static struct worker start(size_t way, const char *library, const char *stub)
{
	char preload[2 * PATH_MAX + 16], number[8];
	char *argument[] = { (char *)"passthrough", (char *)"work", number, NULL };
	char *environment[] = { preload, NULL, NULL };
	posix_spawn_file_actions_t actions;
	struct worker worker;
	int ends[2];

	snprintf(number, sizeof(number), "%zu", way);
	snprintf(preload, sizeof(preload), "LD_PRELOAD=%s %s", ways[way].library ? library : "",
		 ways[way].stub ? stub : "");
	if (ways[way].counting)
		environment[1] = (char *)"ALIGNMAP_STATS=/dev/null";
	posix_spawn_file_actions_init(&actions);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) ||
	    posix_spawn_file_actions_adddup2(&actions, ends[1], STDIN_FILENO) ||
	    posix_spawn(&worker.pid, "/proc/self/exe", &actions, NULL, argument, environment))
		err(1, "%s", ways[way].name);
	posix_spawn_file_actions_destroy(&actions);
	close(ends[1]);
	worker.socket = ends[0];
	return worker;
}

static void end(const struct worker *worker, const char *name)
{
	int status;

	close(worker->socket);
	if (waitpid(worker->pid, &status, 0) != worker->pid || status)
		errx(1, "%s: the process has failed", name);
}

static double batch(const struct worker *worker, enum call call, const char *name)
{
	double time;

	if (send(worker->socket, &call, sizeof(call), MSG_NOSIGNAL) != sizeof(call) ||
	    read(worker->socket, &time, sizeof(time)) != sizeof(time))
		errx(1, "%s: the process has ended", name);
	return time;
}

/* One processor for all: another one may have another clock. */
static void stay_here(void)
{
	cpu_set_t here;

	CPU_ZERO(&here);
	CPU_SET((unsigned int)sched_getcpu(), &here);
	if (sched_setaffinity(0, sizeof(here), &here))
		warn("sched_setaffinity");
}

static void print(enum call call, size_t way, const struct spread *spread, double cost, bool json)
{
	if (json) {
		printf("{\"benchmark\":\"passthrough\",\"call\":\"%s\",\"length\":%zu,\"way\":\"%"
		       "s\","
		       "\"median\":%.2f,\"low\":%.2f,\"high\":%.2f",
		       call_names[call], length_of(call), ways[way].name, spread->median,
		       spread->low, spread->high);
		if (ways[way].library)
			printf(",\"cost\":%.2f", cost);
		puts("}");
		return;
	}
	printf("%-18s  %-44s  %8.1f  %8.1f  %8.1f", call_names[call], ways[way].name, spread->low,
	       spread->median, spread->high);
	if (ways[way].library)
		printf("  %7.1f", cost);
	putchar('\n');
}

static void measure(const char *library, const char *stub, bool quick, bool json)
{
	enum { STARTS = 20, BATCHES = 100, QUICK_BATCHES = 10 };
	static double times[CALLS][COUNT(ways)][STARTS * BATCHES];
	const size_t batches = quick ? QUICK_BATCHES : BATCHES;
	size_t count = 0;

	for (int again = 0; again < STARTS; again++) {
		struct worker workers[COUNT(ways)];

		for (size_t way = 0; way < COUNT(ways); way++)
			workers[way] = start(way, library, stub);
		for (size_t i = 0; i < batches; i++, count++)
			for (enum call call = 0; call < CALLS; call++)
				for (size_t turn = 0; turn < COUNT(ways); turn++) {
					const size_t way = (turn + i) % COUNT(ways);

					times[call][way][count] =
						batch(&workers[way], call, ways[way].name);
				}
		for (size_t way = 0; way < COUNT(ways); way++)
			end(&workers[way], ways[way].name);
	}
	if (!json)
		printf("%-18s  %-44s  %8s  %8s  %8s  %7s\n", "CALL", "WAY", "10% ns", "MEDIAN",
		       "90% ns", "COST ns");
	for (enum call call = 0; call < CALLS; call++) {
		struct spread spread[COUNT(ways)];

		for (size_t way = 0; way < COUNT(ways); way++) {
			spread[way] = spread_of(times[call][way], count);
			print(call, way, &spread[way],
			      spread[way].median - spread[alone(way)].median, json);
		}
	}
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "quick", no_argument, NULL, 'q' },
						 { "json", no_argument, NULL, 'j' },
						 { NULL, 0, NULL, 0 } };
	char library[PATH_MAX], stub[PATH_MAX];
	bool quick = false, json = false;
	int option;

	if (argc == 3 && strcmp(argv[1], "work") == 0)
		return work(&ways[strtoul(argv[2], NULL, 10) % COUNT(ways)]);
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		quick |= option == 'q';
		json |= option == 'j';
		if (option == '?')
			argc = 0;
	}
	if (argc - optind != 2) {
		fprintf(stderr, "usage: passthrough [--quick] [--json] LIBALIGNMAP STUB\n");
		return 2;
	}
	/* ld.so looks elsewhere for what has no slash. */
	if (!realpath(argv[optind], library))
		err(1, "%s", argv[optind]);
	if (!realpath(argv[optind + 1], stub))
		err(1, "%s", argv[optind + 1]);
	stay_here();
	measure(library, stub, quick, json);
	return 0;
}
