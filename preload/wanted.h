/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * Which calls are placed, for whoever sees a program's calls. Inline, since most calls go no
 * further.
 */
#ifndef WANTED_H
#define WANTED_H

#include "leaves.h"
#include "place.h"
#include "plan.h"
#include "policy.h"

/*
 * DRM numbers its objects by the page from 4 GiB on (include/drm/drm_vma_manager.h): there an
 * offset says nothing about the memory behind it.
 */
#define DRM_FIRST ((uint64_t)4 << 30)
#define DRM_BEYOND (DRM_FIRST + ((uint64_t)1 << 40))

/* Why a call was left to the kernel untouched. */
enum left {
	LEFT_FIXED,
	LEFT_HINT,
	LEFT_FLAGS,
	LEFT_ANONYMOUS,
	LEFT_SMALL,
	LEFT_OFFSET,
	LEFT_KINDS
};

/* The policy, and the host's leaf sizes as it cuts them down. */
struct wanted {
	const struct policy *policy;
	struct alignmap_leaves file_leaves;
	struct alignmap_leaves anonymous_leaves;
};

static inline void keep_within_policy(const struct policy *policy,
				      const struct alignmap_leaves *all,
				      struct alignmap_leaves *leaves)
{
	leaves->count = 0;
	for (unsigned int i = 0; i < all->count; i++)
		if ((all->size[i] >= policy->min_leaf && all->size[i] <= policy->max_leaf) ||
		    i == all->count - 1)
			leaves->size[leaves->count++] = all->size[i];
}

static inline void learn_wanted(const struct policy *policy, struct wanted *wanted)
{
	wanted->policy = policy;
	keep_within_policy(policy, &alignmap_host.leaves, &wanted->file_leaves);
	keep_within_policy(policy, &alignmap_host.anonymous, &wanted->anonymous_leaves);
}

/*
 * Whether the call is to be placed, over which leaf sizes, and what it deserves of them. If not,
 * @why says so in the words of the summary.
 */
static inline bool wants_placing(const struct wanted *wanted, const struct mapping_call *call,
				 const struct alignmap_leaves **leaves, struct alignmap_plan *plan,
				 enum left *why)
{
	uint64_t offset = offset_behind(call);
	size_t page;

	*why = LEFT_FIXED;
	if (call->flags & (MAP_FIXED | MAP_FIXED_NOREPLACE))
		return false;
	*why = LEFT_FLAGS;
	if (!flags_are_placeable(call->flags))
		return false;
	*why = LEFT_HINT;
	if (call->address && !wanted->policy->hints)
		return false;
	*leaves = &wanted->file_leaves;
	if (call->flags & MAP_ANONYMOUS) {
		*why = LEFT_ANONYMOUS;
		if (wanted->policy->anon == ANON_NONE ||
		    (wanted->policy->anon == ANON_RESERVE && call->prot != PROT_NONE))
			return false;
		*leaves = &wanted->anonymous_leaves;
	}
	*why = LEFT_SMALL;
	if (call->flags & MAP_ANONYMOUS && call->length < ANON_LEAST)
		return false;
	page = (*leaves)->size[(*leaves)->count - 1];
	/* The quick way out for the many small ones. */
	if ((*leaves)->count < 2 || call->length <= (*leaves)->size[(*leaves)->count - 2] - page)
		return false;
	if (alignmap_plan(*leaves, call->length, offset, plan) || plan->alignment == page)
		return false;
	*why = LEFT_OFFSET;
	if (offset >= DRM_FIRST && offset < DRM_BEYOND && plan->phase)
		return false;
	*why = LEFT_HINT;
	return !call->address || ((uintptr_t)call->address - offset) & (plan->alignment - 1);
}

#endif /* WANTED_H */
