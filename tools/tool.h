/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * What the subcommands of alignmap share: sizes and numbers as people write and read them, tables,
 * JSON, and what this kernel does with device memory. Messages are err(3)'s, which names the
 * subcommand.
 */
#ifndef TOOL_H
#define TOOL_H

#include <err.h>
#include <json-c/json.h>
#include <libsmartcols/libsmartcols.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alignmap.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* The subcommands. Each returns the exit status: 2 for wrong usage. */
int bench_command(int argc, char **argv);
int info_command(int argc, char **argv);
int inspect_command(int argc, char **argv);
int plan_command(int argc, char **argv);
int run_command(int argc, char **argv);

/* The exit status of failures, as when nothing can be printed; each subcommand has its own. */
extern int trouble_status;

/* Ends with status 2, after the message, printable(), and where to read on. */
__attribute__((format(printf, 1, 2), noreturn)) void wrong_usage(const char *format, ...);

/* "4096", "0x1000", "64K", "2M", "1G", "16T", also "2MiB": in bytes. False if it is no such size.
 */
bool parse_size(const char *text, uint64_t *size);

/* The same for the argument of @option; ends with status 2 if it is none. */
uint64_t size_argument(const char *option, const char *text);

/* A text that is short enough to be returned by value. */
struct text {
	char text[32];
};

/* 2097152 as "2M"; what is rounded with a decimal, as "1.5G", "2.0G", from 100 on without. */
struct text size_text(uint64_t size);

/* 1048576 as "1,048,576". */
struct text number_text(uint64_t number);

/* "1.5" for @more / @less, "26,974" where it is large; "-" where @less is 0. */
struct text ratio_text(double more, double less);

/*
 * What anybody may have put into a file's name, fit for terminals and JSON: all but printable ASCII
 * as \ooo. Allocated.
 */
char *printable(const char *name);

/* Whether standard output takes colours: a terminal, and no NO_COLOR in the environment. */
bool colours_wanted(void);

/* An empty table for standard output, as wide as the terminal at most. */
struct libscols_table *new_table(void);

enum { LEFT_ALIGNED = 0, RIGHT_ALIGNED = SCOLS_FL_RIGHT, CUT = SCOLS_FL_TRUNC };

void add_column(struct libscols_table *table, const char *heading, int flags);

/* The cells of a row, one for each column; NULL for an empty cell. Returns the row. */
struct libscols_line *add_row(struct libscols_table *table, const char *const *cells);

void print_table(struct libscols_table *table); /* and frees it */

/*
 * Prints a text in lines of 80 columns at most, broken at spaces, the first with @first before it,
 * the others with @others.
 */
void print_wrapped(const char *first, const char *others, const char *text);

/* Prints a document and frees it. @one_line: for readers that take a document a line. */
void print_json(struct json_object *document, bool one_line);

void json_add(struct json_object *object, const char *key, struct json_object *value);

/* What is not known, or not there (NULL, ""), is null. Texts are printable(). */
struct json_object *json_number(uint64_t number);
struct json_object *json_number_if(bool known, uint64_t number);
struct json_object *json_flag_if(bool known, bool flag);
struct json_object *json_text(const char *text);
struct json_object *json_texts(char *const *texts, size_t count);
struct json_object *json_address(uintptr_t address); /* "0x7f0000000000" */
struct json_object *json_leaves(const struct alignmap_leaves *leaves);

/* The largest leaf size modulo which an address of whole base pages agrees with an offset. */
size_t modulus_at(const struct alignmap_leaves *leaves, uint64_t offset, uint64_t address);

/* The running kernel is that version of Linux or a later one. */
bool linux_from(unsigned int major, unsigned int minor);

/* The first upstream Linux that maps BARs by more than base pages on this machine, as "6.12". */
#if defined(__riscv)
#define LARGE_BARS_MAJOR 6
#define LARGE_BARS_MINOR 16
#elif defined(__powerpc64__)
#define LARGE_BARS_MAJOR 7
#define LARGE_BARS_MINOR 1
#else
#define LARGE_BARS_MAJOR 6
#define LARGE_BARS_MINOR 12
#endif
#define IN_TEXT_OF(number) #number
#define IN_TEXT(number) IN_TEXT_OF(number)
#define LARGE_BARS_SINCE IN_TEXT(LARGE_BARS_MAJOR) "." IN_TEXT(LARGE_BARS_MINOR)
bool has_large_bars(void);

/* Linux maps nothing but hugetlbfs by more than base pages (CONFIG_TRANSPARENT_HUGEPAGE=n). */
bool lacks_huge_pages(void);

/*
 * What Linux maps BARs with on this host: alignmap_host_leaves(), but base pages where it is
 * older or lacks huge pages.
 */
void bar_leaves(struct alignmap_leaves *leaves);

/*
 * What transparent_hugepage/enabled does to BARs here, as a sentence with what to change; NULL
 * where it does nothing. Linux 6.16 to 7.1 heeds it.
 */
const char *bar_obstacle(void);

#endif /* TOOL_H */
