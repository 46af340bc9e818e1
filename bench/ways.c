// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * The rules of others are written from what their programs do, in the order of their system calls
 * (rules.h says which). All three reserve, trim the head and the tail, and map over what they hold.
 * Left out, in their favour: libpmem2's first attempt with MAP_SYNC, which only DAX files grant.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../tests/system/raw.h"
#include "rules.h"
#include "ways.h"

static void *map_at(const struct mapping *mapping, void *address, int flags)
{
	return raw_mmap(address, mapping->length, PROT_READ | PROT_WRITE, MAP_SHARED | flags,
			mapping->fd, mapping->offset);
}

static void *plainly(const struct mapping *mapping, uintptr_t free_address)
{
	(void)free_address;
	return map_at(mapping, NULL, 0);
}

/* At a multiple of @alignment, in what is left of a reservation. */
static void *in_a_reservation(const struct mapping *mapping, size_t alignment, int flags,
			      bool even_nothing)
{
	char *start = raw_mmap(NULL, mapping->length + alignment, PROT_NONE,
			       MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
	size_t head;

	if (start == MAP_FAILED)
		return MAP_FAILED;
	head = -(uintptr_t)start & (alignment - 1);
	if (head || even_nothing)
		munmap(start, head);
	munmap(start + head + mapping->length, alignment - head);
	return map_at(mapping, start + head, MAP_FIXED);
}

/* It trims a head of no bytes, too, which the kernel refuses. */
static void *as_qemu_10(const struct mapping *mapping, uintptr_t free_address)
{
	(void)free_address;
	return in_a_reservation(mapping, alignment_of_qemu_10(mapping->length), 0, true);
}

static void *as_cloud_hypervisor(const struct mapping *mapping, uintptr_t free_address)
{
	(void)free_address;
	return in_a_reservation(mapping, alignment_of_cloud_hypervisor(mapping->length),
				MAP_NORESERVE, false);
}

static void *as_libpmem2(const struct mapping *mapping, uintptr_t free_address)
{
	(void)free_address;
	return in_a_reservation(mapping, alignment_of_libpmem2(mapping->length), 0, false);
}

static void *by_the_api(const struct mapping *mapping, uintptr_t free_address)
{
	(void)free_address;
	return alignmap_mmap(NULL, mapping->length, PROT_READ | PROT_WRITE, MAP_SHARED, mapping->fd,
			     mapping->offset);
}

static void *by_the_preload(const struct mapping *mapping, uintptr_t free_address)
{
	(void)free_address;
	return mmap(NULL, mapping->length, PROT_READ | PROT_WRITE, MAP_SHARED, mapping->fd,
		    mapping->offset);
}

static void *at_a_free_address(const struct mapping *mapping, uintptr_t free_address)
{
	return map_at(mapping, (void *)free_address, MAP_FIXED_NOREPLACE);
}

const struct way_description ways[WAYS] = {
	[PLAIN] = { "plain mmap", plainly, NULL },
	[QEMU_10] = { "QEMU 10", as_qemu_10, NULL },
	[CLOUD_HYPERVISOR] = { "Cloud Hypervisor", as_cloud_hypervisor, NULL },
	[LIBPMEM2] = { "libpmem2", as_libpmem2, NULL },
	[API] = { "alignmap_mmap", by_the_api, NULL },
	[PRELOAD_HINT] = { "preload, hint", by_the_preload, "ALIGNMAP_CLAIM=hint" },
	[PRELOAD_FIXED] = { "preload, fixed", by_the_preload, "ALIGNMAP_CLAIM=fixed" },
	[FREE_ADDRESS] = { "claim at a free address", at_a_free_address, NULL },
};

struct alignmap_plan plan_for(size_t length, off_t offset)
{
	struct alignmap_leaves leaves;
	struct alignmap_plan plan;

	if (alignmap_host_leaves(ALIGNMAP_ANY, &leaves) ||
	    alignmap_plan(&leaves, length, (uint64_t)offset, &plan))
		err(1, "a plan for %zu bytes at %lld", length, (long long)offset);
	return plan;
}

struct worker start_worker(enum way way, const char *library)
{
	char number[16], preload[4096 + 16];
	char *argument[] = { (char *)"worker", (char *)"--worker", number, NULL };
	char *environment[] = { preload, (char *)ways[way].environment, NULL };
	posix_spawn_file_actions_t actions;
	int orders[2], answers[2];
	struct worker worker;

	snprintf(number, sizeof(number), "%d", (int)way);
	snprintf(preload, sizeof(preload), "LD_PRELOAD=%s", library);
	if (!ways[way].environment)
		environment[0] = NULL;
	if (pipe2(orders, O_CLOEXEC) || pipe2(answers, O_CLOEXEC))
		err(1, "pipe");
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, orders[0], STDIN_FILENO);
	posix_spawn_file_actions_adddup2(&actions, answers[1], STDOUT_FILENO);
	errno = posix_spawn(&worker.pid, "/proc/self/exe", &actions, NULL, argument, environment);
	if (errno)
		err(1, "a worker");
	posix_spawn_file_actions_destroy(&actions);
	close(orders[0]);
	close(answers[1]);
	worker.orders = orders[1];
	worker.answers = answers[0];
	return worker;
}

void end_worker(struct worker *worker)
{
	int status;

	close(worker->orders);
	close(worker->answers);
	if (waitpid(worker->pid, &status, 0) != worker->pid || status)
		errx(1, "a worker failed");
}

void tell(int fd, const void *from, size_t length)
{
	if (write(fd, from, length) != (ssize_t)length)
		err(1, "a pipe to a worker");
}

void hear(int fd, void *to, size_t length)
{
	ssize_t got = read(fd, to, length);

	if (got != (ssize_t)length)
		errx(1, "a worker has ended");
}
