// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* What a mapping deserves, and what it needs at other addresses: arithmetic, no mapping is made. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plan.h"
#include "tool.h"

#define K ((uint64_t)1 << 10)
#define M ((uint64_t)1 << 20)
#define G ((uint64_t)1 << 30)

enum { WIDTH = 80, RUNS_MAX = 2 * ALIGNMAP_LEAVES_MAX - 1, PLACEMENTS_MAX = 3 };

/* More than any machine's address space, and far from where additions overflow. */
#define LENGTH_MAX (1ULL << 62)

struct request {
	struct alignmap_leaves leaves;
	bool leaves_given, address_given, json;
	uint64_t asked, length; /* as asked for, and rounded up to the base page */
	uint64_t offset, address;
};

/* Leaves of one size that follow each other. */
struct run {
	uint64_t leaf, start, end; /* @start and @end are offsets */
};

struct placement {
	char name[24];
	uint64_t modulus; /* under which its address is congruent with the offset */
	uint64_t address; /* the one that is given, or one that needs the most tables */
	bool given;
	size_t entries, count[ALIGNMAP_LEAVES_MAX]; /* in the order of the request's leaves */
	struct run runs[RUNS_MAX];
	unsigned int run_count;
	uint64_t pte_tables, pmd_tables;
};

/* How much memory a table of the last level maps, and one of the level above. */
struct levels {
	uint64_t page, pmd, pud;
};

static const char help[] =
	"usage: alignmap plan LENGTH [--offset OFFSET] [--leaves SIZE,...]\n"
	"                     [--address ADDRESS] [--json]\n"
	"\n"
	"What a mapping deserves, and what it needs: page-table entries of each leaf size\n"
	"and page-table memory, at the best address, at a page-aligned one and at\n"
	"ADDRESS. Pure arithmetic: nothing is mapped.\n"
	"\n"
	"  LENGTH             its length in bytes, such as 4096, 0x1000, 64K, 2M or 1G\n"
	"  --offset OFFSET    its offset into what is mapped, such as the third column of\n"
	"                     /proc/PID/maps (with 0x before it); default: 0\n"
	"  --leaves SIZE,...  the leaf sizes to plan with, in any order, at most 8;\n"
	"                     default: this host's. Files and memory get the PMD at most,\n"
	"                     as 4K,2M, and BARs on arm64\n"
	"  --address ADDRESS  what it needs there\n"
	"  --json             as JSON\n"
	"  --help             this text\n"
	"\n"
	"examples:\n"
	"  alignmap plan 2G\n"
	"  alignmap plan 16M --offset 0x1fff000 --address 0x7f1fe2dff000\n"
	"  alignmap plan 1G --leaves 4K,64K,2M,32M,1G     (arm64 with 4K pages)\n";

/* A size as it is: 2M, but 0x1fff000 where that would be rounded. */
static struct text exact_text(uint64_t size)
{
	struct text text = size_text(size);
	uint64_t read;

	if (!parse_size(text.text, &read) || read != size)
		snprintf(text.text, sizeof(text.text), "%#" PRIx64, size);
	return text;
}

static int by_falling_size(const void *a, const void *b)
{
	const size_t left = *(const size_t *)a, right = *(const size_t *)b;

	return (left < right) - (left > right);
}

static void parse_leaves(const char *list, struct alignmap_leaves *leaves)
{
	char *copy = strdup(list), *rest = copy, *item;
	uint64_t size, page;

	if (!copy)
		err(1, "--leaves");
	leaves->count = 0;
	while ((item = strsep(&rest, ","))) {
		if (!*item)
			wrong_usage("--leaves '%s': a size is missing", list);
		size = size_argument("--leaves", item);
		if (!size || size & (size - 1))
			wrong_usage("--leaves: %s is no power of two", item);
		if (leaves->count == ALIGNMAP_LEAVES_MAX)
			wrong_usage("--leaves %s: more than %d sizes", list, ALIGNMAP_LEAVES_MAX);
		for (unsigned int i = 0; i < leaves->count; i++)
			if (leaves->size[i] == size)
				wrong_usage("--leaves %s: %s is there twice", list, item);
		leaves->size[leaves->count++] = size;
	}
	free(copy);
	qsort(leaves->size, leaves->count, sizeof(leaves->size[0]), by_falling_size);
	page = leaves->size[leaves->count - 1];
	if (page < 4 * K || page > 256 * K)
		wrong_usage("--leaves %s: the smallest must be the base page, 4K to 256K, not %s",
			    list, size_text(page).text);
}

/* What of the request cannot be parsed or planned ends the program. */
static void parse_request(int argc, char **argv, struct request *request)
{
	static const struct option options[] = {
		{ "address", required_argument, NULL, 'a' },
		{ "help", no_argument, NULL, 'h' },
		{ "json", no_argument, NULL, 'j' },
		{ "leaves", required_argument, NULL, 'l' },
		{ "offset", required_argument, NULL, 'o' },
		{ 0 },
	};
	int option;

	alignmap_host_leaves(ALIGNMAP_ANY, &request->leaves);
	while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (option) {
		case 'a':
			request->address_given = true;
			if (!parse_size(optarg, &request->address))
				wrong_usage("--address %s: not an address, such as 0x7f1fe2e00000; "
					    "hexadecimal takes 0x before it",
					    optarg);
			break;
		case 'h':
			fputs(help, stdout);
			exit(0);
		case 'j':
			request->json = true;
			break;
		case 'l':
			request->leaves_given = true;
			parse_leaves(optarg, &request->leaves);
			break;
		case 'o':
			request->offset = size_argument("--offset", optarg);
			break;
		default:
			fprintf(stderr, "Try '%s --help'.\n", argv[0]);
			exit(2);
		}
	}
	if (optind == argc)
		wrong_usage("LENGTH is missing");
	if (argc - optind > 1)
		wrong_usage("%s: one LENGTH only", argv[optind + 1]);
	request->asked = size_argument("LENGTH", argv[optind]);
}

static void check_request(struct request *request)
{
	const uint64_t page = request->leaves.size[request->leaves.count - 1];
	uint64_t end;

	if (!request->asked)
		wrong_usage("LENGTH 0: nothing to map");
	if (request->asked > LENGTH_MAX)
		wrong_usage("LENGTH %#" PRIx64 ": longer than any address space", request->asked);
	request->length = (request->asked + page - 1) & ~(page - 1);
	if (request->offset & (page - 1))
		wrong_usage("--offset %#" PRIx64 ": no multiple of the base page, %s; "
			    "hexadecimal takes 0x before it",
			    request->offset, size_text(page).text);
	if (request->address & (page - 1))
		wrong_usage("--address %#" PRIx64 ": no multiple of the base page, %s; "
			    "hexadecimal takes 0x before it",
			    request->address, size_text(page).text);
	if (__builtin_add_overflow(request->offset, request->length, &end))
		wrong_usage("--offset %#" PRIx64 ": offset and length exceed 64 bits",
			    request->offset);
	if (__builtin_add_overflow(request->address, request->length, &end))
		wrong_usage("--address %#" PRIx64 ": address and length exceed 64 bits",
			    request->address);
}

/*
 * A table of one page, of entries of 8 bytes, at each level: so on x86-64, arm64 and riscv64. Those
 * of the others are told by the leaf size that no such table spans.
 */
static struct levels levels_of(const struct alignmap_leaves *leaves)
{
	static const struct levels others[] = {
		{ 4 * K, M, 2 * G },  /* s390x: 256 and 2,048 entries */
		{ 64 * K, 2 * M, G }, /* ppc64, radix: 32 and 512 entries */
	};
	const uint64_t page = leaves->size[leaves->count - 1];
	struct levels levels = { page, page * (page / 8), page * (page / 8) * (page / 8) };
	const struct levels *other = NULL;

	for (unsigned int i = 0; i < leaves->count; i++) {
		if (leaves->size[i] == levels.pmd)
			return levels;
		for (size_t j = 0; j < COUNT(others); j++)
			if (others[j].page == page && others[j].pmd == leaves->size[i])
				other = &others[j];
	}
	return other ? *other : levels;
}

/* The offsets between which whole blocks of @leaf lie. */
static struct run whole(const struct request *request, uint64_t leaf)
{
	return (struct run){ leaf, (request->offset + leaf - 1) & ~(leaf - 1),
			     (request->offset + request->length) & ~(leaf - 1) };
}

/* From small leaves to large ones, and back: what larger leaves do not map, smaller ones do. */
static void find_runs(struct placement *placement, const struct request *request,
		      const struct alignmap_leaves *usable)
{
	struct run tail[ALIGNMAP_LEAVES_MAX];
	unsigned int largest = 0, tails = 0;

	while (!holds_block(request->offset, request->length, usable->size[largest]))
		largest++;
	for (unsigned int i = usable->count - 1; i > largest; i--) {
		const struct run outer = whole(request, usable->size[i]);
		const struct run inner = whole(request, usable->size[i - 1]);

		if (outer.start < inner.start)
			placement->runs[placement->run_count++] =
				(struct run){ outer.leaf, outer.start, inner.start };
		if (inner.end < outer.end)
			tail[tails++] = (struct run){ outer.leaf, inner.end, outer.end };
	}
	placement->runs[placement->run_count++] = whole(request, usable->size[largest]);
	while (tails)
		placement->runs[placement->run_count++] = tail[--tails];
}

/* How many tables that each span @span hold entries of smaller leaves. */
static uint64_t tables(const struct placement *placement, uint64_t offset, uint64_t span)
{
	uint64_t count = 0, last = UINT64_MAX;

	for (unsigned int i = 0; i < placement->run_count; i++) {
		const struct run *run = &placement->runs[i];
		uint64_t first = (placement->address + (run->start - offset)) / span;

		if (run->leaf >= span)
			continue;
		count -= first == last;
		last = (placement->address + (run->end - offset) - 1) / span;
		count += last - first + 1;
	}
	return count;
}

/*
 * At addresses that are congruent modulo @modulus; without @address at that one of them of which
 * the mapping touches the most tables: as far behind the start of a table as can be.
 */
static void place(struct placement *placement, const struct request *request, uint64_t modulus,
		  const uint64_t *address)
{
	const struct levels levels = levels_of(&request->leaves);
	struct alignmap_leaves usable = { 0 };
	struct alignmap_plan plan;
	unsigned int skipped;

	placement->modulus = modulus;
	placement->given = address;
	placement->address = request->offset & (modulus - 1);
	if (modulus < levels.pud)
		placement->address += levels.pud - modulus;
	if (address)
		placement->address = *address;
	for (unsigned int i = 0; i < request->leaves.count; i++)
		if (request->leaves.size[i] <= modulus)
			usable.size[usable.count++] = request->leaves.size[i];
	if (alignmap_plan(&usable, request->length, request->offset, &plan))
		err(1, "cannot plan %#" PRIx64 " bytes", request->length);
	skipped = request->leaves.count - usable.count;
	placement->entries = plan.entries;
	memcpy(placement->count + skipped, plan.count, usable.count * sizeof(plan.count[0]));
	find_runs(placement, request, &usable);
	placement->pte_tables = tables(placement, request->offset, levels.pmd);
	placement->pmd_tables = tables(placement, request->offset, levels.pud);
}

static uint64_t table_bytes(const struct placement *placement, const struct levels *levels)
{
	return 8 * (placement->pte_tables * (levels->pmd / levels->page) +
		    placement->pmd_tables * (levels->pud / levels->pmd));
}

/* Best, page-aligned, and at the address if there is one. Returns how many. */
static unsigned int place_all(const struct request *request, struct placement *placements)
{
	const struct alignmap_leaves *leaves = &request->leaves;
	const uint64_t page = leaves->size[leaves->count - 1];
	struct alignmap_plan plan;

	if (alignmap_plan(leaves, request->length, request->offset, &plan))
		err(1, "cannot plan %#" PRIx64 " bytes", request->length);
	snprintf(placements[0].name, sizeof(placements[0].name), "best");
	place(&placements[0], request, plan.alignment, NULL);
	snprintf(placements[1].name, sizeof(placements[1].name), "page-aligned");
	place(&placements[1], request, page, NULL);
	if (!request->address_given)
		return 2;
	snprintf(placements[2].name, sizeof(placements[2].name), "%#" PRIx64, request->address);
	place(&placements[2], request, modulus_at(leaves, request->offset, request->address),
	      &request->address);
	return 3;
}

static void print_verdict(const struct request *request, const struct placement *best)
{
	const struct alignmap_leaves *leaves = &request->leaves;
	const uint64_t phase = request->offset & (best->modulus - 1);
	const struct text modulus = size_text(best->modulus);
	char *sentence;
	size_t length;
	FILE *stream = open_memstream(&sentence, &length);

	if (!stream)
		err(1, "cannot print the plan");
	if (request->asked != request->length)
		fprintf(stream, "The length %" PRIu64 " is rounded up to whole base pages. ",
			request->asked);
	fprintf(stream, "%s at offset %s ", exact_text(request->length).text,
		exact_text(request->offset).text);
	if (best->modulus == leaves->size[leaves->count - 1])
		fprintf(stream, "holds no whole leaf above %s: any page-aligned address will do.",
			modulus.text);
	else if (phase)
		fprintf(stream,
			"deserves an address congruent with the offset modulo %s: one that "
			"leaves %s.",
			modulus.text, exact_text(phase).text);
	else
		fprintf(stream,
			"deserves an address congruent with the offset modulo %s: a "
			"multiple of %s.",
			modulus.text, modulus.text);
	if (fclose(stream))
		err(1, "cannot print the plan");
	print_wrapped("", "", sentence);
	free(sentence);
	printf("Leaf sizes%s:", request->leaves_given ? "" : " of this host");
	for (unsigned int i = 0; i < leaves->count; i++)
		printf(" %s", size_text(leaves->size[i]).text);
	puts(".\n");
}

/* How a number is printed: exactly where there is room. */
static struct text count_text(size_t number, bool exact)
{
	struct text text = number_text(number);
	double short_number = (double)number;
	unsigned int tens = 0;

	for (; short_number >= 9.95; tens++)
		short_number /= 10;
	if (!number)
		snprintf(text.text, sizeof(text.text), "-");
	else if (!exact && tens >= 5)
		snprintf(text.text, sizeof(text.text), "%.1fe%u", short_number, tens);
	return text;
}

/* By leaf size, from the base page on. */
static const char fillings[] = ".-=+*#%@";
static const char *const colours[] = { "\033[31m", "\033[33m", "\033[32m", "\033[36m",
				       "\033[34m", "\033[35m", "\033[91m", "\033[93m" };

enum { BEFORE_LEAVES = 2, BEHIND_LEAVES = 3, COLUMNS = 5 + ALIGNMAP_LEAVES_MAX };

struct grid {
	struct text cells[1 + PLACEMENTS_MAX][COLUMNS]; /* the first row are the headings */
	bool is_left_out[COLUMNS];
	unsigned int rows, columns;
};

static void fill_grid(struct grid *grid, const struct request *request,
		      const struct placement *placements, bool exact)
{
	const char *const headings[] = { "PLACEMENT", "MODULO", "ENTRIES",
					 exact ? "PAGE TABLES" : "TABLES", "RATIO" };
	const unsigned int behind = BEFORE_LEAVES + request->leaves.count;
	const struct levels levels = levels_of(&request->leaves);
	struct text(*cells)[COLUMNS] = grid->cells;

	for (unsigned int i = 0; i < COUNT(headings); i++)
		strcpy(cells[0][i < BEFORE_LEAVES ? i : behind - BEFORE_LEAVES + i].text,
		       headings[i]);
	for (unsigned int i = 0; i < request->leaves.count; i++)
		cells[0][BEFORE_LEAVES + i] = size_text(request->leaves.size[i]);
	for (unsigned int row = 1; row < grid->rows; row++) {
		const struct placement *placement = &placements[row - 1];

		strcpy(cells[row][0].text, placement->name);
		cells[row][1] = size_text(placement->modulus);
		for (unsigned int i = 0; i < request->leaves.count; i++)
			cells[row][BEFORE_LEAVES + i] = count_text(placement->count[i], exact);
		cells[row][behind] = count_text(placement->entries, exact);
		cells[row][behind + 1] = size_text(table_bytes(placement, &levels));
		cells[row][behind + 2] = ratio_text(placement->entries, placements->entries);
		if (placement->entries == placements->entries)
			strcpy(cells[row][behind + 2].text, "1");
		else if (strlen(cells[row][behind + 2].text) > 6 && !exact)
			cells[row][behind + 2] =
				count_text(placement->entries / placements->entries, exact);
	}
}

static size_t grid_width(const struct grid *grid)
{
	size_t width = 0, widest;

	for (unsigned int column = 0; column < grid->columns; column++) {
		if (grid->is_left_out[column])
			continue;
		widest = 0;
		for (unsigned int row = 0; row < grid->rows; row++)
			if (strlen(grid->cells[row][column].text) > widest)
				widest = strlen(grid->cells[row][column].text);
		width += widest + 1;
	}
	return width - 1;
}

/* Leaf sizes that no placement uses are left out, but only if the table is too wide with them. */
static void narrow_grid(struct grid *grid, const struct request *request,
			const struct placement *placements)
{
	for (unsigned int i = 0; i < request->leaves.count; i++) {
		size_t used = 0;

		for (unsigned int row = 1; row < grid->rows; row++)
			used |= placements[row - 1].count[i];
		grid->is_left_out[BEFORE_LEAVES + i] = !used;
	}
	if (grid_width(grid) > WIDTH)
		fill_grid(grid, request, placements, false);
	/* The modulus of the address is also the largest of the leaves that it has. */
	grid->is_left_out[1] = grid_width(grid) > WIDTH;
}

static void add_grid_column(struct libscols_table *table, const struct grid *grid, unsigned int i,
			    unsigned int leaves)
{
	add_column(table, grid->cells[0][i].text, i ? RIGHT_ALIGNED : LEFT_ALIGNED);
	if (i >= BEFORE_LEAVES && i < BEFORE_LEAVES + leaves)
		scols_column_set_color(
			scols_table_get_column(table, scols_table_get_ncols(table) - 1),
			colours[leaves - 1 - (i - BEFORE_LEAVES)]);
}

static void print_placements(const struct request *request, const struct placement *placements,
			     unsigned int count)
{
	struct grid grid = { .rows = 1 + count,
			     .columns = BEFORE_LEAVES + request->leaves.count + BEHIND_LEAVES };
	struct libscols_table *table = new_table();

	fill_grid(&grid, request, placements, true);
	if (grid_width(&grid) > WIDTH)
		narrow_grid(&grid, request, placements);
	for (unsigned int i = 0; i < grid.columns; i++)
		if (!grid.is_left_out[i])
			add_grid_column(table, &grid, i, request->leaves.count);
	for (unsigned int row = 1; row < grid.rows; row++) {
		const char *cells[COLUMNS];
		unsigned int at = 0;

		for (unsigned int i = 0; i < grid.columns; i++)
			if (!grid.is_left_out[i])
				cells[at++] = grid.cells[row][i].text;
		add_row(table, cells);
	}
	print_table(table);
}

/* Runs that are drawn in a line of a bar, and how wide: "|..256 x 4K..", without the last "|". */
struct line {
	const struct run *runs;
	unsigned int count, widths[RUNS_MAX];
};

struct label {
	char text[72];
};

static struct label label_of(const struct run *run)
{
	struct label label;

	snprintf(label.text, sizeof(label.text), "%s x %s",
		 number_text((run->end - run->start) / run->leaf).text, size_text(run->leaf).text);
	return label;
}

static unsigned int magnitude(const struct run *run)
{
	return 64 - __builtin_clzll(run->end - run->start);
}

/* As many runs as fit with one character of filling on each side; then room is given by length. */
static struct line fit_line(const struct run *runs, unsigned int count)
{
	struct line line = { .runs = runs };
	unsigned int width = 1, weight = 0, spare;

	for (; line.count < count; line.count++) {
		unsigned int least = strlen(label_of(&runs[line.count]).text) + 3;

		if (width + least > WIDTH)
			break;
		line.widths[line.count] = least;
		width += least;
		weight += magnitude(&runs[line.count]);
	}
	spare = WIDTH - width;
	for (unsigned int i = 0; i < line.count; i++)
		line.widths[i] += spare * magnitude(&runs[i]) / weight;
	return line;
}

static void draw_run(const struct request *request, const struct run *run, unsigned int width)
{
	const struct label label = label_of(run);
	const size_t length = strlen(label.text);
	unsigned int index = request->leaves.count - 1;
	char text[WIDTH + 1];

	for (unsigned int i = 0; request->leaves.size[i] != run->leaf; i++)
		index--;
	/* A run's leaf is one of the request's: the index stays in the table. */
	/* NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage) */
	memset(text, fillings[index], width - 1);
	memcpy(text + (width - 1 - length) / 2, label.text, length);
	text[width - 1] = '\0';
	if (colours_wanted())
		printf("|%s%s\033[0m", colours[index], text);
	else
		printf("|%s", text);
}

/* Writes an offset into the line beneath a bar, if that is blank there and one column around. */
static void write_offset(char *beneath, unsigned int column, const char *text)
{
	const size_t length = strlen(text);

	if (column + length > WIDTH)
		return;
	for (unsigned int i = column ? column - 1 : 0; i <= column + length && i < WIDTH; i++)
		if (beneath[i] != ' ')
			return;
	/* Into the middle of a line. NOLINTNEXTLINE(bugprone-not-null-terminated-result) */
	memcpy(beneath + column, text, length);
}

static struct text offset_text(uint64_t offset)
{
	struct text text;

	snprintf(text.text, sizeof(text.text), offset ? "%#" PRIx64 : "%" PRIx64, offset);
	return text;
}

/* The ends first; where runs begin between them, if there is room. */
static void write_offsets(const struct line *line)
{
	struct text start = offset_text(line->runs[0].start);
	struct text end = offset_text(line->runs[line->count - 1].end);
	unsigned int column = 0;
	char beneath[WIDTH + 1];

	memset(beneath, ' ', WIDTH);
	for (unsigned int i = 0; i < line->count; i++)
		column += line->widths[i];
	write_offset(beneath, 0, start.text);
	if (column + 1 > strlen(start.text) + strlen(end.text) + 1)
		column = column + 1 - strlen(end.text);
	else
		column = strlen(start.text) + 1;
	write_offset(beneath, column, end.text);
	column = 0;
	for (unsigned int i = 1; i < line->count; i++) {
		column += line->widths[i - 1];
		write_offset(beneath, column, offset_text(line->runs[i].start).text);
	}
	column = WIDTH;
	while (column && beneath[column - 1] == ' ')
		column--;
	printf("%.*s\n", (int)column, beneath);
}

static void draw(const struct request *request, const struct placement *placement)
{
	struct line line;

	for (unsigned int i = 0; i < placement->run_count; i += line.count) {
		line = fit_line(placement->runs + i, placement->run_count - i);
		for (unsigned int j = 0; j < line.count; j++)
			draw_run(request, &line.runs[j], line.widths[j]);
		puts("|");
		write_offsets(&line);
	}
}

static void print_plan(const struct request *request, const struct placement *placements,
		       unsigned int count)
{
	print_verdict(request, placements);
	print_placements(request, placements, count);
	puts("\nPage tables: at most. Mappings beside this one may share the first and the "
	     "last.\n");
	puts("Best, not to scale, with offsets:");
	draw(request, placements);
	if (count == PLACEMENTS_MAX && placements[2].entries != placements->entries) {
		printf("\nAt %s:\n", placements[2].name);
		draw(request, &placements[2]);
	}
}

static struct json_object *json_counts(const struct request *request,
				       const struct placement *placement)
{
	struct json_object *counts = json_object_new_array();

	for (unsigned int i = 0; i < request->leaves.count; i++)
		json_object_array_add(counts, json_number(placement->count[i]));
	return counts;
}

static struct json_object *json_runs(const struct placement *placement)
{
	struct json_object *runs = json_object_new_array();

	for (unsigned int i = 0; i < placement->run_count; i++) {
		const struct run *run = &placement->runs[i];
		struct json_object *object = json_object_new_object();

		json_add(object, "leaf", json_number(run->leaf));
		json_add(object, "count", json_number((run->end - run->start) / run->leaf));
		json_add(object, "offset", json_number(run->start));
		json_add(object, "length", json_number(run->end - run->start));
		json_object_array_add(runs, object);
	}
	return runs;
}

static struct json_object *json_placement(const struct request *request,
					  const struct placement *placement)
{
	const struct levels levels = levels_of(&request->leaves);
	struct json_object *object = json_object_new_object();

	json_add(object, "placement",
		 json_object_new_string(placement->given ? "address" : placement->name));
	json_add(object, "address",
		 placement->given ? json_object_new_string(placement->name) : NULL);
	json_add(object, "modulus", json_number(placement->modulus));
	json_add(object, "entries", json_number(placement->entries));
	json_add(object, "counts", json_counts(request, placement));
	json_add(object, "pte_tables", json_number(placement->pte_tables));
	json_add(object, "pmd_tables", json_number(placement->pmd_tables));
	json_add(object, "page_table_bytes", json_number(table_bytes(placement, &levels)));
	json_add(object, "runs", json_runs(placement));
	return object;
}

static void print_plan_as_json(const struct request *request, const struct placement *placements,
			       unsigned int count)
{
	const uint64_t modulus = placements->modulus;
	struct json_object *document = json_object_new_object();
	struct json_object *array = json_object_new_array();

	json_add(document, "version", json_object_new_int(1));
	json_add(document, "length", json_number(request->length));
	json_add(document, "length_asked", json_number(request->asked));
	json_add(document, "offset", json_number(request->offset));
	json_add(document, "leaves", json_leaves(&request->leaves));
	json_add(document, "alignment", json_number(modulus));
	json_add(document, "phase", json_number(request->offset & (modulus - 1)));
	for (unsigned int i = 0; i < count; i++)
		json_object_array_add(array, json_placement(request, &placements[i]));
	json_add(document, "placements", array);
	print_json(document, false);
}

int plan_command(int argc, char **argv)
{
	struct placement placements[PLACEMENTS_MAX] = { 0 };
	struct request request = { 0 };
	unsigned int count;

	parse_request(argc, argv, &request);
	check_request(&request);
	count = place_all(&request, placements);
	if (request.json)
		print_plan_as_json(&request, placements, count);
	else
		print_plan(&request, placements, count);
	return 0;
}
