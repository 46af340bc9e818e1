// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Leaf sizes from recorded sysfs trees (sysfs/README.md), and from hosts that have none. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "leaves.h"

#define K ((size_t)1 << 10)
#define M ((size_t)1 << 20)
#define G ((size_t)1 << 30)

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static bool yes(void)
{
	return true;
}

static bool no(void)
{
	return false;
}

/* DESIGN's table of leaf sizes, and what each kind of memory can use of them. */
static const struct {
	const char *tree; /* NULL: no sysfs at all */
	enum machine machine;
	size_t page;
	bool (*maps_1g)(void);
	size_t all[ALIGNMAP_LEAVES_MAX];
	size_t vfio[ALIGNMAP_LEAVES_MAX];
	size_t anonymous[ALIGNMAP_LEAVES_MAX];
	size_t file[ALIGNMAP_LEAVES_MAX]; /* where that differs */
} hosts[] = {
	{ "x86-64",
	  MACHINE_X86_64,
	  4 * K,
	  yes,
	  { G, 2 * M, 4 * K },
	  { G, 2 * M, 4 * K },
	  { 2 * M, 4 * K } },
	{ "x86-64-no-pdpe1gb",
	  MACHINE_X86_64,
	  4 * K,
	  no,
	  { 2 * M, 4 * K },
	  { 2 * M, 4 * K },
	  { 2 * M, 4 * K } },
	{ "made-up-x86-64-no-gigantic-listed",
	  MACHINE_X86_64,
	  4 * K,
	  yes,
	  { G, 2 * M, 4 * K },
	  { G, 2 * M, 4 * K },
	  { 2 * M, 4 * K } },
	{ "arm64-4k",
	  MACHINE_ARM64,
	  4 * K,
	  no,
	  { G, 32 * M, 2 * M, 64 * K, 4 * K },
	  { 2 * M, 4 * K },
	  { 2 * M, 64 * K, 4 * K } },
	{ "arm64-16k",
	  MACHINE_ARM64,
	  16 * K,
	  no,
	  { G, 32 * M, 2 * M, 16 * K },
	  { 32 * M, 16 * K },
	  { 32 * M, 2 * M, 16 * K } },
#if SIZE_MAX > UINT32_MAX
	{ "made-up-arm64-64k",
	  MACHINE_ARM64,
	  64 * K,
	  no,
	  { 16 * G, 512 * M, 2 * M, 64 * K },
	  { 512 * M, 64 * K },
	  { 512 * M, 2 * M, 64 * K },
	  { 2 * M, 64 * K } },
#endif
	{ "riscv64-svnapot",
	  MACHINE_RISCV64,
	  4 * K,
	  no,
	  { G, 2 * M, 64 * K, 4 * K },
	  { G, 2 * M, 4 * K },
	  { 2 * M, 64 * K, 4 * K } },
	{ "ppc64-radix-64k",
	  MACHINE_PPC64,
	  64 * K,
	  no,
	  { G, 2 * M, 64 * K },
	  { G, 2 * M, 64 * K },
	  { 2 * M, 64 * K } },
#if SIZE_MAX > UINT32_MAX
	{ "made-up-ppc64-hash-64k",
	  MACHINE_PPC64,
	  64 * K,
	  no,
	  { 16 * G, 16 * M, 64 * K },
	  { 16 * M, 64 * K },
	  { 16 * M, 64 * K } },
#endif
	{ "s390x", MACHINE_S390X, 4 * K, no, { M, 4 * K }, { 4 * K }, { M, 4 * K } },
	{ "s390x-2g", MACHINE_S390X, 4 * K, no, { 2 * G, M, 4 * K }, { 4 * K }, { M, 4 * K } },

	/* It has no larger leaf, which its sysfs does not tell from one that is missing. */
	{ "s390x-no-edat", MACHINE_S390X, 4 * K, no, { 2 * G, M, 4 * K }, { 4 * K }, { M, 4 * K } },

	{ NULL,
	  MACHINE_X86_64,
	  4 * K,
	  yes,
	  { G, 2 * M, 4 * K },
	  { G, 2 * M, 4 * K },
	  { 2 * M, 4 * K } },
	{ NULL, MACHINE_X86_64, 4 * K, no, { 2 * M, 4 * K }, { 2 * M, 4 * K }, { 2 * M, 4 * K } },
	{ NULL,
	  MACHINE_ARM64,
	  4 * K,
	  no,
	  { G, 32 * M, 2 * M, 64 * K, 4 * K },
	  { 2 * M, 4 * K },
	  { 2 * M, 64 * K, 4 * K } },
	{ NULL,
	  MACHINE_ARM64,
	  16 * K,
	  no,
	  { G, 32 * M, 2 * M, 16 * K },
	  { 32 * M, 16 * K },
	  { 32 * M, 2 * M, 16 * K } },
#if SIZE_MAX > UINT32_MAX
	{ NULL,
	  MACHINE_ARM64,
	  64 * K,
	  no,
	  { 16 * G, 512 * M, 2 * M, 64 * K },
	  { 512 * M, 64 * K },
	  { 512 * M, 2 * M, 64 * K },
	  { 2 * M, 64 * K } },
#endif
	{ NULL,
	  MACHINE_RISCV64,
	  4 * K,
	  no,
	  { G, 2 * M, 64 * K, 4 * K },
	  { G, 2 * M, 4 * K },
	  { 2 * M, 64 * K, 4 * K } },
	{ NULL,
	  MACHINE_PPC64,
	  64 * K,
	  no,
	  { G, 2 * M, 64 * K },
	  { G, 2 * M, 64 * K },
	  { 2 * M, 64 * K } },
	{ NULL, MACHINE_S390X, 4 * K, no, { 2 * G, M, 4 * K }, { 4 * K }, { M, 4 * K } },
	/* Of a machine that nobody thought of, the base page is all that is known. */
	{ NULL, MACHINE_OTHER, 8 * K, no, { 8 * K }, { 8 * K }, { 8 * K } },
};

static struct host learn(const char *tree, enum machine machine, size_t page, bool (*maps_1g)(void),
			 const char *release)
{
	struct host host = { 0 };
	char path[512];

	snprintf(path, sizeof(path), SYSFS_TREES "/%s", tree ? tree : "none");
	if (tree && access(path, R_OK))
		fail_msg("%s is missing", path);
	alignmap_learn_host(&(struct machine_facts){ machine, page, maps_1g, path, release },
			    &host);
	return host;
}

static void assert_leaves(const struct host *host, enum alignmap_backing backing,
			  const size_t *expected, size_t index)
{
	struct alignmap_leaves leaves;
	unsigned int count = 0;

	assert_int_equal(alignmap_leaves_of(host, backing, &leaves), 0);
	while (count < ALIGNMAP_LEAVES_MAX && expected[count])
		count++;
	if (leaves.count != count || memcmp(leaves.size, expected, count * sizeof(*expected)) != 0)
		fail_msg("host %zu (%s), backing %d: %u sizes, largest %zu", index,
			 hosts[index].tree ? hosts[index].tree : "no sysfs", backing, leaves.count,
			 leaves.size[0]);
}

static void every_host_has_its_leaf_sizes(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(hosts); i++) {
		struct host host = learn(hosts[i].tree, hosts[i].machine, hosts[i].page,
					 hosts[i].maps_1g, "6.1.0");

		assert_leaves(&host, ALIGNMAP_ANY, hosts[i].all, i);
		assert_leaves(&host, ALIGNMAP_VFIO, hosts[i].vfio, i);
		assert_leaves(&host, ALIGNMAP_FILE,
			      *hosts[i].file ? hosts[i].file : hosts[i].anonymous, i);
		assert_leaves(&host, ALIGNMAP_ANONYMOUS, hosts[i].anonymous, i);
	}
}

/* What the trees list, read off by eye; the order is that of enum leaf_source. */
static void each_leaf_size_has_the_sources_that_told_it(void **state)
{
	static const struct {
		const char *tree;
		enum machine machine;
		size_t page;
		bool (*maps_1g)(void);
		size_t told[LEAF_SOURCES];
	} told[] = {
		{ "x86-64", MACHINE_X86_64, 4 * K, yes, { 4 * K, G | 2 * M, 2 * M, 0, 0 } },
		{ "x86-64-no-pdpe1gb", MACHINE_X86_64, 4 * K, no, { 4 * K, 2 * M, 2 * M, 0, 0 } },
		{ "made-up-x86-64-no-gigantic-listed",
		  MACHINE_X86_64,
		  4 * K,
		  yes,
		  { 4 * K, 2 * M, 2 * M, G, 0 } },
		{ "arm64-4k",
		  MACHINE_ARM64,
		  4 * K,
		  no,
		  { 4 * K, G | 32 * M | 2 * M | 64 * K, 2 * M, 0, 0 } },
		{ "riscv64-svnapot",
		  MACHINE_RISCV64,
		  4 * K,
		  no,
		  { 4 * K, G | 2 * M | 64 * K, 2 * M, 0, 0 } },
		{ "s390x-no-edat", MACHINE_S390X, 4 * K, no, { 4 * K, 0, 0, 0, 2 * G | M } },
		{ NULL, MACHINE_X86_64, 4 * K, yes, { 4 * K, 0, 0, G, 2 * M } },
		{ NULL, MACHINE_X86_64, 4 * K, no, { 4 * K, 0, 0, 0, 2 * M } },
		{ NULL, MACHINE_ARM64, 16 * K, no, { 16 * K, 0, 0, 0, G | 32 * M | 2 * M } },
		{ NULL, MACHINE_OTHER, 8 * K, no, { 8 * K, 0, 0, 0, 0 } },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(told); i++) {
		struct host host = learn(told[i].tree, told[i].machine, told[i].page,
					 told[i].maps_1g, "6.1.0");
		size_t sizes = 0, all = 0;

		for (unsigned int j = 0; j < host.leaves.count; j++)
			sizes |= host.leaves.size[j];
		for (int source = 0; source < LEAF_SOURCES; source++) {
			all |= host.told[source];
			if (host.told[source] != told[i].told[source])
				fail_msg("host %zu (%s), source %d: %#zx", i,
					 told[i].tree ? told[i].tree : "no sysfs", source,
					 host.told[source]);
		}
		assert_int_equal(all, sizes);
	}
}

static void the_thp_policy_rules_bars_from_6_16_to_7_1(void **state)
{
	static const struct {
		const char *release;
		bool rules;
	} releases[] = {
		{ "6.12.117+deb12-amd64", false },
		{ "6.15.9", false },
		{ "6.16.0-rc1", true },
		{ "6.18.44-fc-v595", true },
		{ "6.20", true },
		{ "7.0.0", true },
		{ "7.1.3-amd64", true },
		{ "7.2.0", false },
		{ "7.3.4+deb13-amd64", false },
		{ "5.18.0", false },
		{ "10.0.1", false },
		{ "", false },
		{ "garbage", false },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(releases); i++) {
		struct host host = learn("x86-64", MACHINE_X86_64, 4 * K, yes, releases[i].release);

		if (host.thp_rules_bars != releases[i].rules)
			fail_msg("%s", releases[i].release);
	}
}

/* A tree of our own making: one value of transparent_hugepage/enabled after the other. */
static void the_thp_policy_is_read(void **state)
{
	static const struct {
		const char *line;
		enum thp_policy policy;
	} lines[] = {
		{ "[always] madvise never\n", THP_ALWAYS },
		{ "always [madvise] never\n", THP_MADVISE },
		{ "always madvise [never]\n", THP_NEVER },
		{ "", THP_UNKNOWN },
	};
	char tree[] = "/tmp/alignmap-leaves-XXXXXX";
	char command[128];

	(void)state;
	assert_non_null(mkdtemp(tree));
	for (size_t i = 0; i < COUNT(lines); i++) {
		struct host host = { 0 };
		char path[128];
		FILE *file;

		snprintf(command, sizeof(command), "mkdir -p %s/transparent_hugepage", tree);
		assert_int_equal(system(command), 0);
		snprintf(path, sizeof(path), "%s/transparent_hugepage/enabled", tree);
		file = fopen(path, "w");
		assert_non_null(file);
		fputs(lines[i].line, file);
		fclose(file);
		alignmap_learn_host(
			&(struct machine_facts){ MACHINE_X86_64, 4 * K, yes, tree, "6.18.1" },
			&host);
		assert_int_equal(host.thp, lines[i].policy);
		/* hpage_pmd_size is missing here: the table stands in. */
		assert_int_equal(host.pmd, 2 * M);
	}
	snprintf(command, sizeof(command), "rm -r %s", tree);
	assert_int_equal(system(command), 0);
}

/* sysfs is the kernel's, but a container may show anything in its place. */
static void nonsense_in_sysfs_is_left_out(void **state)
{
	static const char *const names[] = { "hugepages-2048kB",
					     "hugepages-3000kB",
					     "hugepages-2kB",
					     "hugepages-0kB",
					     "hugepages-kB",
					     "hugepages-64",
					     "hugepages-64MB",
					     "hugepages-99999999999999999999kB",
					     "hugepages-18014398509481984kB",
					     "huge" };
	const size_t expected[] = { G, 2 * M, 4 * K };
	char tree[] = "/tmp/alignmap-leaves-XXXXXX";
	struct host host = { 0 };
	char command[256];

	(void)state;
	assert_non_null(mkdtemp(tree));
	for (size_t i = 0; i < COUNT(names); i++) {
		snprintf(command, sizeof(command), "mkdir -p %s/hugepages/%s", tree, names[i]);
		assert_int_equal(system(command), 0);
	}
	alignmap_learn_host(&(struct machine_facts){ MACHINE_X86_64, 4 * K, yes, tree, "7.3" },
			    &host);
	assert_int_equal(host.leaves.count, COUNT(expected));
	assert_memory_equal(host.leaves.size, expected, sizeof(expected));
	assert_int_equal(host.told[LEAF_HUGEPAGES], 2 * M);
	snprintf(command, sizeof(command), "rm -r %s", tree);
	assert_int_equal(system(command), 0);
}

static void this_host_is_known_and_wrong_questions_are_refused(void **state)
{
	struct alignmap_leaves leaves = { 0 };

	(void)state;
	assert_int_equal(alignmap_host_leaves(ALIGNMAP_ANY, &leaves), 0);
	assert_in_range(leaves.count, 1, ALIGNMAP_LEAVES_MAX);
	assert_int_equal(leaves.size[leaves.count - 1], sysconf(_SC_PAGESIZE));

	errno = 0;
	assert_int_equal(alignmap_host_leaves(ALIGNMAP_ANY, NULL), -1);
	assert_int_equal(errno, EINVAL);
	errno = 0;
	assert_int_equal(alignmap_host_leaves((enum alignmap_backing)4, &leaves), -1);
	assert_int_equal(errno, EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_host_has_its_leaf_sizes),
		cmocka_unit_test(each_leaf_size_has_the_sources_that_told_it),
		cmocka_unit_test(the_thp_policy_rules_bars_from_6_16_to_7_1),
		cmocka_unit_test(the_thp_policy_is_read),
		cmocka_unit_test(nonsense_in_sysfs_is_left_out),
		cmocka_unit_test(this_host_is_known_and_wrong_questions_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
