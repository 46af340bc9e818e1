/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
#ifndef SANITIZED_H
#define SANITIZED_H

/* Whether this is built with the address or the thread sanitizer. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#endif /* SANITIZED_H */
