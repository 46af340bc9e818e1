// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* What this host maps, how its kernel places mappings by itself, and what is in the way. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <glob.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "device.h"
#include "formatted.h"
#include "leaves.h"
#include "plan.h"
#include "sys.h"
#include "tool.h"

#define THP "/sys/kernel/mm/transparent_hugepage"

enum { TRIES = 8, LENGTHS = 5, BARS = 6, PARTS = 3, SIZES_MAX = 24, CHANGES_MAX = 10 };

/* What is asked of transparent huge pages of one size, or of all that "inherit". */
struct policy {
	uint64_t size; /* 0: of all */
	struct text enabled, shmem_enabled;
};

/* Something to change, and a command that does. */
struct change {
	char *why, *command;
};

struct host_report {
	struct utsname name;
	unsigned int address_bits, levels; /* 0: unknown */
	struct alignmap_leaves bars, files, anonymous;
	struct policy all, sizes[SIZES_MAX];
	unsigned int size_count;
	const char *process; /* what PR_GET_THP_DISABLE says of this one; NULL: unknown */
	const char *bar_obstacle;
	char *file_folder, *file_system; /* NULL: no file could be made, or it is unknown */
	bool file_made, file_barred;	 /* its file system gives it base pages */
	const char *device_name;
	char *device_reason; /* why there are no rows of it */
	struct change changes[CHANGES_MAX];
	unsigned int change_count;
};

enum kind { ANONYMOUS, SHARED, REGULAR_FILE, BAR, KINDS };

static const char *const kinds[] = { "anonymous", "shared", "file", "bar" };

/* A mapping that the kernel is asked for several times, and the worst place that it gave. */
struct trial {
	enum kind kind;
	unsigned int bar;
	uint64_t offset, length, bar_offset; /* of BARs, from the start of the BAR */
	struct alignmap_plan best;
	unsigned int tries; /* that were not refused */
	uint64_t address, modulus, entries;
	bool by_policy; /* entries are base pages, whatever the address */
	char *reason;	/* of a refusal, where all were refused */
};

struct trials {
	struct trial trial[KINDS * LENGTHS + BARS * PARTS];
	unsigned int count;
};

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

__attribute__((format(printf, 2, 3))) static FILE *open_path(const char *mode, const char *format,
							     ...)
{
	va_list arguments;
	FILE *stream;
	char *path;

	va_start(arguments, format);
	if (vasprintf(&path, format, arguments) < 0)
		err(1, "cannot compose a path");
	va_end(arguments);
	stream = fopen(path, mode);
	free(path);
	return stream;
}

/* The word in brackets of "always [madvise] never"; empty if there is none. */
static struct text chosen(const char *folder, const char *name)
{
	FILE *stream = open_path("re", "%s/%s", folder, name);
	struct text text = { "" };
	char line[128] = "";

	if (!stream)
		return text;
	if (fgets(line, sizeof(line), stream))
		sscanf(line, "%*[^[][%31[a-z_]", text.text);
	if (line[0] == '[')
		sscanf(line, "[%31[a-z_]", text.text);
	fclose(stream);
	return text;
}

static int by_size(const void *a, const void *b)
{
	const struct policy *left = a, *right = b;

	return (left->size > right->size) - (left->size < right->size);
}

/* 3 is Linux 6.18's, with PR_THP_DISABLE_EXCEPT_ADVISED. */
static const char *process_policy(void)
{
	switch (prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0)) {
	case 0:
		return "allowed";
	case 1:
		return "disabled";
	case 3:
		return "disabled_unless_advised";
	default:
		return NULL;
	}
}

static void read_policies(struct host_report *report)
{
	glob_t found = { 0 };
	uint64_t kib;
	int end;

	report->all.enabled = chosen(THP, "enabled");
	report->all.shmem_enabled = chosen(THP, "shmem_enabled");
	if (glob(THP "/hugepages-*kB", 0, NULL, &found) == 0) {
		for (size_t i = 0; i < found.gl_pathc && report->size_count < SIZES_MAX; i++) {
			const char *path = found.gl_pathv[i];

			end = 0;
			sscanf(path, THP "/hugepages-%8" SCNu64 "kB%n", &kib, &end);
			if (end && !path[end])
				report->sizes[report->size_count++] =
					(struct policy){ kib * 1024, chosen(path, "enabled"),
							 chosen(path, "shmem_enabled") };
		}
	}
	globfree(&found);
	qsort(report->sizes, report->size_count, sizeof(report->sizes[0]), by_size);
	report->process = process_policy();
}

/*
 * What decides about PMDs: their own line, or the one that it inherits. deny and force precede it:
 * shmem_allowable_huge_orders() in mm/shmem.c.
 */
static const struct policy *ruling(const struct host_report *report, bool shared)
{
	const char *const all = report->all.shmem_enabled.text;
	const bool decided = shared && (strcmp(all, "deny") == 0 || strcmp(all, "force") == 0);

	for (unsigned int i = 0; i < report->size_count; i++) {
		const struct policy *policy = &report->sizes[i];
		const char *word = shared ? policy->shmem_enabled.text : policy->enabled.text;

		if (policy->size == alignmap_host.pmd && *word && strcmp(word, "inherit") != 0 &&
		    !decided)
			return policy;
	}
	return &report->all;
}

/* The bits of the highest address that a hint gets: some kernels give their highest only so. */
static unsigned int address_bits(void)
{
	const size_t page = sysconf(_SC_PAGESIZE);
	unsigned long highest = 0;

	for (unsigned int bits = 32; bits < 64; bits++) {
		long address = sys_mmap((void *)((1UL << bits) - 2 * page), page, PROT_NONE,
					MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

		if (sys_failed(address))
			continue;
		sys_munmap(address, page);
		if ((unsigned long)address > highest)
			highest = address;
	}
	return highest ? 64 - __builtin_clzl(highest) : 0;
}

static unsigned int table_levels(unsigned int bits)
{
	const unsigned int page_shift = __builtin_ctzl(sysconf(_SC_PAGESIZE));

	switch (alignmap_host.machine) {
	case MACHINE_X86_64:
	case MACHINE_RISCV64:
	case MACHINE_ARM64:
		return bits ? (bits - page_shift + page_shift - 4) / (page_shift - 3) : 0;
	default:
		return 0;
	}
}

/* A tmpfs has the mount option huge= if it may have huge pages; deny and force precede that. */
static bool is_barred_tmpfs(const struct host_report *report, const char *type, const char *options)
{
	const char *const all = report->all.shmem_enabled.text;

	return strcmp(type, "tmpfs") == 0 && strcmp(all, "force") != 0 &&
	       (strcmp(all, "deny") == 0 || !strstr(options, "huge="));
}

/* The type of the file system of an open file, by its mount's line, and whether it bars PMDs. */
static void learn_file_system(struct host_report *report, int fd)
{
	FILE *stream = open_path("re", "/proc/self/fdinfo/%d", fd);
	char *line = NULL, *behind;
	size_t length;
	int mount = -1, id;
	size_t room = 0;

	while (stream && getline(&line, &room, stream) > 0)
		sscanf(line, "mnt_id: %d", &mount);
	if (stream)
		fclose(stream);
	stream = fopen("/proc/self/mountinfo", "re");
	while (stream && !report->file_system && getline(&line, &room, stream) > 0) {
		behind = strstr(line, " - ");
		if (behind && sscanf(line, "%d", &id) == 1 && id == mount) {
			behind += 3;
			length = strcspn(behind, " \n");
			behind[length] = '\0';
			report->file_system = printable(behind);
			report->file_barred = is_barred_tmpfs(report, behind, behind + length + 1);
		}
	}
	if (stream)
		fclose(stream);
	free(line);
}

/*
 * An unlinked file of no length, since mmap does not look at the length: none has to be found for
 * it on file systems that have no holes.
 */
static int open_file(struct host_report *report)
{
	const char *folder = getenv("TMPDIR");
	char *path;
	int fd;

	folder = folder && *folder ? folder : "/tmp";
	report->file_folder = printable(folder);
	path = formatted("%s/alignmap-XXXXXX", folder);
	fd = mkostemp(path, O_CLOEXEC);
	report->file_made = fd >= 0;
	if (fd >= 0) {
		unlink(path);
		learn_file_system(report, fd);
	}
	free(path);
	return fd;
}

static const struct alignmap_leaves *leaves_of(const struct host_report *report, enum kind kind)
{
	switch (kind) {
	case ANONYMOUS:
		return &report->anonymous;
	case BAR:
		return &report->bars;
	default:
		return &report->files;
	}
}

static uint64_t modulus_at(const struct alignmap_leaves *leaves, uint64_t offset, uint64_t address)
{
	unsigned int i = 0;

	while ((address - offset) & (leaves->size[i] - 1))
		i++;
	return leaves->size[i];
}

/* Of private anonymous memory Linux maps each whole PMD between the ends, wherever it begins. */
static uint64_t entries_at(const struct trial *trial, const struct alignmap_leaves *leaves,
			   uint64_t address)
{
	struct alignmap_plan plan;

	if (trial->kind != ANONYMOUS)
		return alignmap_entries_at(leaves, trial->length, trial->offset, address);
	return alignmap_plan(leaves, trial->length, address, &plan) ? 0 : plan.entries;
}

static void look_at(struct trial *trial, const struct alignmap_leaves *leaves, uint64_t address)
{
	const uint64_t entries = entries_at(trial, leaves, address);

	if (trial->tries++ && entries <= trial->entries)
		return;
	trial->address = address;
	trial->entries = entries;
	trial->modulus = modulus_at(leaves, trial->offset, address);
}

/*
 * The system call itself: an mmap that is preloaded would be measured in the kernel's place. A page
 * before each mapping keeps it from lying well only because the one before it did.
 */
static void measure(struct trial *trial, const struct alignmap_leaves *leaves, int fd)
{
	const size_t page = sysconf(_SC_PAGESIZE);
	const int anonymous = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	const int flags = trial->kind == ANONYMOUS ? anonymous : MAP_SHARED | MAP_NORESERVE;
	long pages[TRIES], mappings[TRIES];

	for (unsigned int i = 0; i < TRIES; i++) {
		pages[i] = sys_mmap(NULL, page, PROT_NONE, anonymous, -1, 0);
		mappings[i] = sys_mmap(NULL, trial->length,
				       trial->kind == ANONYMOUS ? PROT_NONE : PROT_READ, flags, fd,
				       (int64_t)trial->offset);
		if (!sys_failed(mappings[i]))
			look_at(trial, leaves, mappings[i]);
		else if (!trial->reason)
			trial->reason = formatted("refused: %s", strerror((int)-mappings[i]));
	}
	for (unsigned int i = 0; i < TRIES; i++) {
		if (!sys_failed(pages[i]))
			sys_munmap(pages[i], page);
		if (!sys_failed(mappings[i]))
			sys_munmap(mappings[i], trial->length);
	}
	if (trial->tries) {
		free(trial->reason);
		trial->reason = NULL;
	}
}

static bool is_disabled(const struct host_report *report)
{
	return report->process && strcmp(report->process, "disabled") == 0;
}

/* Whether plain mappings get base pages, whatever their address. */
static bool is_barred(const struct host_report *report, enum kind kind)
{
	const char *word = kind == ANONYMOUS ? ruling(report, false)->enabled.text
			   : kind == SHARED  ? ruling(report, true)->shmem_enabled.text
					     : "";

	return strcmp(word, "never") == 0 || strcmp(word, "deny") == 0 ||
	       (kind == BAR && report->bar_obstacle) ||
	       (kind == REGULAR_FILE && report->file_barred) || is_disabled(report);
}

/* Of BARs under [madvise] the best remains: libalignmap advises what it places. */
static void heed_policy(const struct host_report *report, struct trial *trial)
{
	const uint64_t page = sysconf(_SC_PAGESIZE);

	if (!is_barred(report, trial->kind) || trial->best.alignment == page)
		return;
	trial->by_policy = true;
	trial->entries = (trial->length + page - 1) / page;
	if (trial->kind != BAR || alignmap_host.thp != THP_MADVISE || is_disabled(report))
		trial->best.entries = trial->entries;
}

/*
 * @fd is negative where it could not be opened, with errno saying why. Returns the alignment that
 * the mapping deserves.
 */
static uint64_t try(struct trials *trials, const struct host_report *report, struct trial trial,
		    int fd)
{
	const struct alignmap_leaves *leaves = leaves_of(report, trial.kind);
	const int saved = errno;

	if (trials->count == COUNT(trials->trial) ||
	    alignmap_plan(leaves, trial.length, trial.offset, &trial.best))
		return alignmap_host.leaves.size[alignmap_host.leaves.count - 1];
	if (fd < 0 && trial.kind != ANONYMOUS)
		trial.reason = formatted("cannot open: %s", strerror(saved));
	else
		measure(&trial, leaves, fd);
	heed_policy(report, &trial);
	trials->trial[trials->count++] = trial;
	errno = saved;
	return trial.best.alignment;
}

/* Lengths around the PMD, as 2M, 5M, 64M, 1G and 2G+2M where it is 2M. */
static void try_memory(struct trials *trials, struct host_report *report, enum kind kind, int fd)
{
	const uint64_t page = sysconf(_SC_PAGESIZE);
	const uint64_t pmd = alignmap_host.pmd > page ? alignmap_host.pmd : 512 * page;
	const uint64_t lengths[LENGTHS] = { pmd, 2 * pmd + pmd / 2, 32 * pmd, 512 * pmd,
					    1025 * pmd };

	for (unsigned int i = 0; i < LENGTHS; i++)
		try(trials, report, (struct trial){ .kind = kind, .length = lengths[i] }, fd);
}

/* Each BAR whole; if it deserves large leaves, its upper half and all but its first page too. */
static void try_bars(struct trials *trials, struct host_report *report, const struct device *device)
{
	const uint64_t page = sysconf(_SC_PAGESIZE);
	unsigned int before = trials->count;

	for (unsigned int i = 0; i < BARS; i++) {
		const struct bar bar = device_bar(device, i);
		const uint64_t skipped[PARTS] = { 0, bar.length / 2, page };
		struct trial trial = { .kind = BAR, .bar = i };
		uint64_t alignment = 0;

		for (unsigned int j = 0; j < PARTS && bar.length && alignment != page; j++) {
			trial.bar_offset = skipped[j];
			trial.offset = bar.offset + skipped[j];
			trial.length = bar.length - skipped[j];
			alignment = try(trials, report, trial, device->fd);
		}
	}
	if (trials->count == before)
		report->device_reason = formatted("none of its BARs can be mapped");
}

static void measure_all(struct trials *trials, struct host_report *report, struct device *device)
{
	int fd;

	try_memory(trials, report, ANONYMOUS, -1);
	fd = memfd_create("alignmap", MFD_CLOEXEC);
	try_memory(trials, report, SHARED, fd);
	if (fd >= 0)
		close(fd);
	fd = open_file(report);
	try_memory(trials, report, REGULAR_FILE, fd);
	if (fd >= 0)
		close(fd);
	if (device)
		try_bars(trials, report, device);
}

/* Each command stands there once, for all that it is good for. */
static void add_change(struct host_report *report, char *why, char *command)
{
	struct change *change = report->changes;

	for (unsigned int i = 0; i < report->change_count; i++, change++) {
		if (!command || !change->command || strcmp(command, change->command) != 0)
			continue;
		char *both = formatted("%s. %s", change->why, why);

		free(change->why);
		free(why);
		free(command);
		change->why = both;
		return;
	}
	if (report->change_count < CHANGES_MAX)
		report->changes[report->change_count++] = (struct change){ why, command };
}

static bool is_misplaced(const struct trial *trial)
{
	return trial->tries && !trial->by_policy && trial->kind != ANONYMOUS &&
	       trial->entries > trial->best.entries;
}

static void advise_on_kernel(struct host_report *report)
{
	struct alignmap_leaves able;

	alignmap_host_leaves(ALIGNMAP_VFIO, &able);
	if (lacks_huge_pages())
		add_change(report,
			   formatted("This kernel maps by base pages: boot one that has "
				     "CONFIG_TRANSPARENT_HUGEPAGE"),
			   NULL);
	else if (report->bars.count < able.count)
		add_change(report,
			   formatted("BARs get base pages on this Linux: boot 6.12 or a newer one "
				     "(of upstream; distributions may have it earlier)"),
			   NULL);
	if (report->process && strcmp(report->process, "allowed") != 0)
		add_change(report,
			   formatted("This process, and what it starts, may not use huge pages%s: "
				     "what started it has called prctl(PR_SET_THP_DISABLE)",
				     strcmp(report->process, "disabled") == 0
					     ? ""
					     : " but where it advises them"),
			   NULL);
}

static void advise_on_memory(struct host_report *report, bool shared)
{
	const struct policy *policy = ruling(report, shared);
	const char *word = shared ? policy->shmem_enabled.text : policy->enabled.text;
	char folder[64] = "";

	if (strcmp(word, "never") != 0 && strcmp(word, "deny") != 0)
		return;
	if (policy->size)
		snprintf(folder, sizeof(folder), "/hugepages-%" PRIu64 "kB", policy->size / 1024);
	add_change(report,
		   formatted("%s memory gets base pages, whatever its address (this helps programs "
			     "that call MADV_HUGEPAGE, as QEMU does for guest RAM)",
			     shared ? "Shared" : "Anonymous"),
		   formatted("echo %s >" THP "%s/%s", shared ? "advise" : "madvise", folder,
			     shared ? "shmem_enabled" : "enabled"));
}

static void advise_on_bars(struct host_report *report)
{
	if (!report->bar_obstacle)
		return;
	if (alignmap_host.thp == THP_NEVER)
		add_change(report,
			   formatted("BARs get base pages on this Linux under [never]; under "
				     "[madvise] those do not that libalignmap places"),
			   formatted("echo madvise >" THP "/enabled"));
	else
		add_change(report,
			   formatted("BARs get base pages on this Linux under [madvise], but for "
				     "those under MADV_HUGEPAGE, as libalignmap puts what it "
				     "places; upstream's 7.2 gives all of them PMDs again"),
			   formatted("alignmap run COMMAND"));
}

static void advise_on_placement(struct host_report *report, const struct trials *trials)
{
	static const char *const names[] = { NULL, "shared memory", "files", "BARs" };
	bool misplaced[KINDS] = { false };
	char *list = NULL, *longer;

	for (unsigned int i = 0; i < trials->count; i++)
		misplaced[trials->trial[i].kind] |= is_misplaced(&trials->trial[i]);
	for (unsigned int i = 0; i < KINDS; i++) {
		if (!misplaced[i])
			continue;
		longer = formatted("%s%s%s", list ? list : "", list ? ", " : "", names[i]);
		free(list);
		list = longer;
	}
	if (list)
		add_change(report,
			   formatted("This kernel misplaces %s: use alignmap_mmap(), or start "
				     "programs by",
				     list),
			   formatted("alignmap run COMMAND"));
	free(list);
}

/* The preload leaves anonymous memory of less than 32 MiB alone. */
static void advise_on_guests(struct host_report *report, const struct trials *trials)
{
	const struct text pmd = size_text(alignmap_host.pmd);

	for (unsigned int i = 0; i < trials->count; i++) {
		const struct trial *trial = &trials->trial[i];

		if (trial->kind != ANONYMOUS || !trial->tries || trial->by_policy ||
		    trial->length < 32 << 20 || trial->modulus >= trial->best.alignment)
			continue;
		add_change(report,
			   formatted("KVM maps guest RAM by PMDs only where its addresses in guest "
				     "and host agree modulo %s, which this kernel's for anonymous "
				     "memory do not: start the VMM by",
				     pmd.text),
			   formatted("alignmap run --anon=all COMMAND"));
		return;
	}
}

static void advise(struct host_report *report, const struct trials *trials)
{
	advise_on_kernel(report);
	advise_on_memory(report, false);
	advise_on_memory(report, true);
	advise_on_bars(report);
	advise_on_placement(report, trials);
	advise_on_guests(report, trials);
	if (report->bar_obstacle && alignmap_host.thp == THP_MADVISE)
		add_change(report, formatted("Or, for the BARs and the memory of every program"),
			   formatted("echo always >" THP "/enabled"));
}

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
	if (policy == ruling(report, shared))
		printf("  %-14s %s\n", "", meaning(shared, word));
	free(label);
}

static void print_policy(const struct host_report *report, bool shared)
{
	const char *word = shared ? report->all.shmem_enabled.text : report->all.enabled.text;

	if (*word)
		printf("  %-14s %-12s %s\n", shared ? "shmem_enabled" : "enabled", word,
		       ruling(report, shared) == &report->all ? meaning(shared, word) : "");
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
		text = "base pages only, by this Linux; upstream's 6.12 is the first that uses "
		       "more";
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

static void learn_host(struct host_report *report)
{
	const struct alignmap_leaves base_pages = { 1, { sysconf(_SC_PAGESIZE) } };

	uname(&report->name);
	report->address_bits = address_bits();
	report->levels = table_levels(report->address_bits);
	bar_leaves(&report->bars);
	alignmap_host_leaves(ALIGNMAP_FILE, &report->files);
	alignmap_host_leaves(ALIGNMAP_ANONYMOUS, &report->anonymous);
	if (lacks_huge_pages())
		report->files = report->anonymous = base_pages;
	read_policies(report);
	report->bar_obstacle = bar_obstacle();
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

static void free_report(struct host_report *report, struct trials *trials)
{
	for (unsigned int i = 0; i < report->change_count; i++) {
		free(report->changes[i].why);
		free(report->changes[i].command);
	}
	for (unsigned int i = 0; i < trials->count; i++)
		free(trials->trial[i].reason);
	free(report->file_folder);
	free(report->file_system);
	free(report->device_reason);
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
	measure_all(&trials, &report, opened ? &device : NULL);
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
