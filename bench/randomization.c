// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * How random the addresses of mappings are: starts itself again and again under the preload, has
 * each start map by the kernel, by the API and by the preload, and estimates the bits of entropy
 * of the addresses: for who knows nothing, and for who knows where the kernel would have put the
 * same mapping (which lies at a fixed distance from the C library).
 *
 *	randomization LIBALIGNMAP [STARTS]
 *
 * 10,000 starts cannot show 28 bits by counting addresses. Pairs of starts can: a uniform choice
 * among M addresses puts two of them within a distance W with a probability of (how many multiples
 * of the addresses' spacing there are within W) / M. The first is counted for a W that enough pairs
 * come within; of the distances of these pairs it is seen how many different ones there are. This
 * is the entropy of Renyi of order 2, never more than Shannon's. It is calibrated on addresses
 * that are made up and whose entropy is known, in the same run.
 */
#include <err.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../tests/system/raw.h"
#include "alignmap.h"

enum by { KERNEL, API, PRELOAD, WAYS };

static const char *const names[WAYS] = { "the kernel", "the API", "the preload" };

/* What one start tells. */
struct start {
	uint64_t library; /* an address in the C library */
	uint64_t address[ALIGNMAP_LEAVES_MAX][WAYS];
};

static int compare(const void *a, const void *b)
{
	const uint64_t *x = a;
	const uint64_t *y = b;

	return (*x > *y) - (*x < *y);
}

/* The pairs of @count sorted numbers that are less than @width apart; their distances in @gaps. */
static size_t close_pairs(const uint64_t *sorted, size_t count, uint64_t width, uint64_t *gaps,
			  size_t room)
{
	size_t pairs = 0;

	for (size_t i = 0; i < count; i++)
		for (size_t j = i + 1; j < count && sorted[j] - sorted[i] < width; j++, pairs++)
			if (pairs < room)
				gaps[pairs] = sorted[j] - sorted[i];
	return pairs;
}

/*
 * How many distances there are, of which @count were found: 1 over the probability that two are the
 * same gives it for equally likely ones. Here 0 is half as likely as each other, which stand for
 * two: they are counted as two.
 */
static double distinct(uint64_t *gaps, size_t count)
{
	double same = 0, number;

	qsort(gaps, count, sizeof(*gaps), compare);
	for (size_t i = 0, run; i < count; i += run) {
		for (run = 1; i + run < count && gaps[i + run] == gaps[i]; run++)
			;
		same += (double)run * (double)(run - 1) / 2;
	}
	number = (double)count * (double)(count - 1) / 2 / same;
	return number > 1 ? number + sqrt(number * number - number) : 1;
}

/* In bits. Sorts @numbers. */
static double entropy(uint64_t *numbers, size_t count)
{
	enum { ENOUGH = 8192, ROOM = 1 << 20 };
	static uint64_t gaps[ROOM];
	const double all = (double)count * (double)(count - 1) / 2;
	uint64_t width = 1;
	size_t pairs;

	qsort(numbers, count, sizeof(*numbers), compare);
	while ((pairs = close_pairs(numbers, count, width, gaps, ROOM)) < ENOUGH &&
	       width < (uint64_t)1 << 47)
		width *= 2;
	return log2(all / (double)pairs) + log2(distinct(gaps, pairs < ROOM ? pairs : ROOM));
}

static unsigned int tests;
static bool failed;

static void judge(bool good, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void judge(bool good, const char *format, ...)
{
	va_list arguments;

	printf("%s %u - ", good ? "ok" : "not ok", ++tests);
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	putchar('\n');
	failed |= !good;
}

/* Of an estimate, in bits. */
#define ERROR 0.25

/* What is estimated of as many made-up addresses, of which that is known. */
static void calibrate(uint64_t *numbers, size_t count)
{
	static const struct {
		int bits;
		uint64_t spacing;
		const char *what;
	} known[] = {
		{ 28, 4096, "28 bits of pages" },
		{ 19, 2 << 20, "19 bits of 2M" },
		{ 10, 1 << 30, "10 bits of 1G" },
		{ 14, 4096 * ((1 << 14) + 1), "14 bits, twice in each address" },
		{ 0, 4096, "one address" },
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		double bits;

		for (size_t at = 0; at < count; at += 32)
			if (getrandom(numbers + at, 8 * (count - at < 32 ? count - at : 32), 0) < 0)
				err(1, "getrandom");
		for (size_t at = 0; at < count; at++)
			numbers[at] =
				(numbers[at] & ((1U << known[i].bits) - 1)) * known[i].spacing;
		bits = entropy(numbers, count);
		judge(fabs(bits - known[i].bits) < ERROR, "made up of %s: %.2f are estimated",
		      known[i].what, bits);
	}
}

static struct alignmap_leaves leaves;
static size_t pmd;

static void learn_leaves(void)
{
	struct alignmap_leaves anonymous;

	if (alignmap_host_leaves(ALIGNMAP_ANY, &leaves) ||
	    alignmap_host_leaves(ALIGNMAP_ANONYMOUS, &anonymous))
		err(1, "leaves");
	pmd = anonymous.size[0];
}

static void *map(enum by by, size_t length, int fd)
{
	switch (by) {
	case KERNEL:
		return raw_mmap(NULL, length, PROT_READ, MAP_SHARED, fd, 0);
	case API:
		return alignmap_mmap(NULL, length, PROT_READ, MAP_SHARED, fd, 0);
	default:
		return mmap(NULL, length, PROT_READ, MAP_SHARED, fd, 0);
	}
}

/* The start: maps what deserves each leaf size, each way, and tells on standard output. */
static int tell(void)
{
	struct start start = { .library = (uintptr_t)puts };
	int fd = memfd_create("randomization", MFD_CLOEXEC);

	learn_leaves();
	if (fd < 0 || ftruncate(fd, (off_t)(2 * leaves.size[0])))
		err(1, "memfd");
	for (unsigned int i = 0; i < leaves.count; i++)
		for (enum by by = 0; by < WAYS; by++) {
			const size_t length = leaves.size[i] * (i + 1 < leaves.count ? 2 : 1);
			void *mapping = map(by, length, fd);

			if (mapping == MAP_FAILED || munmap(mapping, length))
				err(1, "mmap");
			start.address[i][by] = (uintptr_t)mapping;
		}
	return write(STDOUT_FILENO, &start, sizeof(start)) != sizeof(start);
}

static void run(const char *preload, struct start *start)
{
	char variable[PATH_MAX + 16];
	char *argument[] = { (char *)"randomization", (char *)"tell", NULL };
	char *environment[] = { variable, NULL };
	posix_spawn_file_actions_t actions;
	int ends[2], status;
	pid_t pid;

	snprintf(variable, sizeof(variable), "LD_PRELOAD=%s", preload);
	posix_spawn_file_actions_init(&actions);
	if (pipe2(ends, O_CLOEXEC) ||
	    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO) ||
	    posix_spawn(&pid, "/proc/self/exe", &actions, NULL, argument, environment))
		err(1, "start");
	posix_spawn_file_actions_destroy(&actions);
	close(ends[1]);
	if (read(ends[0], start, sizeof(*start)) != sizeof(*start) ||
	    waitpid(pid, &status, 0) != pid || status)
		errx(1, "a start has not told");
	close(ends[0]);
}

/*
 * The bits of what is left once the address is predicted from the kernel's own choice, and that
 * from the C library's place.
 */
static double given(const struct start *starts, size_t count, unsigned int leaf, enum by by,
		    uint64_t *numbers)
{
	for (size_t i = 0; i < count; i++) {
		const uint64_t *address = starts[i].address[leaf];
		uint64_t predicted = starts[i].library;

		if (by != KERNEL && leaf + 1 < leaves.count)
			predicted = (address[KERNEL] - pmd) & -leaves.size[leaf];
		else if (by != KERNEL)
			predicted = address[KERNEL];
		numbers[i] = address[by] - predicted;
	}
	return entropy(numbers, count);
}

static const char *size_text(size_t size)
{
	static char text[24];
	const int unit = size >= 1 << 30 ? 30 : size >= 1 << 20 ? 20 : 10;

	snprintf(text, sizeof(text), "%zu%c", size >> unit, "KMG"[unit / 10 - 1]);
	return text;
}

static void show(const struct start *starts, size_t count, uint64_t *numbers)
{
	for (unsigned int i = leaves.count; i-- > 0;) {
		const size_t leaf = leaves.size[i];
		const double fewer = log2((double)leaf / (double)leaves.size[leaves.count - 1]);
		double bits[WAYS], left;

		for (enum by by = 0; by < WAYS; by++) {
			size_t congruent = 0;

			for (size_t at = 0; at < count; at++) {
				numbers[at] = starts[at].address[i][by];
				congruent += numbers[at] % leaf == 0;
			}
			bits[by] = entropy(numbers, count);
			left = given(starts, count, i, by, numbers);
			printf("# trust randomization|%s|%s|%.1f|%.1f\n", size_text(leaf),
			       names[by], bits[by], left);
			judge(left < ERROR, "%s leaves %.2f bits modulo %s, given %s", names[by],
			      left, size_text(leaf),
			      by == KERNEL ? "the C library's address" : "the kernel's choice");
			if (by == KERNEL)
				continue;
			judge(congruent == count, "%s places %zu of %zu modulo %s", names[by],
			      congruent, count, size_text(leaf));
			judge(bits[by] > bits[KERNEL] - fewer - 0.5,
			      "%s leaves %.1f bits modulo %s, the kernel's %.1f but for %.0f",
			      names[by], bits[by], size_text(leaf), bits[KERNEL], fewer);
		}
	}
}

int main(int argc, char **argv)
{
	char preload[PATH_MAX];
	struct start *starts;
	uint64_t *numbers;
	size_t count;

	if (argc == 2 && strcmp(argv[1], "tell") == 0)
		return tell();
	count = argc > 2 ? strtoul(argv[2], NULL, 0) : 10000;
	if (argc < 2 || count < 5000)
		errx(2, "usage: randomization LIBALIGNMAP [STARTS, 5000 or more]");
	/* ld.so looks elsewhere for what has no slash. */
	if (!realpath(argv[1], preload))
		err(1, "%s", argv[1]);
	learn_leaves();
	starts = calloc(count, sizeof(*starts));
	numbers = calloc(count, sizeof(*numbers));
	if (!starts || !numbers)
		err(1, "starts");
	calibrate(numbers, count);
	for (size_t i = 0; i < count; i++)
		run(preload, &starts[i]);
	show(starts, count, numbers);
	printf("1..%u\n", tests);
	free(starts);
	free(numbers);
	return failed;
}
