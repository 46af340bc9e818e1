// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * What is read of smaps and maps: lines that Linux has printed, and others. The fuzz target, whose
 * oracle knows each line by regular expressions, answers for its corpus.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../fuzz/replay.h"
#include "maps.h"

static struct maps maps;

static void read_text(const char *text)
{
	FILE *file = fmemopen((void *)text, strlen(text), "r");

	assert_non_null(file);
	maps_free(&maps);
	assert_true(maps_read(file, &maps));
	fclose(file);
}

static void read_recorded(const char *name)
{
	char path[4096];
	FILE *file;

	snprintf(path, sizeof(path), CORPUS "/maps/%s", name);
	file = fopen(path, "r");
	assert_non_null(file);
	maps_free(&maps);
	assert_true(maps_read(file, &maps));
	fclose(file);
	assert_int_equal(maps.skipped, 0);
}

static const struct mapping *mapping_at(uintptr_t address)
{
	for (size_t i = 0; i < maps.count; i++)
		if (maps.mappings[i].address == address)
			return &maps.mappings[i];
	fail_msg("no mapping at %#lx", (unsigned long)address);
	return NULL;
}

static void a_bar_of_qemu_is_read(void **state)
{
	const struct mapping *bar;

	(void)state;
	read_recorded("recorded-qemu-smaps-7.3");
	bar = mapping_at(0x7f5bdc000000);
	assert_int_equal(bar->length, (size_t)4 << 30);
	assert_string_equal(bar->permissions, "rw-s");
	assert_int_equal(bar->offset, (uint64_t)2 << 40);
	assert_int_equal(bar->major, 0);
	assert_int_equal(bar->minor, 0x13);
	assert_int_equal(bar->inode, 66);
	assert_string_equal(bar->name, "anon_inode:[vfio-device]");
	assert_int_equal(bar->flags, UNDER_MADV_HUGEPAGE | OF_PAGE_FRAMES);
	assert_int_equal(bar->page, 4096);
	assert_true(bar->has_rss);
	assert_int_equal(bar->rss, 0);
}

static void memory_of_qemu_is_read(void **state)
{
	const struct mapping *memory;

	(void)state;
	read_recorded("recorded-qemu-smaps-7.3");
	memory = mapping_at(0x7f5d61200000);
	assert_int_equal(memory->length, (size_t)256 << 20);
	assert_string_equal(memory->name, "");
	assert_int_equal(memory->inode, 0);
	assert_int_equal(memory->rss, (uint64_t)256 << 20);
	assert_int_equal(memory->huge, (uint64_t)256 << 20);
}

static void names_are_as_the_kernel_prints_them(void **state)
{
	(void)state;
	read_recorded("recorded-odd-names-and-hugetlb");
	assert_string_equal(mapping_at(0x200000001000)->name, "/tmp/scratch/with space");
	assert_string_equal(mapping_at(0x200001001000)->name,
			    "/tmp/scratch/new\\012line \033[31m\\012 tab\t");
	assert_string_equal(mapping_at(0x200002001000)->name,
			    "/tmp/scratch/gone (deleted) (deleted)");
	assert_string_equal(mapping_at(0x200003001000)->name, "/memfd:pc.ram (deleted)");
	assert_int_equal(mapping_at(0x200003001000)->offset, 0x1000);
	assert_string_equal(mapping_at(0xffffffffff600000)->name, "[vsyscall]");
}

static void pages_of_hugetlbfs_are_known_by_size_and_flag(void **state)
{
	(void)state;
	read_recorded("recorded-odd-names-and-hugetlb");
	assert_int_equal(mapping_at(0x200004000000)->page, 2 << 20);
	assert_int_equal(mapping_at(0x200004000000)->flags, OF_HUGETLB);
	assert_int_equal(mapping_at(0x200005001000)->page, 4096);
	assert_int_equal(mapping_at(0x200005001000)->flags, 0);
}

static void plain_maps_say_nothing_of_pages(void **state)
{
	(void)state;
	read_recorded("recorded-qemu-maps-6.12");
	assert_true(maps.count > 20);
	assert_int_equal(mapping_at(0x7f16f4000000)->length, (size_t)4 << 30);
	for (size_t i = 0; i < maps.count; i++) {
		assert_false(maps.mappings[i].has_rss);
		assert_int_equal(maps.mappings[i].page, 0);
	}
}

#define LINE "7f0000000000-7f0000200000 rw-s 00000000 00:01 17 /memfd:x\n"

static void what_belongs_to_nonsense_is_left_out_with_it(void **state)
{
	(void)state;
	read_text(LINE "Rss: 4 kB\n7f0000200000-7f00 rw-s nonsense\nRss: 8 kB\n");
	assert_int_equal(maps.count, 1);
	assert_int_equal(maps.mappings[0].rss, 4096);
	assert_int_equal(maps.skipped, 2);
}

static void a_line_that_was_cut_is_left_out(void **state)
{
	(void)state;
	read_text(LINE "7f0000200000-7f0000400000 rw-s 00000000 00:01 17 /memfd:y");
	assert_int_equal(maps.count, 1);
	assert_int_equal(maps.skipped, 1);
}

static void nothing_is_read_of_nothing(void **state)
{
	FILE *nothing = fopen("/dev/null", "r");

	(void)state;
	maps_free(&maps);
	assert_true(maps_read(nothing, &maps));
	fclose(nothing);
	assert_int_equal(maps.count, 0);
	assert_int_equal(maps.skipped, 0);
}

static ssize_t end_process(void *cookie, char *to, size_t room)
{
	size_t *calls = cookie;

	if ((*calls)++) {
		errno = ESRCH;
		return -1;
	}
	assert_true(room >= sizeof(LINE));
	memcpy(to, LINE, sizeof(LINE) - 1);
	return sizeof(LINE) - 1;
}

static void a_process_that_ends_meanwhile_is_a_failure(void **state)
{
	size_t calls = 0;
	FILE *file = fopencookie(&calls, "r", (cookie_io_functions_t){ .read = end_process });

	(void)state;
	maps_free(&maps);
	assert_false(maps_read(file, &maps));
	assert_int_equal(errno, ESRCH);
	fclose(file);
}

static void the_fuzzers_corpus_is_read(void **state)
{
	(void)state;
	assert_true(replay(CORPUS "/maps") > 10);
}

static int free_all(void **state)
{
	(void)state;
	maps_free(&maps);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_bar_of_qemu_is_read),
		cmocka_unit_test(memory_of_qemu_is_read),
		cmocka_unit_test(names_are_as_the_kernel_prints_them),
		cmocka_unit_test(pages_of_hugetlbfs_are_known_by_size_and_flag),
		cmocka_unit_test(plain_maps_say_nothing_of_pages),
		cmocka_unit_test(what_belongs_to_nonsense_is_left_out_with_it),
		cmocka_unit_test(a_line_that_was_cut_is_left_out),
		cmocka_unit_test(nothing_is_read_of_nothing),
		cmocka_unit_test(a_process_that_ends_meanwhile_is_a_failure),
		cmocka_unit_test(the_fuzzers_corpus_is_read),
	};

	return cmocka_run_group_tests(tests, NULL, free_all);
}
