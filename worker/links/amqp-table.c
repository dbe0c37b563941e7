/* amqp-table.c — builds and reads AMQP field tables, and makes texts of strangers' bytes. */
#include "amqp-table.h"

#include <assert.h>
#include <string.h>

static amqp_field_value_t *table_add(struct table *table, const char *key, uint8_t kind) {
    assert(table->count < TABLE_ENTRIES_MAX);
    amqp_table_entry_t *entry = &table->entries[table->count++];
    *entry = (amqp_table_entry_t){.key = amqp_cstring_bytes(key), .value.kind = kind};
    return &entry->value;
}

void table_add_bytes(struct table *table, const char *key, amqp_bytes_t value) {
    if (value.bytes)
        table_add(table, key, AMQP_FIELD_KIND_UTF8)->value.bytes = value;
}

void table_add_text(struct table *table, const char *key, const char *value) {
    if (value)
        table_add_bytes(table, key, amqp_cstring_bytes(value));
}

void table_add_integer(struct table *table, const char *key, int64_t value) {
    table_add(table, key, AMQP_FIELD_KIND_I64)->value.i64 = value;
}

void table_add_boolean(struct table *table, const char *key, bool value) {
    table_add(table, key, AMQP_FIELD_KIND_BOOLEAN)->value.boolean = value;
}

void table_add_table(struct table *table, const char *key, amqp_table_t value) {
    table_add(table, key, AMQP_FIELD_KIND_TABLE)->value.table = value;
}

amqp_table_t table_view(struct table *table) {
    return (amqp_table_t){.num_entries = table->count, .entries = table->entries};
}

const amqp_field_value_t *table_find(const amqp_table_t *table, const char *key) {
    size_t length = strlen(key);
    for (int i = 0; i < table->num_entries; i++)
        if (table->entries[i].key.len == length && memcmp(table->entries[i].key.bytes, key, length) == 0)
            return &table->entries[i].value;
    return NULL;
}

amqp_bytes_t field_bytes(const amqp_field_value_t *value) {
    if (!value || (value->kind != AMQP_FIELD_KIND_UTF8 && value->kind != AMQP_FIELD_KIND_BYTES))
        return amqp_empty_bytes;
    return value->value.bytes;
}

static bool signed_integer(int64_t value, uint64_t *magnitude, bool *negative) {
    *negative = value < 0;
    *magnitude = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    return true;
}

bool field_integer(const amqp_field_value_t *value, uint64_t *magnitude, bool *negative) {
    *magnitude = 0;
    *negative = false;
    if (!value)
        return false;
    switch (value->kind) {
    case AMQP_FIELD_KIND_I8:
        return signed_integer(value->value.i8, magnitude, negative);
    case AMQP_FIELD_KIND_I16:
        return signed_integer(value->value.i16, magnitude, negative);
    case AMQP_FIELD_KIND_I32:
        return signed_integer(value->value.i32, magnitude, negative);
    case AMQP_FIELD_KIND_I64:
        return signed_integer(value->value.i64, magnitude, negative);
    case AMQP_FIELD_KIND_U8:
        *magnitude = value->value.u8;
        return true;
    case AMQP_FIELD_KIND_U16:
        *magnitude = value->value.u16;
        return true;
    case AMQP_FIELD_KIND_U32:
        *magnitude = value->value.u32;
        return true;
    case AMQP_FIELD_KIND_U64:
        *magnitude = value->value.u64;
        return true;
    default:
        return false;
    }
}

/* The length of the character at the start of `s`, of which `left` bytes are there; 0 if there is none. The table of
 * RFC 3629 §4: no overlong forms, no surrogates, nothing above U+10FFFF, and no NUL. */
static size_t character_length(const unsigned char *s, size_t left) {
    unsigned char low = 0x80;
    unsigned char high = 0xbf;
    size_t length = 0;
    if (s[0] >= 0x01 && s[0] <= 0x7f)
        return 1;
    if (s[0] >= 0xc2 && s[0] <= 0xdf)
        length = 2;
    else if (s[0] >= 0xe0 && s[0] <= 0xef)
        length = 3;
    else if (s[0] >= 0xf0 && s[0] <= 0xf4)
        length = 4;
    if (length == 0 || left < length)
        return 0;
    if (s[0] == 0xe0)
        low = 0xa0;
    if (s[0] == 0xed)
        high = 0x9f;
    if (s[0] == 0xf0)
        low = 0x90;
    if (s[0] == 0xf4)
        high = 0x8f;
    if (s[1] < low || s[1] > high)
        return 0;
    for (size_t i = 2; i < length; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    return length;
}

size_t text_sanitize(char *to, amqp_bytes_t bytes) {
    static const char replacement[] = {'\xef', '\xbf', '\xbd'}; /* U+FFFD */
    const unsigned char *from = bytes.bytes;
    size_t length = 0;
    for (size_t i = 0; i < bytes.len;) {
        size_t good = character_length(from + i, bytes.len - i);
        const void *source = good > 0 ? (const void *)(from + i) : replacement;
        size_t size = good > 0 ? good : sizeof replacement;
        if (to)
            memcpy(to + length, source, size);
        length += size;
        i += good > 0 ? good : 1;
    }
    if (to)
        to[length] = '\0';
    return length;
}

size_t text_fit(const char *text, size_t size) {
    size_t length = strlen(text);
    if (length <= size)
        return length;
    while (size > 0 && ((unsigned char)text[size] & 0xc0) == 0x80)
        size--;
    return size;
}
