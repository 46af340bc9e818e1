// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "findings.h"
#include "formatted.h"
#include "leaves.h"
#include "notes.h"
#include "plan.h"
#include "tool.h"

#define SYS "/sys"

/* The host's PMD; its base page where it has none. */
static size_t least_pmd(void)
{
	struct alignmap_leaves leaves;

	alignmap_host_leaves(ALIGNMAP_ANONYMOUS, &leaves);
	return leaves.size[0];
}

size_t least_length(void)
{
	struct alignmap_leaves leaves;

	alignmap_host_leaves(ALIGNMAP_ANY, &leaves);
	return leaves.size[leaves.count > 1 ? leaves.count - 2 : 0];
}

/* What shmem makes without a mount of ours lies on its own, as a memfd does. */
static void learn_shm_mount(struct surroundings *around)
{
	const int fd = memfd_create("alignmap", MFD_CLOEXEC);
	struct stat status;

	around->knows_shm = fd >= 0 && fstat(fd, &status) == 0;
	if (around->knows_shm) {
		around->shm_major = major(status.st_dev);
		around->shm_minor = minor(status.st_dev);
	}
	if (fd >= 0)
		close(fd);
}

static void learn_surroundings(const struct process *process, const struct maps *maps,
			       const struct mounts *mounts, struct surroundings *around)
{
	*around = (struct surroundings){ .sys = SYS,
					 .mounts = mounts,
					 .thp_disabled = process->thp_disabled };
	bar_leaves(&around->bar);
	alignmap_host_leaves(ALIGNMAP_ANY, &around->all);
	alignmap_host_leaves(ALIGNMAP_FILE, &around->cache);
	alignmap_host_leaves(ALIGNMAP_ANONYMOUS, &around->anonymous);
	around->shmem = around->anonymous;
	around->bars_obey = alignmap_host.thp_rules_bars;
	read_policies(SYS, around);
	learn_shm_mount(around);
	select_mappings(maps, around);
}

/* "0000:00:04.0 or 0000:00:05.0 BAR 2" */
static char *vfio_text(const struct finding *finding)
{
	const unsigned int region = VFIO_REGION(finding->mapping->offset);
	char *text = formatted("%s", finding->devices.count ? "" : "VFIO device");
	char *whole;

	for (size_t i = 0; i < finding->devices.count; i++) {
		char *name = printable(finding->devices.names[i]);

		whole = formatted("%s%s%s", text, i ? " or " : "", name);
		free(name);
		free(text);
		text = whole;
	}
	if (region < 6)
		whole = formatted("%s BAR %u", text, region);
	else if (region == 6)
		whole = formatted("%s ROM", text);
	else
		whole = formatted("%s region %u", text, region);
	free(text);
	return whole;
}

static char *what_text(const struct finding *finding)
{
	if (finding->backing.kind == BACKING_VFIO)
		return vfio_text(finding);
	if (*finding->mapping->name)
		return printable(finding->mapping->name);
	switch (finding->backing.kind) {
	case BACKING_RESERVED:
		return formatted("reserved");
	case BACKING_ANONYMOUS:
		return formatted("anonymous");
	default:
		return formatted("unknown");
	}
}

/* What its address is worth. Moving it gains nothing where a policy wants base pages anyway. */
static void judge(struct finding *finding)
{
	const struct mapping *mapping = finding->mapping;
	const struct backing *backing = &finding->backing;
	const bool vfio = backing->kind == BACKING_VFIO;
	/* But the library, where it places a BAR, advises as that policy wants it. */
	const struct alignmap_leaves *leaves = vfio ? &backing->able : &backing->leaves;
	const size_t here =
		alignmap_entries_at(leaves, mapping->length, mapping->offset, mapping->address);
	struct alignmap_plan plan;

	if (alignmap_plan(leaves, mapping->length, mapping->offset, &plan))
		return;
	/* Files and shared memory of runs of entries, smaller than the PMD, are no matter. */
	finding->judged = backing->kind == BACKING_HUGETLB || plan.alignment >= least_pmd() ||
			  plan.alignment == leaves->size[leaves->count - 1];
	if (!finding->judged)
		return;
	finding->congruent =
		!((mapping->address - mapping->offset) & (finding->best.alignment - 1));
	finding->misplaced = here > plan.entries;
	finding->held_back = !finding->misplaced && finding->entries > finding->best.entries;
}

/* How many entries the mapping needs, here and at best. */
static void count_entries(struct finding *finding)
{
	const struct mapping *mapping = finding->mapping;
	const struct backing *backing = &finding->backing;
	struct alignmap_plan here;

	if (backing->rule == NO_RULE)
		return;
	if (backing->rule == BY_OFFSET) {
		finding->entries = alignmap_entries_at(&backing->leaves, mapping->length,
						       mapping->offset, mapping->address);
		finding->counted = finding->entries &&
				   !alignmap_plan(&backing->able, mapping->length, mapping->offset,
						  &finding->best);
		if (finding->counted)
			judge(finding);
		return;
	}
	finding->counted =
		!alignmap_plan(&backing->leaves, mapping->length, 0, &finding->best) &&
		!alignmap_plan(&backing->leaves, mapping->length, mapping->address, &here);
	finding->entries = finding->counted ? here.entries : 0;
}

static unsigned int rank(const struct finding *finding)
{
	return finding->misplaced ? 0 : finding->held_back ? 1 : finding->judged ? 2 : 3;
}

/* Misplaced ones, what is held back, what fits, what is not judged; each by what it wastes. */
static int by_rank(const void *one, const void *other)
{
	const struct finding *a = one, *b = other;
	const size_t wasted_a = rank(a) < 2 ? a->entries - a->best.entries : 0;
	const size_t wasted_b = rank(b) < 2 ? b->entries - b->best.entries : 0;

	if (rank(a) != rank(b))
		return rank(a) < rank(b) ? -1 : 1;
	if (wasted_a != wasted_b)
		return wasted_a > wasted_b ? -1 : 1;
	return (a->mapping->address > b->mapping->address) -
	       (a->mapping->address < b->mapping->address);
}

static void add_to(struct tally *tally, const struct finding *finding)
{
	tally->count++;
	tally->entries += finding->entries;
	tally->best += finding->best.entries;
}

static void find(const struct process *process, const struct surroundings *around,
		 struct findings *findings)
{
	const size_t least = least_length();

	findings->findings = calloc(findings->maps.count + 1, sizeof(*findings->findings));
	if (!findings->findings)
		err(2, NULL);
	for (size_t i = 0; i < findings->maps.count; i++) {
		struct finding *finding = &findings->findings[findings->count];

		if (findings->maps.mappings[i].length < least)
			continue;
		findings->count++;
		finding->mapping = &findings->maps.mappings[i];
		finding->backing = backing_of(around, finding->mapping);
		count_entries(finding);
		if (finding->backing.kind == BACKING_VFIO)
			process_vfio_devices(process, SYS, finding->mapping, &finding->devices);
		finding->what = what_text(finding);
		if (finding->misplaced)
			add_to(&findings->misplaced, finding);
		if (finding->held_back)
			add_to(&findings->held_back, finding);
		findings->bars_held_back += finding->held_back &&
					    finding->backing.kind == BACKING_VFIO;
	}
	qsort(findings->findings, findings->count, sizeof(*findings->findings), by_rank);
}

char *find_misplaced(const struct process *process, struct findings *findings)
{
	struct surroundings around;
	struct mounts mounts;
	bool has_smaps;
	char *why;

	*findings = (struct findings){ 0 };
	why = process_maps(process, &findings->maps, &has_smaps);
	if (why) {
		findings_free(findings);
		return why;
	}
	process_mounts(process, &mounts);
	learn_surroundings(process, &findings->maps, &mounts, &around);
	find(process, &around, findings);
	note_findings(process, has_smaps, &around, findings);
	free_selections(&around);
	mounts_free(&mounts);
	return NULL;
}

void findings_free(struct findings *findings)
{
	for (size_t i = 0; i < findings->count; i++) {
		vfio_devices_free(&findings->findings[i].devices);
		free(findings->findings[i].what);
	}
	for (size_t i = 0; i < findings->note_count; i++)
		free(findings->notes[i]);
	free(findings->findings);
	maps_free(&findings->maps);
	*findings = (struct findings){ 0 };
}
