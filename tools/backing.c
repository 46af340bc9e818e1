// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#include <err.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backing.h"

void read_choice(const char *path, char *choice, size_t room)
{
	const int fd = open(path, O_RDONLY | O_CLOEXEC);
	char text[256] = "";
	const ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	const char *start;

	if (fd >= 0)
		close(fd);
	text[length > 0 ? length : 0] = '\0';
	start = strchr(text, '[');
	snprintf(choice, room, "%.*s", start ? (int)strcspn(start + 1, "]") : 0,
		 start ? start + 1 : "");
}

/* Of sysfs, and of the mount option huge=; advise is shmem's word, madvise that of anonymous. */
static enum huge_policy policy_called(const char *choice)
{
	static const struct {
		const char *choice;
		enum huge_policy policy;
	} known[] = {
		{ "always", HUGE_ALWAYS },	{ "force", HUGE_ALWAYS },
		{ "within_size", HUGE_ALWAYS }, { "advise", HUGE_ADVISED },
		{ "madvise", HUGE_ADVISED },	{ "never", HUGE_NEVER },
		{ "deny", HUGE_NEVER },
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strcmp(choice, known[i].choice) == 0)
			return known[i].policy;
	return HUGE_NEVER;
}

/*
 * The policy for one leaf size; where it is to "inherit", that for all. Where Linux has none for
 * each size it has that for all as to PMDs, and no smaller ones.
 */
static enum huge_policy policy_of_leaf(const char *sys, size_t leaf, const char *file,
				       enum huge_policy all, enum huge_policy missing)
{
	char path[PATH_MAX], choice[32];

	snprintf(path, sizeof(path), "%s/kernel/mm/transparent_hugepage/hugepages-%zukB/%s", sys,
		 leaf / 1024, file);
	read_choice(path, choice, sizeof(choice));
	if (!*choice)
		return missing;
	return strcmp(choice, "inherit") == 0 ? all : policy_called(choice);
}

/* Takes out the leaf sizes between base page and PMD that are never used. */
static void drop_unused(const char *sys, const char *file, enum huge_policy all,
			struct alignmap_leaves *leaves)
{
	const struct alignmap_leaves before = *leaves;

	leaves->count = 0;
	for (unsigned int i = 0; i < before.count; i++)
		if (i == 0 || i == before.count - 1 ||
		    policy_of_leaf(sys, before.size[i], file, all, HUGE_NEVER) != HUGE_NEVER)
			leaves->size[leaves->count++] = before.size[i];
}

void read_policies(const char *sys, struct surroundings *around)
{
	const size_t pmd = around->anonymous.size[0];
	char path[PATH_MAX], choice[32];
	enum huge_policy all;

	snprintf(path, sizeof(path), "%s/kernel/mm/transparent_hugepage/enabled", sys);
	read_choice(path, choice, sizeof(choice));
	around->has_thp = *choice;
	around->bar_policy = all = policy_called(choice);
	around->anonymous_policy = policy_of_leaf(sys, pmd, "enabled", all, all);
	drop_unused(sys, "enabled", all, &around->anonymous);
	snprintf(path, sizeof(path), "%s/kernel/mm/transparent_hugepage/shmem_enabled", sys);
	read_choice(path, choice, sizeof(choice));
	around->mount_policy = all = policy_called(choice);
	around->denied = strcmp(choice, "deny") == 0;
	around->forced = strcmp(choice, "force") == 0;
	/* mm/shmem.c, shmem_allowable_huge_orders(): deny and force precede the sizes' own. */
	around->unlinked_policy = all;
	if (!around->denied && !around->forced)
		around->unlinked_policy = policy_of_leaf(sys, pmd, "shmem_enabled", all, all);
	drop_unused(sys, "shmem_enabled", all, &around->shmem);
}

static struct backing without_rule(enum backing_kind kind, const char *reason)
{
	return (struct backing){ .kind = kind, .rule = NO_RULE, .reason = reason };
}

/* However it lies: in leaves of one size. */
static struct backing of_one_size(enum backing_kind kind, size_t size, const char *reason)
{
	return (struct backing){ kind, BY_OFFSET, { 1, { size } }, { 1, { size } }, reason };
}

static size_t base_page(const struct surroundings *around)
{
	return around->all.size[around->all.count - 1];
}

/* By base pages, for this reason, of what it would be able to use. */
static struct backing held_back(const struct surroundings *around, struct backing backing,
				const char *reason)
{
	backing.leaves = (struct alignmap_leaves){ 1, { base_page(around) } };
	backing.reason = reason;
	return backing;
}

/* In what Linux maps it with, unless huge pages are forbidden for the mapping or the process. */
static struct backing of_leaves(const struct surroundings *around, const struct mapping *mapping,
				enum backing_kind kind, enum rule rule,
				const struct alignmap_leaves *leaves)
{
	const struct backing backing = { kind, rule, *leaves, *leaves, NULL };

	if (!around->has_thp)
		return held_back(around, backing, "this Linux has no transparent huge pages");
	if (around->thp_disabled)
		return held_back(around, backing,
				 "the process has disabled transparent huge pages "
				 "(PR_SET_THP_DISABLE)");
	if (mapping->flags & UNDER_MADV_NOHUGEPAGE)
		return held_back(around, backing, "it is under MADV_NOHUGEPAGE");
	return backing;
}

static bool is_of_file(const struct mapping *mapping, const struct mapping *other)
{
	return other->inode == mapping->inode && other->major == mapping->major &&
	       other->minor == mapping->minor;
}

static bool is_among(const struct selection *selection, const struct mapping *mapping)
{
	for (size_t i = 0; i < selection->count; i++)
		if (is_of_file(mapping, selection->mappings[i]))
			return true;
	return false;
}

/* A policy rules what memory is allocated. What is there in PMDs is mapped by them. */
static struct backing by_policy(const struct surroundings *around, const struct mapping *mapping,
				enum huge_policy policy, struct backing allowed,
				const char *when_never, const char *when_advised)
{
	if (allowed.reason || policy == HUGE_ALWAYS ||
	    (policy == HUGE_ADVISED && mapping->flags & UNDER_MADV_HUGEPAGE) || mapping->huge ||
	    (mapping->inode && is_among(&around->huge, mapping)))
		return allowed;
	return held_back(around, allowed, policy == HUGE_NEVER ? when_never : when_advised);
}

static struct backing vfio(const struct surroundings *around, const struct mapping *mapping)
{
	struct backing backing = of_leaves(around, mapping, BACKING_VFIO, BY_OFFSET, &around->bar);

	if (!backing.reason && backing.able.count == 1)
		backing.reason = "this Linux maps BARs by base pages";
	return by_policy(around, mapping, around->bars_obey ? around->bar_policy : HUGE_ALWAYS,
			 backing, "transparent_hugepage/enabled rules out huge pages",
			 "transparent_hugepage/enabled wants MADV_HUGEPAGE");
}

/* Device DAX maps with its alignment, and with nothing smaller. */
static struct backing device_dax(const struct surroundings *around, const struct mapping *mapping)
{
	const char *device = mapping->name + strlen("/dev/");
	struct alignmap_leaves leaves = { 0 };
	unsigned long long alignment = 0;
	char path[PATH_MAX];
	FILE *file;

	snprintf(path, sizeof(path), "%s/bus/dax/devices/%.*s/align", around->sys,
		 (int)strcspn(device, " /"), device);
	file = fopen(path, "re");
	if (!file || fscanf(file, "%llu", &alignment) != 1 || alignment < base_page(around))
		alignment = mapping->page;
	if (file)
		fclose(file);
	for (unsigned int i = 0; i < around->all.count; i++)
		if (around->all.size[i] <= alignment)
			leaves.size[leaves.count++] = around->all.size[i];
	if (!leaves.count)
		return without_rule(BACKING_DAX, "its alignment is not known");
	return (struct backing){ BACKING_DAX, BY_OFFSET, leaves, leaves, NULL };
}

static struct backing base_pages(const struct surroundings *around, const struct mapping *mapping)
{
	(void)mapping;
	return of_one_size(BACKING_DEVICE, base_page(around),
			   "Linux maps such a device by base pages");
}

static struct backing driver(const struct surroundings *around, const struct mapping *mapping)
{
	(void)around;
	(void)mapping;
	return without_rule(BACKING_DEVICE, "the offset need not say where its memory is");
}

static struct backing kernel(const struct surroundings *around, const struct mapping *mapping)
{
	(void)around;
	(void)mapping;
	return without_rule(BACKING_KERNEL, "it is the kernel's own");
}

static struct backing shmem(const struct surroundings *around, const struct mapping *mapping,
			    enum huge_policy policy)
{
	return by_policy(around, mapping, policy,
			 of_leaves(around, mapping, BACKING_SHARED, BY_OFFSET, &around->shmem),
			 "transparent_hugepage/shmem_enabled rules out huge pages",
			 "transparent_hugepage/shmem_enabled wants MADV_HUGEPAGE");
}

static struct backing unlinked(const struct surroundings *around, const struct mapping *mapping)
{
	return shmem(around, mapping, around->unlinked_policy);
}

static struct backing system_v(const struct surroundings *around, const struct mapping *mapping)
{
	return shmem(around, mapping, around->mount_policy);
}

static struct backing anonymous(const struct surroundings *around, const struct mapping *mapping)
{
	if (mapping->permissions[3] == 's')
		return without_rule(BACKING_KERNEL, "what it maps has no name");
	if (strncmp(mapping->permissions, "---", 3) == 0)
		return without_rule(BACKING_RESERVED, "it is a reservation (PROT_NONE)");
	return by_policy(
		around, mapping, around->anonymous_policy,
		of_leaves(around, mapping, BACKING_ANONYMOUS, BY_ADDRESS, &around->anonymous),
		"transparent_hugepage/enabled rules out huge pages",
		"transparent_hugepage/enabled wants MADV_HUGEPAGE");
}

static void add_mapping(struct selection *selection, size_t room, const struct mapping *mapping)
{
	if (!selection->mappings)
		/* Pointers are what it holds. NOLINTNEXTLINE(bugprone-sizeof-expression) */
		selection->mappings = calloc(room, sizeof(*selection->mappings));
	if (!selection->mappings)
		err(2, NULL);
	selection->mappings[selection->count++] = mapping;
}

void select_mappings(const struct maps *maps, struct surroundings *around)
{
	for (size_t i = 0; i < maps->count; i++) {
		const struct mapping *mapping = &maps->mappings[i];

		if (mapping->inode && mapping->permissions[2] == 'x')
			add_mapping(&around->executable, maps->count, mapping);
		if (mapping->inode && mapping->huge)
			add_mapping(&around->huge, maps->count, mapping);
	}
}

void free_selections(struct surroundings *around)
{
	free(around->executable.mappings);
	free(around->huge.mappings);
}

static const struct mount *mount_of(const struct surroundings *around,
				    const struct mapping *mapping, const char *type,
				    const char *point)
{
	for (size_t i = 0; i < around->mounts->count; i++) {
		const struct mount *mount = &around->mounts->mounts[i];

		if (mount->major == mapping->major && mount->minor == mapping->minor &&
		    strcmp(mount->type, type) == 0 && (!point || strcmp(mount->point, point) == 0))
			return mount;
	}
	return NULL;
}

static bool is_unlinked(const struct mapping *mapping)
{
	static const char mark[] = " (deleted)";
	const size_t length = strlen(mapping->name);

	return length >= sizeof(mark) &&
	       strcmp(mapping->name + length - sizeof(mark) + 1, mark) == 0;
}

/* "huge=" of a tmpfs's options, to which shmem_enabled gives deny and force precedence. */
static struct backing tmpfs_file(const struct surroundings *around, const struct mapping *mapping,
				 const struct mount *mount)
{
	const char *option = mount->options;
	char choice[16] = "never";

	if (is_unlinked(mapping))
		return unlinked(around, mapping);
	while (option) {
		sscanf(option, "huge=%15[a-z_]", choice);
		option = strchr(option, ',');
		if (option)
			option++;
	}
	return by_policy(around, mapping,
			 around->denied || around->forced ? around->mount_policy
							  : policy_called(choice),
			 of_leaves(around, mapping, BACKING_SHARED, BY_OFFSET, &around->shmem),
			 "its tmpfs is mounted without huge pages (huge=)",
			 "its tmpfs is mounted with huge=advise, and it lacks MADV_HUGEPAGE");
}

/* Those whose page cache, or DAX, is known to have PMDs. */
static bool has_huge_pages(const struct surroundings *around, const struct mapping *mapping)
{
	static const char *const types[] = { "btrfs", "ext4", "xfs" };

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (mount_of(around, mapping, types[i], NULL))
			return true;
	return mapping->huge || is_among(&around->huge, mapping);
}

static struct backing file(const struct surroundings *around, const struct mapping *mapping)
{
	const struct mount *tmpfs = mount_of(around, mapping, "tmpfs", NULL);

	/* Graphics memory has names such as "/i915 (deleted)" there. */
	if (around->knows_shm && mapping->major == around->shm_major &&
	    mapping->minor == around->shm_minor)
		return driver(around, mapping);
	/* In a container a tmpfs at /dev holds the nodes of its devices. */
	if (strncmp(mapping->name, "/dev/", 5) == 0 &&
	    (!tmpfs || mount_of(around, mapping, "tmpfs", "/dev")))
		return driver(around, mapping);
	/* A program's segments lie where the kernel and ld.so put them together. */
	if (is_among(&around->executable, mapping))
		return without_rule(BACKING_IMAGE, "it is part of a program or shared object");
	if (tmpfs)
		return tmpfs_file(around, mapping, tmpfs);
	if (!has_huge_pages(around, mapping))
		return without_rule(BACKING_FILE, "its file system is not known for huge pages");
	return of_leaves(around, mapping, BACKING_FILE, BY_OFFSET, &around->cache);
}

/* By the name, the first that fits; mapped as hugetlbfs files are named as others. */
static const struct {
	const char *name; /* its beginning */
	struct backing (*backing)(const struct surroundings *, const struct mapping *);
} by_name[] = {
	{ "anon_inode:[vfio-device]", vfio },
	{ "/dev/vfio/devices/", vfio },
	{ "/dev/dax", device_dax },
	{ "/dev/mem", base_pages },
	{ "/dev/uio", base_pages },
	{ "/sys/devices/", base_pages },
	{ "/memfd:", unlinked },
	{ "/SYSV", system_v },
	{ "/dev/zero (deleted)", unlinked },
	{ "[anon_shmem:", unlinked },
	{ "/dmabuf:", driver },
	{ "/", file },
	{ "[anon:", anonymous },
	{ "[heap]", anonymous },
	{ "[stack", anonymous },
	{ "[", kernel },
};

static bool is_hugetlb(const struct surroundings *around, const struct mapping *mapping)
{
	return mapping->flags & OF_HUGETLB || mount_of(around, mapping, "hugetlbfs", NULL) ||
	       (mapping->page > base_page(around) && strncmp(mapping->name, "/dev/dax", 8) != 0);
}

static struct backing hugetlb(const struct surroundings *around, const struct mapping *mapping)
{
	/* The kernel takes no other address for it. */
	if (mapping->page > base_page(around))
		return of_one_size(BACKING_HUGETLB, mapping->page, NULL);
	return without_rule(BACKING_HUGETLB, "the size of its pages is not known");
}

struct backing backing_of(const struct surroundings *around, const struct mapping *mapping)
{
	if (is_hugetlb(around, mapping))
		return hugetlb(around, mapping);
	if (!*mapping->name)
		return anonymous(around, mapping);
	for (size_t i = 0; i < sizeof(by_name) / sizeof(by_name[0]); i++)
		if (strncmp(mapping->name, by_name[i].name, strlen(by_name[i].name)) == 0)
			return by_name[i].backing(around, mapping);
	return driver(around, mapping);
}

const char *backing_name(enum backing_kind kind)
{
	static const char *const names[] = {
		[BACKING_VFIO] = "vfio",	 [BACKING_DAX] = "device_dax",
		[BACKING_HUGETLB] = "hugetlb",	 [BACKING_SHARED] = "shared_memory",
		[BACKING_FILE] = "file",	 [BACKING_IMAGE] = "image",
		[BACKING_DEVICE] = "device",	 [BACKING_ANONYMOUS] = "anonymous",
		[BACKING_RESERVED] = "reserved", [BACKING_KERNEL] = "kernel",
	};

	return names[kind];
}
