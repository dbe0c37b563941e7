/* amqp-table.h — AMQP field tables (AMQP 0-9-1 §4.2.5.5) and texts: building them, and reading what a stranger sent. */
#pragma once

#include <amqp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TABLE_ENTRIES_MAX = 16 };

/* A table under construction; keys and values are borrowed. Adding more than TABLE_ENTRIES_MAX is a mistake of the
 * caller's. An empty text (`bytes` NULL) is left out. */
struct table {
    amqp_table_entry_t entries[TABLE_ENTRIES_MAX];
    int count;
};

void table_add_bytes(struct table *table, const char *key, amqp_bytes_t value);
void table_add_text(struct table *table, const char *key, const char *value);
void table_add_integer(struct table *table, const char *key, int64_t value);
void table_add_boolean(struct table *table, const char *key, bool value);
void table_add_table(struct table *table, const char *key, amqp_table_t value);

/* The table as the library takes it; it borrows from `table`. */
amqp_table_t table_view(struct table *table);

/* The value of `key`, or NULL. Of several entries of one key the first counts. */
const amqp_field_value_t *table_find(const amqp_table_t *table, const char *key);

/* The value's bytes where it is a text ('S') or bytes ('x'); else bytes = NULL. `value` may be NULL. */
amqp_bytes_t field_bytes(const amqp_field_value_t *value);

/* Whether the value is of any of AMQP's integer types, and then its magnitude and sign. `value` may be NULL. */
bool field_integer(const amqp_field_value_t *value, uint64_t *magnitude, bool *negative);

/* Makes valid UTF-8 without NULs of `bytes`: U+FFFD for each NUL and each byte that is not part of a character
 * (RFC 3629). Writes it and a NUL to `to`, which has room, unless that is NULL. Result: its length without the NUL. */
size_t text_sanitize(char *to, amqp_bytes_t bytes);

/* How much of `text` fits in `size` bytes without cutting a character in two. */
size_t text_fit(const char *text, size_t size);
