// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * What placing a mapping costs, by way (ways.c), over lengths, offsets, threads and other mappings
 * in the process. Each way has a process of its own, with the same in its address space; they take
 * turns of some hundred mappings, so that all see the same machine, and are started anew some
 * times, since it matters where a process happens to lie: a mapping that crosses a bound of
 * 512 GiB takes longer.
 *
 *	placement [--json] [--quick] [--lengths] LIBALIGNMAP
 *
 * With --lengths it is some lengths alone, in one thread. Where Linux applies the policy for
 * transparent huge pages to BARs (6.16 to 7.1) it matters too: under "madvise" the library looks
 * at each descriptor that it places, by fstat.
 *
 * The patterns: "loop" maps and unmaps, and both count; "keep" maps a number of times and then
 * unmaps all, and only the mapping counts. With threads the time is that of the whole turn, from
 * the first thread's start to the last one's end, divided by the mappings that each thread made.
 * The system calls of a mapping are counted apart, in one thread; a loop's munmap is not among
 * them.
 *
 * Exits with 1 where this library's addresses are not congruent with their offsets: with one
 * thread all must be, with several 99 of 100 of those that are claimed with MAP_FIXED_NOREPLACE.
 * How many hints lose their place to another thread is shown, not checked.
 */
#include <err.h>
#include <getopt.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "calls.h"
#include "measure.h"
#include "subject.h"
#include "ways.h"

#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)
#define TIB ((size_t)1 << 40)

#define KEPT_MOST 1000	      /* by all threads together */
#define SPACE_MOST (16 * TIB) /* that they take */
#define WARM_ROUNDS 8
#define THREADS_MOST 16
#define FEW_VMAS 10
#define MANY_VMAS 50000

struct setting {
	size_t length;
	off_t offset;
	size_t alignment; /* what the plan says */
	unsigned int threads;
	unsigned int vmas;   /* that the process has besides */
	unsigned int rounds; /* of each thread in a turn */
	bool keep;
};

/* What a worker is told to do. */
enum { TAKE_A_TURN = 't', COUNT_CALLS = 'c' };

/* And what that comes to. */
struct turn {
	double nanoseconds; /* a mapping and thread */
	unsigned int congruent;
	unsigned int rounds; /* of all threads */
	double calls;	     /* a mapping; nothing else when they are counted */
};

/* A worker's thread. */
struct mapper {
	uintptr_t free_address;
	double begin, end;
	unsigned int congruent;
	void *kept[KEPT_MOST];
};

static struct setting setting;
static struct mapping mapping;
static enum way way;
static struct mapper mappers[THREADS_MOST];
static pthread_barrier_t barrier;

static void *map(uintptr_t free_address)
{
	void *start = ways[way].map(&mapping, free_address);

	if (start == MAP_FAILED)
		err(1, "%s: %zu bytes", ways[way].name, mapping.length);
	return start;
}

static bool is_congruent(const void *start)
{
	return !(((uintptr_t)start - (uintptr_t)mapping.offset) & (setting.alignment - 1));
}

static void loop(struct mapper *mapper, unsigned int rounds)
{
	for (unsigned int i = 0; i < rounds; i++) {
		void *start = map(mapper->free_address);

		mapper->congruent += is_congruent(start);
		munmap(start, mapping.length);
	}
}

/* How far apart congruent mappings lie at least. */
static size_t stride(void)
{
	return (mapping.length + setting.alignment - 1) & -setting.alignment;
}

static void keep(struct mapper *mapper)
{
	for (unsigned int i = 0; i < setting.rounds; i++) {
		mapper->kept[i] = map(mapper->free_address - i * stride());
		mapper->congruent += is_congruent(mapper->kept[i]);
	}
}

static void take_turn(struct mapper *mapper)
{
	loop(mapper, WARM_ROUNDS);
	mapper->congruent = 0;
	pthread_barrier_wait(&barrier);
	mapper->begin = now();
	if (setting.keep)
		keep(mapper);
	else
		loop(mapper, setting.rounds);
	mapper->end = now();
	pthread_barrier_wait(&barrier);
	for (unsigned int i = 0; setting.keep && i < setting.rounds; i++)
		munmap(mapper->kept[i], mapping.length);
}

static void *turns(void *mapper)
{
	for (;;) {
		pthread_barrier_wait(&barrier);
		take_turn(mapper);
		pthread_barrier_wait(&barrier);
	}
	return NULL;
}

/* For the way that is told: from the top down, as the kernel goes. */
static void find_free_addresses(void)
{
	const size_t each = (setting.keep ? setting.rounds : 1) * stride();
	const size_t whole = setting.threads * each + 2 * setting.alignment;
	void *start = mmap(NULL, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	const uintptr_t phase = (uintptr_t)mapping.offset & (setting.alignment - 1);
	uintptr_t at = (uintptr_t)start + whole - setting.alignment;

	if (start == MAP_FAILED || munmap(start, whole))
		err(1, "room for %zu bytes", whole);
	at = (at & -setting.alignment) + phase - stride();
	for (unsigned int i = 0; i < setting.threads; i++)
		mappers[i].free_address = at - i * each;
}

static struct turn turn_of_all(void)
{
	double begin, end;
	struct turn turn = { .rounds = setting.threads * setting.rounds };

	if (way == FREE_ADDRESS)
		find_free_addresses();
	pthread_barrier_wait(&barrier);
	take_turn(&mappers[0]);
	pthread_barrier_wait(&barrier);
	begin = mappers[0].begin;
	end = mappers[0].end;
	for (unsigned int i = 0; i < setting.threads; i++) {
		begin = mappers[i].begin < begin ? mappers[i].begin : begin;
		end = mappers[i].end > end ? mappers[i].end : end;
		turn.congruent += mappers[i].congruent;
	}
	turn.nanoseconds = (end - begin) / setting.rounds;
	return turn;
}

/*
 * Protections that alternate keep the pages of one mapping apart. The order matters: it fills the
 * kernel's nodes, and a full one is split and joined again each time that a mapping comes and goes
 * with a gap beside it. So all ways have the same one, and each start another.
 */
static void make_vmas(unsigned int count)
{
	const size_t page = (size_t)getpagesize();
	char *start = mmap(NULL, count * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	static size_t odd[MANY_VMAS];

	if (start == MAP_FAILED)
		err(1, "%u pages", count);
	srand(setting.vmas);
	shuffle(odd, count / 2);
	for (unsigned int i = 0; i < count / 2; i++)
		if (mprotect(start + (2 * odd[i] + 1) * page, page, PROT_READ))
			err(1, "mapping %u of %u besides", 2 * i, count);
}

/* One thread stays on one processor, the same for all ways: they need not be equally fast. */
static void stay_here(void)
{
	cpu_set_t allowed, here;
	unsigned int first = 0;

	if (sched_getaffinity(0, sizeof(allowed), &allowed))
		err(1, "sched_getaffinity");
	while (!CPU_ISSET(first, &allowed))
		first++;
	CPU_ZERO(&here);
	CPU_SET(first, &here);
	if (sched_setaffinity(0, sizeof(here), &here))
		err(1, "sched_setaffinity");
}

static void loop_once(void)
{
	loop(&mappers[0], setting.rounds);
}

static void keep_once(void)
{
	keep(&mappers[0]);
}

/* Each mapping's; less than 0 where they cannot be counted. */
static double calls_of_a_mapping(void)
{
	long calls;

	if (way == FREE_ADDRESS)
		find_free_addresses();
	calls = calls_of(setting.keep ? keep_once : loop_once);
	if (calls < 0)
		return -1;
	return (double)calls / setting.rounds - (setting.keep ? 0 : 1);
}

/* Gives an answer for each byte that it reads. */
static int work(enum way by)
{
	char order;

	way = by;
	hear(STDIN_FILENO, &setting, sizeof(setting));
	mapping = (struct mapping){ setting.length, setting.offset,
				    memfd_create("placement", MFD_CLOEXEC) };
	if (mapping.fd < 0 || ftruncate(mapping.fd, (off_t)setting.length + setting.offset))
		err(1, "memfd");
	make_vmas(setting.vmas);
	if (setting.threads == 1)
		stay_here();
	pthread_barrier_init(&barrier, NULL, setting.threads);
	for (unsigned int i = 1; i < setting.threads; i++) {
		pthread_t thread;

		if (pthread_create(&thread, NULL, turns, &mappers[i]))
			errx(1, "no thread");
	}
	while (read(STDIN_FILENO, &order, 1) == 1) {
		struct turn turn = { 0 };

		if (order == COUNT_CALLS)
			turn.calls = calls_of_a_mapping();
		else
			turn = turn_of_all();
		tell(STDOUT_FILENO, &turn, sizeof(turn));
	}
	/* The threads wait for a turn that does not come. */
	_exit(0);
}

/* How much is measured. */
static struct effort {
	unsigned int starts; /* of all workers, with one setting */
	unsigned int turns;  /* of each worker, behind one that is not counted */
	unsigned int looped; /* mappings of each thread in a turn */
	unsigned int kept;   /* mappings of all threads in a turn */
} effort = { 8, WAYS / 2, 200, KEPT_MOST };

static bool json;
static bool failed;
static const char *library;

struct outcome {
	struct spread spread;
	unsigned long congruent, rounds;
	double calls;
};

static struct turn turn_of(const struct worker *worker, char order)
{
	struct turn turn;

	tell(worker->orders, &order, 1);
	hear(worker->answers, &turn, sizeof(turn));
	return turn;
}

/* The ways take turns, and each is first as often as any other. */
static void measure(const struct setting *of, double *times[WAYS], struct outcome *outcomes)
{
	struct worker workers[WAYS];
	size_t count = 0;

	for (unsigned int start = 0; start < effort.starts; start++) {
		struct setting this = *of;

		this.vmas += start;
		for (int i = 0; i < WAYS; i++) {
			workers[i] = start_worker(i, library);
			tell(workers[i].orders, &this, sizeof(this));
			turn_of(&workers[i], TAKE_A_TURN);
			if (!start)
				outcomes[i].calls = turn_of(&workers[i], COUNT_CALLS).calls;
		}
		for (unsigned int i = 0; i < effort.turns; i++, count++)
			for (unsigned int j = 0; j < WAYS; j++) {
				const unsigned int by = (start + 2 * i + j) % WAYS;
				const struct turn turn = turn_of(&workers[by], TAKE_A_TURN);

				times[by][count] = turn.nanoseconds;
				outcomes[by].congruent += turn.congruent;
				outcomes[by].rounds += turn.rounds;
			}
		for (int i = 0; i < WAYS; i++)
			end_worker(&workers[i]);
	}
	for (int i = 0; i < WAYS; i++)
		outcomes[i].spread = spread_of(times[i], count);
}

/* The policy for transparent huge pages: "madvise" of "always [madvise] never". */
static const char *policy(void)
{
	static char line[64];
	FILE *file = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "r");
	char *chosen = NULL;

	if (file) {
		if (fgets(line, sizeof(line), file))
			chosen = strchr(line, '[');
		fclose(file);
	}
	if (!chosen)
		return "unknown";
	chosen[strcspn(chosen, "]")] = '\0';
	return chosen + 1;
}

static bool is_oversubscribed(const struct setting *of)
{
	return of->threads > sysconf(_SC_NPROCESSORS_ONLN);
}

static void print_json(const struct setting *of, enum way by, const struct outcome *outcomes)
{
	const struct outcome *outcome = &outcomes[by];

	printf("{\"benchmark\":\"placement\",\"way\":\"%s\",\"pattern\":\"%s\",\"length\":%zu,"
	       "\"offset\":%lld,\"alignment\":%zu,\"threads\":%u,\"vmas\":%u,\"kept\":%u,"
	       "\"oversubscribed\":%s,\"policy\":\"%s\",",
	       ways[by].name, of->keep ? "keep" : "loop", of->length, (long long)of->offset,
	       of->alignment, of->threads, of->vmas, of->keep ? of->rounds : 0,
	       is_oversubscribed(of) ? "true" : "false", policy());
	if (outcome->calls >= 0)
		printf("\"calls\":%.2f,", outcome->calls);
	printf("\"median\":%.1f,\"low\":%.1f,\"high\":%.1f,\"ratio\":%.3f,\"congruent\":%.4f}\n",
	       outcome->spread.median, outcome->spread.low, outcome->spread.high,
	       outcome->spread.median / outcomes[PLAIN].spread.median,
	       (double)outcome->congruent / (double)outcome->rounds);
}

static void print_head(void)
{
	static const char *const column[WAYS] = { "plain ns", "QEMU 10",   "CloudHyp.", "libpmem2",
						  "alignmap", "pre. hint", "pre. fix",	"bound" };

	puts("Nanoseconds a mapping by plain mmap, and what the other ways take, plain being 1.\n"
	     "* not all addresses are congruent with their offsets   ! more threads than "
	     "processors\n");
	printf("%-4s %6s %7s %7s %7s", "", "length", "offset", "threads", "VMAs");
	for (int i = 0; i < WAYS; i++)
		printf(" %10s", column[i]);
	putchar('\n');
}

static void print_line(const struct setting *of, const struct outcome *outcomes)
{
	printf("%-4s %6s", of->keep ? "keep" : "loop", size_text(of->length).text);
	printf(" %7s %6u%c %7u", size_text((uint64_t)of->offset).text, of->threads,
	       is_oversubscribed(of) ? '!' : ' ', of->vmas);
	for (int i = 0; i < WAYS; i++) {
		const double median = outcomes[i].spread.median;
		const char mark = outcomes[i].congruent == outcomes[i].rounds ? ' ' : '*';

		if (i == PLAIN)
			printf(" %9.0f%c", median, mark);
		else
			printf(" %9.2f%c", median / outcomes[PLAIN].spread.median, mark);
	}
	putchar('\n');
}

static void check(const struct setting *of, enum way by, const struct outcome *outcome)
{
	const double least = of->threads == 1 ? 1 : by == PRELOAD_HINT ? 0 : 0.99;
	const double share = (double)outcome->congruent / (double)outcome->rounds;

	if (!is_ours(by) || share >= least)
		return;
	warnx("%s: %lu of %lu mappings of %zu bytes at %lld, %u threads, are not congruent "
	      "modulo %zu",
	      ways[by].name, outcome->rounds - outcome->congruent, outcome->rounds, of->length,
	      (long long)of->offset, of->threads, of->alignment);
	failed = true;
}

/* Whether the process may have so many mappings. */
static bool is_possible(const struct setting *of)
{
	const unsigned int most = of->vmas + of->threads * (of->rounds + 8) + 100;
	FILE *file = fopen("/proc/sys/vm/max_map_count", "r");
	unsigned int limit = most;

	if (file) {
		if (fscanf(file, "%u", &limit) != 1)
			limit = most;
		fclose(file);
	}
	if (limit >= most)
		return true;
	fprintf(stderr, "placement: skipped %u VMAs: vm.max_map_count is %u\n", of->vmas, limit);
	if (json)
		printf("{\"benchmark\":\"placement\",\"pattern\":\"%s\",\"length\":%zu,"
		       "\"offset\":%lld,\"threads\":%u,\"vmas\":%u,"
		       "\"skipped\":\"vm.max_map_count is %u\"}\n",
		       of->keep ? "keep" : "loop", of->length, (long long)of->offset, of->threads,
		       of->vmas, limit);
	return false;
}

static void run(const struct setting *of)
{
	struct outcome outcomes[WAYS] = { 0 };
	double *times[WAYS];

	if (!is_possible(of))
		return;
	for (int i = 0; i < WAYS; i++)
		times[i] = calloc((size_t)effort.starts * effort.turns, sizeof(*times[i]));
	measure(of, times, outcomes);
	for (int i = 0; i < WAYS; i++) {
		if (json)
			print_json(of, i, outcomes);
		check(of, i, &outcomes[i]);
		free(times[i]);
	}
	if (!json)
		print_line(of, outcomes);
	fflush(stdout);
}

/*
 * The middle of a leaf of the largest size of which the mapping still holds a whole one there; of
 * the smallest above the base page if it holds none.
 */
static off_t mid_leaf(size_t length)
{
	struct alignmap_leaves leaves;
	off_t middle = 0;

	if (alignmap_host_leaves(ALIGNMAP_ANY, &leaves))
		err(1, "leaves");
	for (unsigned int i = 0; i + 1 < leaves.count; i++) {
		middle = (off_t)(leaves.size[i] / 2);
		if (plan_for(length, middle).alignment == leaves.size[i])
			break;
	}
	return middle;
}

/* Both patterns. */
static void run_both(size_t length, off_t offset, unsigned int threads, unsigned int vmas)
{
	const size_t alignment = plan_for(length, offset).alignment;
	const size_t most = SPACE_MOST / length < effort.kept ? SPACE_MOST / length : effort.kept;

	run(&(struct setting){ length, offset, alignment, threads, vmas, effort.looped, false });
	run(&(struct setting){ length, offset, alignment, threads, vmas,
			       (unsigned int)most / threads, true });
}

static void run_all(bool quick, bool lengths_alone)
{
	static const size_t lengths[] = { 2 * MIB, 4 * MIB, 16 * MIB, 64 * MIB, 256 * MIB, GIB,
					  2 * GIB, 4 * GIB, 16 * GIB, 64 * GIB, 128 * GIB };
	static const size_t some_lengths[] = { 4 * MIB, 4 * GIB };

	for (size_t i = 0; i < COUNT(lengths); i += quick || lengths_alone ? 5 : 1) {
		run_both(lengths[i], 0, 1, FEW_VMAS);
		run_both(lengths[i], mid_leaf(lengths[i]), 1, FEW_VMAS);
	}
	if (lengths_alone)
		return;
	for (size_t i = 0; i < COUNT(some_lengths); i++)
		for (unsigned int threads = 2; threads <= (quick ? 4 : THREADS_MOST); threads *= 2)
			run_both(some_lengths[i], 0, threads, FEW_VMAS);
	for (size_t i = quick; i < COUNT(some_lengths); i++)
		run_both(some_lengths[i], 0, 1, MANY_VMAS);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "quick", no_argument, NULL, 'q' },
		{ "lengths", no_argument, NULL, 'l' },
		{ "worker", required_argument, NULL, 'w' },
		{ 0 },
	};
	bool quick = false, lengths_alone = false;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'w')
			return work((enum way)atoi(optarg));
		if (option == '?')
			optind = argc;
		json |= option == 'j';
		quick |= option == 'q';
		lengths_alone |= option == 'l';
	}
	if (optind != argc - 1) {
		fputs("usage: placement [--json] [--quick] [--lengths] LIBALIGNMAP\n", stderr);
		return 2;
	}
	/* ld.so looks elsewhere for what has no slash. */
	library = realpath(argv[optind], NULL);
	if (!library)
		err(1, "%s", argv[optind]);
	if (quick)
		effort = (struct effort){ 1, 3, 50, 100 };
	if (!json)
		print_head();
	run_all(quick, lengths_alone);
	return failed;
}
