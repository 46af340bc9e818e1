// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "leaves.h"
#include "tool.h"

int trouble_status = 1;

void wrong_usage(const char *format, ...)
{
	va_list arguments;
	char *text, *clean;

	va_start(arguments, format);
	if (vasprintf(&text, format, arguments) < 0)
		err(1, "cannot compose a message");
	va_end(arguments);
	clean = printable(text);
	warnx("%s", clean);
	free(clean);
	free(text);
	fprintf(stderr, "Try '%s --help'.\n", program_invocation_short_name);
	exit(2);
}

bool parse_size(const char *text, uint64_t *size)
{
	static const char units[] = "KMGTPE";
	const bool hexadecimal = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
	const char *unit;
	char *end;

	/* strtoull() takes spaces and signs. */
	if (!isdigit((unsigned char)text[0]))
		return false;
	errno = 0;
	*size = strtoull(text, &end, hexadecimal ? 16 : 10);
	if (errno || (hexadecimal && end == text + 1))
		return false;
	unit = *end ? strchr(units, toupper((unsigned char)*end)) : NULL;
	if (unit) {
		if (__builtin_mul_overflow(*size, 1024ULL << 10 * (unit - units), size))
			return false;
		end++;
		if (strcmp(end, "iB") == 0)
			end += 2;
	}
	return !*end;
}

/* As /proc/PID/maps has offsets and addresses: of whole pages, in hexadecimal. */
static bool is_pasted(const char *text)
{
	const size_t length = strlen(text);

	return length > 3 && strspn(text, "0123456789abcdefABCDEF") == length &&
	       strcmp(text + length - 3, "000") == 0;
}

uint64_t size_argument(const char *option, const char *text)
{
	const bool pasted = is_pasted(text);
	uint64_t size;

	if (!parse_size(text, &size))
		wrong_usage("%s %s: not a size in bytes, such as 4096, 0x1000, 64K, 2M or 1G%s%s%s",
			    option, text, pasted ? "; is it 0x" : "", pasted ? text : "",
			    pasted ? "?" : "");
	return size;
}

struct text size_text(uint64_t size)
{
	static const char *const units[] = { "", "K", "M", "G", "T", "P", "E" };
	struct text text;
	double number = (double)size;
	unsigned int unit = 0;

	/* Not 1024K, which a number a little less would be rounded to. */
	for (; number >= 1023.5; unit++)
		number /= 1024;
	/* The decimal tells what is rounded: 2G is 2 GiB, 2.0G a page less. */
	snprintf(text.text, sizeof(text.text), "%.*f%s",
		 (size & ((1ULL << 10 * unit) - 1)) && number < 99.95 ? 1 : 0, number, units[unit]);
	return text;
}

struct text number_text(uint64_t number)
{
	struct text text;
	char digits[24];
	int length = snprintf(digits, sizeof(digits), "%" PRIu64, number);
	size_t at = 0;

	for (int i = 0; i < length; i++) {
		if (i && (length - i) % 3 == 0)
			text.text[at++] = ',';
		text.text[at++] = digits[i];
	}
	text.text[at] = '\0';
	return text;
}

struct text ratio_text(double more, double less)
{
	struct text text;
	const double ratio = more / less;

	if (less <= 0)
		snprintf(text.text, sizeof(text.text), "-");
	else if (ratio >= 9.95)
		text = number_text((uint64_t)(ratio + 0.5));
	else
		snprintf(text.text, sizeof(text.text), "%.1f", ratio);
	return text;
}

char *printable(const char *name)
{
	char *clean = malloc(4 * strlen(name) + 1);
	char *to = clean;

	if (!clean)
		err(trouble_status, "%s", name);
	for (; *name; name++) {
		if (*name >= ' ' && *name <= '~')
			*to++ = *name;
		else
			to += sprintf(to, "\\%03o", (unsigned char)*name);
	}
	*to = '\0';
	return clean;
}

bool colours_wanted(void)
{
	const char *no_color = getenv("NO_COLOR");
	const char *terminal = getenv("TERM");

	return isatty(STDOUT_FILENO) && !(no_color && *no_color) && terminal &&
	       strcmp(terminal, "dumb") != 0;
}

static void *checked(void *object)
{
	if (!object)
		err(trouble_status, "cannot make a table");
	return object;
}

struct libscols_table *new_table(void)
{
	struct libscols_table *table = checked(scols_new_table());

	scols_table_enable_colors(table, colours_wanted());
	return table;
}

void add_column(struct libscols_table *table, const char *heading, int flags)
{
	checked(scols_table_new_column(table, heading, 0, flags));
}

struct libscols_line *add_row(struct libscols_table *table, const char *const *cells)
{
	struct libscols_line *row = checked(scols_table_new_line(table, NULL));

	for (size_t i = 0; i < scols_table_get_ncols(table); i++)
		if (scols_line_set_data(row, i, cells[i] ? cells[i] : ""))
			checked(NULL);
	return row;
}

void print_table(struct libscols_table *table)
{
	if (scols_print_table(table))
		err(trouble_status, "cannot print a table");
	scols_unref_table(table);
}

void print_wrapped(const char *first, const char *others, const char *text)
{
	size_t column = strlen(first);
	const char *space = "";

	fputs(first, stdout);
	while (*(text += strspn(text, " "))) {
		const size_t length = strcspn(text, " ");

		if (*space && column + 1 + length > 80) {
			printf("\n%s", others);
			column = strlen(others);
			space = "";
		}
		printf("%s%.*s", space, (int)length, text);
		column += strlen(space) + length;
		space = " ";
		text += length;
	}
	puts("");
}

void print_json(struct json_object *document, bool one_line)
{
	const int flags = JSON_C_TO_STRING_NOSLASHESCAPE |
			  (one_line ? JSON_C_TO_STRING_PLAIN
				    : JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED);

	puts(checked((void *)json_object_to_json_string_ext(document, flags)));
	json_object_put(document);
}

void json_add(struct json_object *object, const char *key, struct json_object *value)
{
	if (json_object_object_add(object, key, value))
		err(trouble_status, "cannot compose JSON");
}

struct json_object *json_number(uint64_t number)
{
	return json_object_new_uint64(number);
}

struct json_object *json_number_if(bool known, uint64_t number)
{
	return known ? json_object_new_uint64(number) : NULL;
}

struct json_object *json_flag_if(bool known, bool flag)
{
	return known ? json_object_new_boolean(flag) : NULL;
}

struct json_object *json_text(const char *text)
{
	struct json_object *string;
	char *clean;

	if (!text || !*text)
		return NULL;
	clean = printable(text);
	string = json_object_new_string(clean);
	free(clean);
	return string;
}

struct json_object *json_texts(char *const *texts, size_t count)
{
	struct json_object *array = json_object_new_array();

	for (size_t i = 0; i < count; i++)
		json_object_array_add(array, json_text(texts[i]));
	return array;
}

struct json_object *json_address(uintptr_t address)
{
	char text[24];

	snprintf(text, sizeof(text), "%#" PRIxPTR, address);
	return json_object_new_string(text);
}

struct json_object *json_leaves(const struct alignmap_leaves *leaves)
{
	struct json_object *sizes = json_object_new_array();

	for (unsigned int i = 0; i < leaves->count; i++)
		json_object_array_add(sizes, json_number(leaves->size[i]));
	return sizes;
}

size_t modulus_at(const struct alignmap_leaves *leaves, uint64_t offset, uint64_t address)
{
	unsigned int i = 0;

	while ((address - offset) & (leaves->size[i] - 1))
		i++;
	return leaves->size[i];
}

bool linux_from(unsigned int major, unsigned int minor)
{
	unsigned int has_major = 0, has_minor = 0;
	struct utsname name;

	uname(&name);
	sscanf(name.release, "%u.%u", &has_major, &has_minor);
	return has_major > major || (has_major == major && has_minor >= minor);
}

bool has_large_bars(void)
{
	return linux_from(LARGE_BARS_MAJOR, LARGE_BARS_MINOR);
}

/* ARCH_SUPPORTS_HUGE_PFNMAP is selected if TRANSPARENT_HUGEPAGE. Without sysfs nothing is known. */
bool lacks_huge_pages(void)
{
	return access("/sys/kernel/mm", F_OK) == 0 &&
	       access("/sys/kernel/mm/transparent_hugepage", F_OK) != 0;
}

void bar_leaves(struct alignmap_leaves *leaves)
{
	alignmap_host_leaves(ALIGNMAP_VFIO, leaves);
	if (!has_large_bars() || lacks_huge_pages()) {
		leaves->size[0] = leaves->size[leaves->count - 1];
		leaves->count = 1;
	}
}

const char *bar_obstacle(void)
{
	if (!alignmap_host.thp_rules_bars)
		return NULL;
	switch (alignmap_host.thp) {
	case THP_NEVER:
		return "this Linux maps BARs by base pages under the policy [never]: "
		       "echo madvise >/sys/kernel/mm/transparent_hugepage/enabled";
	case THP_MADVISE:
		return "this Linux maps BARs by base pages under the policy [madvise], unless they "
		       "are under MADV_HUGEPAGE, as libalignmap puts what it places";
	default:
		return NULL;
	}
}
