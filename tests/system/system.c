// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#include "system.h"

#include "raw.h"
#include "recent.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

enum way way;
/* As it was said. */
static const char *way_name;

static const char *const way_names[] = {
	[WAY_API] = "api",
	[WAY_MMAP] = "mmap",
	[WAY_MMAP64] = "mmap64",
	[WAY_RAW] = "raw",
};

void choose_way(int argc, char **argv)
{
	way_name = argc > 1 ? argv[1] : "";
	/* The archive leaves it 0: it sees no MAP_GROWSDOWN, and here none is made. */
	if (strcmp(way_name, "recent") == 0) {
		alignmap_recent_below = (uintptr_t)stdout;
		return;
	}
	for (size_t i = 0; i < COUNT(way_names); i++) {
		if (strcmp(way_name, way_names[i]) == 0) {
			way = (enum way)i;
			return;
		}
	}
	fprintf(stderr, "%s: the first argument is api, recent, mmap, mmap64 or raw\n", argv[0]);
	exit(2);
}

bool insists(void)
{
	const char *claim = getenv("ALIGNMAP_CLAIM");

	return way == WAY_API || (claim && strcmp(claim, "fixed") == 0);
}

bool remembers(void)
{
	const char *setting = getenv("SETTING");

	/* From the bottom up, windows lie above the library's code. */
	if (setting && strcmp(setting, "ADDR_COMPAT_LAYOUT") == 0)
		return false;
	/* Another library's mmap is the process's; a sanitizer's is. */
	if (way != WAY_API && (SANITIZED || (setting && strcmp(setting, "BEHIND_ANOTHER") == 0)))
		return false;
	return insists() && (way != WAY_API || alignmap_recent_below);
}

void *map(void *address, size_t length, int prot, int flags, int fd, off_t offset)
{
	switch (way) {
	case WAY_API:
		return alignmap_mmap(address, length, prot, flags, fd, offset);
	case WAY_MMAP:
		return call_mmap(address, length, prot, flags, fd, offset);
	case WAY_MMAP64:
		return call_mmap64(address, length, prot, flags, fd, offset);
	case WAY_RAW:
		break;
	}
	return map_raw(address, length, prot, flags, fd, offset);
}

void *map_raw(void *address, size_t length, int prot, int flags, int fd, off_t offset)
{
	return raw_mmap(address, length, prot, flags, fd, offset);
}

size_t page_size(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

static struct alignmap_leaves leaves_of(enum alignmap_backing backing)
{
	struct alignmap_leaves leaves;

	assert_int_equal(alignmap_host_leaves(backing, &leaves), 0);
	if (leaves.count < 2)
		skip_because("this host has no leaf above the base page");
	return leaves;
}

size_t pmd_size(void)
{
	return leaves_of(ALIGNMAP_ANONYMOUS).size[0];
}

size_t largest_leaf(void)
{
	return leaves_of(ALIGNMAP_ANY).size[0];
}

size_t deserved(size_t length, uint64_t offset, size_t most)
{
	const struct alignmap_leaves leaves = leaves_of(ALIGNMAP_ANY);
	const size_t page = page_size();
	const uint64_t end = offset + (length + page - 1) / page * page;

	for (unsigned int i = 0; i < leaves.count; i++) {
		const uint64_t first = (offset + leaves.size[i] - 1) / leaves.size[i];

		if (leaves.size[i] <= most && (first + 1) * leaves.size[i] <= end)
			return leaves.size[i];
	}
	return page;
}

bool congruent(const void *mapping, uint64_t offset, size_t alignment)
{
	return ((uintptr_t)mapping - offset) % alignment == 0;
}

/* No stdio here: it allocates, and so changes what is being read. */
static size_t read_whole(const char *path, char *text, size_t room)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t filled = 0;
	ssize_t more;

	assert_true(fd >= 0);
	while ((more = read(fd, text + filled, room - 1 - filled)) > 0)
		filled += (size_t)more;
	close(fd);
	assert_int_equal(more, 0);
	assert_true(filled < room - 1);
	text[filled] = '\0';
	return filled;
}

static unsigned long pages_of_vmas(const char *line)
{
	uintptr_t mapped = 0;
	char *end;

	for (; *line; line = strchr(end, '\n') + 1) {
		mapped -= strtoul(line, &end, 16);
		mapped += strtoul(end + 1, &end, 16);
	}
	return mapped / page_size();
}

void read_address_space(struct address_space *space)
{
	unsigned long mapped;
	char statm[128];

	space->length = read_whole("/proc/self/maps", space->vmas, sizeof(space->vmas));
	read_whole("/proc/self/statm", statm, sizeof(statm));
	space->pages = strtoul(statm, NULL, 10);
	/* Where qemu-user runs the program, the list is the program's and the number qemu's own. */
	mapped = pages_of_vmas(space->vmas);
	if (space->pages > mapped + 4096)
		space->pages = mapped;
}

void assert_same_address_space(const struct address_space *before,
			       const struct address_space *after)
{
	if (SANITIZED)
		return;
	assert_string_equal(before->vmas, after->vmas);
	assert_int_equal(before->pages, after->pages);
}

unsigned long resident_pages(void)
{
	char rollup[4096];
	const char *row;

	read_whole("/proc/self/smaps_rollup", rollup, sizeof(rollup));
	row = strstr(rollup, "\nRss:");
	assert_non_null(row);
	return strtoul(row + strlen("\nRss:"), NULL, 10) * 1024 / page_size();
}

void skip_because(const char *reason, ...)
{
	char text[256];
	va_list arguments;

	va_start(arguments, reason);
	vsnprintf(text, sizeof(text), reason, arguments);
	va_end(arguments);
	/* The script "tap" puts it behind the test's name. */
	print_message("# skipped: %s\n", text);
	skip();
}

pid_t fork_child(void)
{
	static const int caught[] = { SIGFPE, SIGILL, SIGSEGV, SIGBUS, SIGSYS };
	pid_t pid;

	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		for (size_t i = 0; i < COUNT(caught); i++)
			signal(caught[i], SIG_DFL);
		alarm(300);
	}
	return pid;
}

char stats_path[] = "/tmp/alignmap-test-XXXXXX";

int make_stats(void **state)
{
	int fd;

	(void)state;
	strcpy(strrchr(stats_path, '-'), "-XXXXXX");
	fd = mkstemp(stats_path);
	return fd < 0 ? -1 : close(fd);
}

int remove_stats(void **state)
{
	(void)state;
	return unlink(stats_path);
}

FILE *run_again(char *const *arguments, pid_t *pid)
{
	char *again[8] = { program_invocation_name, (char *)way_name };
	FILE *said;
	int ends[2];

	for (size_t i = 0; arguments[i]; i++)
		again[i + 2] = arguments[i];
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	*pid = fork_child();
	if (*pid == 0) {
		setenv("ALIGNMAP_STATS", stats_path, 1);
		dup2(ends[1], STDOUT_FILENO);
		execv("/proc/self/exe", again);
		_exit(99);
	}
	close(ends[1]);
	said = fdopen(ends[0], "r");
	assert_non_null(said);
	return said;
}

int end_of(int (*child)(void))
{
	int status;
	pid_t pid = fork_child();

	if (pid == 0)
		_exit(child());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

bool has_lost(int status)
{
	if (WIFSIGNALED(status))
		print_message("# the process was destroyed: %s\n", strsignal(WTERMSIG(status)));
	return WIFSIGNALED(status) ? WTERMSIG(status) == SIGSEGV || WTERMSIG(status) == SIGBUS
				   : WEXITSTATUS(status) == HAS_LOST;
}

int memfd_of(off_t length)
{
	int fd = memfd_create("alignmap-test", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, length), 0);
	return fd;
}

int unlinked_file_in(const char *directory, off_t length)
{
	char path[4096];
	int fd;

	snprintf(path, sizeof(path), "%s/alignmap-test-XXXXXX", directory);
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return -1;
	unlink(path);
	if (ftruncate(fd, length)) {
		int saved = errno;

		close(fd);
		errno = saved;
		return -1;
	}
	return fd;
}

int limit_address_space(struct address_space *now, size_t more)
{
	struct rlimit limit;

	read_address_space(now);
	if (getrlimit(RLIMIT_AS, &limit))
		return -1;
	limit.rlim_cur = now->pages * page_size() + more;
	return setrlimit(RLIMIT_AS, &limit);
}

void report_limit(const char *limit, const char *tried, const char *result)
{
	const char *setting = getenv("SETTING");

	if (!SANITIZED)
		printf("# trust limits|%s%s%s|%s|%s\n", setting ? setting : "",
		       setting && *limit ? ", " : "", limit, tried, result);
	fflush(stdout);
}

int perf_event(void)
{
	struct perf_event_attr event = {
		.size = sizeof(event),
		.type = PERF_TYPE_SOFTWARE,
		.config = PERF_COUNT_SW_DUMMY,
		.exclude_kernel = 1,
		.exclude_hv = 1,
	};

	return (int)syscall(SYS_perf_event_open, &event, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
}

void fail_naively_once(int refusing)
{
	const size_t length = 4 * pmd_size(), reserve = length + pmd_size();
	char *held = map_raw(NULL, reserve, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *window = held + (-(uintptr_t)held & (pmd_size() - 1));

	if (held == MAP_FAILED || map_raw(window, length, PROT_READ | PROT_WRITE,
					  MAP_SHARED | MAP_FIXED, refusing, 0) != MAP_FAILED)
		abort();
	munmap(held, reserve);
}

void need_map_count_in_reach(void)
{
	FILE *setting = fopen("/proc/sys/vm/max_map_count", "re");
	long most = 0;

	assert_non_null(setting);
	assert_int_equal(fscanf(setting, "%ld", &most), 1);
	fclose(setting);
	if (most > 2000000)
		skip_because("vm.max_map_count is %ld, too many to make", most);
}

bool policy_rules_bars(void)
{
	struct utsname name;
	char enabled[64] = "";
	int major = 0, minor = 0;

	assert_int_equal(uname(&name), 0);
	assert_int_equal(sscanf(name.release, "%d.%d", &major, &minor), 2);
	if (access("/sys/kernel/mm/transparent_hugepage/enabled", R_OK) == 0)
		read_whole("/sys/kernel/mm/transparent_hugepage/enabled", enabled, sizeof(enabled));
	return strstr(enabled, "[madvise]") &&
	       ((major == 6 && minor >= 16) || (major == 7 && minor < 2));
}

long summary_number(const char *path, const char *row)
{
	char summary[8192];
	const char *line;

	read_whole(path, summary, sizeof(summary));
	for (line = strtok(summary, "\n"); line; line = strtok(NULL, "\n")) {
		line += strspn(line, " ");
		if (strncmp(line, row, strlen(row)) == 0 && line[strlen(row)] == ' ')
			return strtol(line + strlen(row), NULL, 10);
	}
	return -1;
}
