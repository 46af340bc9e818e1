/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * What the system tests share: the call under test in each of its ways, the mappings that the
 * process has, and files to map.
 *
 * A test program is run once for each way, named by its first argument: "api" calls
 * alignmap_mmap() from the archive, "recent" the same with windows remembered as the shared object
 * remembers them, "mmap" and "mmap64" call these symbols under
 * LD_PRELOAD=libalignmap.so, and "raw" makes the system call, for the arms that show what happens
 * without us.
 */
#ifndef SYSTEM_H
#define SYSTEM_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/types.h>

#include <cmocka.h>

#include "alignmap.h"
#include "sanitized.h"

#ifndef MAP_SHARED_VALIDATE
#define MAP_SHARED_VALIDATE 0x03
#endif

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define M ((size_t)1 << 20)
#define G ((size_t)1 << 30)

enum way { WAY_API, WAY_MMAP, WAY_MMAP64, WAY_RAW };

extern enum way way;

/* Learns the way from the first argument; exits with a message if that names none. */
void choose_way(int argc, char **argv);
/* Whether the way claims with MAP_FIXED_NOREPLACE: the API does, and ALIGNMAP_CLAIM=fixed. */
bool insists(void);
/* Whether it claims where windows were, before it finds one. */
bool remembers(void);
/* The call under test. */
void *map(void *address, size_t length, int prot, int flags, int fd, off_t offset);
/* The system call itself, which neither the library nor a sanitizer sees. */
void *map_raw(void *address, size_t length, int prot, int flags, int fd, off_t offset);

/* In calls.c, where the two symbols are kept apart. */
void *call_mmap(void *address, size_t length, int prot, int flags, int fd, off64_t offset);
void *call_mmap64(void *address, size_t length, int prot, int flags, int fd, off64_t offset);

size_t page_size(void);
/* The PMD, and the largest leaf of this host; the test is skipped on a host that has none. */
size_t pmd_size(void);
size_t largest_leaf(void);
/* The largest leaf size, up to @most, of which [offset, offset + length) holds a whole block. */
size_t deserved(size_t length, uint64_t offset, size_t most);
bool congruent(const void *mapping, uint64_t offset, size_t alignment);

/* All that the process has mapped: its VMAs as the kernel lists them, and VmSize in pages. */
struct address_space {
	char vmas[256 << 10];
	size_t length;
	unsigned long pages;
};

void read_address_space(struct address_space *space);
/* Fails the test where VMAs or VmSize differ. Under a sanitizer, which maps for itself, nothing. */
void assert_same_address_space(const struct address_space *before,
			       const struct address_space *after);

/* What it has in memory, in pages. Of the page tables: the kernel's counters are approximate. */
unsigned long resident_pages(void);

/* Ends the test as skipped; the reason is printed beside its name. */
void skip_because(const char *reason, ...) __attribute__((format(printf, 1, 2)));

/*
 * fork(), and a child that dies of what would have cmocka fail a test: it would go on with the next
 * one. It does not live for ever, either.
 */
pid_t fork_child(void);

/*
 * The file where run_again() has ALIGNMAP_STATS be printed; it is there from setup to teardown.
 */
extern char stats_path[];
int make_stats(void **state);
int remove_stats(void **state);

/* Runs this program once more, in the same way, with such arguments behind it; its output. */
FILE *run_again(char *const *arguments, pid_t *pid);

/* Runs a child that tries a limit, which this process would not outlive. Returns how it ended. */
int end_of(int (*child)(void));

/* The status that a child exits with to say that it has lost mappings. */
#define HAS_LOST 3

/* Whether a child ended so, or died of memory that was not there any more. */
bool has_lost(int status);

/* Sets RLIMIT_AS to what there is @now, which is told, and @more bytes; 0, or -1. */
int limit_address_space(struct address_space *now, size_t more);

/* In such a child. */
#define REQUIRE(claim)                                                                    \
	do {                                                                              \
		if (!(claim)) {                                                           \
			fprintf(stderr, "# line %d: not so: %s (%s)\n", __LINE__, #claim, \
				strerror(errno));                                         \
			return 1;                                                         \
		}                                                                         \
	} while (0)

/*
 * Prints a row of a table about limits; what all ways have in common comes once for each. SETTING
 * in the environment is how the process or the machine has been set for the test, if it has.
 */
void report_limit(const char *limit, const char *tried, const char *result);

/* Sparse files of that length, already unlinked. */
int memfd_of(off_t length);
/* Returns -1 with errno set. */
int unlinked_file_in(const char *directory, off_t length);

/*
 * A file whose driver refuses what is not shared and has not 1 + 2^n pages: an event's buffer.
 * Returns -1 with errno set.
 */
int perf_event(void);

/*
 * The way that others go with a file whose driver refuses: hold a reservation, map over it, and
 * clean up when that fails. It destroys what other threads mapped meanwhile.
 */
void fail_naively_once(int refusing);

/* Skips the test where vm.max_map_count is more than can be made. */
void need_map_count_in_reach(void);

/* Whether Linux applies the THP policy to device memory here, and that policy is [madvise]. */
bool policy_rules_bars(void);

/*
 * The number behind a row's name in a summary of ALIGNMAP_STATS; -1 if the row is not there.
 */
long summary_number(const char *path, const char *row);

#endif /* SYSTEM_H */
