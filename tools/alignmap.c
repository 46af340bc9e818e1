// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* The command: finds the subcommand, and sees that all that it printed was written. */
#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tool.h"

static const struct {
	const char *name;
	int (*command)(int argc, char **argv);
	const char *summary;
	int trouble_status;
} subcommands[] = {
	{ "run", run_command, "start a program under the library", 1 },
	{ "info", info_command, "what this host maps, how it places, and what to change", 1 },
	{ "plan", plan_command, "what a mapping deserves, and what it needs elsewhere", 1 },
	{ "inspect", inspect_command, "which mappings of a process are misplaced", 2 },
	{ "bench", bench_command, "the same mapping placed by the kernel and by the library", 1 },
};

static int usage(FILE *stream)
{
	fputs("usage: alignmap SUBCOMMAND [OPTION...] [ARGUMENT...]\n"
	      "\n"
	      "Mappings whose address agrees with what lies behind them, so that the kernel can\n"
	      "map them with its largest page-table entries, or leaves: 4K, 2M, 1G on x86-64.\n"
	      "\n",
	      stream);
	for (size_t i = 0; i < COUNT(subcommands); i++)
		fprintf(stream, "  %-9s%s\n", subcommands[i].name, subcommands[i].summary);
	fputs("\n"
	      "'alignmap SUBCOMMAND --help' tells its options, 'man alignmap-SUBCOMMAND' all.\n"
	      "'alignmap --version' tells the version.\n",
	      stream);
	return stream == stdout ? 0 : 2;
}

static int start(const char *name, int argc, char **argv)
{
	static char full_name[64];

	for (size_t i = 0; i < COUNT(subcommands); i++) {
		if (strcmp(name, subcommands[i].name) != 0)
			continue;
		snprintf(full_name, sizeof(full_name), "alignmap %s", name);
		program_invocation_short_name = full_name;
		trouble_status = subcommands[i].trouble_status;
		argv[0] = full_name;
		return subcommands[i].command(argc, argv);
	}
	wrong_usage("%s: no such %s", name, *name == '-' ? "option" : "subcommand");
}

static int command(int argc, char **argv)
{
	static char own_name[] = "alignmap", help[] = "--help";
	const bool asks_help = argc > 1 && strcmp(argv[1], "help") == 0;

	program_invocation_short_name = own_name;
	if (argc < 2)
		return usage(stderr);
	if (asks_help && argc == 3)
		return start(argv[2], 2, (char *[]){ NULL, help, NULL });
	if (!asks_help && strcmp(argv[1], "--help") != 0 && strcmp(argv[1], "-h") != 0 &&
	    strcmp(argv[1], "--version") != 0)
		return start(argv[1], argc - 1, argv + 1);
	if (argc > 2)
		wrong_usage("%s: one word too many", argv[argc - 1]);
	if (strcmp(argv[1], "--version") != 0)
		return usage(stdout);
	puts("alignmap " ALIGNMAP_VERSION);
	return 0;
}

/* Subcommands may end by exit(3). */
static void finish_output(void)
{
	if (!fflush(stdout) && !ferror(stdout))
		return;
	warn("cannot write to standard output");
	_exit(trouble_status);
}

int main(int argc, char **argv)
{
	atexit(finish_output);
	setlocale(LC_CTYPE, "");
	return command(argc, argv);
}
