/* fallible.c — allocation functions for a copy of the core in which every malloc() is called fallible_malloc(), and so
 * on (objcopy does that): what the simulated world around it allocates never fails. tsearch(3) allocates too. */
#include "fallible.h"

#include <errno.h>
#include <jansson.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

static struct {
    bool on;
    uint64_t count, first, many, failures;
} memory;

void fallible_begin(uint64_t first, uint64_t many) {
    memory.on = true;
    memory.count = memory.failures = 0;
    memory.first = first;
    memory.many = many;
}

uint64_t fallible_end(void) {
    memory.on = false;
    return memory.count;
}

void fallible_pause(bool pause) {
    memory.on = !pause;
}

uint64_t fallible_failures(void) {
    return memory.failures;
}

/*
 * jansson 2.14 does not look whether the text of a token could grow (lex_save() in its load.c): where memory runs out
 * just there it reads and writes past the end of what it has. That is not ours to mend, so those allocations do not
 * fail. They can be told by their sizes, for the text is doubled from 16 bytes on.
 */
static bool loads;

static bool is_token_growing(size_t size) {
    return size > 16 && (size & (size - 1)) == 0;
}

static bool runs_out(size_t size) {
    if (!memory.on || (loads && is_token_growing(size)))
        return false;
    memory.count++;
    if (memory.count < memory.first || memory.count - memory.first >= memory.many)
        return false;
    memory.failures++;
    errno = ENOMEM;
    return true;
}

/* As the originals. */
void *fallible_malloc(size_t size);
void *fallible_malloc(size_t size) {
    return runs_out(size) ? NULL : malloc(size);
}

void *fallible_calloc(size_t count, size_t size);
void *fallible_calloc(size_t count, size_t size) {
    return runs_out(0) ? NULL : calloc(count, size);
}

void *fallible_realloc(void *old, size_t size);
void *fallible_realloc(void *old, size_t size) {
    return runs_out(0) ? NULL : realloc(old, size);
}

char *fallible_strdup(const char *string);
char *fallible_strdup(const char *string) {
    return runs_out(0) ? NULL : strdup(string);
}

char *fallible_strndup(const char *string, size_t length);
char *fallible_strndup(const char *string, size_t length) {
    return runs_out(0) ? NULL : strndup(string, length);
}

void *fallible_tsearch(const void *key, void **root, int (*compare)(const void *, const void *));
void *fallible_tsearch(const void *key, void **root, int (*compare)(const void *, const void *)) {
    return runs_out(0) ? NULL : tsearch(key, root, compare);
}

json_t *fallible_json_loadb(const char *text, size_t length, size_t flags, json_error_t *error);
json_t *fallible_json_loadb(const char *text, size_t length, size_t flags, json_error_t *error) {
    loads = true;
    json_t *json = json_loadb(text, length, flags, error);
    loads = false;
    return json;
}

void fallible_adopt_json(void) {
    json_set_alloc_funcs(fallible_malloc, free);
}
