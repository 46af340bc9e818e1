// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * How much address space mappings spread over, by way (ways.c): from the lowest start to the
 * highest end that there ever was, when a process has mapped and unmapped up to a million times.
 *This is a count, not a time: the lengths, offsets and what is unmapped when are the same for all
 *ways.
 *
 *	spans [--json] [--quick] LIBALIGNMAP
 *
 * Exits with 1 where the fixed claims of this library, which remember where there was room, spread
 * over more than 1.1 times as much as plain mmap and one alignment for each mapping besides.
 */
#include <err.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "measure.h"
#include "ways.h"

#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

#define LIVE_MOST 100

/* Which mapping goes next. */
enum order { OLDEST, NEWEST, RANDOM, ORDERS };

static const char *const order_names[ORDERS] = { "queue", "stack", "random" };

/*
 * What is mapped: equal lengths at one offset or at any page's, or any length at any page's offset.
 */
enum kind { EQUAL, PHASES, MIXED, KINDS };

static const char *const kind_names[KINDS] = { "equal", "phases", "mixed" };

struct load {
	enum order order;
	enum kind kind;
	unsigned int rounds;
};

struct spread_out {
	size_t span;
	size_t alignments; /* of all live mappings, at most */
	unsigned int live; /* at most */
};

struct live {
	uintptr_t start;
	size_t length;
	size_t alignment;
};

/* All live mappings, in a ring, the oldest first, and what their alignments come to. */
static struct live ring[LIVE_MOST];
static unsigned int oldest, count;
static size_t alignments;

static uint64_t random_state = 1;

/* SplitMix64: the same numbers for all ways. */
static uint64_t random_number(void)
{
	uint64_t number = random_state += 0x9e3779b97f4a7c15;

	number = (number ^ number >> 30) * 0xbf58476d1ce4e5b9;
	number = (number ^ number >> 27) * 0x94d049bb133111eb;
	return number ^ number >> 31;
}

static struct live *at(unsigned int place)
{
	return &ring[(oldest + place) % LIVE_MOST];
}

/* 2 MiB to 1 GiB, each octave half as often as the one below. */
static size_t random_length(void)
{
	const size_t page = (size_t)getpagesize();
	size_t length = 2 * MIB;

	while (length < GIB / 2 && random_number() & 1)
		length *= 2;
	return length + random_number() % (length / page) * page;
}

static off_t random_offset(void)
{
	const size_t page = (size_t)getpagesize();

	return (off_t)(random_number() % (GIB / page) * page);
}

static void add(const struct load *load, enum way way, int fd, struct spread_out *spread)
{
	static uintptr_t lowest = UINTPTR_MAX, highest;
	const struct mapping mapping = { load->kind == MIXED ? random_length() : 16 * MIB,
					 load->kind == EQUAL ? (off_t)MIB : random_offset(), fd };
	struct live *live = at(count);
	void *start = ways[way].map(&mapping, 0);

	if (start == MAP_FAILED)
		err(1, "%s: %zu bytes", ways[way].name, mapping.length);
	*live = (struct live){ (uintptr_t)start, mapping.length,
			       plan_for(mapping.length, mapping.offset).alignment };
	if (live->start < lowest)
		lowest = live->start;
	if (live->start + live->length > highest)
		highest = live->start + live->length;
	spread->span = highest - lowest;
	if (++count > spread->live)
		spread->live = count;
	alignments += live->alignment;
	if (alignments > spread->alignments)
		spread->alignments = alignments;
}

static void drop(enum order order)
{
	struct live going;

	if (order == NEWEST) {
		going = *at(count - 1);
	} else {
		struct live *going_at =
			at(order == RANDOM ? (unsigned int)(random_number() % count) : 0);

		going = *going_at;
		*going_at = *at(0);
		oldest = (oldest + 1) % LIVE_MOST;
	}
	count--;
	alignments -= going.alignment;
	if (munmap((void *)going.start, going.length))
		err(1, "munmap");
}

/* A round maps or unmaps, as a coin falls, so that now few and now many are live. */
static int work(enum way way)
{
	struct spread_out spread = { 0 };
	int fd = memfd_create("spans", MFD_CLOEXEC);
	struct load load;

	hear(STDIN_FILENO, &load, sizeof(load));
	if (fd < 0 || ftruncate(fd, (off_t)(2 * GIB)))
		err(1, "memfd");
	for (unsigned int i = 0; i < load.rounds; i++) {
		const bool wants_more = random_number() & 1;

		if (count == 0 || (wants_more && count < LIVE_MOST))
			add(&load, way, fd, &spread);
		else
			drop(load.order);
	}
	tell(STDOUT_FILENO, &spread, sizeof(spread));
	return 0;
}

static const enum way shown[] = { PLAIN, API, PRELOAD_HINT, PRELOAD_FIXED };

static size_t limit_of(const struct spread_out *spreads)
{
	return spreads[PLAIN].span + spreads[PLAIN].span / 10 + spreads[PLAIN].alignments;
}

static void print_json(const struct load *load, enum way way, const struct spread_out *spreads)
{
	printf("{\"benchmark\":\"spans\",\"way\":\"%s\",\"order\":\"%s\",\"kind\":\"%s\","
	       "\"rounds\":%u,\"span\":%zu,\"live\":%u,\"alignments\":%zu,\"limit\":%zu}\n",
	       ways[way].name, order_names[load->order], kind_names[load->kind], load->rounds,
	       spreads[way].span, spreads[way].live, spreads[way].alignments, limit_of(spreads));
}

static void print_line(const struct load *load, const struct spread_out *spreads)
{
	printf("%-6s %-7s %9u %5u", order_names[load->order], kind_names[load->kind], load->rounds,
	       spreads[PLAIN].live);
	for (size_t i = 0; i < COUNT(shown); i++)
		printf(" %14.0f", (double)spreads[shown[i]].span / MIB);
	printf(" %9.0f\n", (double)limit_of(spreads) / MIB);
}

/*
 * False where a fixed claim goes beyond the limit. With one length and all phases plain mmap fills
 * every hole that a mapping leaves, and no other phase fits there: that is shown, not checked.
 */
static bool check(const struct load *load, const struct spread_out *spreads)
{
	static const enum way bound[] = { API, PRELOAD_FIXED };
	bool good = true;

	for (size_t i = 0; i < COUNT(bound); i++) {
		if (load->kind == PHASES || spreads[bound[i]].span <= limit_of(spreads))
			continue;
		warnx("%s: %zu bytes are spread over, %zu would do (%s, %s)", ways[bound[i]].name,
		      spreads[bound[i]].span, limit_of(spreads), order_names[load->order],
		      kind_names[load->kind]);
		good = false;
	}
	return good;
}

/* The ways run beside each other: they are not timed. */
static bool run(const struct load *load, const char *library, bool json)
{
	struct spread_out spreads[WAYS];
	struct worker workers[WAYS];

	for (size_t i = 0; i < COUNT(shown); i++) {
		workers[shown[i]] = start_worker(shown[i], library);
		tell(workers[shown[i]].orders, load, sizeof(*load));
	}
	for (size_t i = 0; i < COUNT(shown); i++) {
		hear(workers[shown[i]].answers, &spreads[shown[i]], sizeof(*spreads));
		end_worker(&workers[shown[i]]);
	}
	for (size_t i = 0; json && i < COUNT(shown); i++)
		print_json(load, shown[i], spreads);
	if (!json)
		print_line(load, spreads);
	fflush(stdout);
	return check(load, spreads);
}

static void print_head(void)
{
	puts("MiB from the lowest start to the highest end of all mappings that there were");
	printf("%-6s %-7s %9s %5s", "order", "kind", "rounds", "live");
	for (size_t i = 0; i < COUNT(shown); i++)
		printf(" %14s", ways[shown[i]].name);
	printf(" %9s\n", "limit");
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "quick", no_argument, NULL, 'q' },
		{ "worker", required_argument, NULL, 'w' },
		{ 0 },
	};
	bool json = false, quick = false, good = true;
	const char *library;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'w')
			return work((enum way)atoi(optarg));
		if (option == '?')
			optind = argc;
		json |= option == 'j';
		quick |= option == 'q';
	}
	if (optind != argc - 1) {
		fputs("usage: spans [--json] [--quick] LIBALIGNMAP\n", stderr);
		return 2;
	}
	/* ld.so looks elsewhere for what has no slash. */
	library = realpath(argv[optind], NULL);
	if (!library)
		err(1, "%s", argv[optind]);
	if (!json)
		print_head();
	for (enum order order = 0; order < ORDERS; order++)
		for (enum kind kind = 0; kind < KINDS; kind++) {
			const unsigned int most = kind == MIXED ? 1000000 : 100000;
			const struct load load = { order, kind, quick ? 5000 : most };

			good = run(&load, library, json) && good;
		}
	return !good;
}
