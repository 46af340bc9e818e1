// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Under the preload, with a library that maps before the preload has begun. */
#include "system.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>

#include "early-library.h"
#include "recorder.h"

static unsigned int recorded_before_main;

static void assert_mapped(const struct early_calls *calls)
{
	char *bytes = calls->granted;

	assert_ptr_not_equal(calls->granted, MAP_FAILED);
	assert_ptr_not_equal(calls->granted, NULL);
	for (size_t at = 0; at < calls->length; at += page_size()) {
		assert_int_equal(bytes[at], 0);
		bytes[at] = 1;
	}
	assert_int_equal(munmap(bytes, calls->length), 0);
	assert_ptr_equal(calls->refused, MAP_FAILED);
}

static void an_ifunc_resolver_of_another_library_maps(void **state)
{
	(void)state;
	if (SANITIZED)
		skip_because("what a sanitizer adds to a function cannot run in a resolver");
	assert_non_null(calls_of_resolver());
	assert_mapped(calls_of_resolver());
}

static void a_constructor_of_another_library_maps(void **state)
{
	(void)state;
	assert_mapped(calls_of_constructor());
	assert_int_equal(calls_of_constructor()->error, EBADF);
	assert_true(calls_of_constructor()->errno_kept);
}

/*
 * Once our constructor has run, calls go to the next mmap in line, the recorder's: it must have
 * seen none of the five above, or they were not early; and it must see one that is made now.
 */
static void all_that_was_before_our_constructor(void **state)
{
	recorder_take *take = __extension__(recorder_take *) dlsym(RTLD_DEFAULT, "take_records");
	const int file = memfd_of((off_t)(4 * pmd_size()));
	char *mapping;

	(void)state;
	assert_int_equal(recorded_before_main, 0);
	mapping = map(NULL, 4 * pmd_size(), PROT_READ, MAP_SHARED, file, 0);
	assert_ptr_not_equal(mapping, MAP_FAILED);
	assert_true(congruent(mapping, 0, pmd_size()));
	assert_int_equal(take(NULL, 0), 1);
	assert_int_equal(munmap(mapping, 4 * pmd_size()), 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_ifunc_resolver_of_another_library_maps),
		cmocka_unit_test(a_constructor_of_another_library_maps),
		cmocka_unit_test(all_that_was_before_our_constructor),
	};
	recorder_take *take = __extension__(recorder_take *) dlsym(RTLD_DEFAULT, "take_records");

	choose_way(argc, argv);
	recorded_before_main = take ? take(NULL, 0) : 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
