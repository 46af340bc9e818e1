// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "backing.h"
#include "formatted.h"
#include "host-report.h"
#include "leaves.h"
#include "plan.h"
#include "sys.h"

static struct text chosen(const char *folder, const char *name)
{
	char *path = formatted("%s/%s", folder, name);
	struct text text;

	read_choice(path, text.text, sizeof(text.text));
	free(path);
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

static void learn_policies(struct host_report *report)
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
const struct policy *ruling_policy(const struct host_report *report, bool shared)
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
	char *path = formatted("/proc/self/fdinfo/%d", fd);
	FILE *stream = fopen(path, "re");
	char *line = NULL, *behind;
	size_t length;
	int mount = -1, id;
	size_t room = 0;

	free(path);
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
	const char *word = kind == ANONYMOUS ? ruling_policy(report, false)->enabled.text
			   : kind == SHARED  ? ruling_policy(report, true)->shmem_enabled.text
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

	for (unsigned int i = 0; i < DEVICE_BARS; i++) {
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

void measure_placement(struct trials *trials, struct host_report *report,
		       const struct device *device)
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

bool is_misplaced(const struct trial *trial)
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
			   formatted("BARs get base pages on this Linux: boot " LARGE_BARS_SINCE
				     " or a newer one (of upstream; distributions may have it "
				     "earlier)"),
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
	const struct policy *policy = ruling_policy(report, shared);
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

void advise(struct host_report *report, const struct trials *trials)
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

void learn_host(struct host_report *report)
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
	learn_policies(report);
	report->bar_obstacle = bar_obstacle();
}

void free_report(struct host_report *report, struct trials *trials)
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
