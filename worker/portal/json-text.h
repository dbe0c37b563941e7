/* json-text.h — JSON read and written where memory may run out. jansson 2.14 reports that as text that is no JSON, and
 * writes an object without a key that found no room; here the one is told apart and the other fails. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* As json_loadb(). Result: 0 and `*ret`, the caller's reference; -EINVAL and `error` (may be NULL); -ENOMEM. */
int json_text_read(const char *text, size_t length, size_t flags, json_t **ret, json_error_t *error);

/* As json_dumps(). Result: the caller's to free; NULL: no memory. */
char *json_text_write(const json_t *json, size_t flags);

/* Puts a text into an object, NULL leaves it out. json_pack()'s "s*" leaves out also what found no memory, which in an
 * ask would make another ask of it. Result: whether there was memory. */
bool json_text_set(json_t *object, const char *name, const char *value);
