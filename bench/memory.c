// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "measure.h"
#include "memory.h"
#include "subject.h"

#define THP "/sys/kernel/mm/transparent_hugepage"
#define HUGE_PAGES "/sys/kernel/mm/hugepages/hugepages-%zukB"

/* What a file in sysfs says: its word in brackets, if it has one, or its first; or nothing. */
struct setting {
	char word[32];
};

static struct setting read_setting(const char *path)
{
	FILE *file = fopen(path, "re");
	struct setting setting = { "" };
	char line[128] = "";
	const char *bracket;

	if (!file)
		return setting;
	if (fgets(line, sizeof(line), file)) {
		bracket = strchr(line, '[');
		sscanf(bracket ? bracket + 1 : line, "%31[^] \n]", setting.word);
	}
	fclose(file);
	return setting;
}

static bool is_set(const char *path, const char *word)
{
	return strcmp(read_setting(path).word, word) == 0;
}

static struct alignmap_leaves leaves_of(enum alignmap_backing backing)
{
	struct alignmap_leaves leaves = { 0 };

	alignmap_host_leaves(backing, &leaves);
	return leaves;
}

static struct alignmap_leaves only(size_t leaf)
{
	return (struct alignmap_leaves){ .count = 1, .size = { leaf } };
}

/* Those up to the PMD where transparent huge pages are @allowed, or else base pages. */
static struct alignmap_leaves leaves_if(bool allowed)
{
	const struct alignmap_leaves leaves = leaves_of(ALIGNMAP_FILE);

	if (allowed && prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) == 0)
		return leaves;
	return only(leaves.size[leaves.count - 1]);
}

/* @huge: the mount's option; NULL for a memfd, whose mount is the kernel's own. */
static struct alignmap_leaves shared_leaves(const char *huge)
{
	const struct setting policy = read_setting(THP "/shmem_enabled");

	if (!huge || strcmp(policy.word, "deny") == 0 || strcmp(policy.word, "force") == 0)
		huge = policy.word;
	return leaves_if(strcmp(huge, "always") == 0 || strcmp(huge, "within_size") == 0 ||
			 strcmp(huge, "force") == 0);
}

size_t list_memories(struct memory memories[MEMORIES_MAX])
{
	const struct alignmap_leaves all = leaves_of(ALIGNMAP_ANY);
	const size_t pmd = leaves_of(ALIGNMAP_FILE).size[0];
	size_t count = 0;

	memories[count++] = (struct memory){ .name = "memfd", .leaves = shared_leaves(NULL) };
	memories[count++] = (struct memory){ .name = "tmpfs huge=never",
					     .file_system = "tmpfs",
					     .options = "huge=never",
					     .leaves = shared_leaves("never") };
	memories[count++] = (struct memory){ .name = "tmpfs huge=always",
					     .file_system = "tmpfs",
					     .options = "huge=always",
					     .leaves = shared_leaves("always") };
	memories[count++] =
		(struct memory){ .name = "anonymous",
				 .anonymous = true,
				 .leaves = leaves_if(!is_set(THP "/enabled", "never")) };
	for (unsigned int i = all.count - 1; i-- > 0;) {
		struct memory *memory = &memories[count];
		const size_t leaf = all.size[i];

		if (leaf < pmd)
			continue;
		*memory = (struct memory){ .file_system = "hugetlbfs",
					   .hugetlb = leaf,
					   .leaves = only(leaf) };
		snprintf(memory->name, sizeof(memory->name), "hugetlbfs %.8s",
			 size_text(leaf).text);
		snprintf(memory->options, sizeof(memory->options), "pagesize=%zuM", leaf >> 20);
		count++;
	}
	return count;
}

bool memory_wants_advice(const struct memory *memory)
{
	return memory->anonymous && is_set(THP "/enabled", "madvise");
}

/* Whether a fault of anonymous memory may make entries of several base pages that are no PMD. */
static bool other_sizes_are_on(void)
{
	const size_t pmd = leaves_of(ALIGNMAP_ANONYMOUS).size[0];
	char of_pmd[64];
	bool on = false;
	glob_t sizes;

	snprintf(of_pmd, sizeof(of_pmd), "/hugepages-%zukB/", pmd >> 10);
	if (glob(THP "/hugepages-*kB/enabled", 0, NULL, &sizes))
		return false;
	for (size_t i = 0; i < sizes.gl_pathc; i++)
		on |= !strstr(sizes.gl_pathv[i], of_pmd) && !is_set(sizes.gl_pathv[i], "never");
	globfree(&sizes);
	return on;
}

/* @file: of the folder in sysfs of the huge pages of that size. */
static size_t huge_pages(size_t size, const char *file)
{
	char path[128];

	snprintf(path, sizeof(path), HUGE_PAGES "/%s", size >> 10, file);
	return strtoul(read_setting(path).word, NULL, 10);
}

static void set_huge_pages(size_t size, size_t number)
{
	char path[128];
	FILE *file;

	snprintf(path, sizeof(path), HUGE_PAGES "/nr_hugepages", size >> 10);
	file = fopen(path, "we");
	if (!file)
		return;
	fprintf(file, "%zu", number);
	fclose(file);
}

void borrow_huge_pages(size_t length, size_t before[ALIGNMAP_LEAVES_MAX])
{
	const struct alignmap_leaves all = leaves_of(ALIGNMAP_ANY);
	const size_t pmd = leaves_of(ALIGNMAP_FILE).size[0];

	for (unsigned int i = 0; i < all.count; i++) {
		before[i] = huge_pages(all.size[i], "nr_hugepages");
		if (all.size[i] >= pmd && all.size[i] <= length)
			set_huge_pages(all.size[i], before[i] + length / all.size[i] + 1);
	}
}

void return_huge_pages(const size_t before[ALIGNMAP_LEAVES_MAX])
{
	const struct alignmap_leaves all = leaves_of(ALIGNMAP_ANY);

	for (unsigned int i = 0; i < all.count; i++)
		if (huge_pages(all.size[i], "nr_hugepages") > before[i])
			set_huge_pages(all.size[i], before[i]);
}

const char *memory_refusal(const struct memory *memory, size_t length)
{
	const size_t whole = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);

	if (memory->hugetlb &&
	    huge_pages(memory->hugetlb, "free_hugepages") < length / memory->hugetlb)
		return "there are not enough such pages, nor can they be reserved";
	if (memory->anonymous && other_sizes_are_on())
		return "transparent huge pages of other sizes are switched on";
	return length > whole / 4 ? "it is more than a quarter of this machine's memory" : NULL;
}

/*
 * A mount in a namespace of our own, where nobody else sees it, over a folder that is everywhere.
 * Its only file outlives it.
 */
static int open_file_on(const char *file_system, const char *options)
{
	static bool alone;
	int fd;

	if (!alone && (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL)))
		return -1;
	alone = true;
	if (mount("faults", "/tmp", file_system, 0, options))
		return -1;
	fd = open("/tmp/faults", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	umount2("/tmp", MNT_DETACH);
	return fd;
}

int open_memory(const struct memory *memory, size_t length)
{
	int fd = memory->file_system ? open_file_on(memory->file_system, memory->options)
				     : memfd_create("faults", MFD_CLOEXEC);

	if (fd >= 0 && fallocate(fd, 0, 0, (off_t)length)) {
		const int error = errno;

		close(fd);
		errno = error;
		return -1;
	}
	return fd;
}
