// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * How long a user waits for what is mapped: memory of each kind is mapped, whole and from the
 * middle, at the address that each way chooses, a byte of each base page is written, and the faults
 * and the seconds of that are printed. The faults must be as many as the entries that follow from
 * the address.
 *
 *	faults [--json] [--quick] LIBALIGNMAP
 *
 * What it needs of huge pages it reserves, and mounts for itself alone: as root. It starts itself
 * again, under the preload, so that all ways take turns in one process.
 */
#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "memory.h"
#include "plan.h"
#include "subject.h"
#include "turns.h"

#define MIB ((size_t)1 << 20)
/* The kernel's, one at each leaf size, ours and the preload's. */
#define WAYS_MAX (ALIGNMAP_LEAVES_MAX + 3)

static const size_t lengths[] = { 4 * MIB, 64 * MIB, 1024 * MIB };

struct way {
	enum { BY_KERNEL, AT_LEAF, BY_API, BY_PRELOAD } kind;
	size_t leaf; /* of AT_LEAF */
};

static bool json, quick, failed;
static struct alignmap_leaves host; /* what the host has for any kind of memory */
static const struct memory *memory;
static struct subject subject;
static struct way ways[WAYS_MAX];
static size_t way_count;

static size_t length_count(void)
{
	return quick ? 2 : COUNT(lengths);
}

static size_t base_page(void)
{
	return host.size[host.count - 1];
}

static struct size_text name_of(const struct way *way)
{
	static const char *const names[] = { "kernel", "at", "alignmap_mmap", "preload" };
	struct size_text name;

	if (way->kind == AT_LEAF)
		snprintf(name.text, sizeof(name.text), "at %.16s", size_text(way->leaf).text);
	else
		snprintf(name.text, sizeof(name.text), "%s", names[way->kind]);
	return name;
}

static void *map_by(const struct way *way)
{
	switch (way->kind) {
	case BY_KERNEL:
		return map_plainly(&subject, NULL, 0);
	case AT_LEAF:
		return map_at_leaf(&subject, way->leaf);
	case BY_API:
		return alignmap_mmap(NULL, subject.length, subject.prot, subject.flags, subject.fd,
				     (off_t)subject.offset);
	default:
		return mmap(NULL, subject.length, subject.prot, subject.flags, subject.fd,
			    (off_t)subject.offset);
	}
}

static void *map(size_t way, struct row *row)
{
	void *address = map_by(&ways[way]);
	uint64_t offset = subject.offset;

	if (address == MAP_FAILED)
		err(1, "mmap of %zu bytes, %s, %s", subject.length, memory->name,
		    name_of(&ways[way]).text);
	row->modulus = modulus_of(&host, &subject, address);
	/* Linux has no offset for anonymous memory: its leaves lie at multiples of themselves. */
	if (memory->anonymous)
		offset = (uintptr_t)address;
	row->plan =
		alignmap_entries_at(&memory->leaves, subject.length, offset, (uintptr_t)address);
	if (memory_wants_advice(memory))
		madvise(address, subject.length, MADV_HUGEPAGE);
	return address;
}

/* A write fault makes one entry, where a read fault maps what lies around it, too. */
static void touch(volatile char *address)
{
	const size_t page = base_page();

	for (size_t at = 0; at < subject.length; at += page)
		address[at] = 1;
}

static size_t faults_so_far(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (size_t)usage.ru_minflt + (size_t)usage.ru_majflt;
}

static void expect(const char *what, size_t count, size_t expected, size_t way)
{
	if (count == expected)
		return;
	warnx("%s, %zu bytes at %" PRIu64 ", %s: %zu %s, not %zu", memory->name, subject.length,
	      subject.offset, name_of(&ways[way]).text, count, what, expected);
	failed = true;
}

static double measure(size_t way, struct row *row)
{
	char *address = map(way, row);
	const size_t before = faults_so_far();
	double time = now();

	touch(address);
	time = now() - time;
	row->faults = faults_so_far() - before;
	munmap(address, subject.length);
	expect("faults", row->faults, row->plan, way);
	return time;
}

/* What a file's first use takes, and the measuring code's own, is not to be measured. */
static void warm_up(void)
{
	char *address = map_plainly(&subject, NULL, 0);

	if (address == MAP_FAILED)
		err(1, "mmap of %zu bytes, %s", subject.length, memory->name);
	touch(address);
	munmap(address, subject.length);
	faults_so_far();
	now();
}

static void add_way(struct way way)
{
	ways[way_count++] = way;
}

/* The kernel's is the first. */
static void choose_ways(void)
{
	struct alignmap_plan plan;

	if (alignmap_plan(&host, subject.length, subject.offset, &plan))
		err(1, "the plan of %zu bytes", subject.length);
	way_count = 0;
	add_way((struct way){ BY_KERNEL, 0 });
	for (unsigned int i = host.count; i--;)
		if (host.size[i] <= plan.alignment && host.size[i] >= memory->hugetlb)
			add_way((struct way){ AT_LEAF, host.size[i] });
	add_way((struct way){ BY_API, 0 });
	add_way((struct way){ BY_PRELOAD, 0 });
}

/* Whether no address may take fewer faults. The preload has a minimum for anonymous memory. */
static bool is_best(const struct way *way)
{
	return way->kind == BY_API ||
	       (way->kind == BY_PRELOAD && (!memory->anonymous || subject.length >= 32 * MIB));
}

/* What is to be expected of each way, which says how often it is tried. */
static void look(struct row *rows)
{
	struct alignmap_plan plan;

	if (alignmap_plan(&memory->leaves, subject.length, subject.offset, &plan))
		err(1, "the plan of %zu bytes", subject.length);
	for (size_t way = 0; way < way_count; way++) {
		munmap(map(way, &rows[way]), subject.length);
		if (is_best(&ways[way]))
			expect("entries", rows[way].plan, plan.entries, way);
		rows[way].rounds = rounds_for(rows[way].plan, quick ? 9 : 63);
	}
}

/* Sizes as numbers or as people write them. */
static void print_leaves(void)
{
	const struct alignmap_leaves *leaves = &memory->leaves;
	char line[ALIGNMAP_LEAVES_MAX * 32] = "";

	for (unsigned int i = 0; i < leaves->count; i++) {
		const size_t end = strlen(line);

		if (json)
			snprintf(line + end, sizeof(line) - end, "%s%zu", i ? ", " : "",
				 leaves->size[i]);
		else
			snprintf(line + end, sizeof(line) - end, "%s%s", i ? " " : "",
				 size_text(leaves->size[i]).text);
	}
	printf(json ? "\"leaves\": [%s], " : "%-6s ", line);
}

static void print_json(const struct row *rows, size_t way)
{
	const struct row *row = &rows[way];

	printf("{\"benchmark\": \"faults\", \"backing\": \"%s\", ", memory->name);
	print_leaves();
	printf("\"way\": \"%s\", ", name_of(&ways[way]).text);
	if (ways[way].kind == AT_LEAF)
		printf("\"leaf\": %zu, ", ways[way].leaf);
	printf("\"length\": %zu, \"offset\": %" PRIu64 ", \"address_modulus\": %zu, "
	       "\"faults\": %zu, \"plan\": %zu, \"median\": %.0f, \"low\": %.0f, \"high\": %.0f, "
	       "\"rounds\": %d, \"ratio\": %.4g}\n",
	       subject.length, subject.offset, row->modulus, row->faults, row->plan,
	       row->spread.median, row->spread.low, row->spread.high, row->rounds,
	       times_of(&rows[0], row));
}

static void print_head(void)
{
	printf("Memory of which a byte of each base page is written.\n"
	       "LEAVES: what Linux maps it with; PLAN counts these. RATIO: how many times faster "
	       "than at the kernel's address.\n\n"
	       "%-17s %-6s %6s %6s %-13s %6s %7s %7s %10s %10s %10s %6s %7s\n",
	       "BACKING", "LEAVES", "LENGTH", "OFFSET", "WAY", "MODULO", "FAULTS", "PLAN", "US",
	       "LOW", "HIGH", "ROUNDS", "RATIO");
}

static void print_row(const struct row *rows, size_t way)
{
	const struct row *row = &rows[way];

	printf("%-17s ", memory->name);
	print_leaves();
	printf("%6s %6s %-13s %6s %7zu %7zu %10.1f %10.1f %10.1f %6d %7.3g\n",
	       size_text(subject.length).text, size_text(subject.offset).text,
	       name_of(&ways[way]).text, size_text(row->modulus).text, row->faults, row->plan,
	       row->spread.median / 1e3, row->spread.low / 1e3, row->spread.high / 1e3, row->rounds,
	       times_of(&rows[0], row));
}

static void compare(void)
{
	static struct row rows[WAYS_MAX];

	choose_ways();
	look(rows);
	take_turns(rows, way_count, measure);
	for (size_t way = 0; way < way_count; way++)
		(json ? print_json : print_row)(rows, way);
}

static void skip(size_t length, const char *why)
{
	if (json)
		printf("{\"benchmark\": \"faults\", \"backing\": \"%s\", \"length\": %zu, "
		       "\"skipped\": \"%s\"}\n",
		       memory->name, length, why);
	else
		warnx("%s, %s: skipped: %s", memory->name, size_text(length).text, why);
}

/*
 * In the middle of a PMD; on hugetlbfs, where it must be a multiple of the page size, behind a
 * page.
 */
static size_t middle(size_t hugetlb)
{
	struct alignmap_leaves files;

	alignmap_host_leaves(ALIGNMAP_FILE, &files);
	return hugetlb ? hugetlb : files.size[0] / 2;
}

static void try_anonymous(size_t length)
{
	subject = (struct subject){
		.fd = -1,
		.prot = PROT_READ | PROT_WRITE,
		.flags = MAP_PRIVATE | MAP_ANONYMOUS,
		.length = length,
	};
	compare();
}

static void try_file(size_t length)
{
	const size_t offset = middle(memory->hugetlb);

	subject = (struct subject){
		.fd = open_memory(memory, length + offset),
		.prot = PROT_READ | PROT_WRITE,
		.flags = MAP_SHARED,
		.length = length + offset,
	};
	if (subject.fd < 0) {
		skip(length, strerror(errno));
		return;
	}
	warm_up();
	subject.length = length;
	compare();
	subject.offset = offset;
	compare();
	close(subject.fd);
}

static void try_memory(void)
{
	for (size_t i = 0; i < length_count(); i++) {
		const size_t length = lengths[i];
		const char *refusal = memory_refusal(memory, length + middle(memory->hugetlb));

		if (length < memory->hugetlb)
			continue;
		if (refusal)
			skip(length, refusal);
		else if (memory->anonymous)
			try_anonymous(length);
		else
			try_file(length);
	}
}

static int try_all(void)
{
	static struct memory memories[MEMORIES_MAX];
	const size_t count = list_memories(memories);

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!json)
		print_head();
	for (memory = memories; memory < memories + count; memory++)
		try_memory();
	return failed;
}

static pid_t again;

/* What is to end this program ends the one that it waits for, and the huge pages are returned. */
static void pass_on(int number)
{
	kill(again, number);
}

/* Starts this program once more, under the preload and with no other setting of it. */
static int run_preloaded(const char *library, char **argv)
{
	const size_t longest = lengths[length_count() - 1];
	size_t before[ALIGNMAP_LEAVES_MAX];
	char variable[PATH_MAX + 16];
	char *environment[] = { variable, (char *)"ALIGNMAP_ANON=all", NULL };
	int status;

	snprintf(variable, sizeof(variable), "LD_PRELOAD=%s", library);
	borrow_huge_pages(longest, before);
	errno = posix_spawn(&again, "/proc/self/exe", NULL, NULL, argv, environment);
	if (errno) {
		return_huge_pages(before);
		err(1, "cannot be started again");
	}
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, pass_on);
	waitpid(again, &status, 0);
	return_huge_pages(before);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static const char *parse(int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "quick", no_argument, NULL, 'q' },
		{ NULL, 0, NULL, 0 },
	};
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		json |= option == 'j';
		quick |= option == 'q';
		if (option == '?')
			optind = argc;
	}
	if (optind == argc - 1)
		return argv[optind];
	fputs("usage: faults [--json] [--quick] LIBALIGNMAP\n", stderr);
	exit(2);
}

int main(int argc, char **argv)
{
	const char *library = parse(argc, argv), *preloaded = getenv("LD_PRELOAD");
	char path[PATH_MAX];

	/* ld.so only warns of what it cannot load, and looks elsewhere without a slash. */
	if (access(library, R_OK) || !realpath(library, path))
		err(1, "%s", library);
	if (alignmap_host_leaves(ALIGNMAP_ANY, &host))
		err(1, "the leaf sizes of this host");
	if (preloaded && strcmp(preloaded, path) == 0)
		return try_all();
	return run_preloaded(path, argv);
}
