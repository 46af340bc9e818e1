// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "findings.h"
#include "formatted.h"
#include "tool.h"

#define PROC "/proc"

/* As grep(1) and diff(1) end. */
enum { ALL_FIT = 0, MISPLACED = 1, TROUBLE = 2 };

struct options {
	const char *process;
	int interval; /* in milliseconds; 0: once */
	bool json;
};

static const char help[] =
	"usage: alignmap inspect [--watch[=SECONDS]] [--json] PID|NAME\n"
	"\n"
	"Lists the mappings of a process that are at least as long as the smallest large\n"
	"leaf (2M on x86-64), with the page-table entries that each needs where it lies\n"
	"and those that would do. FIT: no, it is misplaced; thp, it is held back by the\n"
	"policy for transparent huge pages; yes; -, its address is not judged.\n"
	"\n"
	"  PID|NAME           the process; a name that only one process has, which may\n"
	"                     also be that of its program's file\n"
	"  --watch[=SECONDS]  again every SECONDS until it ends (0.1 to 86400; default 2)\n"
	"  --json             print a JSON document; with --watch one on each line\n"
	"  --help             print this\n"
	"\n"
	"The exit status is 1 if a mapping is misplaced or a BAR held back, 2 for\n"
	"trouble, else 0.\n"
	"\n"
	"Examples:\n"
	"  alignmap inspect qemu-system-x86_64\n"
	"  sudo alignmap inspect --watch=0.5 4242\n";

enum column { FIT, ADDRESS, LENGTH, OFFSET, ENTRIES, BEST, RSS, HUGE, WHAT, COLUMNS };

static const struct {
	const char *heading;
	int flags;
} columns[COLUMNS] = {
	[FIT] = { "FIT", LEFT_ALIGNED },	  [ADDRESS] = { "ADDRESS", RIGHT_ALIGNED },
	[LENGTH] = { "LENGTH", RIGHT_ALIGNED },	  [OFFSET] = { "OFFSET", RIGHT_ALIGNED },
	[ENTRIES] = { "ENTRIES", RIGHT_ALIGNED }, [BEST] = { "BEST", RIGHT_ALIGNED },
	[RSS] = { "RSS", RIGHT_ALIGNED },	  [HUGE] = { "HUGE", RIGHT_ALIGNED },
	[WHAT] = { "WHAT", SCOLS_FL_WRAP },
};

struct cells {
	struct text text[WHAT];
};

static struct text dash(void)
{
	return (struct text){ "-" };
}

static struct text hexadecimal(uint64_t number)
{
	struct text text;

	snprintf(text.text, sizeof(text.text), "%" PRIx64, number);
	return text;
}

/* smaps counts no page frames of devices. */
static bool knows_pages(const struct mapping *mapping)
{
	return mapping->has_rss && !(mapping->flags & OF_PAGE_FRAMES);
}

static bool has_offset(const struct finding *finding)
{
	return finding->backing.kind != BACKING_ANONYMOUS &&
	       finding->backing.kind != BACKING_RESERVED;
}

static struct text fit(const struct finding *finding)
{
	if (finding->misplaced)
		return (struct text){ "no" };
	if (finding->held_back)
		return (struct text){ "thp" };
	return finding->judged ? (struct text){ "yes" } : dash();
}

static struct text offset_text(const struct finding *finding)
{
	const uint64_t offset = finding->mapping->offset;

	if (!has_offset(finding))
		return dash();
	return hexadecimal(finding->backing.kind == BACKING_VFIO ? VFIO_OFFSET(offset) : offset);
}

static struct cells cells_of(const struct finding *finding)
{
	const struct mapping *mapping = finding->mapping;
	const bool pages = knows_pages(mapping);

	return (struct cells){ {
		[FIT] = fit(finding),
		[ADDRESS] = hexadecimal(mapping->address),
		[LENGTH] = size_text(mapping->length),
		[OFFSET] = offset_text(finding),
		[ENTRIES] = finding->counted ? number_text(finding->entries) : dash(),
		[BEST] = finding->counted ? number_text(finding->best.entries) : dash(),
		[RSS] = pages ? size_text(mapping->rss) : dash(),
		[HUGE] = pages ? size_text(mapping->huge) : dash(),
	} };
}

/* The columns of the terminal; 0 where there is none, and no limit. */
static size_t terminal_width(void)
{
	struct winsize window;

	if (!isatty(STDOUT_FILENO))
		return 0;
	return ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col ? window.ws_col : 80;
}

/* How many columns are left for the last cell; SIZE_MAX where there is no limit. */
static size_t room_for_what(const struct cells *cells, size_t count)
{
	const size_t width = terminal_width();
	size_t taken = 0;

	for (size_t column = 0; column < WHAT; column++) {
		size_t widest = strlen(columns[column].heading);

		for (size_t i = 0; i < count; i++)
			if (strlen(cells[i].text[column].text) > widest)
				widest = strlen(cells[i].text[column].text);
		taken += widest + 1;
	}
	if (!width)
		return SIZE_MAX;
	return width > taken + 12 ? width - taken : 12;
}

/* Of a path the end tells more than the beginning: ".../images/guest.img". */
static char *end_of_path(const char *path, size_t room)
{
	const char *end = path + strlen(path) - (room - 3);
	const char *slash = strchr(end, '/');

	return formatted("...%s", slash ? slash : end);
}

/* A device on each line: "0000:00:04.0 or", "0000:00:05.0 BAR 2". */
static char *in_lines(const char *what)
{
	char *text = formatted("%s", what);

	for (char * or = text; (or = strstr(or, " or "));)
		or [3] = '\n';
	return text;
}

static char *what_cell(const struct finding *finding, size_t room)
{
	const char *what = finding->what;

	if (strlen(what) <= room)
		return formatted("%s", what);
	if (finding->devices.count > 1)
		return in_lines(what);
	return what[0] == '/' ? end_of_path(what, room) : formatted("%.*s", (int)room, what);
}

static void add_columns(struct libscols_table *table)
{
	for (size_t i = 0; i < COLUMNS; i++)
		add_column(table, columns[i].heading, columns[i].flags);
	/* Wrapped where there is a newline, nowhere else. */
	if (scols_column_set_wrapfunc(scols_table_get_column(table, WHAT), scols_wrapnl_chunksize,
				      scols_wrapnl_nextchunk, NULL) ||
	    scols_column_set_safechars(scols_table_get_column(table, WHAT), "\n"))
		err(TROUBLE, "cannot make a table");
}

static void print_rows(const struct findings *findings)
{
	struct cells *cells = calloc(findings->count + 1, sizeof(*cells));
	struct libscols_table *table = new_table();
	size_t room;

	if (!cells)
		err(TROUBLE, NULL);
	for (size_t i = 0; i < findings->count; i++)
		cells[i] = cells_of(&findings->findings[i]);
	room = room_for_what(cells, findings->count);
	add_columns(table);
	for (size_t i = 0; i < findings->count; i++) {
		char *what = what_cell(&findings->findings[i], room);
		const char *row[COLUMNS] = { [WHAT] = what };
		struct libscols_line *line;

		for (size_t column = 0; column < WHAT; column++)
			row[column] = cells[i].text[column].text;
		line = add_row(table, row);
		if ((findings->findings[i].misplaced && scols_line_set_color(line, "red")) ||
		    (findings->findings[i].held_back && scols_line_set_color(line, "yellow")))
			err(TROUBLE, NULL);
		free(what);
	}
	print_table(table);
	free(cells);
}

static char *tally_text(const struct tally *tally)
{
	return formatted("%s entries where %s would do", number_text(tally->entries).text,
			 number_text(tally->best).text);
}

static void print_verdict(const struct findings *findings)
{
	const struct tally *misplaced = &findings->misplaced, *held = &findings->held_back;
	char *misplaced_text = tally_text(misplaced), *held_text = tally_text(held), *text,
	     *verdict;

	if (!findings->count)
		text = formatted("No mapping is as long as %s, the smallest large leaf",
				 size_text(least_length()).text);
	else if (!misplaced->count && findings->count == 1)
		text = formatted("The only mapping is not misplaced");
	else if (!misplaced->count)
		text = formatted("None of %s mappings is misplaced",
				 number_text(findings->count).text);
	else
		text = formatted("%s of %s mapping%s %s misplaced: %s",
				 number_text(misplaced->count).text,
				 number_text(findings->count).text, findings->count == 1 ? "" : "s",
				 misplaced->count == 1 ? "is" : "are", misplaced_text);
	if (held->count) {
		char *before = text;

		text = formatted("%s; %s %s held back by policy: %s", before,
				 number_text(held->count).text, held->count == 1 ? "is" : "are",
				 held_text);
		free(before);
	}
	verdict = formatted("%s.", text);
	print_wrapped("", "", verdict);
	free(verdict);
	free(misplaced_text);
	free(held_text);
	free(text);
}

static void print_text(const struct process *process, const struct findings *findings)
{
	char *name = printable(process->name);

	printf("%s, PID %d\n", name, process->pid);
	free(name);
	if (findings->count)
		print_rows(findings);
	for (size_t i = 0; i < findings->note_count; i++) {
		char *text = formatted("%s.", findings->notes[i]);

		print_wrapped("Note: ", "      ", text);
		free(text);
	}
	print_verdict(findings);
}

static struct json_object *json_devices(const struct vfio_devices *devices)
{
	struct json_object *names = json_object_new_array();

	for (size_t i = 0; i < devices->count; i++)
		json_object_array_add(names, json_text(devices->names[i]));
	return names;
}

static struct json_object *json_finding(const struct finding *finding)
{
	const struct mapping *mapping = finding->mapping;
	const bool vfio = finding->backing.kind == BACKING_VFIO;
	const bool judged = finding->judged;
	struct json_object *object = json_object_new_object();

	json_add(object, "address", json_address(mapping->address));
	json_add(object, "length", json_number(mapping->length));
	json_add(object, "permissions", json_text(mapping->permissions));
	json_add(object, "offset", json_number_if(has_offset(finding), mapping->offset));
	json_add(object, "name", json_text(mapping->name));
	json_add(object, "backing", json_object_new_string(backing_name(finding->backing.kind)));
	json_add(object, "devices", vfio ? json_devices(&finding->devices) : NULL);
	json_add(object, "certain", json_flag_if(vfio, finding->devices.count == 1));
	json_add(object, "region", json_number_if(vfio, VFIO_REGION(mapping->offset)));
	json_add(object, "region_offset", json_number_if(vfio, VFIO_OFFSET(mapping->offset)));
	json_add(object, "leaves", finding->counted ? json_leaves(&finding->backing.leaves) : NULL);
	json_add(object, "alignment", json_number_if(judged, finding->best.alignment));
	json_add(object, "congruent", json_flag_if(judged, finding->congruent));
	json_add(object, "misplaced", json_flag_if(judged, finding->misplaced));
	json_add(object, "held_back", json_flag_if(judged, finding->held_back));
	json_add(object, "entries", json_number_if(finding->counted, finding->entries));
	json_add(object, "best_entries", json_number_if(finding->counted, finding->best.entries));
	json_add(object, "reason", json_text(finding->backing.reason));
	json_add(object, "rss", json_number_if(knows_pages(mapping), mapping->rss));
	json_add(object, "huge", json_number_if(knows_pages(mapping), mapping->huge));
	return object;
}

static void print_document(const struct process *process, const struct findings *findings,
			   bool one_line)
{
	struct json_object *document = json_object_new_object();
	struct json_object *mappings = json_object_new_array();

	for (size_t i = 0; i < findings->count; i++)
		json_object_array_add(mappings, json_finding(&findings->findings[i]));
	json_add(document, "version", json_object_new_int(1));
	json_add(document, "pid", json_object_new_int(process->pid));
	json_add(document, "process", json_text(process->name));
	json_add(document, "mappings", mappings);
	json_add(document, "mapping_count", json_number(findings->count));
	json_add(document, "misplaced_count", json_number(findings->misplaced.count));
	json_add(document, "misplaced_entries", json_number(findings->misplaced.entries));
	json_add(document, "misplaced_best_entries", json_number(findings->misplaced.best));
	json_add(document, "held_back_count", json_number(findings->held_back.count));
	json_add(document, "held_back_entries", json_number(findings->held_back.entries));
	json_add(document, "held_back_best_entries", json_number(findings->held_back.best));
	json_add(document, "notes", json_texts(findings->notes, findings->note_count));
	print_json(document, one_line);
}

/* Before what is printed again. */
static void print_separator(void)
{
	const char *terminal = getenv("TERM");

	if (isatty(STDOUT_FILENO) && terminal && strcmp(terminal, "dumb") != 0)
		fputs("\033[H\033[2J", stdout);
	else
		putchar('\n');
}

static void print(const struct process *process, const struct findings *findings,
		  const struct options *options, bool again)
{
	if (!options->json && options->interval && (again || isatty(STDOUT_FILENO)))
		print_separator();
	if (options->json)
		print_document(process, findings, options->interval);
	else
		print_text(process, findings);
	if (fflush(stdout) || ferror(stdout))
		err(TROUBLE, "cannot write to standard output");
}

static int64_t milliseconds_now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

/* Returns at once where the process ends meanwhile. */
static void wait_for(int milliseconds, int pidfd)
{
	struct pollfd process = { .fd = pidfd, .events = POLLIN };

	/* A descriptor that is -1, before Linux 5.3, is passed over. */
	poll(&process, 1, milliseconds);
}

__attribute__((noreturn)) static void give_up(pid_t pid, char *why)
{
	warnx("process %d: %s", pid, why);
	free(why);
	exit(TROUBLE);
}

static int inspect(const struct process *process, const struct options *options)
{
	const int pidfd = options->interval ? (int)syscall(SYS_pidfd_open, process->pid, 0) : -1;
	int status = -1;

	do {
		struct findings findings;
		const int64_t start = milliseconds_now();
		char *why = find_misplaced(process, &findings);
		const int taken = (int)(milliseconds_now() - start);

		if (why && status >= 0 && process_has_ended(process)) {
			free(why);
			break;
		}
		if (why)
			give_up(process->pid, why);
		print(process, &findings, options, status >= 0);
		status = findings.misplaced.count || findings.bars_held_back ? MISPLACED : ALL_FIT;
		findings_free(&findings);
		/* The process waits for the kernel to read: half of its time is its own. */
		if (options->interval)
			wait_for(options->interval > taken ? options->interval : taken, pidfd);
	} while (options->interval);
	if (pidfd >= 0)
		close(pidfd);
	return status;
}

static void list(const char *name, const struct found *found, size_t count)
{
	if (count)
		warnx("%zu processes are called '%s'; give the PID of one:", count, name);
	else
		warnx("no process is called '%s'; 'ps -e' lists names and PIDs", name);
	for (size_t i = 0; i < count; i++) {
		char *command = printable(found[i].command);

		fprintf(stderr, "%8d  %.68s\n", found[i].pid, command);
		free(command);
	}
}

static pid_t only_process(const char *name)
{
	struct found *found;
	const size_t count = processes_called(PROC, name, &found);
	const pid_t pid = count ? found[0].pid : 0;
	char *clean = printable(name);

	if (count != 1)
		list(clean, found, count);
	found_free(found, count);
	free(clean);
	if (count != 1)
		exit(TROUBLE);
	return pid;
}

static pid_t process_argument(const char *argument)
{
	unsigned long pid;

	if (!*argument)
		wrong_usage("an empty name; give the PID or the name of a process");
	if (argument[strspn(argument, "0123456789")])
		return only_process(argument);
	errno = 0;
	pid = strtoul(argument, NULL, 10);
	/* As far as no process can have it, the answer is that for one that has ended. */
	if (errno || pid < 1 || pid > INT_MAX)
		errx(TROUBLE, "process %s: there is no such process", argument);
	return (pid_t)pid;
}

static int interval_argument(const char *text)
{
	const double seconds = text ? strtod(text, NULL) : 2;
	const char *at = text ? text : "2";
	size_t digits = strspn(at, "0123456789");

	at += digits;
	if (*at == '.') {
		digits += strspn(at + 1, "0123456789");
		at += 1 + strspn(at + 1, "0123456789");
	}
	if (!digits || *at || seconds < 0.1 || seconds > 86400)
		wrong_usage("--watch=%s: not a number of seconds from 0.1 to 86400", text);
	return (int)(seconds * 1000);
}

static void read_options(int argc, char **argv, struct options *options)
{
	static const struct option known[] = {
		{ "watch", optional_argument, NULL, 'w' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int option;

	while ((option = getopt_long(argc, argv, "h", known, NULL)) != -1) {
		switch (option) {
		case 'w':
			options->interval = interval_argument(optarg);
			break;
		case 'j':
			options->json = true;
			break;
		case 'h':
			fputs(help, stdout);
			return;
		default:
			fprintf(stderr, "Try '%s --help'.\n", argv[0]);
			exit(TROUBLE);
		}
	}
	if (optind == argc)
		wrong_usage("which process? Give its PID or its name");
	if (argc - optind > 1)
		wrong_usage("%s: one process at a time (and SECONDS after --watch with '=')",
			    argv[optind + 1]);
	options->process = argv[optind];
}

int inspect_command(int argc, char **argv)
{
	struct options options = { 0 };
	struct process process;
	int status;
	char *why;

	read_options(argc, argv, &options);
	if (!options.process)
		return 0;
	why = process_open(&process, PROC, process_argument(options.process));
	if (why)
		give_up(process.pid, why);
	status = inspect(&process, &options);
	process_close(&process);
	return status;
}
