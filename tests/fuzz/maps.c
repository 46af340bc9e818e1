// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * maps_read() on any bytes, for libFuzzer (tests/fuzz/run) and for the unit test, which gives it
 * the corpus: what is to be read in each line, regular expressions say. What is read is classified,
 * too.
 */
#include <errno.h>
#include <regex.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backing.h"
#include "maps.h"
#include "replay.h"

#define HEX "([0-9a-f]+)"
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

enum { LINE, START, END, PERMISSIONS, OFFSET, MAJOR, MINOR, INODE, REST, NAME, PARTS };

static regex_t header, key, amount;

static void compile(void)
{
	static bool compiled;

	if (compiled)
		return;
	if (regcomp(&header,
		    "^" HEX "-" HEX " ([r-][w-][x-][sp]) " HEX " " HEX ":" HEX
		    " ([0-9]+)( +([^ ].*)?)?$",
		    REG_EXTENDED) ||
	    regcomp(&key, "^([A-Za-z_][A-Za-z0-9_]*):(.*)$", REG_EXTENDED) ||
	    regcomp(&amount, "^ *([0-9]+) kB$", REG_EXTENDED))
		abort();
	compiled = true;
}

static void wrong(const char *what, const char *line)
{
	fprintf(stderr, "maps_read: %s: %s\n", what, line);
	abort();
}

/* What one of the parts says; false if no mapping can have that. */
static bool number(const char *line, const regmatch_t *part, int base, uint64_t most,
		   uint64_t *number)
{
	errno = 0;
	*number = strtoull(line + part->rm_so, NULL, base);
	return !errno && *number <= most;
}

struct expected {
	uint64_t start, end, offset, major, minor, inode;
	char *permissions, *name;
	uint64_t page, rss, huge;
	unsigned int flags;
};

static bool expect_mapping(const char *line, struct expected *expected)
{
	regmatch_t part[PARTS];

	if (regexec(&header, line, PARTS, part, 0) != 0)
		return false;
	*expected = (struct expected){ 0 };
	if (!number(line, &part[START], 16, UINTPTR_MAX, &expected->start) ||
	    !number(line, &part[END], 16, UINTPTR_MAX, &expected->end) ||
	    !number(line, &part[OFFSET], 16, UINT64_MAX, &expected->offset) ||
	    !number(line, &part[MAJOR], 16, UINT32_MAX, &expected->major) ||
	    !number(line, &part[MINOR], 16, UINT32_MAX, &expected->minor) ||
	    !number(line, &part[INODE], 10, UINT64_MAX, &expected->inode) ||
	    expected->start >= expected->end)
		return false;
	expected->permissions = strndup(line + part[PERMISSIONS].rm_so, 4);
	expected->name = strdup(part[NAME].rm_so < 0 ? "" : line + part[NAME].rm_so);
	return true;
}

static bool expect_flags(const char *words, struct expected *expected)
{
	char *copy = strdup(words), *rest = copy, *word;

	while ((word = strsep(&rest, " "))) {
		expected->flags |= strcmp(word, "hg") == 0 ? UNDER_MADV_HUGEPAGE : 0;
		expected->flags |= strcmp(word, "nh") == 0 ? UNDER_MADV_NOHUGEPAGE : 0;
		expected->flags |= strcmp(word, "ht") == 0 ? OF_HUGETLB : 0;
		expected->flags |= strcmp(word, "pf") == 0 ? OF_PAGE_FRAMES : 0;
	}
	free(copy);
	return true;
}

/* False if it is a key that matters, with a value that makes no sense. */
static bool expect_value(const char *line, const regmatch_t *part, struct expected *expected)
{
	static const struct {
		const char *key;
		size_t place;
		bool sum;
	} known[] = {
		{ "KernelPageSize", offsetof(struct expected, page), false },
		{ "Rss", offsetof(struct expected, rss), false },
		{ "AnonHugePages", offsetof(struct expected, huge), true },
		{ "ShmemPmdMapped", offsetof(struct expected, huge), true },
		{ "FilePmdMapped", offsetof(struct expected, huge), true },
		{ "Shared_Hugetlb", offsetof(struct expected, huge), true },
		{ "Private_Hugetlb", offsetof(struct expected, huge), true },
	};
	const size_t length = (size_t)(part[1].rm_eo - part[1].rm_so);
	const char *value = line + part[2].rm_so;
	uint64_t kib;

	if (length == 7 && strncmp(line, "VmFlags", 7) == 0)
		return expect_flags(value, expected);
	for (size_t i = 0; i < COUNT(known); i++) {
		uint64_t *place = (void *)((char *)expected + known[i].place);
		regmatch_t digits[2];

		if (strlen(known[i].key) != length || strncmp(line, known[i].key, length) != 0)
			continue;
		if (regexec(&amount, value, 2, digits, 0) != 0 ||
		    !number(value, &digits[1], 10, UINT64_MAX >> 10, &kib) ||
		    (known[i].sum && *place > UINT64_MAX - (kib << 10)))
			return false;
		*place = (known[i].sum ? *place : 0) + (kib << 10);
	}
	return true;
}

static void compare(const struct mapping *mapping, const struct expected *expected)
{
	const char *line = expected->name;

	if (mapping->address != expected->start ||
	    mapping->length != expected->end - expected->start || !mapping->length)
		wrong("another range", line);
	if (strcmp(mapping->permissions, expected->permissions) != 0)
		wrong("other permissions", line);
	if (mapping->offset != expected->offset)
		wrong("another offset", line);
	if (mapping->major != expected->major || mapping->minor != expected->minor ||
	    mapping->inode != expected->inode)
		wrong("another file", line);
	if (strcmp(mapping->name, expected->name) != 0)
		wrong("another name", line);
	if (mapping->page != expected->page || mapping->rss != expected->rss ||
	    mapping->huge != expected->huge || (mapping->rss && !mapping->has_rss))
		wrong("another amount", line);
	if (mapping->flags != expected->flags)
		wrong("other flags", line);
}

/* No more than a few bytes at once, so that lines lie across what is read. */
struct rest {
	const uint8_t *at;
	size_t length;
};

static ssize_t read_some(void *cookie, char *to, size_t room)
{
	struct rest *rest = cookie;
	size_t length = rest->length < 61 ? rest->length : 61;

	if (length > room)
		length = room;
	if (length)
		memcpy(to, rest->at, length);
	rest->at += length;
	rest->length -= length;
	return (ssize_t)length;
}

static void classify(const struct maps *maps)
{
	static const struct mounts no_mounts;
	static const struct alignmap_leaves leaves = { 3, { 1 << 30, 1 << 21, 1 << 12 } };
	struct surroundings around = {
		.bar = leaves,
		.all = leaves,
		.cache = { 2, { 1 << 21, 1 << 12 } },
		.anonymous = { 2, { 1 << 21, 1 << 12 } },
		.mounts = &no_mounts,
		.shmem = { 2, { 1 << 21, 1 << 12 } },
		.has_thp = true,
		.sys = "/nowhere",
	};

	select_mappings(maps, &around);
	for (size_t i = 0; i < maps->count; i++) {
		const struct backing backing = backing_of(&around, &maps->mappings[i]);

		if ((backing.rule == NO_RULE) != (backing.leaves.count == 0) ||
		    (backing.rule == NO_RULE && !backing.reason) || !*backing_name(backing.kind))
			wrong("a backing without a rule or reason", maps->mappings[i].name);
	}
	free_selections(&around);
}

/* All that is expected of the lines, compared with what was read. */
static void check(const char *text, size_t length, const struct maps *maps)
{
	struct expected expected = { 0 };
	size_t count = 0, skipped = 0;
	bool current = false;

	for (const char *end, *line = text; line < text + length; line = end + 1) {
		regmatch_t part[3];

		end = memchr(line, '\n', (size_t)(text + length - line));
		if (!end || memchr(line, '\0', (size_t)(end - line))) {
			if (current)
				compare(&maps->mappings[count - 1], &expected);
			current = false;
			skipped++;
			if (!end)
				break;
			continue;
		}
		char *alone = strndup(line, (size_t)(end - line));

		if (regexec(&key, alone, 3, part, 0) == 0) {
			skipped += !current || !expect_value(alone, part, &expected);
		} else {
			if (current)
				compare(&maps->mappings[count - 1], &expected);
			free(expected.permissions);
			free(expected.name);
			expected = (struct expected){ 0 };
			current = expect_mapping(alone, &expected);
			count += current;
			skipped += !current;
			if (count > maps->count)
				wrong("a mapping is missing", alone);
		}
		free(alone);
	}
	if (current)
		compare(&maps->mappings[count - 1], &expected);
	free(expected.permissions);
	free(expected.name);
	if (count != maps->count || skipped != maps->skipped)
		wrong("another number of mappings, or of lines without sense", "");
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t length)
{
	struct rest rest = { input, length };
	FILE *file = fopencookie(&rest, "r", (cookie_io_functions_t){ .read = read_some });
	struct maps maps;

	compile();
	if (!file || !maps_read(file, &maps))
		wrong("it failed", "");
	fclose(file);
	if (length)
		check((const char *)input, length, &maps);
	else if (maps.count || maps.skipped)
		wrong("something of nothing", "");
	classify(&maps);
	maps_free(&maps);
	return 0;
}
