// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#include <string.h>

#include "formatted.h"
#include "leaves.h"
#include "notes.h"
#include "policy.h"
#include "tool.h"

static void note(struct findings *findings, char *text)
{
	if (findings->note_count < NOTES_MAX)
		findings->notes[findings->note_count++] = text;
	else
		free(text);
}

/* What gets mappings better addresses. Each does what the ones before it do, too. */
enum remedy { NOT_NEEDED, NO_REMEDY, BY_RUN, BY_RESERVE, BY_ALL, REMEDIES };

static bool begins(const char *text, const char *beginning)
{
	return strncmp(text, beginning, strlen(beginning)) == 0;
}

static enum remedy remedy_for(const struct finding *finding)
{
	const struct mapping *mapping = finding->mapping;
	const bool shared = finding->backing.kind == BACKING_SHARED;
	const bool large = mapping->length >= ANON_LEAST;

	/* shmat(2) is no mmap(2). */
	if (shared && begins(mapping->name, "/SYSV"))
		return NO_REMEDY;
	if (shared &&
	    (begins(mapping->name, "/dev/zero (deleted)") || begins(mapping->name, "[anon_shmem:")))
		return large ? BY_ALL : NO_REMEDY;
	/* A reservation has no offset: placed, it suits offsets of whole leaves alone. */
	if ((shared || finding->backing.kind == BACKING_FILE) && large &&
	    mapping->permissions[1] == 'w' && !(mapping->offset & (finding->best.alignment - 1)))
		return BY_RESERVE;
	return BY_RUN;
}

static bool is_misplaced(const struct finding *finding)
{
	return finding->misplaced;
}

/* Shared memory that would be misplaced, were it not for the policy. */
static bool is_misplaced_memory(const struct finding *finding)
{
	return finding->held_back && !finding->congruent && finding->backing.kind == BACKING_SHARED;
}

/* The one that does for all of those. */
static enum remedy remedy_for_all(const struct findings *findings,
				  bool (*are_those)(const struct finding *))
{
	enum remedy most = NOT_NEEDED;

	for (size_t i = 0; i < findings->count; i++) {
		const struct finding *finding = &findings->findings[i];
		const enum remedy remedy = are_those(finding) ? remedy_for(finding) : NOT_NEEDED;

		if (remedy > most)
			most = remedy;
	}
	return most;
}

/* Whether the process has the library already, be it preloaded or linked. */
static bool has_library(const struct surroundings *around)
{
	for (size_t i = 0; i < around->executable.count; i++) {
		const char *slash = strrchr(around->executable.mappings[i]->name, '/');

		if (slash && begins(slash + 1, "libalignmap.so"))
			return true;
	}
	return false;
}

static void note_misplaced(const struct surroundings *around, struct findings *findings)
{
	static const char *const texts[][REMEDIES] = {
		{
			[BY_RUN] = "'alignmap run COMMAND' starts a program so that what it maps "
				   "lies well",
			[BY_RESERVE] = "'alignmap run --anon=reserve COMMAND' places what a "
				       "program maps, also into address space that it reserved "
				       "first, as QEMU does with RAM on files",
			[BY_ALL] = "'alignmap run --anon=all COMMAND' starts a program so that "
				   "what it maps lies well, anonymous memory of 32M and more, too",
		},
		{
			[BY_RUN] = "libalignmap is loaded and did not place these well: try "
				   "'alignmap run' with --hints, and with --log to see what it "
				   "does",
			[BY_RESERVE] = "libalignmap is loaded and did not place these well: try "
				       "'alignmap run' with --anon=reserve (as for QEMU's RAM on "
				       "files), --hints, --log",
			[BY_ALL] = "libalignmap is loaded and did not place these well: try "
				   "'alignmap run' with --anon=all, --hints, --log",
		},
	};
	const char *text = texts[has_library(around)][remedy_for_all(findings, is_misplaced)];

	if (text)
		note(findings, formatted("%s", text));
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
	if (any && !has_large_bars())
		note(findings, formatted("upstream Linux before " LARGE_BARS_SINCE
					 " maps BARs by base pages, whatever their address"));
}

#define ADDRESS_MATTERS "with huge pages the address of shared memory matters, too"

/* What a user who allows huge pages would meet next. */
static void note_address(const struct surroundings *around, struct findings *findings)
{
	static const char *const options[REMEDIES] = {
		[BY_RUN] = "", [BY_RESERVE] = " --anon=reserve", [BY_ALL] = " --anon=all"
	};
	const enum remedy remedy = remedy_for_all(findings, is_misplaced_memory);

	if (remedy == NOT_NEEDED)
		return;
	if (remedy == NO_REMEDY)
		note(findings, formatted(ADDRESS_MATTERS));
	else if (has_library(around))
		note(findings,
		     formatted(ADDRESS_MATTERS "; libalignmap is loaded and did not place "
					       "it: try 'alignmap run%s COMMAND'",
			       remedy == BY_RUN ? " --log" : options[remedy]));
	else
		note(findings,
		     formatted(ADDRESS_MATTERS "; 'alignmap run%s COMMAND' places it%s",
			       options[remedy],
			       remedy == BY_RESERVE ? ", also in a reservation, as QEMU puts it"
						    : ""));
}

/* Of memory that is mapped by base pages wherever it lies, for a reason that can be changed. */
static void note_shmem(const struct surroundings *around, struct findings *findings)
{
	for (size_t i = 0; i < findings->count; i++) {
		const struct finding *finding = &findings->findings[i];

		if (finding->held_back && finding->backing.kind == BACKING_SHARED &&
		    around->has_thp && !around->thp_disabled) {
			note(findings,
			     formatted("shared memory is mapped by base pages wherever it lies, "
				       "since %s: see alignmap-info(1)",
				       finding->backing.reason));
			note_address(around, findings);
			return;
		}
	}
}

void note_findings(const struct process *process, bool has_smaps, const struct surroundings *around,
		   struct findings *findings)
{
	note_misplaced(around, findings);
	note_bars(findings);
	note_shmem(around, findings);
	if (!around->has_thp)
		note(findings, formatted("this Linux has no transparent huge pages: all but "
					 "hugetlbfs and device DAX is mapped by base pages"));
	else if (process->thp_disabled)
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
