// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Makes mappings and waits to be killed:
 *
 *	mapper KIND,LENGTH,ADDRESS,OFFSET[,PATH]...
 *
 * The numbers as strtoull(3) takes them; an address of 0 stands for the kernel's choice. Once all
 *is mapped it prints "mapped" and how many faults touching has taken. The kinds:
 *
 *	file        of PATH, shared; made as long as need be
 *	image       of PATH, and its first page executable, at another address
 *	deleted     of PATH, which is then removed
 *	many        of PATH, shared, as often as OFFSET says, LENGTH and a page apart
 *	memfd       called PATH, shared
 *	hugetlb     a memfd of huge pages, shared
 *	shared      anonymous, shared
 *	system-v    of System V
 *	anonymous   private
 *	touched     private, advised to be huge, and touched all over
 *	reserved    private, PROT_NONE
 *	thp-off     no mapping: prctl(PR_SET_THP_DISABLE)
 *	closed      no mapping: prctl(PR_SET_DUMPABLE, 0)
 *	thread      no mapping: a thread, whose number is printed
 */
#include <err.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <unistd.h>

struct wish {
	char kind[16];
	size_t length;
	uintptr_t address;
	off_t offset;
	const char *path;
};

static long faults;

static void *map_at(const struct wish *wish, int prot, int flags, int fd)
{
	void *mapping = mmap((void *)wish->address, wish->length, prot,
			     flags | (wish->address ? MAP_FIXED_NOREPLACE : 0), fd, wish->offset);

	if (mapping == MAP_FAILED)
		err(1, "%s of %zu at %#lx", wish->kind, wish->length, (unsigned long)wish->address);
	return mapping;
}

static int extended(int fd, const struct wish *wish)
{
	const off_t end = wish->offset + (off_t)wish->length;

	if (fd < 0 || (lseek(fd, 0, SEEK_END) < end && ftruncate(fd, end)))
		err(1, "%s %s", wish->kind, wish->path ? wish->path : "");
	return fd;
}

static int opened(const struct wish *wish)
{
	return extended(open(wish->path, O_RDWR | O_CREAT | O_CLOEXEC, 0644), wish);
}

static void map_file(const struct wish *wish)
{
	const int fd = opened(wish);

	map_at(wish, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	close(fd);
}

static void map_image(const struct wish *wish)
{
	const int fd = opened(wish);

	map_at(wish, PROT_READ, MAP_PRIVATE, fd);
	if (mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0) == MAP_FAILED)
		err(1, "image");
	close(fd);
}

static void map_deleted(const struct wish *wish)
{
	map_file(wish);
	unlink(wish->path);
}

static void map_many(const struct wish *wish)
{
	struct wish one = *wish;
	int fd;

	one.offset = 0;
	fd = opened(&one);
	for (off_t i = 0; i < wish->offset; i++) {
		map_at(&one, PROT_READ, MAP_SHARED, fd);
		one.address += one.length + 4096;
	}
	close(fd);
}

static void map_memfd(const struct wish *wish)
{
	const int fd = extended(memfd_create(wish->path, MFD_CLOEXEC), wish);

	map_at(wish, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	close(fd);
}

static void map_hugetlb(const struct wish *wish)
{
	const int fd = extended(memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB), wish);

	map_at(wish, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd);
	close(fd);
}

static void map_shared(const struct wish *wish)
{
	map_at(wish, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);
}

static void map_system_v(const struct wish *wish)
{
	const int segment = shmget(IPC_PRIVATE, wish->length, IPC_CREAT | 0600);
	const void *place = segment < 0 ? NULL : shmat(segment, (void *)wish->address, 0);

	if (!place || place == (void *)-1)
		err(1, "system-v");
	shmctl(segment, IPC_RMID, NULL);
}

static void map_anonymous(const struct wish *wish)
{
	map_at(wish, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
}

static void map_touched(const struct wish *wish)
{
	volatile char *mapping =
		map_at(wish, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	struct rusage before, after;

	if (madvise((void *)mapping, wish->length, MADV_HUGEPAGE))
		err(1, "MADV_HUGEPAGE");
	getrusage(RUSAGE_SELF, &before);
	getrusage(RUSAGE_SELF, &after);
	getrusage(RUSAGE_SELF, &before);
	for (size_t at = 0; at < wish->length; at += 4096)
		mapping[at] = 1;
	getrusage(RUSAGE_SELF, &after);
	faults += after.ru_minflt - before.ru_minflt;
}

static void map_reserved(const struct wish *wish)
{
	map_at(wish, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
}

static void turn_thp_off(const struct wish *wish)
{
	(void)wish;
	if (prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0))
		err(1, "PR_SET_THP_DISABLE");
}

static void close_up(const struct wish *wish)
{
	(void)wish;
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))
		err(1, "PR_SET_DUMPABLE");
}

static void *print_and_wait(void *unused)
{
	printf("thread %d\n", gettid());
	fflush(stdout);
	for (;;)
		pause();
	return unused;
}

static void start_thread(const struct wish *wish)
{
	pthread_t thread;

	(void)wish;
	if (pthread_create(&thread, NULL, print_and_wait, NULL))
		errx(1, "thread");
}

static const struct {
	const char *kind;
	void (*make)(const struct wish *wish);
} kinds[] = {
	{ "file", map_file },	    { "image", map_image },	  { "deleted", map_deleted },
	{ "many", map_many },	    { "memfd", map_memfd },	  { "hugetlb", map_hugetlb },
	{ "shared", map_shared },   { "system-v", map_system_v }, { "anonymous", map_anonymous },
	{ "touched", map_touched }, { "reserved", map_reserved }, { "thp-off", turn_thp_off },
	{ "closed", close_up },	    { "thread", start_thread },
};

static void make(const char *text)
{
	unsigned long long length = 0, address = 0, offset = 0;
	struct wish wish = { 0 };
	int path = 0;

	sscanf(text, "%15[^,],%lli,%lli,%lli,%n", wish.kind, (long long *)&length,
	       (long long *)&address, (long long *)&offset, &path);
	wish.length = length;
	wish.address = address;
	wish.offset = (off_t)offset;
	wish.path = path ? text + path : "";
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (strcmp(wish.kind, kinds[i].kind) != 0)
			continue;
		kinds[i].make(&wish);
		return;
	}
	errx(2, "%s: no such kind", text);
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		make(argv[i]);
	printf("mapped %ld\n", faults);
	fflush(stdout);
	for (;;)
		pause();
}
