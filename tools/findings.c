// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "findings.h"
#include "formatted.h"
#include "leaves.h"
#include "plan.h"
#include "tool.h"

#define SYS "/sys"

size_t least_length(void)
{
	struct alignmap_leaves leaves;

	alignmap_host_leaves(ALIGNMAP_ANY, &leaves);
	return leaves.size[leaves.count > 1 ? leaves.count - 2 : 0];
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
	read_policies(SYS, around);
	find_executable(maps, around);
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

/* How many entries the mapping needs, here and at best. */
static void count_entries(struct finding *finding)
{
	const struct mapping *mapping = finding->mapping;
	const struct alignmap_leaves *leaves = &finding->backing.leaves;
	const bool by_offset = finding->backing.rule == BY_OFFSET;
	const uint64_t offset = by_offset ? mapping->offset : 0;
	struct alignmap_plan here;

	if (finding->backing.rule == NO_RULE ||
	    alignmap_plan(leaves, mapping->length, offset, &finding->best))
		return;
	if (by_offset) {
		finding->entries =
			alignmap_entries_at(leaves, mapping->length, offset, mapping->address);
		finding->counted = finding->entries > 0;
	} else {
		finding->counted = !alignmap_plan(leaves, mapping->length, mapping->address, &here);
		finding->entries = finding->counted ? here.entries : 0;
	}
	if (!finding->counted || !by_offset)
		return;
	finding->congruent = !((mapping->address - offset) & (finding->best.alignment - 1));
	finding->misplaced = finding->entries > finding->best.entries;
}

/* Misplaced ones first, by what they waste; then those that fit, then those that are not judged. */
static int by_rank(const void *one, const void *other)
{
	const struct finding *a = one, *b = other;
	const size_t wasted_a = a->misplaced ? a->entries - a->best.entries : 0;
	const size_t wasted_b = b->misplaced ? b->entries - b->best.entries : 0;

	if (wasted_a != wasted_b)
		return wasted_a > wasted_b ? -1 : 1;
	if (is_judged(a) != is_judged(b))
		return is_judged(a) ? -1 : 1;
	return (a->mapping->address > b->mapping->address) -
	       (a->mapping->address < b->mapping->address);
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
		if (!finding->misplaced)
			continue;
		findings->misplaced++;
		findings->entries += finding->entries;
		findings->best += finding->best.entries;
	}
	qsort(findings->findings, findings->count, sizeof(*findings->findings), by_rank);
}

static void note(struct findings *findings, char *text)
{
	if (findings->note_count < NOTES_MAX)
		findings->notes[findings->note_count++] = text;
	else
		free(text);
}

static void note_bars(struct findings *findings)
{
	const char *obstacle = bar_obstacle();
	bool any = false, several = false, unadvised = false;

	for (size_t i = 0; i < findings->count; i++) {
		const struct finding *finding = &findings->findings[i];

		if (finding->backing.kind != BACKING_VFIO)
			continue;
		any = true;
		several |= finding->devices.count > 1;
		unadvised |= !(finding->mapping->flags & UNDER_MADV_HUGEPAGE);
	}
	if (several)
		note(findings, formatted("the process holds several VFIO devices open, and this "
					 "kernel does not say which of them a mapping is of: each "
					 "is named that it can be of"));
	if (any && obstacle && (unadvised || alignmap_host.thp == THP_NEVER))
		note(findings, formatted("%s", obstacle));
	if (any && !linux_from(6, 12))
		note(findings,
		     formatted("Linux before 6.12 maps BARs by base pages, whatever their "
			       "address"));
}

static void note_all(const struct process *process, bool has_smaps, struct findings *findings)
{
	note_bars(findings);
	if (process->thp_disabled)
		note(findings,
		     formatted("the process has disabled transparent huge pages "
			       "(PR_SET_THP_DISABLE): all but hugetlbfs and device DAX is "
			       "mapped by base pages, whatever its address"));
	if (!has_smaps)
		note(findings,
		     formatted("this Linux has no /proc/PID/smaps: what is in memory, and "
			       "what madvise(2) has said, is not known"));
	if (findings->maps.skipped)
		note(findings, formatted("%s lines of /proc/%d/%s made no sense and were left out",
					 number_text(findings->maps.skipped).text, process->pid,
					 has_smaps ? "smaps" : "maps"));
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
	note_all(process, has_smaps, findings);
	free(around.executable);
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
