// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Addresses that the kernel gives only to a call that names one so high: with five levels of page
 * tables those of more than 47 bits (Documentation/arch/x86/x86_64/5level-paging.rst). The library
 * leads there no call that the kernel does not, and keeps none away.
 */
#include "system.h"

#include <stdlib.h>
#include <unistd.h>

#ifdef __aarch64__
#define NEAR_BITS 48
#else
#define NEAR_BITS 47
#endif

static uint64_t border = (uint64_t)1 << NEAR_BITS;
static unsigned int hints, far_hints;

static bool is_far(const void *address)
{
	return (uintptr_t)address >= border;
}

/* A hint that is as good as any place is left to the kernel. */
static bool is_placed_from(const void *hint, size_t alignment)
{
	return way != WAY_API && getenv("ALIGNMAP_HINTS") && !congruent(hint, 0, alignment);
}

/* The mapping is the caller's to unmap. */
static void *compare(uint64_t hint, size_t length, int file)
{
	void *address = (void *)(uintptr_t)hint;
	void *theirs = map_raw(address, length, PROT_READ, MAP_SHARED, file, 0), *ours;
	const size_t alignment = deserved(length, 0, largest_leaf());

	assert_ptr_not_equal(theirs, MAP_FAILED);
	assert_int_equal(munmap(theirs, length), 0);
	ours = map(address, length, PROT_READ, MAP_SHARED, file, 0);
	assert_ptr_not_equal(ours, MAP_FAILED);
	if (is_far(ours) != is_far(theirs))
		fail_msg("hint %p, length %#zx: %p, but by the system call %p", address, length,
			 ours, theirs);
	if (!hint || is_placed_from(address, alignment))
		assert_true(congruent(ours, 0, alignment));
	else
		assert_ptr_equal(ours, theirs);
	if (hint) {
		hints++;
		far_hints += is_far(ours);
	}
	return ours;
}

static void a_hint_leads_beyond_the_border_where_the_system_call_does(void **state)
{
	const size_t page = page_size(), pmd = pmd_size(), leaf = largest_leaf();
	const size_t lengths[] = { page, 4 * pmd, leaf + pmd };
	const uint64_t places[] = {
		border - 4 * leaf,   border - leaf - pmd,
		border - 4 * pmd,    border - 4 * pmd + page,
		border - pmd,	     border - 2 * page,
		border - page,	     border,
		border + page,	     border + pmd,
		border + leaf,	     border << 1,
		border << 8,	     (border << 9) - leaf,
		(border << 9) - pmd, (border << 9) - 2 * page,
		border << 9,
	};
	const int file = memfd_of((off_t)(leaf + pmd));

	(void)state;
#ifdef __riscv
	skip_because("on riscv64 a hint may lead anywhere");
#endif
	for (size_t i = 0; i < COUNT(places); i++)
		for (size_t j = 0; j < COUNT(lengths); j++)
			munmap(compare(places[i], lengths[j], file), lengths[j]);
	close(file);
	print_message("# %u of %u hints have led to addresses of more than %d bits\n", far_hints,
		      hints, NEAR_BITS);
}

/* While mappings lie beyond, of which a window might be remembered. */
static void nothing_lies_beyond_the_border_unasked(void **state)
{
	const size_t pmd = pmd_size(), leaf = largest_leaf();
	const size_t lengths[] = { pmd, 4 * pmd, leaf, leaf + pmd };
	const int file = memfd_of((off_t)(leaf + pmd));

	(void)state;
	for (size_t i = 0; i < COUNT(lengths); i++) {
		void *asked = compare(border + 16 * leaf, lengths[i], file);
		void *unasked = compare(0, lengths[i], file);
		struct alignmap_window *window = alignmap_window_reserve(0, lengths[i], NULL);
		struct alignmap_extent extent;

		assert_false(is_far(unasked));
		assert_non_null(window);
		assert_int_equal(alignmap_window_query(window, 0, &extent), 0);
		assert_false(is_far(extent.address));
		assert_int_equal(alignmap_window_release(window), 0);
		assert_int_equal(munmap(unasked, lengths[i]), 0);
		assert_int_equal(munmap(asked, lengths[i]), 0);
	}
	close(file);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_hint_leads_beyond_the_border_where_the_system_call_does),
		cmocka_unit_test(nothing_lies_beyond_the_border_unasked),
	};

	choose_way(argc, argv);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
