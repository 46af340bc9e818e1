/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
#ifndef PROBES_H
#define PROBES_H

/*
 * USDT probes of the provider "alignmap", one for each call that this library decides about: in the
 * code an instruction that does nothing, and in the object's notes where it is, and where its
 * arguments are (man 7 alignmap says what they mean). Without the feature they are nothing at all.
 */
#ifdef ALIGNMAP_PROBES
#include <sys/sdt.h>
#define PROBE(name, address, call, alignment) \
	DTRACE_PROBE4(alignmap, name, address, (call)->length, (call)->offset, alignment)
#else
#define PROBE(name, address, call, alignment) ((void)(address), (void)(call), (void)(alignment))
#endif

#endif /* PROBES_H */
