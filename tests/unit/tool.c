// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Sizes, numbers and names as the command reads and prints them. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tool.h"

#define K ((uint64_t)1 << 10)
#define M ((uint64_t)1 << 20)
#define G ((uint64_t)1 << 30)
#define E ((uint64_t)1 << 60)

static void sizes_are_read_with_and_without_units(void **state)
{
	static const struct {
		const char *text;
		uint64_t size;
	} sizes[] = {
		{ "0", 0 },
		{ "4096", 4096 },
		{ "0x1000", 4096 },
		{ "0X1f", 31 },
		{ "0x1E", 30 }, /* a digit, no unit */
		{ "64K", 64 * K },
		{ "64k", 64 * K },
		{ "2M", 2 * M },
		{ "1G", G },
		{ "1g", G },
		{ "16T", 16 * 1024 * G },
		{ "3P", 3 * 1024 * 1024 * G },
		{ "15E", 15 * E },
		{ "2MiB", 2 * M },
		{ "0x2M", 2 * M },
		{ "010", 10 },
		{ "18446744073709551615", UINT64_MAX },
		{ "0xffffffffffffffff", UINT64_MAX },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(sizes); i++) {
		uint64_t size = 1;

		if (!parse_size(sizes[i].text, &size) || size != sizes[i].size)
			fail_msg("%s: %" PRIu64, sizes[i].text, size);
	}
}

static void what_is_no_size_is_refused(void **state)
{
	static const char *const texts[] = { "",
					     " ",
					     " 1",
					     "1 ",
					     "-1",
					     "+1",
					     "M",
					     "x",
					     "0x",
					     "0xG",
					     "0x 1",
					     "1.5G",
					     "1,000",
					     "2MB",
					     "2Mi",
					     "2iB",
					     "2MM",
					     "2M1",
					     "2MiBs",
					     "2B",
					     "1X",
					     "16E",
					     "17179869184G",
					     "18446744073709551616",
					     "0x10000000000000000",
					     "99999999999999999999K",
					     "2\tM",
					     "2M\n" };

	(void)state;
	for (size_t i = 0; i < COUNT(texts); i++) {
		uint64_t size;

		if (parse_size(texts[i], &size))
			fail_msg("'%s' is read as %" PRIu64, texts[i], size);
	}
}

static void sizes_are_printed_with_units_and_a_decimal_where_rounded(void **state)
{
	static const struct {
		uint64_t size;
		const char *text;
	} sizes[] = {
		{ 0, "0" },
		{ 1, "1" },
		{ 1000, "1000" },
		{ 1023, "1023" },
		{ K, "1K" },
		{ K + 1, "1.0K" },
		{ K + K / 2, "1.5K" },
		{ 4 * K, "4K" },
		{ 99 * K + 1, "99.0K" },
		{ 100 * K + 1, "100K" },
		{ 1000 * K, "1000K" },
		{ M - 1, "1.0M" },
		{ M, "1M" },
		{ 2 * M - 4 * K, "2.0M" },
		{ G - 4 * K, "1.0G" },
		{ 2 * G, "2G" },
		{ 5 * G + G / 2, "5.5G" },
		{ 1024 * G, "1T" },
		{ 15 * E, "15E" },
		{ UINT64_MAX, "16.0E" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(sizes); i++)
		assert_string_equal(size_text(sizes[i].size).text, sizes[i].text);
}

/* Printed without a decimal from 1 to 99 of a unit it is exact: it is read as what it was. */
static void a_size_that_is_printed_without_a_decimal_is_exact(void **state)
{
	(void)state;
	for (uint64_t size = 1; size < 100 * M; size += 509) {
		const struct text text = size_text(size);
		uint64_t read;

		if (strchr(text.text, '.') || strlen(text.text) > 3)
			continue;
		if (!parse_size(text.text, &read) || read != size)
			fail_msg("%" PRIu64 " is printed as %s", size, text.text);
	}
}

static void numbers_have_commas(void **state)
{
	(void)state;
	assert_string_equal(number_text(0).text, "0");
	assert_string_equal(number_text(7).text, "7");
	assert_string_equal(number_text(999).text, "999");
	assert_string_equal(number_text(1000).text, "1,000");
	assert_string_equal(number_text(12345).text, "12,345");
	assert_string_equal(number_text(524288).text, "524,288");
	assert_string_equal(number_text(1048576).text, "1,048,576");
	assert_string_equal(number_text(UINT64_MAX).text, "18,446,744,073,709,551,615");
}

static void ratios_have_a_decimal_while_they_are_small(void **state)
{
	(void)state;
	assert_string_equal(ratio_text(3, 2).text, "1.5");
	assert_string_equal(ratio_text(1, 1).text, "1.0");
	assert_string_equal(ratio_text(1, 3).text, "0.3");
	assert_string_equal(ratio_text(994, 100).text, "9.9");
	assert_string_equal(ratio_text(996, 100).text, "10");
	assert_string_equal(ratio_text(524288, 2).text, "262,144");
	assert_string_equal(ratio_text(4.6126, 0.000171).text, "26,974");
	assert_string_equal(ratio_text(5, 0).text, "-");
	assert_string_equal(ratio_text(0, 0).text, "-");
}

static void names_are_printed_as_ascii_alone(void **state)
{
	static const struct {
		const char *name, *printed;
	} names[] = {
		{ "", "" },
		{ "/dev/vfio/12", "/dev/vfio/12" },
		{ "a b~!", "a b~!" },
		{ "line\nline\t\x1b[31m", "line\\012line\\011\\033[31m" },
		{ "\x7f", "\\177" },
		{ "\xc3\xa9", "\\303\\251" },
		{ "\xff\x80", "\\377\\200" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(names); i++) {
		char *printed = printable(names[i].name);

		assert_string_equal(printed, names[i].printed);
		free(printed);
	}
}

/* What print_wrapped() writes to standard output, which cmocka writes its own to. */
static void wrap(char *text, size_t room, const char *first, const char *others, const char *words)
{
	FILE *file = tmpfile();
	int saved = dup(STDOUT_FILENO);
	size_t length;

	assert_non_null(file);
	fflush(stdout);
	dup2(fileno(file), STDOUT_FILENO);
	print_wrapped(first, others, words);
	fflush(stdout);
	dup2(saved, STDOUT_FILENO);
	close(saved);
	rewind(file);
	length = fread(text, 1, room - 1, file);
	text[length] = '\0';
	fclose(file);
}

static void text_is_broken_at_80_columns(void **state)
{
	char nines[1024] = "", text[2048];

	(void)state;
	wrap(text, sizeof(text), "- ", "  ", "one  two ");
	assert_string_equal(text, "- one two\n");
	wrap(text, sizeof(text), "", "", "");
	assert_string_equal(text, "\n");
	/* Eight words of nine letters are 79 columns; with "a" before them 81, with "" 80. */
	for (int i = 0; i < 16; i++)
		strcat(nines, "123456789 ");
	wrap(text, sizeof(text), "", "> ", nines);
	assert_int_equal(strcspn(text, "\n"), 79);
	assert_memory_equal(text + 80, "> ", 2);
	wrap(text, sizeof(text), "-", "> ", nines);
	assert_int_equal(strcspn(text, "\n"), 80);
	wrap(text, sizeof(text), "--", "> ", nines);
	assert_int_equal(strcspn(text, "\n"), 71);
	/* A word that fits nowhere is not broken. */
	memset(nines, 'x', 100);
	nines[100] = '\0';
	wrap(text, sizeof(text), "", "", nines);
	assert_int_equal(strcspn(text, "\n"), 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_are_read_with_and_without_units),
		cmocka_unit_test(what_is_no_size_is_refused),
		cmocka_unit_test(sizes_are_printed_with_units_and_a_decimal_where_rounded),
		cmocka_unit_test(a_size_that_is_printed_without_a_decimal_is_exact),
		cmocka_unit_test(numbers_have_commas),
		cmocka_unit_test(ratios_have_a_decimal_while_they_are_small),
		cmocka_unit_test(names_are_printed_as_ascii_alone),
		cmocka_unit_test(text_is_broken_at_80_columns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
