// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* What this host can map: its leaf sizes, and the transparent-huge-page policy beside them. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/utsname.h>
#include <unistd.h>
#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#endif

#include "leaves.h"

#define K ((size_t)1 << 10)
#define M ((size_t)1 << 20)
#define G ((size_t)1 << 30)

/*
 * What a machine maps, for hosts whose sysfs does not say; 1 GiB is left to maps_1g() on x86-64.
 * One size too many costs some address space, one too few costs entries.
 */
static const struct {
	enum machine machine;
	size_t page, pmd, others[3];
} known[] = {
	{ MACHINE_X86_64, 4 * K, 2 * M, { 0 } },
	{ MACHINE_ARM64, 4 * K, 2 * M, { 64 * K, 32 * M, G } },
	{ MACHINE_ARM64, 16 * K, 32 * M, { 2 * M, G } },
	{ MACHINE_ARM64, 64 * K, 512 * M, { 2 * M, 16 * G } },
	{ MACHINE_RISCV64, 4 * K, 2 * M, { 64 * K, G } },
	{ MACHINE_PPC64, 64 * K, 2 * M, { G } },
	{ MACHINE_S390X, 4 * K, M, { 2 * G } },
};

/* Keeps the sizes sorted and each once. What is no leaf size of any machine is left out. */
static void add(struct alignmap_leaves *leaves, size_t page, size_t size)
{
	unsigned int at = 0;

	if (size < page || size & (size - 1) || leaves->count == ALIGNMAP_LEAVES_MAX)
		return;
	while (at < leaves->count && leaves->size[at] > size)
		at++;
	if (at < leaves->count && leaves->size[at] == size)
		return;
	memmove(&leaves->size[at + 1], &leaves->size[at],
		(leaves->count - at) * sizeof(leaves->size[0]));
	leaves->size[at] = size;
	leaves->count++;
}

/* The same for a size of this host, of which the source is kept. */
static void learn(struct host *host, struct alignmap_leaves *leaves, size_t page, size_t size,
		  enum leaf_source source)
{
	add(leaves, page, size);
	for (unsigned int i = 0; i < leaves->count; i++)
		if (leaves->size[i] == size)
			host->told[source] |= size;
}

/* hugepages-2048kB and its like, by a bare directory read: opendir() would allocate. */
static bool add_listed(struct host *host, struct alignmap_leaves *leaves, size_t page, int sysfs)
{
	static const char prefix[] = "hugepages-";
	int directory = openat(sysfs, "hugepages", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_Alignas(struct dirent64) char entries[2048];
	ssize_t filled;

	if (directory < 0)
		return false;
	while ((filled = getdents64(directory, (void *)entries, sizeof(entries))) > 0) {
		for (ssize_t at = 0; at < filled;) {
			const struct dirent64 *entry = (const void *)(entries + at);
			unsigned long long kib;
			char *unit;

			at += entry->d_reclen;
			if (strncmp(entry->d_name, prefix, sizeof(prefix) - 1) != 0)
				continue;
			kib = strtoull(entry->d_name + sizeof(prefix) - 1, &unit, 10);
			if (strcmp(unit, "kB") == 0 && kib <= SIZE_MAX / K)
				learn(host, leaves, page, kib * K, LEAF_HUGEPAGES);
		}
	}
	close(directory);
	return true;
}

/* Reads a short file of sysfs; an empty string where that fails. */
static void read_line(int sysfs, const char *path, char *line, size_t room)
{
	int fd = openat(sysfs, path, O_RDONLY | O_CLOEXEC);
	ssize_t filled = fd < 0 ? -1 : read(fd, line, room - 1);

	line[filled > 0 ? filled : 0] = '\0';
	if (fd >= 0)
		close(fd);
}

static enum thp_policy parse_policy(const char *line)
{
	if (strstr(line, "[always]"))
		return THP_ALWAYS;
	if (strstr(line, "[madvise]"))
		return THP_MADVISE;
	return strstr(line, "[never]") ? THP_NEVER : THP_UNKNOWN;
}

/*
 * Whether transparent_hugepage/enabled decides about BARs too. Measured so on 6.18; 7.2
 * exempts what is no page cache (vma_file_bypass_thp_tuneables), 6.12 had not begun.
 */
static bool policy_rules_bars(const char *release)
{
	char *end;
	unsigned long major = strtoul(release, &end, 10);
	unsigned long minor = *end == '.' ? strtoul(end + 1, NULL, 10) : 0;

	return (major == 6 && minor >= 16) || (major == 7 && minor < 2);
}

static bool has(const struct alignmap_leaves *leaves, size_t size)
{
	for (unsigned int i = 0; i < leaves->count; i++)
		if (leaves->size[i] == size)
			return true;
	return false;
}

static void up_to(const struct alignmap_leaves *all, size_t most, struct alignmap_leaves *leaves)
{
	leaves->count = 0;
	for (unsigned int i = 0; i < all->count; i++)
		if (all->size[i] <= most)
			leaves->size[leaves->count++] = all->size[i];
}

void alignmap_learn_host(const struct machine_facts *facts, struct host *host)
{
	int sysfs = open(facts->sysfs, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct alignmap_leaves leaves = { 0 };
	enum leaf_source pmd_source = LEAF_THP;
	bool listed = false;
	char line[64] = "";
	size_t pmd = 0;

	memset(host->told, 0, sizeof(host->told));
	learn(host, &leaves, facts->page, facts->page, LEAF_PAGE);
	if (sysfs >= 0) {
		listed = add_listed(host, &leaves, facts->page, sysfs);
		read_line(sysfs, "transparent_hugepage/hpage_pmd_size", line, sizeof(line));
		pmd = strtoull(line, NULL, 10);
		read_line(sysfs, "transparent_hugepage/enabled", line, sizeof(line));
		close(sysfs);
	}
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (known[i].machine != facts->machine || known[i].page != facts->page)
			continue;
		if (!pmd) {
			pmd = known[i].pmd;
			pmd_source = LEAF_TABLE;
		}
		for (size_t j = 0; j < 3 && !listed; j++)
			learn(host, &leaves, facts->page, known[i].others[j], LEAF_TABLE);
	}
	learn(host, &leaves, facts->page, pmd, pmd_source);
	if (leaves.size[0] < G && (facts->machine == MACHINE_RISCV64 ||
				   (facts->machine == MACHINE_X86_64 && facts->maps_1g())))
		learn(host, &leaves, facts->page, G, LEAF_PROCESSOR);

	host->machine = facts->machine;
	host->pmd = pmd > facts->page ? pmd : facts->page;
	host->thp = parse_policy(line);
	host->thp_rules_bars = policy_rules_bars(facts->release);
	up_to(&leaves, host->pmd, &host->anonymous);
	host->leaves = leaves;
}

int alignmap_leaves_of(const struct host *host, enum alignmap_backing backing,
		       struct alignmap_leaves *leaves)
{
	size_t page = host->leaves.size[host->leaves.count - 1];

	switch (backing) {
	case ALIGNMAP_ANY:
		*leaves = host->leaves;
		return 0;
	case ALIGNMAP_FILE:
		/* Page cache holds no more in one piece (include/linux/pagemap.h, MAX_XAS_ORDER).
		 */
		up_to(&host->anonymous, page << 11, leaves);
		return 0;
	case ALIGNMAP_ANONYMOUS:
		*leaves = host->anonymous;
		return 0;
	case ALIGNMAP_VFIO:
		*leaves = (struct alignmap_leaves){ 0 };
		add(leaves, page, page);
		/* mm/Kconfig: ARCH_SUPPORTS_PMD_PFNMAP, ARCH_SUPPORTS_PUD_PFNMAP. */
		switch (host->machine) {
		case MACHINE_X86_64:
		case MACHINE_RISCV64:
		case MACHINE_PPC64:
			/* A PUD; where ppc64's tables are hashed there is none, and no 1 GiB. */
			if (has(&host->leaves, G))
				add(leaves, page, G);
			/* fall through */
		case MACHINE_ARM64:
			add(leaves, page, host->pmd);
			break;
		default:
			break;
		}
		return 0;
	}
	errno = EINVAL;
	return -1;
}

static bool maps_1g(void)
{
#if defined(__x86_64__) || defined(__i386__)
	const unsigned int pdpe1gb = 1u << 26; /* no name in every compiler's cpuid.h */
	unsigned int a, b, c, d;

	return __get_cpuid(0x80000001, &a, &b, &c, &d) && d & pdpe1gb;
#else
	return false;
#endif
}

struct host alignmap_host;

/* The first priority that is not the compiler's: a program's own constructors may map already. */
__attribute__((constructor(101))) static void learn_this_host(void)
{
	struct utsname name = { 0 };
	struct machine_facts facts = {
/* 32-bit programs meet the same kernel. */
#if defined(__x86_64__) || defined(__i386__)
		.machine = MACHINE_X86_64,
#elif defined(__aarch64__)
		.machine = MACHINE_ARM64,
#elif defined(__riscv) && __riscv_xlen == 64
		.machine = MACHINE_RISCV64,
#elif defined(__powerpc64__)
		.machine = MACHINE_PPC64,
#elif defined(__s390x__)
		.machine = MACHINE_S390X,
#else
		.machine = MACHINE_OTHER,
#endif
		.page = getauxval(AT_PAGESZ),
		.maps_1g = maps_1g,
		.sysfs = "/sys/kernel/mm",
		.release = name.release,
	};
	int saved = errno;

	/* Another library's constructor may have asked before. */
	if (alignmap_host.leaves.count)
		return;
	uname(&name);
	alignmap_learn_host(&facts, &alignmap_host);
	errno = saved;
}

int alignmap_host_leaves(enum alignmap_backing backing, struct alignmap_leaves *leaves)
{
	if (!leaves) {
		errno = EINVAL;
		return -1;
	}
	learn_this_host();
	return alignmap_leaves_of(&alignmap_host, backing, leaves);
}
