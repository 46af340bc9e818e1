/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * Processes as /proc shows them: found by PID or name, with their mappings, mounts and VFIO
 * devices. The roots of proc and sysfs are arguments, so that tests can make up their own.
 * Sentences on what went wrong say why and what to do, not which process; they are allocated.
 */
#ifndef PROCESS_H
#define PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "maps.h"

struct process {
	pid_t pid;
	int directory; /* /proc/PID: stays this process's, whoever gets the PID later */
	char *name;    /* of its program; where that is not to be seen the kernel's, of 15 bytes */
	bool thp_disabled; /* prctl(PR_SET_THP_DISABLE) */
};

/* NULL, or why there is nothing to inspect; nothing is then left open. */
char *process_open(struct process *process, const char *proc, pid_t pid);

void process_close(struct process *process);

bool process_has_ended(const struct process *process);

/*
 * NULL, or why the mappings cannot be read. @has_smaps: whether this Linux has /proc/PID/smaps,
 * without which nothing is known of pages.
 */
char *process_maps(const struct process *process, struct maps *maps, bool *has_smaps);

struct found {
	pid_t pid;
	char *command; /* its arguments, separated by spaces; the name where there are none */
};

/*
 * The processes of that name, which is the kernel's or that of their program's file, but for this
 * one, and for those that have ended if any has not. Allocated, to be freed by found_free().
 */
size_t processes_called(const char *proc, const char *name, struct found **found);

void found_free(struct found *found, size_t count);

struct mount {
	unsigned int major, minor; /* of the file system, as maps prints them */
	char *point;		   /* in the process's own name space, spaces as \040 */
	char *type;		   /* "tmpfs" */
	char *options;		   /* of the file system: "rw,size=10240k,huge=always" */
};

struct mounts {
	struct mount *mounts;
	size_t count;
};

/* None where they cannot be read. */
void process_mounts(const struct process *process, struct mounts *mounts);

void mounts_free(struct mounts *mounts);

/* The VFIO region that a mapping is of: the index in the offset's upper bits, and the rest. */
#define VFIO_REGION(offset) ((unsigned int)((offset) >> 40))
#define VFIO_OFFSET(offset) ((offset) & ((UINT64_C(1) << 40) - 1))

struct vfio_devices {
	char **names; /* "0000:65:00.0", sorted */
	size_t count;
};

/*
 * The devices that a VFIO mapping can be of: several where the kernel does not say which, none
 * where it says nothing. All files of VFIO devices that were opened by their groups have one inode
 * in maps, so these are the devices that the process holds open (by fdinfo's vfio-device-syspath,
 * or before Linux has that by its groups) of which a BAR is long enough.
 */
void process_vfio_devices(const struct process *process, const char *sys,
			  const struct mapping *mapping, struct vfio_devices *devices);

void vfio_devices_free(struct vfio_devices *devices);

#endif /* PROCESS_H */
