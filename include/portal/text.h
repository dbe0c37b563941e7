/* text.h — text that grows: the one place where the core puts strings together. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

/* Starts as {0}. Once memory ran out it stays failed and appends nothing; the end asks once. */
struct text {
    char *data; /* NUL-terminated, or NULL while empty */
    size_t length, size;
    bool failed;
};

void text_append(struct text *text, const char *string);
void text_append_bytes(struct text *text, const char *bytes, size_t length);
void text_appendf(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Result: the text, now the caller's to free(); NULL where memory ran out. The text is {0} again. */
char *text_take(struct text *text);

void text_clear(struct text *text);

/* Puts '?' in place of each byte that is no UTF-8 (RFC 3629), such as half a character where a text was cut. JSON, and
 * so every reply, takes nothing else. */
void text_make_utf8(char *string);

/* free() of what the pointer named by a cleanup attribute points to. */
static inline void free_pointer(void *pointer) {
    free(*(void **)pointer);
}
#define AUTOFREE __attribute__((cleanup(free_pointer)))

/* Puts `value`, taken over, into the place of an owned text. */
static inline void text_replace(char **place, char *value) {
    char *old = *place;
    *place = value;
    free(old);
}
