/* failing.h — memory that runs out at one allocation, the first, the second, … : for tests that are linked with
 * --wrap=malloc and its kin, so that what shared libraries allocate for themselves never fails; jansson's does. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* NOLINTBEGIN(bugprone-reserved-identifier): so the linker calls them */
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
char *__real_strdup(const char *text);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
char *__wrap_strdup(const char *text);

static unsigned allocations; /* so far */
static unsigned failing_one; /* 0: none */

static inline bool fails(void) {
    return ++allocations == failing_one;
}

void *__wrap_malloc(size_t size) {
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size) {
    return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size) {
    return fails() ? NULL : __real_realloc(memory, size);
}

char *__wrap_strdup(const char *text) {
    return fails() ? NULL : __real_strdup(text);
}
/* NOLINTEND(bugprone-reserved-identifier) */

/* Calls `attempt` with the first, the second, … allocation failing, until none is left to fail. Result: how many. */
static inline unsigned with_each_failing(void (*attempt)(bool failing)) {
    unsigned number = 0;
    do {
        failing_one = ++number;
        allocations = 0;
        json_set_alloc_funcs(__wrap_malloc, free);
        attempt(true);
    } while (allocations >= number);
    failing_one = 0;
    attempt(false);
    return number - 1;
}
