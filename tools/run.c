// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Starts a program under the library, or where that does not reach it under a tracer: its options
 * are the library's environment.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "formatted.h"
#include "policy.h"
#include "program.h"
#include "report-file.h"
#include "tool.h"
#include "trace.h"

/* As env(1) and shells end. */
enum { STATUS_UNFIT = 126, STATUS_NOT_FOUND = 127 };

static const char soname[] = "libalignmap.so.0";

enum { MIN, MAX, ANON, HINTS, STATS, LOG, TRACE, UNTIL, HELP };

/* What the user asks for. */
static struct request {
	const char *variable;
	char *written;	   /* the option as it stands on the command line; NULL: not there */
	const char *value; /* of the variable */
	const char *file;  /* what the option names, where that is a file */
} requests[] = {
	[MIN] = { .variable = "ALIGNMAP_MIN" },	    [MAX] = { .variable = "ALIGNMAP_MAX" },
	[ANON] = { .variable = "ALIGNMAP_ANON" },   [HINTS] = { .variable = "ALIGNMAP_HINTS" },
	[STATS] = { .variable = "ALIGNMAP_STATS" }, [LOG] = { .variable = "ALIGNMAP_LOG" },
};

static const struct option options[] = {
	{ "min", required_argument, NULL, MIN },     { "max", required_argument, NULL, MAX },
	{ "anon", required_argument, NULL, ANON },   { "hints", no_argument, NULL, HINTS },
	{ "stats", optional_argument, NULL, STATS }, { "log", optional_argument, NULL, LOG },
	{ "trace", optional_argument, NULL, TRACE }, { "until", required_argument, NULL, UNTIL },
	{ "help", no_argument, NULL, HELP },	     { 0 },
};

/* Whether to trace: AUTO where nothing can be preloaded. */
static enum { AUTO, ALWAYS, NEVER } tracing;
static struct trace_wish trace_wish;

static int help(void)
{
	puts("usage: alignmap run [OPTION...] [--] COMMAND [ARGUMENT...]\n"
	     "\n"
	     "Starts COMMAND with libalignmap preloaded, so that what it maps lies where the\n"
	     "kernel can use its largest page-table entries. The exit status is COMMAND's.\n"
	     "\n"
	     "  --min SIZE           the smallest leaf size to place for, as 2M (default:\n"
	     "                       the host's smallest above its base page)\n"
	     "  --max SIZE           the largest one, as 1G (default: the host's largest)\n"
	     "  --anon=reserve|all   place anonymous memory of 32 MiB and more too: PROT_NONE\n"
	     "                       reservations, or all of it (default: none)\n"
	     "  --hints              place calls that carry an address hint, too\n"
	     "  --stats[=FILE]       a summary at exit, on standard error or added to FILE:\n"
	     "                       better FILE where COMMAND starts other programs, of which\n"
	     "                       each prints its own\n"
	     "  --log[=FILE]         a line for each mapping placed, likewise\n"
	     "  --trace[=auto|always|never]\n"
	     "                       place by a tracer, which leaves when a guest first runs:\n"
	     "                       where no library can be preloaded, as in what is linked\n"
	     "                       statically (auto, the default); or always; or never\n"
	     "  --until=kvm-run|SECONDS|forever\n"
	     "                       when the tracer leaves (default: kvm-run)\n"
	     "  --help               this text\n"
	     "\n"
	     "  alignmap run qemu-system-x86_64 -device vfio-pci,host=0000:65:00.0 ...\n"
	     "  alignmap run --anon=reserve --stats=/tmp/stats -- ./vmm --memory 16G\n"
	     "\n"
	     "An LD_PRELOAD that is there is kept, and so are ALIGNMAP_ variables that no\n"
	     "option sets. A program that no library can be preloaded into is traced. Where\n"
	     "that is not permitted it is started all the same, with a warning, or with\n"
	     "--trace=always not at all.");
	return 0;
}

/* What getopt_long() has just taken, abbreviated or not. */
static char *as_written(char *const *argv)
{
	const char *last = argv[optind - 1];

	return optarg == last ? formatted("%s %s", argv[optind - 2], last) : formatted("%s", last);
}

/* The library wants a path with a slash, and programs may change their directory. */
static const char *absolute(const char *file)
{
	char folder[PATH_MAX];

	if (*file == '/')
		return file;
	if (!getcwd(folder, sizeof(folder)))
		err(1, "%s: cannot tell the directory that it is in", file);
	return formatted("%s/%s", strcmp(folder, "/") == 0 ? "" : folder, file);
}

/* The library's parser knows less ways to write it. */
static char *leaf_size(const struct request *request)
{
	uint64_t size;

	if (!parse_size(optarg, &size))
		wrong_usage("%s: not a size such as 2M or 1G", request->written);
	if (!size || (size & (size - 1)))
		wrong_usage("%s: no power of two, as leaf sizes are", request->written);
	return formatted("%" PRIu64, size);
}

static void take_trace(char *const *argv)
{
	static const char *const words[] = {
		[AUTO] = "auto", [ALWAYS] = "always", [NEVER] = "never"
	};

	tracing = ALWAYS;
	for (unsigned int i = 0; optarg && i < COUNT(words); i++) {
		if (strcmp(optarg, words[i]) != 0)
			continue;
		tracing = i;
		return;
	}
	if (optarg)
		wrong_usage("%s: neither auto, always nor never", as_written(argv));
}

static void take_until(char *const *argv)
{
	uint64_t seconds;

	trace_wish.until = UNTIL_SECONDS;
	if (strcmp(optarg, "kvm-run") == 0)
		trace_wish.until = UNTIL_KVM_RUN;
	else if (strcmp(optarg, "forever") == 0)
		trace_wish.until = UNTIL_FOREVER;
	else if (strspn(optarg, "0123456789") != strlen(optarg) || !parse_size(optarg, &seconds) ||
		 !seconds || seconds > INT_MAX)
		wrong_usage("%s: neither kvm-run, forever nor a number of seconds",
			    as_written(argv));
	else
		trace_wish.seconds = (unsigned int)seconds;
}

static void take(int option, char *const *argv)
{
	struct request *request;

	if (option == TRACE || option == UNTIL) {
		(option == TRACE ? take_trace : take_until)(argv);
		return;
	}
	request = &requests[option];
	request->written = as_written(argv);
	request->value = optarg ? optarg : "1";
	/* The library takes an empty variable for none. */
	if (!*request->value)
		wrong_usage("%s: has no value", request->written);
	if (option == MIN || option == MAX)
		request->value = leaf_size(request);
	if (option != STATS && option != LOG)
		return;
	request->file = optarg;
	if (optarg)
		request->value = absolute(optarg);
}

static const char *complaint;

static void note_complaint(const char *variable, const char *why)
{
	(void)variable;
	complaint = why;
}

/* What the library would say if @variable, as "NAME=VALUE", were all there is; NULL if nothing. */
static const char *complaint_about(const char *variable)
{
	char *const environment[] = { (char *)variable, NULL };
	struct policy policy;

	complaint = NULL;
	read_policy(environment, &policy, note_complaint);
	return complaint;
}

static void set(const struct request *request)
{
	const char *why;
	char *variable;

	if (!request->written)
		return;
	variable = formatted("%s=%s", request->variable, request->value);
	why = complaint_about(variable);
	free(variable);
	if (why)
		wrong_usage("%s: %s", request->written, why);
	/* An environment can hold a name twice, and setenv() would leave one. */
	unsetenv(request->variable);
	if (setenv(request->variable, request->value, 1))
		err(1, "cannot set %s", request->variable);
}

/*
 * Of the whole environment. What the user has set himself and is wrong by itself the library names;
 * what is wrong beside another is --min and --max.
 */
static void check_combination(const char *variable, const char *why)
{
	const struct request *min = &requests[MIN], *max = &requests[MAX];

	if (complaint_about(variable))
		return;
	if (min->written && max->written)
		wrong_usage("%s: %s, which %s sets", min->written, why, max->written);
	if (min->written)
		wrong_usage("%s: %s, which is %s in the environment", min->written, why,
			    getenv(max->variable));
	if (max->written)
		wrong_usage("%s: %s of the environment would be %s", max->written, variable, why);
}

/* That --min and --max leave one that is worth an address: not the last, the base page. */
static void check_leaves(const struct policy *policy)
{
	const struct request *min = &requests[MIN], *max = &requests[MAX];
	struct alignmap_leaves leaves;
	char *sizes;

	if (!min->written && !max->written)
		return;
	sizes = formatted("%s", "");
	alignmap_host_leaves(ALIGNMAP_ANY, &leaves);
	for (unsigned int i = 0; i + 1 < leaves.count; i++) {
		char *larger = sizes;

		if (leaves.size[i] >= policy->min_leaf && leaves.size[i] <= policy->max_leaf) {
			free(sizes);
			return;
		}
		sizes = formatted("%s %s", larger, size_text(leaves.size[i]).text);
		free(larger);
	}
	wrong_usage("%s%s%s: this host's leaf sizes above its base page are%s: none is from %s to "
		    "%s, so that nothing would be placed",
		    min->written ? min->written : "", min->written && max->written ? " " : "",
		    max->written ? max->written : "", sizes, size_text(policy->min_leaf).text,
		    policy->max_leaf == SIZE_MAX ? "any" : size_text(policy->max_leaf).text);
}

/* Whether anything is to be placed. */
static bool set_policy(void)
{
	struct policy policy;

	for (size_t i = 0; i < COUNT(requests); i++)
		set(&requests[i]);
	read_policy(environ, &policy, check_combination);
	check_leaves(&policy);
	if (policy.off)
		warnx("ALIGNMAP_OFF=%s is in the environment: nothing will be placed; unset it",
		      getenv("ALIGNMAP_OFF"));
	return !policy.off;
}

/* Opens the file as the library will, which can only say it when the program has started. */
static void check_file(const struct request *request)
{
	struct stat status;
	const char *why;
	int fd;

	if (!request->file)
		return;
	/* A pipe's reader would see its end, and leave. */
	if (stat(request->value, &status) == 0 && S_ISFIFO(status.st_mode))
		return;
	fd = open_report_file(request->value, &why);
	if (fd < 0)
		errx(1, "%s: cannot be written: %s", request->value, why);
	close(fd);
}

/* Where the library would be in that folder; NULL with the same in @tried if it is not there. */
static char *library_in(const char *folder, char *tried)
{
	char canonical[PATH_MAX];
	char *path = formatted("%s/%s", realpath(folder, canonical) ? canonical : folder, soname);

	if (access(path, R_OK) == 0)
		return path;
	snprintf(tried, PATH_MAX, "%s", path);
	free(path);
	return NULL;
}

/*
 * Beside this program's folder: as installed, and as built. The libraries' folder is given relative
 * to the programs', so that both can be moved together.
 */
static char *find_library(void)
{
	static const char *const places[] = { ALIGNMAP_LIBDIR, ".." };
	char tried[COUNT(places)][PATH_MAX];
	char self[PATH_MAX] = "";
	char *library = NULL;

	if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0)
		err(1, "cannot read /proc/self/exe, to find %s beside it", soname);
	*strrchr(self, '/') = '\0';
	for (size_t i = 0; i < COUNT(places) && !library; i++) {
		char *folder = *places[i] == '/' ? formatted("%s", places[i])
						 : formatted("%s/%s", self, places[i]);

		library = library_in(folder, tried[i]);
		free(folder);
	}
	if (!library)
		errx(1,
		     "there is neither %s nor %s to be preloaded: install libalignmap beside "
		     "this program",
		     tried[0], tried[1]);
	return library;
}

static bool names_the_library(const char *path, size_t length)
{
	static const char name[] = "libalignmap.so";
	const char *slash = memrchr(path, '/', length);

	if (slash) {
		length -= (size_t)(slash + 1 - path);
		path = slash + 1;
	}
	return length >= sizeof(name) - 1 && memcmp(path, name, sizeof(name) - 1) == 0 &&
	       (length == sizeof(name) - 1 || path[sizeof(name) - 1] == '.');
}

static bool is_preloaded(const char *list)
{
	static const char separators[] = " :";

	for (size_t length; *list; list += length, list += strspn(list, separators)) {
		length = strcspn(list, separators);
		if (names_the_library(list, length))
			return true;
	}
	return false;
}

/* Behind what is there: a sanitizer's runtime must be the first. */
static void preload(void)
{
	const char *before = getenv("LD_PRELOAD");
	char *library, *list;

	if (before && is_preloaded(before))
		return;
	library = find_library();
	/* The loader takes them for separators, and for a name of its own such as $LIB. */
	if (strpbrk(library, " :$"))
		errx(1,
		     "%s cannot be preloaded, since the loader ends its name at a space or a colon "
		     "and replaces $: install libalignmap in a folder without them",
		     library);
	list = before && *before ? formatted("%s:%s", before, library) : formatted("%s", library);
	unsetenv("LD_PRELOAD");
	if (setenv("LD_PRELOAD", list, 1))
		err(1, "cannot set LD_PRELOAD");
	free(library);
	free(list);
}

static bool lacks_execution(const char *path)
{
	struct stat status;

	return strchr(path, '/') && stat(path, &status) == 0 && S_ISREG(status.st_mode) &&
	       !(status.st_mode & (S_IXUSR | S_IXGRP | S_IXOTH));
}

/* Ends where there is none. @before: what stands in front of it on the command line. */
static char *program_of(const char *command, const char *before)
{
	char *program = find_program(command);

	if (program)
		return program;
	if (errno == EACCES && lacks_execution(command))
		errx(STATUS_UNFIT, "%s: cannot be started: it is not executable; chmod +x %s",
		     command, command);
	if (errno != ENOENT)
		err(STATUS_UNFIT, "%s: cannot be started", command);
	if (strcmp(before, "--stats") == 0 || strcmp(before, "--log") == 0)
		errx(STATUS_NOT_FOUND, "%s: no such program; if it is the file for %s: %s=%s",
		     command, before, before, command);
	if (strchr(command, '/'))
		errx(STATUS_NOT_FOUND, "%s: no such program", command);
	errx(STATUS_NOT_FOUND, "%s: no such program in the folders of PATH; name its path",
	     command);
}

/* Where nobody insists, a program that cannot be traced is started all the same. */
static void trace(const char *program, const struct obstacle *preload)
{
	const struct obstacle obstacle = trace_from_exec(program, &trace_wish);
	char *shown = printable(program);

	if (obstacle.what && tracing == ALWAYS)
		errx(STATUS_UNFIT, "%s %s; %s", shown, obstacle.what, obstacle.advice);
	if (obstacle.what)
		warnx("%s %s, and %s: nothing will be placed; %s", shown, preload->what,
		      obstacle.what, obstacle.advice);
	free(shown);
	free(obstacle.what);
	free(obstacle.advice);
}

/* Has the program placed, by the library or by a tracer. */
static void reach(const char *program, bool places)
{
	const struct obstacle obstacle = preload_obstacle(program);

	if (obstacle.what && (!obstacle.traceable || tracing == NEVER))
		errx(STATUS_UNFIT, "%s %s; %s", printable(program), obstacle.what, obstacle.advice);
	if (!obstacle.what && tracing != ALWAYS)
		preload();
	check_file(&requests[STATS]);
	check_file(&requests[LOG]);
	if (places && (obstacle.what || tracing == ALWAYS))
		trace(program, &obstacle);
	free(obstacle.what);
	free(obstacle.advice);
}

int run_command(int argc, char **argv)
{
	char *program;
	bool places;
	int option;

	while ((option = getopt_long(argc, argv, "+h", options, NULL)) >= 0) {
		if (option == '?') {
			fprintf(stderr, "Try '%s --help'.\n", argv[0]);
			return 2;
		}
		if (option == HELP || option == 'h')
			return help();
		take(option, argv);
	}
	places = set_policy();
	if (tracing == NEVER && trace_wish.until != UNTIL_KVM_RUN)
		wrong_usage("--until says when a tracer leaves, and --trace=never wants none");
	if (optind == argc || !*argv[optind])
		wrong_usage("no COMMAND to start");
	program = program_of(argv[optind], argv[optind - 1]);
	reach(program, places);
	/* With a slash in its name; what is neither ELF nor a script goes to /bin/sh. */
	execvp(program, argv + optind);
	err(errno == ENOENT ? STATUS_NOT_FOUND : STATUS_UNFIT, "%s: cannot be started", program);
}
