// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Counters, the log line and the summary. What runs on the mapping path formats on the stack and
 * makes one write(2); no stdio, which locks and allocates.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "leaves.h"
#include "plan.h"
#include "report-file.h"
#include "report.h"
#include "sys.h"

bool report_wanted;

static const char *const left_names[LEFT_KINDS] = {
	[LEFT_FIXED] = "fixed address",		 [LEFT_HINT] = "address hint",
	[LEFT_FLAGS] = "32-bit, stack, hugetlb", [LEFT_ANONYMOUS] = "anonymous (ALIGNMAP_ANON)",
	[LEFT_SMALL] = "holds no larger leaf",	 [LEFT_OFFSET] = "offset of a DRM object",
};

static struct {
	atomic_ulong left[LEFT_KINDS];
	atomic_ulong placed[ALIGNMAP_LEAVES_MAX]; /* by index in alignmap_host.leaves */
	atomic_ulong elsewhere, losses, no_window, refused, lesser;
	atomic_ulong entries, pages;
} counters;

/* A descriptor of our own, and the file that it was: a program may close it and reuse the number.
 */
struct sink {
	atomic_int fd;
	dev_t device;
	ino_t inode;
	bool standard_error; /* or a duplicate of it */
};

static struct sink stats = { .fd = -1 };
static struct sink log_sink = { .fd = -1 };
static pid_t pid;    /* of whom the lines speak */
static pid_t writer; /* who prints the summary: the same, but for a tracer */
static bool by_tracer;
static bool madvise_off;
static bool thp_disabled;

struct text {
	size_t length;
	char bytes[2048];
};

static void add_string(struct text *text, const char *string)
{
	while (*string && text->length < sizeof(text->bytes))
		text->bytes[text->length++] = *string++;
}

/* What a user chose, a variable or a program's name, may be long, or do things to a terminal. */
static void add_foreign(struct text *text, const char *string)
{
	for (int i = 0; string[i]; i++) {
		char shown[2] = { string[i], '\0' };

		if (i == 80) {
			add_string(text, "...");
			break;
		}
		if (shown[0] < ' ' || shown[0] > '~')
			shown[0] = '?';
		add_string(text, shown);
	}
}

static void add_number(struct text *text, uint64_t number, unsigned int base, int width)
{
	char digits[24];
	int at = sizeof(digits) - 1;

	digits[at] = '\0';
	do {
		digits[--at] = "0123456789abcdef"[number % base];
		number /= base;
	} while (number);
	for (int missing = width - ((int)sizeof(digits) - 1 - at); missing > 0; missing--)
		add_string(text, " ");
	add_string(text, digits + at);
}

static void add_hex(struct text *text, const char *name, uint64_t number)
{
	add_string(text, name);
	add_string(text, "0x");
	add_number(text, number, 16, 0);
}

static void add_size(struct text *text, size_t size)
{
	static const char *const units[] = { "", "K", "M", "G", "T" };
	unsigned int unit = 0;

	while (unit < 4 && size && size % 1024 == 0) {
		size /= 1024;
		unit++;
	}
	add_number(text, size, 10, 0);
	add_string(text, units[unit]);
}

/*
 * Away from the low numbers that programs count on getting, and above standard error, which they
 * may close. Returns -1 with errno set.
 */
static int move_high(int fd)
{
	struct rlimit limit = { .rlim_cur = 1024 };
	int lowest = 3;

	getrlimit(RLIMIT_NOFILE, &limit);
	if (limit.rlim_cur >= 64)
		lowest = (int)(limit.rlim_cur < 1024 ? limit.rlim_cur : 1024) - 16;
	return fcntl(fd, F_DUPFD_CLOEXEC, lowest);
}

static void open_sink(struct sink *sink, const char *destination, const char *name)
{
	struct text variable = { 0 };
	struct stat status;
	const char *why;
	int fd, low;

	if (!destination)
		return;
	if (strcmp(destination, TO_STANDARD_ERROR) == 0) {
		/* A program that was started without one has nobody to tell. */
		sink->standard_error = true;
		fd = move_high(STDERR_FILENO);
		if (fd < 0)
			return;
	} else {
		low = open_report_file(destination, &why);
		if (low < 0) {
			add_string(&variable, name);
			add_string(&variable, destination);
			report_complaint(variable.bytes, why);
			return;
		}
		fd = move_high(low);
		if (fd < 0)
			fd = low;
		else
			close(low);
	}
	if (fstat(fd, &status)) {
		close(fd);
		return;
	}
	sink->device = status.st_dev;
	sink->inode = status.st_ino;
	atomic_store_explicit(&sink->fd, fd, memory_order_relaxed);
	report_wanted = true;
}

/* A program may have closed our descriptor and opened something else of that number. */
static bool still_ours(const struct sink *sink, int fd)
{
	struct stat status = { 0 };

	return fd >= 0 && !sys_failed(sys_fstat(fd, &status)) && status.st_dev == sink->device &&
	       status.st_ino == sink->inode;
}

static void close_sink(struct sink *sink)
{
	int fd = atomic_exchange_explicit(&sink->fd, -1, memory_order_relaxed);

	if (still_ours(sink, fd))
		close(fd);
}

/*
 * A fork prints no summary, and may be a daemon: somebody may wait for the last writer to standard
 * error to be gone.
 */
static void become_a_fork(void)
{
	pid = getpid();
	writer = pid;
	close_sink(&stats);
	if (log_sink.standard_error)
		close_sink(&log_sink);
}

void report_about(pid_t process)
{
	pid = process;
	by_tracer = true;
}

void report_open(const struct policy *policy)
{
	pid = getpid();
	writer = pid;
	madvise_off = !policy->madvise;
	open_sink(&stats, policy->stats, "ALIGNMAP_STATS=");
	open_sink(&log_sink, policy->log, "ALIGNMAP_LOG=");
	if (!report_wanted)
		return;
	pthread_atfork(NULL, NULL, become_a_fork);
	/* 3 since Linux 6.18: but for areas under MADV_HUGEPAGE. */
	thp_disabled = prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) == 1;
}

/*
 * One write(2). Neither a broken pipe nor a limit of file sizes, which a program may lower at any
 * time, may end it for our sake: their signals are held back, and taken away if it was this write
 * that raised them. What the C library has for that are cancellation points, and mmap is none.
 */
static void write_text(int fd, const struct text *text)
{
	const long now[2] = { 0, 0 };
	struct pollfd room = { .fd = fd, .events = POLLOUT };
	sigset_t raised, before, pending;
	long written;

	sigemptyset(&pending);
	sigemptyset(&raised);
	sigaddset(&raised, SIGPIPE);
	sigaddset(&raised, SIGXFSZ);
	/* A tracer that waited would hold whom it traces, whom no signal would end then. */
	if (by_tracer && (poll(&room, 1, 0) != 1 || !(room.revents & POLLOUT)))
		return;
	pthread_sigmask(SIG_BLOCK, &raised, &before);
	/* None is pending that was not held back; VMMs' filters do not know this call. */
	if (sigismember(&before, SIGPIPE) || sigismember(&before, SIGXFSZ))
		sigpending(&pending);
	written = sys_call6(SYS_write, fd, (long)text->bytes, (long)text->length, 0, 0, 0);
	if (written == -EPIPE || written == -EFBIG) {
		const int signal = written == -EPIPE ? SIGPIPE : SIGXFSZ;

		sigdelset(&raised, signal == SIGPIPE ? SIGXFSZ : SIGPIPE);
		if (!sigismember(&pending, signal))
			sys_call6(SYS_rt_sigtimedwait, (long)&raised, 0, (long)now, _NSIG / 8, 0,
				  0);
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void report_complaint(const char *variable, const char *why)
{
	struct text text = { 0 };

	add_string(&text, REPORT_MARK ": ");
	add_foreign(&text, variable);
	add_string(&text, ": ignored: ");
	add_string(&text, why);
	add_string(&text, "\n");
	write_text(STDERR_FILENO, &text);
}

static void count(atomic_ulong *counter, unsigned long more)
{
	atomic_fetch_add_explicit(counter, more, memory_order_relaxed);
}

void report_left(enum left why)
{
	count(&counters.left[why], 1);
}

static void log_placement(const struct mapping_call *call, const struct placement *placement,
			  void *result, int error, size_t entries)
{
	int fd = atomic_load_explicit(&log_sink.fd, memory_order_relaxed);
	struct text text;

	if (!still_ours(&log_sink, fd)) {
		atomic_store_explicit(&log_sink.fd, -1, memory_order_relaxed);
		return;
	}
	text.length = 0;
	add_string(&text, REPORT_MARK "[");
	add_number(&text, (uint64_t)pid, 10, 0);
	add_string(&text, placement->outcome == PLACED ? "]: placed" : "]: gave up");
	if (result == MAP_FAILED)
		add_string(&text, " -");
	else
		add_hex(&text, " ", (uintptr_t)result);
	add_hex(&text, " length ", call->length);
	add_hex(&text, " offset ", offset_behind(call));
	add_string(&text, " alignment ");
	add_size(&text, placement->alignment);
	add_string(&text, " entries ");
	add_number(&text, entries, 10, 0);
	if (placement->alignment < placement->deserved && placement->outcome != NO_WINDOW) {
		add_string(&text, ", no window for ");
		add_size(&text, placement->deserved);
	}
	if (placement->outcome == ELSEWHERE)
		add_string(&text, ", landed elsewhere");
	if (placement->outcome == NO_WINDOW)
		add_string(&text, ", no window");
	if (placement->outcome == REFUSED)
		add_string(&text, ", claim refused");
	if (result == MAP_FAILED) {
		add_string(&text, ", mmap failed with errno ");
		add_number(&text, (uint64_t)error, 10, 0);
	}
	add_string(&text, "\n");
	write_text(fd, &text);
}

void report_placement(const struct mapping_call *call, const struct placement *placement,
		      void *result)
{
	const struct alignmap_leaves *leaves = &alignmap_host.leaves;
	const size_t page = leaves->size[leaves->count - 1];
	size_t entries = 0;
	int saved = errno;

	if (result != MAP_FAILED) {
		/* What lies behind a descriptor is not known here: at best, every leaf size. */
		entries = alignmap_entries_at(call->flags & MAP_ANONYMOUS ? &alignmap_host.anonymous
									  : leaves,
					      call->length, offset_behind(call), (uintptr_t)result);
		count(&counters.entries, entries);
		count(&counters.pages, (call->length + page - 1) / page);
	}
	if (placement->losses)
		count(&counters.losses, placement->losses);
	switch (placement->outcome) {
	case PLACED:
		for (unsigned int i = 0; i < leaves->count; i++)
			if (leaves->size[i] == placement->alignment)
				count(&counters.placed[i], 1);
		if (placement->alignment < placement->deserved)
			count(&counters.lesser, 1);
		break;
	case ELSEWHERE:
		count(&counters.elsewhere, 1);
		break;
	case NO_WINDOW:
		count(&counters.no_window, 1);
		break;
	case REFUSED:
		count(&counters.refused, 1);
		break;
	case NOT_TRIED:
		break;
	}
	log_placement(call, placement, result, saved, entries);
	errno = saved;
}

static unsigned long counted(const atomic_ulong *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

static void add_row(struct text *text, const char *name, unsigned long number)
{
	const size_t start = text->length;

	add_string(text, "  ");
	add_string(text, name);
	while (text->length - start < 28)
		add_string(text, " ");
	add_number(text, number, 10, 12);
}

static void add_detail(struct text *text, const char *name, unsigned long number)
{
	add_string(text, name);
	add_number(text, number, 10, 0);
}

static void add_placed(struct text *text)
{
	const char *separator = "  ";
	unsigned long placed = 0;

	for (unsigned int i = 0; i < alignmap_host.leaves.count; i++)
		placed += counted(&counters.placed[i]);
	add_row(text, "placed", placed);
	for (unsigned int i = 0; i < alignmap_host.leaves.count; i++) {
		if (!counted(&counters.placed[i]))
			continue;
		add_string(text, separator);
		add_size(text, alignmap_host.leaves.size[i]);
		add_detail(text, ": ", counted(&counters.placed[i]));
		separator = ", ";
	}
	add_string(text, "\n");
}

static void add_thp(struct text *text)
{
	if (thp_disabled)
		add_string(
			text,
			"  THP: PR_SET_THP_DISABLE makes Linux map this process by base pages\n");
	else if (alignmap_host.thp_rules_bars && alignmap_host.thp == THP_NEVER)
		add_string(text,
			   "  THP: this Linux maps BARs by base pages under the policy [never];\n"
			   "       set transparent_hugepage/enabled to madvise or always\n");
	else if (alignmap_host.thp_rules_bars && alignmap_host.thp == THP_MADVISE && madvise_off)
		add_string(text,
			   by_tracer ? "  THP: this Linux maps BARs by base pages under the policy "
				       "[madvise];\n"
				       "       a tracer cannot advise: set "
				       "transparent_hugepage/enabled to always\n"
				     : "  THP: this Linux maps BARs by base pages under the policy "
				       "[madvise]\n"
				       "       and ALIGNMAP_MADVISE=off\n");
}

static unsigned long calls_seen(unsigned long *left)
{
	unsigned long calls;

	*left = 0;
	for (int i = 0; i < LEFT_KINDS; i++)
		*left += counted(&counters.left[i]);
	calls = *left + counted(&counters.elsewhere) + counted(&counters.no_window) +
		counted(&counters.refused);
	for (unsigned int i = 0; i < alignmap_host.leaves.count; i++)
		calls += counted(&counters.placed[i]);
	return calls;
}

static void add_summary(struct text *text)
{
	unsigned long left;
	unsigned long calls = calls_seen(&left);

	add_string(text, REPORT_MARK " " ALIGNMAP_VERSION ", pid ");
	add_number(text, (uint64_t)pid, 10, 0);
	add_string(text, ", ");
	add_foreign(text, program_invocation_short_name);
	add_string(text, "\n");
	add_row(text, "mmap calls", calls);
	add_string(text, "\n");
	add_placed(text);
	add_row(text, "left to the kernel", left);
	add_string(text, "\n");
	for (int i = 0; i < LEFT_KINDS; i++) {
		if (!counted(&counters.left[i]))
			continue;
		add_string(text, "  ");
		add_row(text, left_names[i], counted(&counters.left[i]));
		add_string(text, "\n");
	}
	add_row(text, "landed elsewhere", counted(&counters.elsewhere));
	add_string(text, "\n");
	add_row(text, "races lost, tried again", counted(&counters.losses));
	add_string(text, "\n");
	add_row(text, "fallbacks",
		counted(&counters.no_window) + counted(&counters.refused) +
			counted(&counters.lesser));
	add_detail(text, "  no window: ", counted(&counters.no_window));
	add_detail(text, ", claim refused: ", counted(&counters.refused));
	add_detail(text, ", smaller leaf: ", counted(&counters.lesser));
	add_string(text, "\n");
	add_row(text, "entries needed at best", counted(&counters.entries));
	add_detail(text, "  at page-aligned addresses: ", counted(&counters.pages));
	add_string(text, "\n");
	add_thp(text);
}

void report_close(void)
{
	/* Once: a tracer comes here a second time. */
	int fd = atomic_exchange_explicit(&stats.fd, -1, memory_order_relaxed);
	struct text text = { 0 };

	/* Not from a child by clone(), which has no part in pthread_atfork(). */
	if (!still_ours(&stats, fd) || getpid() != writer)
		return;
	add_summary(&text);
	write_text(fd, &text);
}
