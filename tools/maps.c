// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "maps.h"

/* fs/proc/task_mmu.c prints them so: lower case, no sign and no prefix. */
static bool read_number(const char **at, unsigned int base, uint64_t most, uint64_t *number)
{
	static const char digits[] = "0123456789abcdef";
	const char *start = *at;

	for (*number = 0; **at; (*at)++) {
		const char *digit = memchr(digits, **at, base);

		if (!digit)
			break;
		if (__builtin_mul_overflow(*number, base, number) ||
		    __builtin_add_overflow(*number, digit - digits, number) || *number > most)
			return false;
	}
	return *at > start;
}

static bool read_character(const char **at, const char *allowed)
{
	if (!**at || !strchr(allowed, **at))
		return false;
	(*at)++;
	return true;
}

static bool read_permissions(const char **at, char *permissions)
{
	static const char *const allowed[] = { "r-", "w-", "x-", "sp" };

	for (size_t i = 0; i < 4; i++) {
		permissions[i] = **at;
		if (!read_character(at, allowed[i]))
			return false;
	}
	permissions[4] = '\0';
	return true;
}

/* All of a line that says where a mapping lies, but for the name: @at is left there. */
static bool read_header(const char **at, struct mapping *mapping)
{
	uint64_t address, end, major, minor;

	if (!read_number(at, 16, UINTPTR_MAX, &address) || !read_character(at, "-") ||
	    !read_number(at, 16, UINTPTR_MAX, &end) || !read_character(at, " ") ||
	    !read_permissions(at, mapping->permissions) || !read_character(at, " ") ||
	    !read_number(at, 16, UINT64_MAX, &mapping->offset) || !read_character(at, " ") ||
	    !read_number(at, 16, UINT32_MAX, &major) || !read_character(at, ":") ||
	    !read_number(at, 16, UINT32_MAX, &minor) || !read_character(at, " ") ||
	    !read_number(at, 10, UINT64_MAX, &mapping->inode) || (**at && **at != ' '))
		return false;
	if (end <= address)
		return false;
	mapping->address = address;
	mapping->length = end - address;
	mapping->major = (unsigned int)major;
	mapping->minor = (unsigned int)minor;
	*at += strspn(*at, " ");
	return true;
}

static bool add_mapping(struct maps *maps, const struct mapping *mapping, const char *name)
{
	if (maps->count == maps->room) {
		const size_t room = maps->room ? 2 * maps->room : 64;
		struct mapping *more = reallocarray(maps->mappings, room, sizeof(*more));

		if (!more)
			return false;
		maps->mappings = more;
		maps->room = room;
	}
	maps->mappings[maps->count] = *mapping;
	maps->mappings[maps->count].name = strdup(name);
	if (!maps->mappings[maps->count].name)
		return false;
	maps->count++;
	return true;
}

static void read_flags(const char *words, unsigned int *flags)
{
	static const struct {
		char word[3];
		enum mapping_flags flag;
	} known[] = {
		{ "hg", UNDER_MADV_HUGEPAGE },
		{ "nh", UNDER_MADV_NOHUGEPAGE },
		{ "ht", OF_HUGETLB },
		{ "pf", OF_PAGE_FRAMES },
	};

	while (*(words += strspn(words, " "))) {
		const size_t length = strcspn(words, " ");

		for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
			if (length == 2 && strncmp(words, known[i].word, 2) == 0)
				*flags |= known[i].flag;
		words += length;
	}
}

/* "        2048 kB": in bytes. */
static bool read_amount(const char *at, uint64_t *amount)
{
	uint64_t kib;

	at += strspn(at, " ");
	if (!read_number(&at, 10, UINT64_MAX / 1024, &kib) || strcmp(at, " kB") != 0)
		return false;
	*amount = kib * 1024;
	return true;
}

static bool add_amount(const char *at, uint64_t *sum)
{
	uint64_t amount;

	if (!read_amount(at, &amount) || amount > UINT64_MAX - *sum)
		return false;
	*sum += amount;
	return true;
}

/* False if a key that is known has no sensible value; others may have any. */
static bool read_value(const char *key, const char *value, struct mapping *mapping)
{
	static const char *const huge_keys[] = { "AnonHugePages", "ShmemPmdMapped", "FilePmdMapped",
						 "Shared_Hugetlb", "Private_Hugetlb" };

	if (strcmp(key, "VmFlags") == 0)
		read_flags(value, &mapping->flags);
	if (strcmp(key, "KernelPageSize") == 0)
		return read_amount(value, &mapping->page);
	if (strcmp(key, "Rss") == 0) {
		if (!read_amount(value, &mapping->rss))
			return false;
		mapping->has_rss = true;
	}
	for (size_t i = 0; i < sizeof(huge_keys) / sizeof(huge_keys[0]); i++)
		if (strcmp(key, huge_keys[i]) == 0)
			return add_amount(value, &mapping->huge);
	return true;
}

/* Where the value begins in "Key: value", the colon having become the key's end; else NULL. */
static char *split_key(char *line)
{
	char *at = line;

	while (isalnum((unsigned char)*at) || *at == '_')
		at++;
	if (*at != ':' || at == line || isdigit((unsigned char)*line))
		return NULL;
	*at = '\0';
	return at + 1;
}

/* @current: whether the last mapping is what the lines that follow speak of. */
static bool read_line(char *line, struct maps *maps, bool *current)
{
	char *value = split_key(line);
	struct mapping mapping = { 0 };
	const char *at = line;

	if (value) {
		if (!*current || !read_value(line, value, &maps->mappings[maps->count - 1]))
			maps->skipped++;
		return true;
	}
	*current = read_header(&at, &mapping);
	if (*current)
		return add_mapping(maps, &mapping, at);
	maps->skipped++;
	return true;
}

bool maps_read(FILE *file, struct maps *maps)
{
	bool current = false, good = true;
	char *line = NULL;
	size_t room = 0;
	ssize_t length;

	*maps = (struct maps){ 0 };
	errno = 0;
	while (good && (length = getline(&line, &room, file)) > 0) {
		/* What has no end was cut, and what it says too. */
		if (line[length - 1] != '\n' || memchr(line, '\0', (size_t)length)) {
			current = false;
			maps->skipped++;
			continue;
		}
		line[length - 1] = '\0';
		good = read_line(line, maps, &current);
	}
	free(line);
	/* Whatever ends the reading but the end of the file has set errno: ENOMEM for one. */
	return good && !ferror(file) && feof(file);
}

void maps_free(struct maps *maps)
{
	for (size_t i = 0; i < maps->count; i++)
		free(maps->mappings[i].name);
	free(maps->mappings);
	*maps = (struct maps){ 0 };
}
