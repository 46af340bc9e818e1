// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#include <stdlib.h>

#include "turns.h"

int rounds_for(size_t faults, int most)
{
	int rounds = most;

	if (faults > 131072)
		rounds = 1;
	else if (faults > 65536)
		rounds /= 33;
	else if (faults > 2048)
		rounds /= 9;
	return rounds ? rounds : 1;
}

static int warming_rounds(const struct row *row)
{
	return row->rounds > 1;
}

/* In another order each time: a way that takes many faults leaves cold caches to the next. */
void take_turns(struct row *rows, size_t count, double (*measure)(size_t way, struct row *row))
{
	size_t order[count];

	for (int round = 0; round <= ROUNDS_MAX; round++) {
		shuffle(order, count);
		for (size_t i = 0; i < count; i++) {
			struct row *row = &rows[order[i]];

			if (round < row->rounds + warming_rounds(row))
				row->times[round] = measure(order[i], row);
		}
	}
	for (size_t way = 0; way < count; way++)
		if (rows[way].rounds)
			rows[way].spread = spread_of(rows[way].times + warming_rounds(&rows[way]),
						     (size_t)rows[way].rounds);
}

double times_of(const struct row *other, const struct row *row)
{
	return other->rounds && row->rounds ? other->spread.median / row->spread.median : 0;
}
