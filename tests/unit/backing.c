// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* What lies behind a mapping, on a made-up host whose leaves are those of x86-64. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "backing.h"
#include "tree.h"

#define K ((size_t)1 << 10)
#define M ((size_t)1 << 20)
#define G ((size_t)1 << 30)
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static char root[] = "/tmp/alignmap-backing-XXXXXX";

/* /dev/shm, a tmpfs with huge pages, a container's /dev, hugetlbfs, a disk. */
static struct mount mount_list[] = {
	{ 0, 30, "/dev/shm", "tmpfs", "rw,size=24684096k" },
	{ 0, 31, "/huge\\040tmp", "tmpfs", "rw,huge=always,size=1g" },
	{ 0, 32, "/advise", "tmpfs", "rw,size=1g,huge=advise" },
	{ 0, 33, "/within", "tmpfs", "rw,huge=within_size" },
	{ 0, 34, "/dev", "tmpfs", "rw,huge=always,mode=755" },
	{ 0, 35, "/dev/hugepages", "hugetlbfs", "rw,pagesize=2M" },
	{ 254, 0, "/", "ext4", "rw" },
};
static const struct mounts mounts = { mount_list, COUNT(mount_list) };

static struct surroundings host(void)
{
	return (struct surroundings){
		.bar = { 3, { G, 2 * M, 4 * K } },
		.all = { 3, { G, 2 * M, 4 * K } },
		.cache = { 2, { 2 * M, 4 * K } },
		.anonymous = { 2, { 2 * M, 4 * K } },
		.shmem = { 2, { 2 * M, 4 * K } },
		.has_thp = true,
		.bar_policy = HUGE_ALWAYS,
		.anonymous_policy = HUGE_ALWAYS,
		.mount_policy = HUGE_ALWAYS,
		.unlinked_policy = HUGE_ALWAYS,
		.knows_shm = true,
		.shm_minor = 1,
		.mounts = &mounts,
		.sys = root,
	};
}

struct row {
	const char *permissions;
	const char *name;
	unsigned int major, minor;
	unsigned int flags;
	size_t page;
	enum backing_kind kind;
	enum rule rule;
	size_t largest, smallest; /* leaves; 0: none */
};

static struct mapping mapping_of(const struct row *row)
{
	struct mapping mapping = {
		.address = (uintptr_t)0x7f0000000000,
		.length = 64 * M,
		.major = row->major,
		.minor = row->minor,
		.inode = row->major || row->minor ? 42 : 0,
		.name = (char *)row->name,
		.flags = row->flags,
		.page = row->page,
	};

	memcpy(mapping.permissions, row->permissions, sizeof(mapping.permissions));
	return mapping;
}

static void check(const struct surroundings *around, const struct row *row)
{
	const struct mapping mapping = mapping_of(row);
	const struct backing backing = backing_of(around, &mapping);
	const size_t count = backing.leaves.count;
	const size_t largest = count ? backing.leaves.size[0] : 0;
	const size_t smallest = count ? backing.leaves.size[count - 1] : 0;

	if (backing.kind != row->kind || backing.rule != row->rule || largest != row->largest ||
	    smallest != row->smallest)
		fail_msg("%s (%s): %s, rule %d, leaves %zu to %zu", row->name, row->permissions,
			 backing_name(backing.kind), backing.rule, largest, smallest);
	/* Whoever gets less than another reads why. */
	if (row->rule == NO_RULE || (row->largest == 4 * K && row->kind != BACKING_DAX))
		assert_non_null(backing.reason);
	else
		assert_null(backing.reason);
}

static void check_all(const struct surroundings *around, const struct row *rows, size_t count)
{
	for (size_t i = 0; i < count; i++)
		check(around, &rows[i]);
}

static void each_kind_has_its_leaves(void **state)
{
	static const struct row rows[] = {
		{ "rw-s", "anon_inode:[vfio-device]", 0, 19, OF_PAGE_FRAMES, 4 * K, BACKING_VFIO,
		  BY_OFFSET, G, 4 * K },
		{ "rw-s", "/dev/vfio/devices/vfio0", 0, 6, OF_PAGE_FRAMES, 4 * K, BACKING_VFIO,
		  BY_OFFSET, G, 4 * K },
		{ "rw-s", "/memfd:pc.ram (deleted)", 0, 1, 0, 4 * K, BACKING_SHARED, BY_OFFSET,
		  2 * M, 4 * K },
		{ "rw-s", "/dev/zero (deleted)", 0, 1, 0, 4 * K, BACKING_SHARED, BY_OFFSET, 2 * M,
		  4 * K },
		{ "rw-s", "/SYSV00000000 (deleted)", 0, 1, 0, 4 * K, BACKING_SHARED, BY_OFFSET,
		  2 * M, 4 * K },
		{ "rw-s", "[anon_shmem:x]", 0, 1, 0, 4 * K, BACKING_SHARED, BY_OFFSET, 2 * M,
		  4 * K },
		{ "rw-p", "/srv/disk image.raw", 254, 0, 0, 4 * K, BACKING_FILE, BY_OFFSET, 2 * M,
		  4 * K },
		/* A file system of which nothing is known. */
		{ "r--s", "/mnt/x", 0, 99, 0, 4 * K, BACKING_FILE, NO_RULE, 0, 0 },
		/* Graphics memory, on shmem's own mount. */
		{ "rw-s", "/i915 (deleted)", 0, 1, 0, 4 * K, BACKING_DEVICE, NO_RULE, 0, 0 },
		{ "rw-p", "", 0, 0, 0, 4 * K, BACKING_ANONYMOUS, BY_ADDRESS, 2 * M, 4 * K },
		{ "rw-p", "[anon:glibc: malloc arena]", 0, 0, 0, 4 * K, BACKING_ANONYMOUS,
		  BY_ADDRESS, 2 * M, 4 * K },
		{ "rw-p", "[heap]", 0, 0, 0, 4 * K, BACKING_ANONYMOUS, BY_ADDRESS, 2 * M, 4 * K },
		{ "rw-p", "[stack]", 0, 0, 0, 4 * K, BACKING_ANONYMOUS, BY_ADDRESS, 2 * M, 4 * K },
		{ "---p", "", 0, 0, 0, 4 * K, BACKING_RESERVED, NO_RULE, 0, 0 },
		{ "---p", "[anon:reserve]", 0, 0, 0, 4 * K, BACKING_RESERVED, NO_RULE, 0, 0 },
		{ "r-xp", "[vdso]", 0, 0, 0, 4 * K, BACKING_KERNEL, NO_RULE, 0, 0 },
		{ "rw-s", "/sys/devices/pci0000:00/0000:00:02.0/resource2", 0, 22, OF_PAGE_FRAMES,
		  4 * K, BACKING_DEVICE, BY_OFFSET, 4 * K, 4 * K },
		{ "rw-s", "/dev/uio0", 0, 6, OF_PAGE_FRAMES, 4 * K, BACKING_DEVICE, BY_OFFSET,
		  4 * K, 4 * K },
		{ "rw-s", "/dev/mem", 0, 6, OF_PAGE_FRAMES, 4 * K, BACKING_DEVICE, BY_OFFSET, 4 * K,
		  4 * K },
		{ "rw-s", "/dev/dri/renderD128", 0, 6, 0, 4 * K, BACKING_DEVICE, NO_RULE, 0, 0 },
		{ "rw-s", "/dev/nvidia0", 0, 34, 0, 4 * K, BACKING_DEVICE, NO_RULE, 0, 0 },
		{ "rw-s", "/dmabuf:", 0, 12, 0, 4 * K, BACKING_DEVICE, NO_RULE, 0, 0 },
		{ "rw-s", "anon_inode:[io_uring]", 0, 19, 0, 4 * K, BACKING_DEVICE, NO_RULE, 0, 0 },
		{ "rw-s", "socket:[4242]", 0, 8, 0, 4 * K, BACKING_DEVICE, NO_RULE, 0, 0 },
	};
	const struct surroundings around = host();

	(void)state;
	check_all(&around, rows, COUNT(rows));
}

static void hugetlb_is_its_page_alone(void **state)
{
	static const struct row rows[] = {
		{ "rw-s", "/memfd:huge (deleted)", 0, 17, OF_HUGETLB, 2 * M, BACKING_HUGETLB,
		  BY_OFFSET, 2 * M, 2 * M },
		{ "rw-p", "/anon_hugepage (deleted)", 0, 17, OF_HUGETLB, G, BACKING_HUGETLB,
		  BY_OFFSET, G, G },
		/* Without VmFlags. */
		{ "rw-s", "/dev/hugepages/x", 0, 17, 0, 2 * M, BACKING_HUGETLB, BY_OFFSET, 2 * M,
		  2 * M },
		/* Without smaps. */
		{ "rw-s", "/dev/hugepages/x", 0, 35, 0, 0, BACKING_HUGETLB, NO_RULE, 0, 0 },
	};
	const struct surroundings around = host();

	(void)state;
	check_all(&around, rows, COUNT(rows));
}

static void a_tmpfs_is_as_it_was_mounted(void **state)
{
	static const struct row rows[] = {
		{ "rw-s", "/dev/shm/x", 0, 30, UNDER_MADV_HUGEPAGE, 4 * K, BACKING_SHARED,
		  BY_OFFSET, 4 * K, 4 * K },
		{ "rw-s", "/huge tmp/x", 0, 31, 0, 4 * K, BACKING_SHARED, BY_OFFSET, 2 * M, 4 * K },
		{ "rw-s", "/advise/x", 0, 32, 0, 4 * K, BACKING_SHARED, BY_OFFSET, 4 * K, 4 * K },
		{ "rw-s", "/advise/x", 0, 32, UNDER_MADV_HUGEPAGE, 4 * K, BACKING_SHARED, BY_OFFSET,
		  2 * M, 4 * K },
		{ "rw-s", "/within/x", 0, 33, 0, 4 * K, BACKING_SHARED, BY_OFFSET, 2 * M, 4 * K },
	};
	const struct surroundings around = host();
	struct surroundings forced = host(), denied = host();

	(void)state;
	check_all(&around, rows, COUNT(rows));
	forced.forced = true;
	check(&forced, &(struct row){ "rw-s", "/dev/shm/x", 0, 30, 0, 4 * K, BACKING_SHARED,
				      BY_OFFSET, 2 * M, 4 * K });
	denied.denied = true;
	denied.mount_policy = HUGE_NEVER;
	check(&denied, &(struct row){ "rw-s", "/huge tmp/x", 0, 31, 0, 4 * K, BACKING_SHARED,
				      BY_OFFSET, 4 * K, 4 * K });
}

static void huge_pages_may_be_forbidden(void **state)
{
	static const struct {
		enum huge_policy policy;
		unsigned int flags;
		size_t largest;
	} rows[] = {
		{ HUGE_NEVER, 0, 4 * K },   { HUGE_NEVER, UNDER_MADV_HUGEPAGE, 4 * K },
		{ HUGE_ADVISED, 0, 4 * K }, { HUGE_ADVISED, UNDER_MADV_HUGEPAGE, 2 * M },
		{ HUGE_ALWAYS, 0, 2 * M },  { HUGE_ALWAYS, UNDER_MADV_NOHUGEPAGE, 4 * K },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct row row = { "rw-s",
				   "/memfd:x (deleted)",
				   0,
				   1,
				   rows[i].flags,
				   4 * K,
				   BACKING_SHARED,
				   BY_OFFSET,
				   rows[i].largest,
				   4 * K };
		struct surroundings around = host();

		around.unlinked_policy = rows[i].policy;
		check(&around, &row);
		row.name = "/dev/zero (deleted)";
		check(&around, &row);
		row.name = "/dev/shm/x (deleted)";
		row.minor = 30;
		check(&around, &row);
		around = host();
		around.mount_policy = rows[i].policy;
		row.name = "/SYSV00000000 (deleted)";
		row.minor = 1;
		check(&around, &row);
		around = host();
		around.bars_obey = true;
		around.bar_policy = rows[i].policy;
		row.name = "anon_inode:[vfio-device]";
		row.kind = BACKING_VFIO;
		row.minor = 19;
		row.largest = rows[i].largest == 2 * M ? G : 4 * K;
		check(&around, &row);
		around = host();
		row.largest = rows[i].largest;
		around.anonymous_policy = rows[i].policy;
		row.permissions = "rw-p";
		row.name = "";
		row.minor = 0;
		row.kind = BACKING_ANONYMOUS;
		row.rule = BY_ADDRESS;
		check(&around, &row);
	}
}

static void what_is_there_in_huge_pages_is_mapped_by_them(void **state)
{
	const struct row there = { "rw-s", "/memfd:x (deleted)", 0,	    1,	   0,
				   4 * K,  BACKING_SHARED,	 BY_OFFSET, 2 * M, 4 * K };
	const struct row disk = { "rw-s", "/mnt/x",	0,	   99,	  0,
				  4 * K,  BACKING_FILE, BY_OFFSET, 2 * M, 4 * K };
	struct row elsewhere = there;
	struct mapping list[] = { mapping_of(&there), mapping_of(&disk) };
	const struct maps maps = { list, 2, 2, 0 };
	struct surroundings around = host();

	(void)state;
	list[0].huge = list[1].huge = 16 * M;
	around.unlinked_policy = HUGE_NEVER;
	select_mappings(&maps, &around);
	/* By another mapping of the same file, too. */
	check(&around, &there);
	check(&around, &disk);
	elsewhere.minor = 2;
	elsewhere.largest = 4 * K;
	check(&around, &elsewhere);
	free_selections(&around);
}

static void without_thp_there_are_base_pages(void **state)
{
	static const struct row rows[] = {
		{ "rw-s", "anon_inode:[vfio-device]", 0, 19, UNDER_MADV_HUGEPAGE, 4 * K,
		  BACKING_VFIO, BY_OFFSET, 4 * K, 4 * K },
		{ "rw-s", "/srv/disk", 254, 0, 0, 4 * K, BACKING_FILE, BY_OFFSET, 4 * K, 4 * K },
		{ "rw-p", "", 0, 0, 0, 4 * K, BACKING_ANONYMOUS, BY_ADDRESS, 4 * K, 4 * K },
	};
	struct surroundings around = host();

	(void)state;
	around.has_thp = false;
	check_all(&around, rows, COUNT(rows));
}

static void a_process_may_forbid_them_to_itself(void **state)
{
	static const struct row rows[] = {
		{ "rw-s", "anon_inode:[vfio-device]", 0, 19, UNDER_MADV_HUGEPAGE, 4 * K,
		  BACKING_VFIO, BY_OFFSET, 4 * K, 4 * K },
		{ "rw-s", "/srv/disk", 254, 0, 0, 4 * K, BACKING_FILE, BY_OFFSET, 4 * K, 4 * K },
		{ "rw-p", "", 0, 0, UNDER_MADV_HUGEPAGE, 4 * K, BACKING_ANONYMOUS, BY_ADDRESS,
		  4 * K, 4 * K },
		{ "rw-s", "/memfd:huge (deleted)", 0, 17, OF_HUGETLB, 2 * M, BACKING_HUGETLB,
		  BY_OFFSET, 2 * M, 2 * M },
	};
	struct surroundings around = host();

	(void)state;
	around.thp_disabled = true;
	check_all(&around, rows, COUNT(rows));
}

static void before_linux_6_12_a_bar_is_base_pages(void **state)
{
	struct surroundings around = host();

	(void)state;
	around.bar = (struct alignmap_leaves){ 1, { 4 * K } };
	check(&around, &(struct row){ "rw-s", "anon_inode:[vfio-device]", 0, 19, 0, 4 * K,
				      BACKING_VFIO, BY_OFFSET, 4 * K, 4 * K });
}

static void a_file_that_is_executed_is_an_image(void **state)
{
	const struct row text = { "r-xp", "/usr/lib/libx.so", 254,     0, 0,
				  4 * K,  BACKING_IMAGE,      NO_RULE, 0, 0 };
	struct mapping list[] = { mapping_of(&text), mapping_of(&text) };
	const struct maps maps = { list, 2, 2, 0 };
	struct row other = { "r--p", "/usr/lib/libx.so", 254,	  0, 0,
			     4 * K,  BACKING_IMAGE,	 NO_RULE, 0, 0 };
	struct surroundings around = host();

	(void)state;
	memcpy(list[0].permissions, "r--p", 5);
	select_mappings(&maps, &around);
	check(&around, &text);
	check(&around, &other);
	/* The same inode of another file system is another file. */
	other.major = 253;
	other.kind = BACKING_FILE;
	check(&around, &other);
	free_selections(&around);
}

static void device_dax_is_as_it_is_aligned(void **state)
{
	const struct row rows[] = {
		{ "rw-s", "/dev/dax0.0", 0, 6, 0, 2 * M, BACKING_DAX, BY_OFFSET, 2 * M, 4 * K },
		{ "rw-s", "/dev/dax0.1", 0, 6, 0, G, BACKING_DAX, BY_OFFSET, G, 4 * K },
		/* Where sysfs does not say, smaps does. */
		{ "rw-s", "/dev/dax0.2", 0, 6, 0, 2 * M, BACKING_DAX, BY_OFFSET, 2 * M, 4 * K },
		{ "rw-s", "/dev/dax0.2", 0, 6, 0, 0, BACKING_DAX, NO_RULE, 0, 0 },
	};
	const struct surroundings around = host();

	(void)state;
	write_file(root, "bus/dax/devices/dax0.0/align", "2097152\n");
	write_file(root, "bus/dax/devices/dax0.1/align", "1073741824\n");
	check_all(&around, rows, COUNT(rows));
}

#define THP "kernel/mm/transparent_hugepage/"

static void policies_are_read(void **state)
{
	struct surroundings around = host();

	(void)state;
	write_file(root, THP "enabled", "always [madvise] never\n");
	write_file(root, THP "shmem_enabled", "always within_size advise [never] deny force\n");
	read_policies(root, &around);
	assert_int_equal(around.anonymous_policy, HUGE_ADVISED);
	assert_int_equal(around.mount_policy, HUGE_NEVER);
	assert_int_equal(around.unlinked_policy, HUGE_NEVER);
	assert_false(around.denied || around.forced);

	write_file(root, THP "hugepages-2048kB/enabled", "always [inherit] madvise never\n");
	write_file(root, THP "hugepages-2048kB/shmem_enabled",
		   "always inherit [within_size] advise never\n");
	read_policies(root, &around);
	assert_int_equal(around.anonymous_policy, HUGE_ADVISED);
	assert_int_equal(around.mount_policy, HUGE_NEVER);
	assert_int_equal(around.unlinked_policy, HUGE_ALWAYS);

	write_file(root, THP "hugepages-2048kB/enabled", "[always] inherit madvise never\n");
	write_file(root, THP "shmem_enabled", "always within_size advise never [deny] force\n");
	read_policies(root, &around);
	assert_int_equal(around.anonymous_policy, HUGE_ALWAYS);
	assert_int_equal(around.unlinked_policy, HUGE_NEVER);
	assert_true(around.denied);

	write_file(root, THP "shmem_enabled", "always within_size advise never deny [force]\n");
	read_policies(root, &around);
	assert_int_equal(around.mount_policy, HUGE_ALWAYS);
	assert_true(around.forced);
}

/* As on arm64: a size between base page and PMD counts where it is allowed by its own file. */
static void smaller_leaves_have_policies_of_their_own(void **state)
{
	const struct alignmap_leaves leaves = { 3, { 2 * M, 64 * K, 4 * K } };
	struct surroundings around = { .anonymous = leaves, .shmem = leaves };

	(void)state;
	write_file(root, THP "enabled", "[always] madvise never\n");
	write_file(root, THP "shmem_enabled", "[always] within_size advise never deny force\n");
	read_policies(root, &around);
	assert_int_equal(around.anonymous.count, 2);
	assert_int_equal(around.anonymous.size[1], 4 * K);
	assert_int_equal(around.shmem.count, 2);

	write_file(root, THP "hugepages-64kB/enabled", "always [inherit] madvise never\n");
	write_file(root, THP "hugepages-64kB/shmem_enabled",
		   "always inherit within_size advise [never]\n");
	around = (struct surroundings){ .anonymous = leaves, .shmem = leaves };
	read_policies(root, &around);
	assert_int_equal(around.anonymous.count, 3);
	assert_int_equal(around.anonymous.size[1], 64 * K);
	assert_int_equal(around.shmem.count, 2);
}

static void without_policies_there_are_no_huge_pages(void **state)
{
	struct surroundings around = host();

	(void)state;
	read_policies("/nowhere", &around);
	assert_int_equal(around.anonymous_policy, HUGE_NEVER);
	assert_int_equal(around.mount_policy, HUGE_NEVER);
	assert_int_equal(around.unlinked_policy, HUGE_NEVER);
	assert_false(around.has_thp || around.denied || around.forced);
}

static int make_root(void **state)
{
	(void)state;
	return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state)
{
	(void)state;
	return remove_tree(root);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_kind_has_its_leaves),
		cmocka_unit_test(hugetlb_is_its_page_alone),
		cmocka_unit_test(a_tmpfs_is_as_it_was_mounted),
		cmocka_unit_test(huge_pages_may_be_forbidden),
		cmocka_unit_test(what_is_there_in_huge_pages_is_mapped_by_them),
		cmocka_unit_test(without_thp_there_are_base_pages),
		cmocka_unit_test(a_process_may_forbid_them_to_itself),
		cmocka_unit_test(before_linux_6_12_a_bar_is_base_pages),
		cmocka_unit_test(a_file_that_is_executed_is_an_image),
		cmocka_unit_test(device_dax_is_as_it_is_aligned),
		cmocka_unit_test(policies_are_read),
		cmocka_unit_test(smaller_leaves_have_policies_of_their_own),
		cmocka_unit_test(without_policies_there_are_no_huge_pages),
	};

	return cmocka_run_group_tests(tests, make_root, remove_root);
}
