// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * The symbols mmap and mmap64, in front of the C library's. They pass everything through unless
 * this object was preloaded; then they place what the policy says.
 */
/* The build defines it, and the headers would then make one symbol of the two. */
#undef _FILE_OFFSET_BITS
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

/*
 * The library's own headers speak of the build's off_t, which has 64 bits everywhere. musl knows no
 * other, and makes the names with 64 macros for those without.
 */
#ifdef mmap64
#undef mmap64
void *mmap64(void *address, size_t length, int prot, int flags, int fd, off_t offset);
#else
#define off_t off64_t
#endif
#include "leaves.h"
#include "place.h"
#include "plan.h"
#include "policy.h"
#include "probes.h"
#include "recent.h"
#include "report.h"
#include "wanted.h"
#undef off_t

/* Set once, by the constructor: before it, and unless preloaded, every call passes through. */
static bool active;
static struct policy policy;
static struct wanted wanted;
/*
 * The next mmap in line; the next mmap64 is alignmap_next_mmap. Where an off_t has 32 bits, mmap64
 * is next for both: its offset says as much.
 */
static mmap_function *next_mmap;

static void *wrap(const struct mapping_call *call)
{
	const struct alignmap_leaves *leaves;
	struct placement placement;
	struct alignmap_plan plan;
	int saved;
	enum left why;
	void *result;

	if (call->flags & MAP_GROWSDOWN)
		alignmap_recent_below = NO_RECENT_WINDOWS;
	if (!active)
		return alignmap_make_call(call, call->address, call->flags);
	saved = errno;
	if (!wants_placing(&wanted, call, &leaves, &plan, &why)) {
		if (report_wanted)
			report_left(why);
		PROBE(left, call->address, call, 0);
		errno = saved;
		return alignmap_make_call(call, call->address, call->flags);
	}
	result = alignmap_place(call, leaves, plan.alignment, policy.claim, policy.madvise,
				&placement);
	if (report_wanted)
		report_placement(call, &placement, result);
	return result;
}

#pragma GCC visibility push(default)

void *mmap(void *address, size_t length, int prot, int flags, int fd, off_t offset)
{
	/* With 32 bits an offset has no sign, to the C library's mmap. */
	off64_t whole = sizeof(offset) < sizeof(whole) ? (off64_t)(uint32_t)offset : offset;

	return wrap(&(struct mapping_call){ address, length, prot, flags, fd, whole, next_mmap });
}

void *mmap64(void *address, size_t length, int prot, int flags, int fd, off64_t offset)
{
	return wrap(&(struct mapping_call){ address, length, prot, flags, fd, offset,
					    alignmap_next_mmap });
}

#pragma GCC visibility pop

static bool names_us(const char *path, size_t length)
{
	static const char name[] = "libalignmap.so";
	const char *slash = memrchr(path, '/', length);

	if (slash) {
		length -= (size_t)(slash + 1 - path);
		path = slash + 1;
	}
	return length >= sizeof(name) - 1 && memcmp(path, name, sizeof(name) - 1) == 0;
}

/* Whether a list of objects as in LD_PRELOAD, apart by any of @separators, names this one. */
static bool list_names_us(const char *list, const char *separators)
{
	while (list && *list) {
		size_t length = strcspn(list, separators);

		if (names_us(list, length))
			return true;
		list += length;
		list += strspn(list, separators);
	}
	return false;
}

static bool system_preloads_us(void)
{
	int fd = open("/etc/ld.so.preload", O_RDONLY | O_CLOEXEC);
	char list[4096];
	ssize_t filled = fd < 0 ? -1 : read(fd, list, sizeof(list) - 1);

	if (fd >= 0)
		close(fd);
	list[filled > 0 ? filled : 0] = '\0';
	/* A comment ends with its line. */
	for (char *comment = list; (comment = strchr(comment, '#'));)
		memset(comment, ' ', strcspn(comment, "\n"));
	return list_names_us(list, ": \t\n");
}

/* Whether @map says in its DT_NEEDED that it wants the object of that name. */
static bool needs(const struct link_map *map, const char *soname)
{
	const char *strings = NULL;

	for (const ElfW(Dyn) *entry = map->l_ld; entry && entry->d_tag != DT_NULL; entry++)
		if (entry->d_tag == DT_STRTAB)
			strings = (const char *)entry->d_un.d_ptr;
	/* Some machines leave the table's address unrelocated. */
	if ((uintptr_t)strings < map->l_addr)
		strings += map->l_addr;
	for (const ElfW(Dyn) *entry = map->l_ld; entry && entry->d_tag != DT_NULL; entry++)
		/* Whoever has a DT_NEEDED has a DT_STRTAB, else ld.so had not loaded it. */
		/* NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker) */
		if (entry->d_tag == DT_NEEDED && strcmp(strings + entry->d_un.d_val, soname) == 0)
			return true;
	return false;
}

#ifdef __GLIBC__

static const struct link_map *first_object(void)
{
	return _r_debug.r_map;
}

#define LIBC_NAME "/libc.so."

#else

/* musl: a handle is the object itself, and the program's is the first. */
static const struct link_map *first_object(void)
{
	return dlopen(NULL, RTLD_NOW);
}

#define LIBC_NAME "/ld-musl-"
extern const ElfW(Dyn) _DYNAMIC[] __attribute__((visibility("hidden")));

#endif

/* What dlopen() brings comes behind the C library in the chain, or into another one. */
static bool loaded_at_start(void)
{
	for (const struct link_map *map = first_object(); map; map = map->l_next) {
		if (map->l_ld == _DYNAMIC)
			return true;
		if (strstr(map->l_name, LIBC_NAME))
			return false;
	}
	return false;
}

/* In nobody's DT_NEEDED (`ld.so --preload` sets no variable), or named where it is asked for. */
static bool was_preloaded(void)
{
	bool needed = false;

	for (const struct link_map *map = first_object(); map; map = map->l_next)
		needed |= needs(map, ALIGNMAP_SONAME);
	return !needed || list_names_us(getenv("LD_PRELOAD"), ": ") || system_preloads_us();
}

/* Whether who calls mmap by name comes here (-Bsymbolic-functions makes these names our own). */
static bool is_in_front(void)
{
	return (uintptr_t)dlsym(RTLD_DEFAULT, "mmap") == (uintptr_t)mmap &&
	       (uintptr_t)dlsym(RTLD_DEFAULT, "mmap64") == (uintptr_t)mmap64;
}

static void let_windows_be_remembered(void)
{
	uintptr_t not_yet = 0;

	atomic_compare_exchange_strong(&alignmap_recent_below, &not_yet,
				       (uintptr_t)let_windows_be_remembered);
}

/* Behind the one in lib/leaves.c. Here alone may a lock be taken: dlsym() does. */
__attribute__((constructor(102))) static void start(void)
{
	int saved = errno;
	bool at_start;

	alignmap_next_mmap = __extension__(mmap_function *) dlsym(RTLD_NEXT, "mmap64");
	next_mmap = alignmap_next_mmap;
	if (sizeof(off_t) == sizeof(off64_t))
		next_mmap = __extension__(mmap_function *) dlsym(RTLD_NEXT, "mmap");
	at_start = loaded_at_start();
	if (at_start && is_in_front())
		let_windows_be_remembered();
	if (at_start && !getauxval(AT_SECURE) && was_preloaded()) {
		read_policy(environ, &policy, report_complaint);
		if (!policy.off) {
			report_open(&policy);
			learn_wanted(&policy, &wanted);
			active = true;
		}
	}
	errno = saved;
}

__attribute__((destructor)) static void finish(void)
{
	report_close();
}
