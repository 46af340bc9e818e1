// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * A program to be linked statically, by any C library, and traced: it does what its arguments say,
 * one after the other, and prints a line for each.
 *
 *	map		8 mappings of a file, which are kept: how many lie well
 *	fail		mappings that must fail: their errors
 *	threads=T,N	N mappings by each of T threads, unmapped again: how many lie well
 *	signals=N	the same, while a timer interrupts; and whether its signals were whole
 *	fork, vfork	a child does the rest, after an exec with vfork; and how it has ended
 *	exec		the rest, by a new program; thread-exec: by one that a thread starts
 *	served-exec	a script for "map", in a file system that a child serves
 *	filter		from now on another call than mmap, write, writev and exit_group is the end
 *	kvm-run		what a VMM calls to run a guest, of no guest: its error
 *	narrow		makes a system call of 32-bit programs
 *	tracer		whether there is one
 *	freed		waits until there is none
 *	traceme		whether a child can be traced by this program
 *	untraced	whether a child that no tracer sees can trace this program
 *	children	whether it has a child, or SIGCHLD is pending
 *	no-exec		an exec that fails
 *	setuid=PATH	starts that program; and how it has ended
 *	hunted		kills its tracer at some time while threads map and raise signals, and
 *			goes on
 *	stop, die	by SIGSTOP, by SIGTERM
 *	exit=N
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/fuse.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* A multiple of every base page. */
#define PAGE ((size_t)64 << 10)
#define PMD ((size_t)2 << 20)
/* No multiple of a PMD, lest one mapping lies well because the one above it does. */
#define LENGTH (4 * PMD + 3 * PAGE)
#define KVM_RUN 0xae80

static char *program;
static int file;

static void open_file(void)
{
	file = (int)syscall(SYS_memfd_create, "traced", 1u /* MFD_CLOEXEC */);
	if (file < 0 || ftruncate(file, (off_t)(16 * PMD)))
		err(1, "memfd");
	/* What shows that a mapping is the one that was asked for. */
	for (size_t i = 0; i < 16; i++)
		if (pwrite(file, &i, sizeof(i), (off_t)(i * PAGE)) != sizeof(i))
			err(1, "pwrite");
}

/* One mapping at that page of the file; whether it lies well. NULL for @kept: unmapped again. */
static int map_one(size_t page, void **kept)
{
	size_t *mapping = mmap(NULL, LENGTH, PROT_READ, MAP_SHARED, file, (off_t)(page * PAGE));
	int placed;

	if (mapping == MAP_FAILED)
		err(1, "mmap");
	if (*mapping != page)
		errx(1, "%p is another mapping: of page %zu, not %zu", (void *)mapping, *mapping,
		     page);
	placed = ((size_t)mapping - page * PAGE) % PMD == 0;
	if (kept)
		*kept = mapping;
	else if (munmap(mapping, LENGTH))
		err(1, "munmap");
	return placed;
}

static void map_some(void)
{
	void *kept[8];
	int placed = 0;

	for (size_t i = 0; i < 8; i++)
		placed += map_one(i, &kept[i]);
	printf("map: %d of 8 placed\n", placed);
}

static int error_of(int fd, int flags, off_t offset)
{
	errno = 0;
	if (mmap(NULL, LENGTH, PROT_READ, flags, fd, offset) != MAP_FAILED)
		errx(1, "a mapping that must fail was made");
	return errno;
}

static void fail_some(void)
{
	int ends[2];

	if (pipe(ends))
		err(1, "pipe");
	printf("fail: %d %d %d\n", error_of(-1, MAP_SHARED, 0) == EBADF,
	       error_of(ends[0], MAP_SHARED, 0) == ENODEV, error_of(file, 0, 0) == EINVAL);
	close(ends[0]);
	close(ends[1]);
}

static atomic_int placed, stop_mapping;

static void *map_many(void *times)
{
	for (long i = 0; i < (long)times && !stop_mapping; i++) {
		placed += map_one((size_t)i % 16, NULL);
		if (i % 8 == 7 && error_of(-1, MAP_SHARED, 0) != EBADF)
			errx(1, "another error");
	}
	return NULL;
}

static void start_threads(int count, long times, pthread_t *threads)
{
	for (int i = 0; i < count; i++)
		if (pthread_create(&threads[i], NULL, map_many, (void *)times))
			errx(1, "pthread_create");
}

static void join_threads(int count, const pthread_t *threads)
{
	for (int i = 0; i < count; i++)
		if (pthread_join(threads[i], NULL))
			errx(1, "pthread_join");
}

static void map_by_threads(int count, long times)
{
	pthread_t threads[64];

	placed = 0;
	start_threads(count, times, threads);
	join_threads(count, threads);
	printf("threads: %d of %ld placed\n", placed, count * times);
}

static atomic_int signals, odd_signals;

static void count_signal(int number, siginfo_t *siginfo, void *context)
{
	(void)context;
	signals++;
	if (number != SIGALRM || siginfo->si_code != SI_KERNEL)
		odd_signals++;
}

static void map_under_signals(long times)
{
	const struct sigaction action = { .sa_sigaction = count_signal, .sa_flags = SA_SIGINFO };
	const struct itimerval often = { { 0, 300 }, { 0, 300 } }, never = { { 0, 0 }, { 0, 0 } };

	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	placed = 0;
	map_many((void *)times);
	setitimer(ITIMER_REAL, &never, NULL);
	printf("signals: %d of %ld placed, some: %d, odd: %d\n", placed, times, signals > 0,
	       odd_signals);
}

static void wait_for(const char *what, pid_t pid)
{
	int status;

	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		err(1, "%s", what);
	printf("%s: %#x\n", what, status);
}

/* The rest of the arguments, by a new program. */
static void start_anew(char **rest)
{
	rest[0] = program;
	execv("/proc/self/exe", rest);
	err(1, "exec");
}

static void *start_anew_in_thread(void *rest)
{
	start_anew(rest);
	return NULL;
}

static void start_anew_by_thread(char **rest)
{
	pthread_t thread;

	start_threads(2, 1L << 30, (pthread_t[2]){ 0 });
	if (pthread_create(&thread, NULL, start_anew_in_thread, rest))
		errx(1, "pthread_create");
	pthread_join(thread, NULL);
}

/* Answers what the kernel asks of a file system that is one file, a script for this program. */
static void serve_script(int device)
{
	static const char script[] = "#!/proc/self/exe map\n";
	char request[1 << 16];
	const struct fuse_in_header *in = (const void *)request;
	struct {
		struct fuse_out_header header;
		union {
			struct fuse_init_out init;
			struct fuse_attr_out attributes;
			struct fuse_open_out open;
			char script[sizeof(script) - 1];
		};
	} out;
	size_t length;

	while (read(device, request, sizeof(request)) > 0) {
		memset(&out, 0, sizeof(out));
		length = 0;
		if (in->opcode == FUSE_INIT) {
			out.init.major = FUSE_KERNEL_VERSION;
			out.init.minor = FUSE_KERNEL_MINOR_VERSION;
			out.init.max_write = 4096;
			length = sizeof(out.init);
		} else if (in->opcode == FUSE_GETATTR) {
			out.attributes.attr.ino = in->nodeid;
			out.attributes.attr.mode = S_IFREG | 0555;
			out.attributes.attr.size = sizeof(script) - 1;
			length = sizeof(out.attributes);
		} else if (in->opcode == FUSE_OPEN) {
			length = sizeof(out.open);
		} else if (in->opcode == FUSE_READ) {
			memcpy(out.script, script, sizeof(script) - 1);
			length = sizeof(out.script);
		} else {
			out.header.error = -ENOSYS;
		}
		out.header.unique = in->unique;
		out.header.len = (unsigned int)(sizeof(out.header) + length);
		if (write(device, &out, out.header.len) < 0)
			break;
	}
}

static void start_served_script(void)
{
	const int device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	char options[64];

	close(open("served", O_CREAT | O_WRONLY, 0600));
	snprintf(options, sizeof(options), "fd=%d,rootmode=100555,user_id=0,group_id=0", device);
	if (device < 0 || unshare(CLONE_NEWNS) ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("served", "served", "fuse", 0, options))
		err(77, "fuse");
	if (fork() == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		serve_script(device);
		_exit(0);
	}
	execl("served", "served", NULL);
	err(1, "exec");
}

static void filter(void)
{
#define ALLOW(call)                                            \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##call, 0, 1), \
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
	struct sock_filter rules[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
		ALLOW(mmap),
		ALLOW(write),
		ALLOW(writev),
		ALLOW(exit_group),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	struct sock_fprog whole = { sizeof(rules) / sizeof(rules[0]), rules };

	/* musl asks what it writes to, the first time. */
	puts("filter: set");
	fflush(stdout);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &whole))
		err(1, "seccomp");
}

static void make_narrow_call(void)
{
#ifdef __x86_64__
	long number = 20; /* getpid */

	__asm__ volatile("int $0x80" : "+a"(number) : : "r8", "r9", "r10", "r11", "memory");
	printf("narrow: %d\n", number == getpid());
#else
	errx(77, "there is none on this machine");
#endif
}

static pid_t tracer(void)
{
	FILE *status = fopen("/proc/self/status", "r");
	char line[256];
	pid_t pid = 0;

	while (fgets(line, sizeof(line), status))
		if (sscanf(line, "TracerPid: %d", &pid) == 1)
			break;
	fclose(status);
	return pid;
}

static void wait_to_be_freed(void)
{
	for (int i = 0; i < 2000 && tracer(); i++)
		usleep(10000);
	printf("freed: %d\n", !tracer());
}

static void look_for_children(void)
{
	sigset_t pending;

	sigpending(&pending);
	printf("children: %d pending: %d\n", waitpid(-1, NULL, WNOHANG) != -1 || errno != ECHILD,
	       sigismember(&pending, SIGCHLD));
}

static void trace_a_child(void)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(ptrace(PTRACE_TRACEME, 0, 0, 0) ? errno : 0);
	wait_for("traceme", pid);
}

static void be_traced_by_a_child(void)
{
	const pid_t self = getpid();
	pid_t pid;

	fflush(NULL);
	pid = (pid_t)syscall(SYS_clone, (long)(CLONE_UNTRACED | SIGCHLD), NULL, NULL, NULL, NULL);
	if (pid == 0)
		_exit(ptrace(PTRACE_SEIZE, self, 0, 0) ? errno : 0);
	wait_for("untraced", pid);
}

static void start_program(const char *path)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		execl(path, path, "setuid", NULL);
		_exit(99);
	}
	wait_for("setuid", pid);
}

static void count_raised(int number)
{
	(void)number;
	signals++;
}

/* How many signals have not come. */
static void *raise_many(void *unused)
{
	long raised = 0;

	(void)unused;
	for (; !stop_mapping; raised++)
		if (raise(SIGUSR1))
			err(1, "raise");
	return (void *)(raised - signals);
}

static void be_hunted(void)
{
	const pid_t hunter = tracer();
	struct timespec now;
	pthread_t threads[3], raising;
	void *lost;

	if (!hunter)
		errx(1, "not traced");
	signals = 0;
	signal(SIGUSR1, count_raised);
	if (pthread_create(&raising, NULL, raise_many, NULL))
		errx(1, "pthread_create");
	clock_gettime(CLOCK_MONOTONIC, &now);
	start_threads(3, 1L << 30, threads);
	usleep((useconds_t)(now.tv_nsec / 1000 % 4000));
	if (kill(hunter, SIGKILL))
		err(1, "kill");
	usleep(2000);
	stop_mapping = 1;
	join_threads(3, threads);
	pthread_join(raising, &lost);
	stop_mapping = 0;
	fail_some();
	printf("hunted: traced %d, signals lost %ld\n", tracer() != 0, (long)lost);
}

/* Whether @rest has been seen to. */
static int act(const char *action, char **rest)
{
	long first = 0, second = 0;
	pid_t pid;

	if (strchr(action, '='))
		sscanf(strchr(action, '='), "=%ld,%ld", &first, &second);
#define IS(name) (strncmp(action, name, strlen(name)) == 0)
	if (IS("map")) {
		map_some();
	} else if (IS("fail")) {
		fail_some();
	} else if (IS("threads")) {
		map_by_threads((int)first, second);
	} else if (IS("signals")) {
		map_under_signals(first);
	} else if (IS("fork")) {
		fflush(NULL);
		pid = fork();
		if (pid == 0)
			return 0;
		wait_for("fork", pid);
		return 1;
	} else if (IS("vfork")) {
		fflush(NULL);
		rest[0] = program;
		pid = vfork();
		if (pid == 0) {
			execv("/proc/self/exe", rest);
			_exit(99);
		}
		wait_for("vfork", pid);
		return 1;
	} else if (IS("exec")) {
		fflush(NULL);
		start_anew(rest);
	} else if (IS("thread-exec")) {
		fflush(NULL);
		start_anew_by_thread(rest);
	} else if (IS("served-exec")) {
		fflush(NULL);
		start_served_script();
	} else if (IS("filter")) {
		filter();
	} else if (IS("kvm-run")) {
		printf("kvm-run: %d\n", ioctl(-1, KVM_RUN, 0) == -1 && errno == EBADF);
	} else if (IS("narrow")) {
		make_narrow_call();
	} else if (IS("tracer")) {
		printf("tracer: %d\n", tracer() != 0);
	} else if (IS("freed")) {
		wait_to_be_freed();
	} else if (IS("untraced")) {
		be_traced_by_a_child();
	} else if (IS("children")) {
		look_for_children();
	} else if (IS("no-exec")) {
		printf("no-exec: %d\n", execl("/none", "none", NULL) == -1 && errno == ENOENT);
	} else if (IS("traceme")) {
		trace_a_child();
	} else if (IS("setuid=")) {
		start_program(strchr(action, '=') + 1);
	} else if (IS("setuid")) {
		_exit((int)geteuid());
	} else if (IS("hunted")) {
		be_hunted();
	} else if (IS("stop")) {
		fflush(NULL);
		kill(getpid(), SIGSTOP);
	} else if (IS("die")) {
		kill(getpid(), SIGTERM);
	} else if (IS("exit")) {
		fflush(NULL);
		_exit((int)first);
	} else if (!IS("/") && !IS("./") && !IS("served")) { /* a script that is for this program */
		errx(2, "%s: no such action", action);
	}
	fflush(NULL);
	return 0;
}

int main(int argc, char **argv)
{
	program = argv[0];
	open_file();
	for (int i = 1; i < argc; i++)
		if (act(argv[i], argv + i))
			return 0;
	return 0;
}
