// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* The command: finds the subcommand, and sees that all that it printed was written. */
#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tool.h"

static const struct {
	const char *name;
	int (*command)(int argc, char **argv);
	const char *summary;
} subcommands[] = {
	{ "run", run_command, "start a program under the library" },
	{ "info", info_command, "what this host maps, how it places, and what to change" },
	{ "plan", plan_command, "what a mapping deserves, and what it needs elsewhere" },
	{ "inspect", inspect_command, "which mappings of a process are misplaced" },
	{ "bench", bench_command, "the same mapping placed by the kernel and by the library" },
};

static int usage(FILE *stream)
{
	fputs("usage: alignmap SUBCOMMAND [OPTION...] [ARGUMENT...]\n"
	      "\n"
	      "Mappings whose address agrees with what lies behind them, so that the kernel can\n"
	      "map them with its largest page-table entries.\n"
	      "\n",
	      stream);
	for (size_t i = 0; i < COUNT(subcommands); i++)
		fprintf(stream, "  %-9s%s\n", subcommands[i].name, subcommands[i].summary);
	fputs("\n"
	      "'alignmap SUBCOMMAND --help' tells its options, 'man alignmap-SUBCOMMAND' all of "
	      "it.\n"
	      "'alignmap --version' tells the version.\n",
	      stream);
	return stream == stdout ? 0 : 2;
}

static int command(int argc, char **argv)
{
	static char full_name[64];

	if (argc < 2)
		return usage(stderr);
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
		return usage(stdout);
	if (strcmp(argv[1], "--version") == 0) {
		puts("alignmap " ALIGNMAP_VERSION);
		return 0;
	}
	if (strcmp(argv[1], "help") == 0) {
		if (argc == 2)
			return usage(stdout);
		argv[1] = argv[2];
		argv[2] = (char[]){ "--help" };
	}
	for (size_t i = 0; i < COUNT(subcommands); i++) {
		if (strcmp(argv[1], subcommands[i].name) != 0)
			continue;
		snprintf(full_name, sizeof(full_name), "alignmap %s", argv[1]);
		program_invocation_short_name = full_name;
		argv[1] = full_name;
		return subcommands[i].command(argc - 1, argv + 1);
	}
	program_invocation_short_name = (char[]){ "alignmap" };
	wrong_usage("%s: no such subcommand", argv[1]);
}

int main(int argc, char **argv)
{
	int status;

	setlocale(LC_CTYPE, "");
	status = command(argc, argv);
	if (fflush(stdout) || ferror(stdout))
		err(1, "cannot write to standard output");
	return status;
}
