// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* What this host maps, how its kernel places mappings by itself, and what is in the way. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formatted.h"
#include "host-report.h"
#include "leaves.h"

static const char *const kinds[] = { "anonymous", "shared", "file", "bar" };

static const char help[] =
	"usage: alignmap info [--device BDF] [--json]\n"
	"\n"
	"This host: its leaf sizes (what one page-table entry maps), its policy for huge\n"
	"pages, where its kernel puts mappings by itself, measured now, and what to\n"
	"change. What it maps for that it does not touch, and unmaps.\n"
	"\n"
	"  --device BDF  measure BARs too, of this PCI device, such as 0000:65:00.0. It\n"
	"                must be bound to vfio-pci and not in use; opening it resets it.\n"
	"                Default: none\n"
	"  --json        as JSON\n"
	"  --help        this text\n"
	"\n"
	"example:\n"
	"  alignmap info --device 0000:65:00.0\n";

static bool has_leaf(const struct alignmap_leaves *leaves, uint64_t size)
{
	for (unsigned int i = 0; i < leaves->count; i++)
		if (leaves->size[i] == size)
			return true;
	return false;
}

static const char *const source_keys[] = { "page_size", "hugepages", "hpage_pmd_size", "processor",
					   "table" };

static void print_leaves(const struct host_report *report)
{
	static const char *const sources[] = { "the C library", "sysfs hugepages",
					       "sysfs hpage_pmd_size", "the processor",
					       "libalignmap's table" };
	const struct alignmap_leaves *all = &alignmap_host.leaves;
	struct libscols_table *table = new_table();

	add_column(table, "LEAF SIZE", RIGHT_ALIGNED);
	add_column(table, "LEARNT FROM", LEFT_ALIGNED);
	add_column(table, "BARS", RIGHT_ALIGNED);
	add_column(table, "FILES", RIGHT_ALIGNED);
	add_column(table, "ANONYMOUS", RIGHT_ALIGNED);
	for (unsigned int i = 0; i < all->count; i++) {
		const size_t size = all->size[i];
		const struct text text = size_text(size);
		char from[128] = "";

		for (int source = 0; source < LEAF_SOURCES; source++)
			if (alignmap_host.told[source] & size)
				sprintf(from + strlen(from), "%s%s", *from ? ", " : "",
					sources[source]);
		add_row(table, (const char *[]){
				       text.text, from, has_leaf(&report->bars, size) ? "yes" : "-",
				       has_leaf(&report->files, size) ? "yes" : "-",
				       has_leaf(&report->anonymous, size) ? "yes" : "-" });
	}
	print_table(table);
}

static const char *meaning(bool shared, const char *word)
{
	static const struct {
		const char *word, *anonymous, *shared;
	} meanings[] = {
		{ "always", "anonymous memory gets PMDs", "shared memory gets PMDs" },
		{ "force", "", "shared memory and every tmpfs get PMDs" },
		{ "within_size", "", "shared memory gets PMDs within its length" },
		{ "madvise", "anonymous memory gets PMDs under MADV_HUGEPAGE", "" },
		{ "advise", "", "shared memory gets PMDs under MADV_HUGEPAGE" },
		{ "never", "anonymous memory gets base pages", "shared memory gets base pages" },
		{ "deny", "", "shared memory and every tmpfs get base pages" },
	};

	for (size_t i = 0; i < COUNT(meanings); i++)
		if (strcmp(word, meanings[i].word) == 0)
			return shared ? meanings[i].shared : meanings[i].anonymous;
	return "";
}

/* A line, if it says what the one for all sizes does not; and another if it is what rules PMDs. */
static void print_size_policy(const struct host_report *report, const struct policy *policy,
			      bool shared)
{
	const char *name = shared ? "shmem_enabled" : "enabled";
	const char *word = shared ? policy->shmem_enabled.text : policy->enabled.text;
	const char *unremarkable = policy->size == alignmap_host.pmd ? "inherit" : "never";
	char *label;

	if (!*word || strcmp(word, unremarkable) == 0)
		return;
	label = formatted("hugepages-%" PRIu64 "kB/%s", policy->size / 1024, name);
	printf("  %-32s %s\n", label, word);
	if (policy == ruling_policy(report, shared))
		printf("  %-14s %s\n", "", meaning(shared, word));
	free(label);
}

static void print_policy(const struct host_report *report, bool shared)
{
	const char *word = shared ? report->all.shmem_enabled.text : report->all.enabled.text;

	if (*word)
		printf("  %-14s %-12s %s\n", shared ? "shmem_enabled" : "enabled", word,
		       ruling_policy(report, shared) == &report->all ? meaning(shared, word) : "");
}

static void print_policies(const struct host_report *report)
{
	if (!*report->all.enabled.text)
		puts("Transparent huge pages: this kernel has none, or does not show them.");
	else
		puts("Transparent huge pages (" THP ")");
	print_policy(report, false);
	print_policy(report, true);
	for (unsigned int i = 0; i < report->size_count; i++) {
		print_size_policy(report, &report->sizes[i], false);
		print_size_policy(report, &report->sizes[i], true);
	}
	if (report->process)
		printf("  %-14s %s\n", "this process", report->process);
}

/* The command of an obstacle is among what is to be changed. */
static void print_bars(const struct host_report *report)
{
	struct alignmap_leaves able;
	const char *text = report->bars.count > 2 ? "PMDs and PUDs" : "PMDs", *command;
	char *line;

	alignmap_host_leaves(ALIGNMAP_VFIO, &able);
	if (able.count == 1)
		text = "base pages only, on this architecture";
	else if (lacks_huge_pages())
		text = "base pages only: this kernel lacks transparent huge pages";
	else if (report->bars.count == 1)
		text = "base pages only, by this Linux; upstream's " LARGE_BARS_SINCE
		       " is the first that uses more";
	else if (report->bar_obstacle)
		text = report->bar_obstacle;
	command = strstr(text, ": echo");
	line = command ? strndup(text, command - text) : strdup(text);
	if (!line)
		err(1, "cannot compose a report");
	print_wrapped("BARs by VFIO: ", "  ", line);
	free(line);
}

/* 2050M rather than 2.0G, where that is short. */
static struct text length_text(uint64_t length)
{
	const uint64_t mib = 1 << 20;
	struct text text = size_text(length);

	if (strchr(text.text, '.') && length % mib == 0 && length / mib < 100000)
		snprintf(text.text, sizeof(text.text), "%" PRIu64 "M", length / mib);
	return text;
}

static void add_trial(struct libscols_table *table, const struct trial *trial, bool first)
{
	const struct text length = length_text(trial->length), gave = size_text(trial->modulus);
	const struct text deserves = size_text(trial->best.alignment);
	const struct text entries = number_text(trial->entries);
	const struct text best = number_text(trial->best.entries);
	const bool measured = trial->tries, misplaced = is_misplaced(trial);
	struct libscols_line *row;
	char verdict[64], what[64] = "";

	if (trial->kind == BAR)
		snprintf(what, sizeof(what), "BAR %u%s%s", trial->bar, trial->bar_offset ? "+" : "",
			 trial->bar_offset ? size_text(trial->bar_offset).text : "");
	else if (first)
		strcpy(what, kinds[trial->kind]);
	if (!measured)
		snprintf(verdict, sizeof(verdict), "%s", trial->reason);
	else if (trial->by_policy)
		snprintf(verdict, sizeof(verdict), "base pages, %s",
			 trial->entries > trial->best.entries ? "unadvised" : "by policy");
	else if (misplaced)
		snprintf(verdict, sizeof(verdict), "misplaced: %s x",
			 ratio_text(trial->entries, trial->best.entries).text);
	else if (trial->entries > trial->best.entries)
		snprintf(verdict, sizeof(verdict), "%s more at its ends",
			 number_text(trial->entries - trial->best.entries).text);
	else
		strcpy(verdict, "best");
	row = add_row(table, (const char *[]){ what, length.text, deserves.text,
					       measured ? gave.text : "-",
					       measured ? entries.text : "-", best.text, verdict });
	if (misplaced)
		scols_line_set_color(row, "red");
}

static void print_trials(const struct host_report *report, const struct trials *trials)
{
	struct libscols_table *table = new_table();

	printf("Placement by this kernel, measured now: the worst of %d calls of mmap each\n",
	       TRIES);
	add_column(table, "WHAT", LEFT_ALIGNED);
	add_column(table, "LENGTH", RIGHT_ALIGNED);
	add_column(table, "DESERVES", RIGHT_ALIGNED);
	add_column(table, "GAVE", RIGHT_ALIGNED);
	add_column(table, "ENTRIES", RIGHT_ALIGNED);
	add_column(table, "BEST", RIGHT_ALIGNED);
	add_column(table, "VERDICT", LEFT_ALIGNED);
	for (unsigned int i = 0; i < trials->count; i++)
		add_trial(table, &trials->trial[i],
			  i == 0 || trials->trial[i].kind != trials->trial[i - 1].kind);
	print_table(table);
	if (report->file_made)
		printf("shared: a memfd. file: an empty one in %s (%s).\n", report->file_folder,
		       report->file_system ? report->file_system : "file system unknown");
	else
		printf("shared: a memfd. file: none can be made in %s; TMPDIR says where.\n",
		       report->file_folder);
	if (report->device_reason) {
		char *text = formatted("%s: not measured: %s", report->device_name,
				       report->device_reason);

		print_wrapped("", "  ", text);
		free(text);
	}
}

static void print_changes(const struct host_report *report)
{
	const char *how = "";

	for (unsigned int i = 0; i < report->change_count; i++)
		if (report->changes[i].command &&
		    strncmp(report->changes[i].command, "echo ", 5) == 0)
			how = " (echo as root, until the next boot; then restart the VMM)";
	if (report->change_count)
		printf("To change%s:\n", how);
	else
		puts("Nothing to change.");
	for (unsigned int i = 0; i < report->change_count; i++) {
		const struct change *change = &report->changes[i];
		char *why = formatted("%s%s", change->why, change->command ? ":" : ".");

		print_wrapped("- ", "  ", why);
		if (change->command)
			printf("    %s\n", change->command);
		free(why);
	}
}

static void print_report(const struct host_report *report, const struct trials *trials)
{
	const struct text levels = number_text(report->levels),
			  bits = number_text(report->address_bits);

	printf("Linux %s, %s\n"
	       "page tables of %s levels, user addresses of %s bits\n\n",
	       report->name.release, report->name.machine, report->levels ? levels.text : "unknown",
	       report->address_bits ? bits.text : "unknown");
	print_leaves(report);
	puts("");
	print_policies(report);
	print_bars(report);
	puts("");
	print_trials(report, trials);
	puts("");
	print_changes(report);
}

static struct json_object *json_host_leaves(const struct host_report *report)
{
	const struct alignmap_leaves *all = &alignmap_host.leaves;
	struct json_object *array = json_object_new_array();

	for (unsigned int i = 0; i < all->count; i++) {
		struct json_object *leaf = json_object_new_object();
		struct json_object *from = json_object_new_array();

		for (int source = 0; source < LEAF_SOURCES; source++)
			if (alignmap_host.told[source] & all->size[i])
				json_object_array_add(from,
						      json_object_new_string(source_keys[source]));
		json_add(leaf, "size", json_number(all->size[i]));
		json_add(leaf, "learnt_from", from);
		json_add(leaf, "bar",
			 json_object_new_boolean(has_leaf(&report->bars, all->size[i])));
		json_add(leaf, "file",
			 json_object_new_boolean(has_leaf(&report->files, all->size[i])));
		json_add(leaf, "anonymous",
			 json_object_new_boolean(has_leaf(&report->anonymous, all->size[i])));
		json_object_array_add(array, leaf);
	}
	return array;
}

static struct json_object *json_policies(const struct host_report *report)
{
	struct json_object *object = json_object_new_object();
	struct json_object *sizes = json_object_new_array();

	json_add(object, "enabled", json_text(report->all.enabled.text));
	json_add(object, "shmem_enabled", json_text(report->all.shmem_enabled.text));
	for (unsigned int i = 0; i < report->size_count; i++) {
		const struct policy *policy = &report->sizes[i];
		struct json_object *size = json_object_new_object();

		json_add(size, "size", json_number(policy->size));
		json_add(size, "enabled", json_text(policy->enabled.text));
		json_add(size, "shmem_enabled", json_text(policy->shmem_enabled.text));
		json_object_array_add(sizes, size);
	}
	json_add(object, "sizes", sizes);
	json_add(object, "process", json_text(report->process));
	return object;
}

static struct json_object *json_trial(const struct trial *trial)
{
	struct json_object *object = json_object_new_object();
	const bool measured = trial->tries;

	json_add(object, "what", json_object_new_string(kinds[trial->kind]));
	json_add(object, "bar", json_number_if(trial->kind == BAR, trial->bar));
	json_add(object, "offset", json_number(trial->offset));
	json_add(object, "length", json_number(trial->length));
	json_add(object, "alignment", json_number(trial->best.alignment));
	json_add(object, "best_entries", json_number(trial->best.entries));
	json_add(object, "tries", json_object_new_int((int)trial->tries));
	json_add(object, "address", measured ? json_address(trial->address) : NULL);
	json_add(object, "modulus", json_number_if(measured, trial->modulus));
	json_add(object, "entries", json_number_if(measured, trial->entries));
	json_add(object, "misplaced", json_flag_if(measured, is_misplaced(trial)));
	json_add(object, "by_policy", json_object_new_boolean(trial->by_policy));
	json_add(object, "reason", json_text(trial->reason));
	return object;
}

static void print_report_as_json(const struct host_report *report, const struct trials *trials)
{
	struct json_object *document = json_object_new_object();
	struct json_object *placements = json_object_new_array();
	struct json_object *changes = json_object_new_array();

	for (unsigned int i = 0; i < trials->count; i++)
		json_object_array_add(placements, json_trial(&trials->trial[i]));
	for (unsigned int i = 0; i < report->change_count; i++) {
		struct json_object *change = json_object_new_object();

		json_add(change, "why", json_text(report->changes[i].why));
		json_add(change, "command", json_text(report->changes[i].command));
		json_object_array_add(changes, change);
	}
	json_add(document, "version", json_object_new_int(1));
	json_add(document, "release", json_text(report->name.release));
	json_add(document, "architecture", json_text(report->name.machine));
	json_add(document, "page_table_levels", json_number_if(report->levels, report->levels));
	json_add(document, "address_bits",
		 json_number_if(report->address_bits, report->address_bits));
	json_add(document, "leaves", json_host_leaves(report));
	json_add(document, "transparent_hugepage", json_policies(report));
	json_add(document, "bar_obstacle", json_text(report->bar_obstacle));
	json_add(document, "file_folder", json_text(report->file_folder));
	json_add(document, "file_system", json_text(report->file_system));
	json_add(document, "device", json_text(report->device_name));
	json_add(document, "device_reason", json_text(report->device_reason));
	json_add(document, "placements", placements);
	json_add(document, "changes", changes);
	print_json(document, false);
}

/* Parses the options; returns whether the report is to be JSON. */
static bool parse_options(int argc, char **argv, const char **device)
{
	static const struct option options[] = {
		{ "device", required_argument, NULL, 'd' },
		{ "help", no_argument, NULL, 'h' },
		{ "json", no_argument, NULL, 'j' },
		{ 0 },
	};
	struct device named;
	bool json = false;
	int option;

	while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (option) {
		case 'd':
			*device = optarg;
			break;
		case 'h':
			fputs(help, stdout);
			exit(0);
		case 'j':
			json = true;
			break;
		default:
			fprintf(stderr, "Try '%s --help'.\n", argv[0]);
			exit(2);
		}
	}
	if (optind < argc)
		wrong_usage("%s: it takes no arguments", argv[optind]);
	if (*device && !device_name(&named, *device))
		wrong_usage("--device %s: not a PCI address such as 0000:65:00.0; 'lspci -D' lists "
			    "them",
			    *device);
	return json;
}

int info_command(int argc, char **argv)
{
	struct host_report report = { 0 };
	struct trials trials = { 0 };
	struct device device = { 0 };
	bool json, opened = false;

	json = parse_options(argc, argv, &report.device_name);
	if (report.device_name) {
		/* One that is not there is a mistake, one that cannot be opened a fact. */
		char *why = device_find(&device, report.device_name);

		if (why)
			errx(1, "--device %s: %s", report.device_name, why);
		report.device_reason = device_open(&device, report.device_name);
		opened = !report.device_reason;
	}
	learn_host(&report);
	measure_placement(&trials, &report, opened ? &device : NULL);
	if (opened)
		device_close(&device);
	advise(&report, &trials);
	if (json)
		print_report_as_json(&report, &trials);
	else
		print_report(&report, &trials);
	free_report(&report, &trials);
	return 0;
}
