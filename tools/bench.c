// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#include "tool.h"

int bench_command(int argc, char **argv)
{
	(void)argc;
	wrong_usage("%s: not yet", argv[0]);
}
