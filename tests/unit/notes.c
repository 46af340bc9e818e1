// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* What the notes recommend, of made-up findings. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "notes.h"
#include "tool.h"

#define K ((size_t)1 << 10)
#define M ((size_t)1 << 20)
#define G ((size_t)1 << 30)

enum fit { NO, THP, THP_BUT_MISPLACED, YES };

struct row {
	enum backing_kind kind;
	const char *name;
	const char *permissions;
	size_t length;
	uint64_t offset;
	enum fit fit;
};

/* Findings of rows, in a process that executes @image, noted. To be freed. */
static struct findings noted(const struct row *rows, size_t count, const char *image)
{
	const struct mapping executed = { .permissions = "r-xp", .name = (char *)image };
	const struct mapping *images[] = { &executed };
	const struct surroundings around = { .has_thp = true, .executable = { images, 1 } };
	const struct process process = { .pid = 1 };
	struct findings findings = { .findings = calloc(count, sizeof(*findings.findings)),
				     .count = count };

	findings.maps.mappings = calloc(count, sizeof(*findings.maps.mappings));
	for (size_t i = 0; i < count; i++) {
		struct mapping *mapping = &findings.maps.mappings[i];
		struct finding *finding = &findings.findings[i];

		mapping->length = rows[i].length;
		mapping->offset = rows[i].offset;
		mapping->name = (char *)rows[i].name;
		memcpy(mapping->permissions, rows[i].permissions, sizeof(mapping->permissions));
		finding->mapping = mapping;
		finding->backing.kind = rows[i].kind;
		finding->backing.reason = "of a policy";
		finding->best.alignment = 2 * M;
		finding->judged = true;
		finding->misplaced = rows[i].fit == NO;
		finding->held_back = rows[i].fit == THP || rows[i].fit == THP_BUT_MISPLACED;
		finding->congruent = rows[i].fit == THP || rows[i].fit == YES;
	}
	note_findings(&process, true, &around, &findings);
	return findings;
}

static void forget(struct findings *findings)
{
	for (size_t i = 0; i < findings->note_count; i++)
		free(findings->notes[i]);
	free(findings->maps.mappings);
	free(findings->findings);
}

static bool recommends(const struct findings *findings, size_t at, const char *text)
{
	return at < findings->note_count && strcmp(findings->notes[at], text) == 0;
}

/* What is said first, of rows that Linux has no other words for; NULL: nothing. */
static void check(const char *image, const char *expected, const struct row *rows, size_t count)
{
	struct findings findings = noted(rows, count, image);

	if (expected ? !recommends(&findings, 0, expected)
		     : findings.note_count && strstr(findings.notes[0], "alignmap run"))
		fail_msg("%s, %s: %s", rows[0].name, image,
			 findings.note_count ? findings.notes[0] : "no note");
	forget(&findings);
}

static const char none[] = "/usr/bin/qemu-system-x86_64";
static const char ours[] = "/usr/lib/x86_64-linux-gnu/libalignmap.so.0.9.0";
static const char replaced[] = "/opt/my own/libalignmap.so (deleted)";

static const char run[] = "'alignmap run COMMAND' starts a program so that what it maps lies well";
static const char reserve[] =
	"'alignmap run --anon=reserve COMMAND' places what a program maps, also into address "
	"space that it reserved first, as QEMU does with RAM on files";
static const char all[] = "'alignmap run --anon=all COMMAND' starts a program so that what it "
			  "maps lies well, anonymous memory of 32M and more, too";

static const struct row bar = { BACKING_VFIO, "anon_inode:[vfio-device]",
				"rw-s",	      2 * G,
				2ULL << 40,   NO };
static const struct row ram = { BACKING_SHARED, "/memfd:pc.ram (deleted)", "rw-s", 32 * M, 0, NO };

static void what_a_program_maps_needs_a_preload(void **state)
{
	static const struct row rows[] = {
		{ BACKING_FILE, "/srv/disk", "r--s", G, 0, NO },
		{ BACKING_FILE, "/srv/disk", "rw-s", 32 * M - 4 * K, 0, NO },
		/* Somewhere in a file a reservation, which has no offset, does not help. */
		{ BACKING_FILE, "/srv/disk", "rw-s", G, M, NO },
		{ BACKING_SHARED, "/dev/shm/x", "r--s", G, 0, NO },
	};

	(void)state;
	check(none, run, &bar, 1);
	for (size_t i = 0; i < COUNT(rows); i++)
		check(none, run, &rows[i], 1);
}

static void what_may_be_in_a_reservation_needs_that_placed(void **state)
{
	static const struct row rows[] = {
		{ BACKING_FILE, "/srv/ram", "rw-s", 64 * M, 0, NO },
		{ BACKING_FILE, "/srv/ram", "rw-p", 64 * M, 4 * M, NO },
		{ BACKING_SHARED, "/dev/shm/x", "rw-s", 32 * M, 0, NO },
	};
	const struct row both[] = { bar, ram };

	(void)state;
	check(none, reserve, &ram, 1);
	for (size_t i = 0; i < COUNT(rows); i++)
		check(none, reserve, &rows[i], 1);
	check(none, reserve, both, COUNT(both));
}

static void what_is_anonymous_and_shared_needs_all_placed(void **state)
{
	static const struct row rows[] = {
		{ BACKING_SHARED, "/dev/zero (deleted)", "rw-s", 32 * M, 0, NO },
		{ BACKING_SHARED, "[anon_shmem:x]", "rw-s", G, 0, NO },
	};
	const struct row both[] = { rows[0], ram };

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++)
		check(none, all, &rows[i], 1);
	check(none, all, both, COUNT(both));
}

static void what_the_library_cannot_place_has_no_command(void **state)
{
	static const struct row rows[] = {
		{ BACKING_SHARED, "/SYSV00000000 (deleted)", "rw-s", G, 0, NO },
		{ BACKING_SHARED, "/dev/zero (deleted)", "rw-s", 32 * M - 4 * K, 0, NO },
		{ BACKING_FILE, "/srv/disk", "rw-s", G, 0, YES },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		check(none, NULL, &rows[i], 1);
		check(ours, NULL, &rows[i], 1);
	}
}

static void a_process_that_has_the_library_hears_what_to_try(void **state)
{
	static const struct row anonymous = {
		BACKING_SHARED, "/dev/zero (deleted)", "rw-s", G, 0, NO
	};
	static const char *const images[] = { ours, replaced };

	(void)state;
	for (size_t i = 0; i < COUNT(images); i++) {
		check(images[i],
		      "libalignmap is loaded and did not place these well: try 'alignmap run' with "
		      "--hints, and with --log to see what it does",
		      &bar, 1);
		check(images[i],
		      "libalignmap is loaded and did not place these well: try 'alignmap run' with "
		      "--anon=reserve (as for QEMU's RAM on files), --hints, --log",
		      &ram, 1);
		check(images[i],
		      "libalignmap is loaded and did not place these well: try 'alignmap run' with "
		      "--anon=all, --hints, --log",
		      &anonymous, 1);
	}
	check("/home/libalignmap.so.d/program", run, &bar, 1);
	check("/opt/mylibalignmap.so", run, &bar, 1);
}

#define MATTERS "with huge pages the address of shared memory matters, too"

static void held_back_memory_hears_of_its_address_where_that_is_bad(void **state)
{
	static const struct {
		struct row row;
		const char *image;
		const char *expected; /* NULL: no such note */
	} rows[] = {
		{ { BACKING_SHARED, "/memfd:x (deleted)", "rw-s", G, 0, THP }, none, NULL },
		{ { BACKING_SHARED, "/memfd:x (deleted)", "rw-s", G, 0, THP_BUT_MISPLACED },
		  none,
		  MATTERS "; 'alignmap run --anon=reserve COMMAND' places it, also in a "
			  "reservation, as QEMU puts it" },
		{ { BACKING_SHARED, "/dev/shm/x", "r--s", G, 0, THP_BUT_MISPLACED },
		  none,
		  MATTERS "; 'alignmap run COMMAND' places it" },
		{ { BACKING_SHARED, "/dev/zero (deleted)", "rw-s", G, 0, THP_BUT_MISPLACED },
		  none,
		  MATTERS "; 'alignmap run --anon=all COMMAND' places it" },
		{ { BACKING_SHARED, "/SYSV00000000 (deleted)", "rw-s", G, 0, THP_BUT_MISPLACED },
		  none,
		  MATTERS },
		{ { BACKING_SHARED, "/memfd:x (deleted)", "rw-s", G, 0, THP_BUT_MISPLACED },
		  ours,
		  MATTERS "; libalignmap is loaded and did not place it: try 'alignmap run "
			  "--anon=reserve COMMAND'" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct findings findings = noted(&rows[i].row, 1, rows[i].image);

		assert_true(recommends(&findings, 0,
				       "shared memory is mapped by base pages wherever it lies, "
				       "since of a policy: see alignmap-info(1)"));
		assert_int_equal(findings.note_count, rows[i].expected ? 2 : 1);
		if (rows[i].expected)
			assert_string_equal(findings.notes[1], rows[i].expected);
		forget(&findings);
	}
}

/* Each is for its own: what is held back has no part in what is said of what is misplaced. */
static void a_bar_and_held_back_memory_hear_their_own(void **state)
{
	struct row rows[] = { bar, ram };
	struct findings findings;

	(void)state;
	rows[1].fit = THP_BUT_MISPLACED;
	findings = noted(rows, COUNT(rows), none);
	assert_true(recommends(&findings, 0, run));
	assert_true(recommends(&findings, findings.note_count - 1,
			       MATTERS "; 'alignmap run --anon=reserve COMMAND' places it, also in "
				       "a reservation, as QEMU puts it"));
	forget(&findings);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_a_program_maps_needs_a_preload),
		cmocka_unit_test(what_may_be_in_a_reservation_needs_that_placed),
		cmocka_unit_test(what_is_anonymous_and_shared_needs_all_placed),
		cmocka_unit_test(what_the_library_cannot_place_has_no_command),
		cmocka_unit_test(a_process_that_has_the_library_hears_what_to_try),
		cmocka_unit_test(held_back_memory_hears_of_its_address_where_that_is_bad),
		cmocka_unit_test(a_bar_and_held_back_memory_hear_their_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
