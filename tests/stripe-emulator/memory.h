/* Memory that is either had or ends the program: a test tool has no use for half an answer. */
#pragma once

#include <jansson.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#define _cleanup_(function) __attribute__((cleanup(function)))
#define _printf_(text, first) __attribute__((format(printf, text, first)))

/* Each returns zeroed or filled memory that the caller frees with free(); none ever returns NULL. */
void *memory_get(size_t size);
void *memory_resize(void *old, size_t size);
char *memory_copy(const char *text);
char *memory_format(const char *format, ...) _printf_(1, 2);
char *memory_vformat(const char *format, va_list arguments) _printf_(1, 0);

/* Makes jansson allocate likewise; after this its constructors fail only for text that is not UTF-8. Call it first. */
void memory_serve_jansson(void);

static inline void memory_freep(void *pointer) {
    free(*(void **)pointer);
}

#define _cleanup_free_ _cleanup_(memory_freep)
#define _cleanup_json_ _cleanup_(json_decrefp)
