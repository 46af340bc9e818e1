// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* The least that can be preloaded: what the loader alone costs. */
extern const int empty;
const int empty = 1;
