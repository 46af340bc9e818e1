// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * alignmap bench: one mapping, placed by the kernel, at each alignment and by the library, and what
 * filling it costs at each place.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "device.h"
#include "leaves.h"
#include "maps.h"
#include "tool.h"

#define ERASE_LINE "\r\033[K"

/* Rounds are made for so many seconds: one row alone is decided by what came before it. */
#define ENOUGH 1.0
#define ROUNDS_MAX 15

/* What is mapped unless --length says otherwise, at most. */
#define USUAL (1ULL << 30)

static struct {
	const char *device;
	const char *bar; /* a digit; NULL: the longest */
	const char *path;
	char *name;	 /* the path, printable */
	uint64_t length; /* 0: not said */
	bool json;
} ask;

/* What is mapped, and how. */
static struct {
	enum { MEMORY, ONE_FILE, BAR } kind;
	struct device device;
	struct bar bar;
	int fd, prot, flags;
	uint64_t offset;
	size_t length;
	struct alignmap_leaves leaves; /* of what lies behind */
	size_t deserved;
} subject;

struct row {
	enum { BY_KERNEL, AT_LEAF, BY_LIBRARY } placed;
	size_t leaf; /* of AT_LEAF */
	void *address;
	size_t congruent;    /* the largest leaf size modulo which it is so */
	struct dma_map cost; /* with the median of all rounds' seconds */
	double seconds[ROUNDS_MAX];
	uint64_t page_tables; /* in bytes */
	uint64_t by_pmd;      /* bytes that PMDs map; not known of a BAR */
};

static struct {
	char *text[8];
	size_t count;
} notes;

__attribute__((format(printf, 1, 2))) static void note(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	if (notes.count < COUNT(notes.text) &&
	    vasprintf(&notes.text[notes.count++], format, arguments) < 0)
		err(1, "cannot compose a note");
	va_end(arguments);
}

static size_t base_page(void)
{
	return subject.leaves.size[subject.leaves.count - 1];
}

/* Whether standard error is a terminal that can erase a line. */
static bool progress_wanted;

static void erase_progress(void)
{
	const int error = errno;

	if (progress_wanted)
		fputs(ERASE_LINE, stderr);
	errno = error;
}

static const char *name_of(const struct row *row, struct text *name)
{
	if (row->placed == AT_LEAF) {
		struct text size = size_text(row->leaf);

		snprintf(name->text, sizeof(name->text), "at %.24s", size.text);
		return name->text;
	}
	return row->placed == BY_KERNEL ? "kernel" : "library";
}

/* The number behind "FIELD:" in one of /proc's files of such lines, in KiB; 0 where it is not. */
static uint64_t proc_kib(const char *path, const char *field)
{
	const size_t length = strlen(field);
	FILE *file = fopen(path, "re");
	uint64_t kib = 0;
	char line[256];

	while (file && fgets(line, sizeof(line), file))
		if (strncmp(line, field, length) == 0 && line[length] == ':') {
			kib = strtoull(line + length + 1, NULL, 10);
			break;
		}
	if (file)
		fclose(file);
	return kib;
}

/* What smaps says of the mapping, that begins at @address, being mapped by PMDs, in bytes. */
static uint64_t mapped_by_pmd(const void *address)
{
	const uintptr_t start = (uintptr_t)address;
	FILE *file = fopen("/proc/self/smaps", "re");
	struct maps maps;
	uint64_t huge = 0;

	if (!file)
		return 0;
	maps_read(file, &maps);
	fclose(file);
	for (size_t i = 0; i < maps.count; i++)
		if (maps.mappings[i].address >= start &&
		    maps.mappings[i].address < start + subject.length)
			huge += maps.mappings[i].huge;
	maps_free(&maps);
	return huge;
}

static void *map_plainly(void *address, int flags, size_t length)
{
	/* No preloaded library is to see it. */
	return (void *)syscall(SYS_mmap, address, length, subject.prot, subject.flags | flags,
			       subject.fd, (off_t)subject.offset);
}

/*
 * An address that is congruent modulo @leaf and modulo no larger size. Nothing else of this process
 * maps anything meanwhile.
 */
static void *map_at_leaf(size_t leaf)
{
	const size_t room = subject.length + 2 * leaf;
	void *window = (void *)syscall(SYS_mmap, NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS,
				       -1, 0);
	uintptr_t address;

	if (window == MAP_FAILED)
		return MAP_FAILED;
	munmap(window, room);
	address = (uintptr_t)window;
	address += (subject.offset + leaf - address) & (2 * leaf - 1);
	return map_plainly((void *)address, MAP_FIXED_NOREPLACE, subject.length);
}

/* Whether a row's mapping is put under MADV_HUGEPAGE; alignmap_mmap() does so by itself for BARs.
 */
static bool advised(const struct row *row)
{
	if (alignmap_host.thp != THP_MADVISE)
		return false;
	if (subject.kind == BAR)
		return alignmap_host.thp_rules_bars && row->placed == AT_LEAF;
	return subject.kind == MEMORY;
}

static void map_row(struct row *row)
{
	struct text name, length = size_text(subject.length), deserved;

	if (row->placed == BY_KERNEL)
		row->address = map_plainly(NULL, 0, subject.length);
	else if (row->placed == AT_LEAF)
		row->address = map_at_leaf(row->leaf);
	else
		row->address = alignmap_mmap(NULL, subject.length, subject.prot, subject.flags,
					     subject.fd, (off_t)subject.offset);
	if (row->address == MAP_FAILED) {
		erase_progress();
		errx(1, "cannot map %s (%s): %s%s", length.text, name_of(row, &name),
		     strerror(errno),
		     errno == ENOMEM ? "; ask for less by --length, or raise ulimit -v" : "");
	}
	row->congruent = modulus_at(&subject.leaves, subject.offset, (uintptr_t)row->address);
	if (advised(row))
		madvise(row->address, subject.length, MADV_HUGEPAGE);
	deserved = size_text(subject.deserved);
	if (row->placed == BY_LIBRARY && row->congruent < subject.deserved) {
		erase_progress();
		errx(1,
		     "the library found no address that is congruent modulo %s; raise ulimit -v, "
		     "or ask for less by --length",
		     deserved.text);
	}
}

/* AddressSanitizer's own memory would take faults too. */
__attribute__((no_sanitize("address"))) static void touch(volatile char *address)
{
	const size_t page = base_page();

	for (size_t at = 0; at < subject.length; at += page) {
		if (subject.kind == MEMORY)
			address[at] = 1;
		else
			(void)address[at];
	}
}

static void take_faults(struct row *row)
{
	struct rusage before, after;
	double start;
	char *why;

	if (subject.kind == BAR) {
		why = device_map_for_dma(&subject.device, row->address, subject.length,
					 subject.offset, &row->cost);
		if (!why)
			return;
		erase_progress();
		errx(1, "%s: %s", subject.device.bdf, why);
	}
	getrusage(RUSAGE_SELF, &before);
	start = device_clock();
	touch(row->address);
	row->cost.seconds = device_clock() - start;
	getrusage(RUSAGE_SELF, &after);
	row->cost.faults = (size_t)(after.ru_minflt - before.ru_minflt) +
			   (size_t)(after.ru_majflt - before.ru_majflt);
}

static void measure(struct row *row)
{
	uint64_t before = proc_kib("/proc/self/status", "VmPTE"), after;

	map_row(row);
	take_faults(row);
	after = proc_kib("/proc/self/status", "VmPTE");
	row->page_tables = (after > before ? after - before : 0) << 10;
	row->by_pmd = subject.kind == BAR ? 0 : mapped_by_pmd(row->address);
	munmap(row->address, subject.length);
}

/*
 * The measuring code's own first pages and the device's first fault are not to be counted; nor are
 * the host's faults, where this is a guest whose memory was never used: all of it is used once.
 */
static void warm_up(void)
{
	const size_t length = subject.length, deserved = subject.deserved;
	struct row row = { .placed = BY_KERNEL };

	if (progress_wanted)
		fputs("warming up ...", stderr);
	subject.deserved = base_page();
	if (subject.kind != MEMORY)
		subject.length = base_page();
	for (int i = 0; i < 2; i++) {
		measure(&row);
		subject.length = base_page();
	}
	subject.length = length;
	subject.deserved = deserved;
}

static void on_bus_error(int number)
{
	static const char message[] =
		"alignmap bench: the file became shorter, or could not be read, meanwhile\n";

	(void)number;
	(void)!write(STDERR_FILENO, message, sizeof(message) - 1);
	_exit(1);
}

/* So that it is no disk that is measured. */
static void warm_file(void)
{
	static char piece[1 << 18];
	size_t at = 0;
	ssize_t filled = 1;

	if (progress_wanted)
		fprintf(stderr, "reading %s ...", ask.name);
	for (; at < subject.length && filled > 0; at += (size_t)filled)
		filled = pread(subject.fd, piece, sizeof(piece), (off_t)at);
	erase_progress();
	if (filled < 0)
		err(1, "%s: cannot be read", ask.name);
}

/* At most @whole, of what @whose has, and @usual if nothing is said. */
static void set_length(uint64_t whole, uint64_t usual, const char *whose)
{
	const uint64_t length = ask.length ? ask.length : usual < whole ? usual : whole;
	struct text wanted = size_text(length), there = size_text(whole);

	if (strcmp(wanted.text, there.text) == 0) {
		wanted = number_text(length);
		there = number_text(whole);
	}
	if (length > whole)
		errx(1, "--length %s is more than %s has: %s", wanted.text, whose, there.text);
	subject.length = (length + base_page() - 1) & ~(base_page() - 1);
}

/* Page tables come to it, and what the host does meanwhile. */
static void check_memory(void)
{
	const uint64_t available = proc_kib("/proc/meminfo", "MemAvailable") << 10;

	if (available && subject.length > available / 4 * 3)
		errx(1,
		     "%s of memory are wanted, and %s are available, of which it takes three "
		     "quarters at most; ask for less by --length",
		     size_text(subject.length).text, size_text(available).text);
}

static void open_memory(void)
{
	alignmap_host_leaves(ALIGNMAP_ANONYMOUS, &subject.leaves);
	set_length(INT64_MAX - base_page(), USUAL, "an address space");
	check_memory();
	subject.fd = -1;
	subject.prot = PROT_READ | PROT_WRITE;
	subject.flags = MAP_PRIVATE | MAP_ANONYMOUS;
}

static void open_file(void)
{
	struct statfs system;
	struct stat status;

	/* Without waiting for whoever writes into a pipe. */
	subject.fd = open(ask.path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (subject.fd < 0 || fstat(subject.fd, &status) < 0 || fstatfs(subject.fd, &system) < 0)
		err(1, "%s: cannot be opened", ask.name);
	if (S_ISDIR(status.st_mode))
		errx(1, "%s: is a directory; name a file that is to be mapped", ask.name);
	if (!S_ISREG(status.st_mode))
		errx(1, "%s: is no regular file; --device takes PCI devices", ask.name);
	if (status.st_size == 0)
		errx(1, "%s: is empty, so that nothing of it can be mapped", ask.name);
	if ((unsigned int)system.f_type == HUGETLBFS_MAGIC)
		errx(1,
		     "%s: is on hugetlbfs, where each page takes one fault wherever it is mapped: "
		     "there is nothing to compare",
		     ask.name);
	alignmap_host_leaves(ALIGNMAP_FILE, &subject.leaves);
	set_length((uint64_t)status.st_size, USUAL, "the file");
	check_memory();
	subject.prot = PROT_READ;
	subject.flags = MAP_SHARED;
	signal(SIGBUS, on_bus_error);
	warm_file();
}

/* Ends, with what else there is. */
__attribute__((noreturn)) static void refuse_bar(void)
{
	char others[96] = "none";
	size_t end = 0;

	for (unsigned int i = 0; i < DEVICE_BARS; i++) {
		const struct bar bar = device_bar(&subject.device, i);
		struct text length = size_text(bar.length);

		if (bar.length && end < sizeof(others))
			end += (size_t)snprintf(others + end, sizeof(others) - end, "%s%u (%s)",
						end ? ", " : "", i, length.text);
	}
	if (!ask.bar)
		errx(1, "%s: has no BAR that can be mapped", subject.device.bdf);
	errx(1, "%s: BAR %s %s; of its BARs these can be mapped: %s", subject.device.bdf, ask.bar,
	     device_bar_refusal(&subject.device, subject.bar.number), others);
}

static void open_bar(void)
{
	char *why = device_open(&subject.device, ask.device);

	if (why)
		errx(1, "%s: %s", ask.device, why);
	if (ask.bar)
		subject.bar = device_bar(&subject.device, (unsigned int)(ask.bar[0] - '0'));
	else
		subject.bar = device_longest_bar(&subject.device);
	if (!subject.bar.length)
		refuse_bar();
	bar_leaves(&subject.leaves);
	set_length(subject.bar.length, subject.bar.length, "the BAR");
	subject.fd = subject.device.fd;
	subject.offset = subject.bar.offset;
	subject.prot = PROT_READ | PROT_WRITE;
	subject.flags = MAP_SHARED;
}

static void open_subject(void)
{
	struct alignmap_plan plan;

	subject.kind = ask.device ? BAR : ask.path ? ONE_FILE : MEMORY;
	if (subject.kind == BAR)
		open_bar();
	else if (subject.kind == ONE_FILE)
		open_file();
	else
		open_memory();
	if (alignmap_plan(&subject.leaves, subject.length, subject.offset, &plan))
		err(1, "cannot plan the mapping");
	subject.deserved = plan.alignment;
}

/* Sets up the rows that there are to be, and returns how many. */
static size_t choose_rows(struct row rows[ALIGNMAP_LEAVES_MAX + 1])
{
	size_t count = 0;

	rows[count++] = (struct row){ .placed = BY_KERNEL };
	for (unsigned int i = subject.leaves.count;
	     i-- && subject.leaves.size[i] < subject.deserved;)
		rows[count++] = (struct row){ .placed = AT_LEAF, .leaf = subject.leaves.size[i] };
	rows[count++] = (struct row){ .placed = BY_LIBRARY };
	return count;
}

static void note_bar(void)
{
	const char *obstacle = bar_obstacle();

	if (!has_large_bars() && !lacks_huge_pages())
		note("Linux before " LARGE_BARS_SINCE " maps BARs by base pages at every address.");
	if (obstacle)
		note("%c%s%s", toupper((unsigned char)*obstacle), obstacle + 1,
		     alignmap_host.thp == THP_MADVISE ? ". Here all rows are but the kernel's."
						      : "");
}

static void note_file(const struct row *last)
{
	struct text length = size_text(subject.length), by_pmd = size_text(last->by_pmd);

	if (last->by_pmd)
		note("Of the library's mapping, %s of %s are mapped by PMDs.", by_pmd.text,
		     length.text);
	else
		note("The page cache holds no PMD of this file, so that no address gains any. "
		     "Files "
		     "have them on tmpfs (huge=always), on DAX, and where a file system has large "
		     "folios and has read or written so much at once.");
}

static void note_memory(void)
{
	if (alignmap_host.thp == THP_MADVISE)
		note("Transparent huge pages are [madvise]: every row is under MADV_HUGEPAGE.");
	else if (alignmap_host.thp == THP_NEVER)
		note("Transparent huge pages are [never], so that all rows take base pages: "
		     "echo madvise >/sys/kernel/mm/transparent_hugepage/enabled");
}

/*
 * Whether a row has the kernel's faults, at an address no better and no worse: what their seconds
 * differ by is noise.
 */
static bool is_as_kernel(const struct row *rows, size_t i)
{
	return i && rows[i].congruent == rows[0].congruent &&
	       rows[i].cost.faults == rows[0].cost.faults;
}

static void take_notes(const struct row *rows, size_t count)
{
	const struct row *last = &rows[count - 1];

	if (subject.deserved == base_page() && subject.leaves.count > 1)
		note("It is too short, or lies so, that it holds no leaf but base pages: every "
		     "address is as good.");
	else if (subject.kind == ONE_FILE)
		note_file(last);
	if (subject.deserved > base_page() && is_as_kernel(rows, count - 1))
		note("The kernel's address is as good as the library's: what their seconds differ "
		     "by is noise.");
	if (subject.kind == BAR)
		note_bar();
	if (subject.kind == MEMORY)
		note_memory();
	if (lacks_huge_pages())
		note("This kernel lacks transparent huge pages (CONFIG_TRANSPARENT_HUGEPAGE), so "
		     "that all rows take base pages.");
	if (prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) > 0)
		note("This process is under PR_SET_THP_DISABLE, which allows base pages alone.");
}

/* What the kernel's seconds are divided by; 0 where that would say nothing. */
static double divisor(const struct row *rows, size_t i)
{
	return is_as_kernel(rows, i) ? 0 : rows[i].cost.seconds;
}

static struct json_object *json_row(const struct row *rows, size_t i)
{
	static const char *const placed[] = { "kernel", "leaf", "library" };
	struct json_object *object = json_object_new_object();
	const struct row *row = &rows[i];
	const double seconds = divisor(rows, i);

	json_add(object, "placed", json_object_new_string(placed[row->placed]));
	json_add(object, "address", json_address((uintptr_t)row->address));
	json_add(object, "modulus", json_number(row->congruent));
	json_add(object, "faults", json_number(row->cost.faults));
	json_add(object, "seconds", json_object_new_double(row->cost.seconds));
	json_add(object, "page_table_bytes", json_number(row->page_tables));
	json_add(object, "by_pmd", subject.kind == BAR ? NULL : json_number(row->by_pmd));
	json_add(object, "ratio",
		 seconds > 0 ? json_object_new_double(rows[0].cost.seconds / seconds) : NULL);
	return object;
}

static void print_as_json(const struct row *rows, size_t count, size_t rounds)
{
	struct json_object *document = json_object_new_object();
	struct json_object *list = json_object_new_array();
	const bool bar = subject.kind == BAR;

	json_add(document, "version", json_object_new_int(1));
	json_add(document, "device", bar ? json_object_new_string(subject.device.bdf) : NULL);
	json_add(document, "bar", bar ? json_number(subject.bar.number) : NULL);
	json_add(document, "file", json_text(ask.path));
	json_add(document, "offset", json_number(subject.offset));
	json_add(document, "length", json_number(subject.length));
	json_add(document, "alignment", json_number(subject.deserved));
	json_add(document, "leaves", json_leaves(&subject.leaves));
	json_add(document, "rounds", json_number(rounds));
	for (size_t i = 0; i < count; i++)
		json_object_array_add(list, json_row(rows, i));
	json_add(document, "placements", list);
	json_add(document, "notes", json_texts(notes.text, notes.count));
	print_json(document, false);
}

static void print_rows(const struct row *rows, size_t count)
{
	struct libscols_table *table = new_table();

	add_column(table, "PLACED", LEFT_ALIGNED);
	add_column(table, "ADDRESS", RIGHT_ALIGNED);
	add_column(table, "MODULO", RIGHT_ALIGNED);
	add_column(table, "FAULTS", RIGHT_ALIGNED);
	add_column(table, "SECONDS", RIGHT_ALIGNED);
	add_column(table, "PAGE TABLES", RIGHT_ALIGNED);
	add_column(table, "RATIO", RIGHT_ALIGNED);
	for (size_t i = 0; i < count; i++) {
		struct text congruent = size_text(rows[i].congruent), name;
		struct text faults = number_text(rows[i].cost.faults);
		struct text tables = size_text(rows[i].page_tables);
		struct text ratio = ratio_text(rows[0].cost.seconds, divisor(rows, i));
		char address[24], seconds[24];

		snprintf(address, sizeof(address), "%#" PRIxPTR, (uintptr_t)rows[i].address);
		snprintf(seconds, sizeof(seconds), "%.6f", rows[i].cost.seconds);
		add_row(table,
			(const char *const[]){ name_of(&rows[i], &name), address, congruent.text,
					       faults.text, seconds, tables.text, ratio.text });
	}
	print_table(table);
}

static void print(const struct row *rows, size_t count, size_t rounds)
{
	struct text length = size_text(subject.length);

	if (subject.kind == BAR)
		printf("%s of BAR %u of %s, filled by VFIO_IOMMU_MAP_DMA", length.text,
		       subject.bar.number, subject.device.bdf);
	else if (ask.path)
		printf("%s of %s, shared, read page by page", length.text, ask.name);
	else
		printf("%s of private memory, written page by page", length.text);
	if (rounds > 1)
		printf("\n(SECONDS: the median of %zu rounds)", rounds);
	printf("\n\n");
	print_rows(rows, count);
	if (notes.count)
		putchar('\n');
	for (size_t i = 0; i < notes.count; i++)
		print_wrapped("", "", notes.text[i]);
}

static int by_seconds(const void *a, const void *b)
{
	const double left = *(const double *)a, right = *(const double *)b;

	return (left > right) - (left < right);
}

/* Of the rounds that took the most faults the first is kept, and the seconds of all. */
static void measure_again(struct row *row, size_t round)
{
	struct row again = *row;

	measure(&again);
	row->seconds[round] = again.cost.seconds;
	if (round && again.cost.faults <= row->cost.faults)
		return;
	memcpy(again.seconds, row->seconds, sizeof(again.seconds));
	*row = again;
}

/*
 * There and back, since what was mapped before warms memory or cools it: so each row follows itself
 * and its neighbours as often as the others do. Returns how many rounds there were.
 */
static size_t measure_all(struct row *rows, size_t count)
{
	const double start = device_clock();
	double passed = 0;
	size_t round = 0;
	struct text name;

	/* As long as another fits. */
	for (; round == 0 || (round < ROUNDS_MAX && passed + passed / round < ENOUGH); round++) {
		for (size_t i = 0; i < count; i++) {
			const size_t at = round % 2 ? count - 1 - i : i;

			if (progress_wanted)
				fprintf(stderr, ERASE_LINE "%zu of %zu: %s ...", at + 1, count,
					name_of(&rows[at], &name));
			measure_again(&rows[at], round);
		}
		passed = device_clock() - start;
	}
	for (size_t i = 0; i < count; i++) {
		qsort(rows[i].seconds, round, sizeof(rows[i].seconds[0]), by_seconds);
		rows[i].cost.seconds =
			(rows[i].seconds[(round - 1) / 2] + rows[i].seconds[round / 2]) / 2;
	}
	erase_progress();
	return round;
}

static int bench(void)
{
	struct row rows[ALIGNMAP_LEAVES_MAX + 1];
	const char *terminal = getenv("TERM");
	size_t count, rounds;

	progress_wanted = isatty(STDERR_FILENO) && terminal && strcmp(terminal, "dumb") != 0;
	open_subject();
	count = choose_rows(rows);
	warm_up();
	rounds = measure_all(rows, count);
	take_notes(rows, count);
	if (ask.json)
		print_as_json(rows, count, rounds);
	else
		print(rows, count, rounds);
	for (size_t i = 0; i < notes.count; i++)
		free(notes.text[i]);
	free(ask.name);
	if (subject.kind == BAR)
		device_close(&subject.device);
	else if (subject.fd >= 0)
		close(subject.fd);
	return 0;
}

static int usage(void)
{
	puts("usage: alignmap bench [--device BDF [--bar N] | --file PATH] [--length SIZE]\n"
	     "                      [--json]\n"
	     "\n"
	     "Places the same mapping by the kernel, at each alignment and by the library, has\n"
	     "the kernel fill it, and prints the faults, the time and the page tables of each.\n"
	     "Without --device and --file it is 1G of private memory.\n"
	     "\n"
	     "  --device BDF   a BAR of this PCI device, as 0000:65:00.0, which must be bound\n"
	     "                 to vfio-pci and unused. It is RESET; its registers are not\n"
	     "                 touched: VFIO maps them for DMA, and unmaps them\n"
	     "  --bar N        which, 0 to 5; default: the longest\n"
	     "  --file PATH    a file, shared and read-only; it is read once before\n"
	     "  --length SIZE  of the mapping, as 512M or 2G; default: the whole BAR, and of\n"
	     "                 a file or memory 1G at most\n"
	     "  --json         as JSON\n"
	     "  --help         this text\n"
	     "\n"
	     "examples:\n"
	     "  alignmap bench --length 256M\n"
	     "  alignmap bench --device 0000:65:00.0");
	return 0;
}

int bench_command(int argc, char **argv)
{
	static const struct option options[] = {
		{ "device", required_argument, NULL, 'd' },
		{ "bar", required_argument, NULL, 'b' },
		{ "file", required_argument, NULL, 'f' },
		{ "length", required_argument, NULL, 'l' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int option;

	while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (option) {
		case 'd':
			ask.device = optarg;
			break;
		case 'b':
			if (strlen(optarg) != 1 || *optarg < '0' || *optarg > '5')
				wrong_usage("--bar %s: a BAR's number is 0 to 5", optarg);
			ask.bar = optarg;
			break;
		case 'f':
			ask.path = optarg;
			ask.name = printable(optarg);
			break;
		case 'l':
			ask.length = size_argument("--length", optarg);
			if (!ask.length)
				wrong_usage("--length 0: there is nothing to map");
			break;
		case 'j':
			ask.json = true;
			break;
		case 'h':
			return usage();
		default:
			fprintf(stderr, "Try '%s --help'.\n", program_invocation_short_name);
			return 2;
		}
	}
	if (optind < argc)
		wrong_usage("%s: no arguments are taken but options", argv[optind]);
	if (ask.device && ask.path)
		wrong_usage("--device and --file exclude each other");
	if (ask.device && !device_name(&subject.device, ask.device))
		wrong_usage("--device %s: not a PCI address such as 0000:65:00.0; 'lspci -D' lists "
			    "them",
			    ask.device);
	if (ask.bar && !ask.device)
		wrong_usage("--bar: of which device? Name it by --device");
	return bench();
}
