/* amqp-json.c — AMQP properties as JSON, and back. */
#include "amqp-json.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../links/amqp-table.h"

enum { DEPTH_MAX = 16, SHORT_MAX = 255, HEADERS_MAX = 64 * 1024 };

/* Every property but the headers: its name, its flag, its place. */
static const struct property {
    const char *name;
    amqp_flags_t flag;
    enum { PROPERTY_TEXT, PROPERTY_BYTE, PROPERTY_TIME } kind;
    size_t offset;
} list[] = {
#define AT(member) offsetof(amqp_basic_properties_t, member)
    {"content_type", AMQP_BASIC_CONTENT_TYPE_FLAG, PROPERTY_TEXT, AT(content_type)},
    {"content_encoding", AMQP_BASIC_CONTENT_ENCODING_FLAG, PROPERTY_TEXT, AT(content_encoding)},
    {"delivery_mode", AMQP_BASIC_DELIVERY_MODE_FLAG, PROPERTY_BYTE, AT(delivery_mode)},
    {"priority", AMQP_BASIC_PRIORITY_FLAG, PROPERTY_BYTE, AT(priority)},
    {"correlation_id", AMQP_BASIC_CORRELATION_ID_FLAG, PROPERTY_TEXT, AT(correlation_id)},
    {"reply_to", AMQP_BASIC_REPLY_TO_FLAG, PROPERTY_TEXT, AT(reply_to)},
    {"expiration", AMQP_BASIC_EXPIRATION_FLAG, PROPERTY_TEXT, AT(expiration)},
    {"message_id", AMQP_BASIC_MESSAGE_ID_FLAG, PROPERTY_TEXT, AT(message_id)},
    {"timestamp", AMQP_BASIC_TIMESTAMP_FLAG, PROPERTY_TIME, AT(timestamp)},
    {"type", AMQP_BASIC_TYPE_FLAG, PROPERTY_TEXT, AT(type)},
    {"user_id", AMQP_BASIC_USER_ID_FLAG, PROPERTY_TEXT, AT(user_id)},
    {"app_id", AMQP_BASIC_APP_ID_FLAG, PROPERTY_TEXT, AT(app_id)},
};

enum { PROPERTIES = sizeof list / sizeof *list };

static const struct property *find(const char *name) {
    for (size_t i = 0; i < PROPERTIES; i++)
        if (strcmp(list[i].name, name) == 0)
            return &list[i];
    return NULL;
}

bool json_whole(const json_t *json, json_int_t least, json_int_t most, json_int_t *ret) {
    if (json_is_integer(json))
        *ret = json_integer_value(json);
    else if (json_is_real(json) && json_real_value(json) >= -9e15 && json_real_value(json) <= 9e15 &&
             json_real_value(json) == (double)(json_int_t)json_real_value(json))
        *ret = (json_int_t)json_real_value(json);
    else
        return false;
    return *ret >= least && *ret <= most;
}

/* ---- to JSON ---- */

json_t *amqp_json_text(amqp_bytes_t bytes) {
    char *text = malloc(text_sanitize(NULL, bytes) + 1);
    json_t *json = NULL;
    if (text) {
        (void)text_sanitize(text, bytes);
        json = json_string(text);
    }
    free(text);
    return json;
}

static json_t *value_to_json(const amqp_field_value_t *value, unsigned depth);

static json_t *table_to_json(const amqp_table_t *table, unsigned depth) {
    json_t *object = json_object();
    for (int i = 0; object && i < table->num_entries; i++) {
        json_t *key = amqp_json_text(table->entries[i].key);
        if (!key ||
            json_object_set_new(object, json_string_value(key), value_to_json(&table->entries[i].value, depth)) < 0) {
            json_decref(object);
            object = NULL;
        }
        json_decref(key);
    }
    return object;
}

static json_t *array_to_json(const amqp_array_t *array, unsigned depth) {
    json_t *list_of = json_array();
    for (int i = 0; list_of && i < array->num_entries; i++)
        if (json_array_append_new(list_of, value_to_json(&array->entries[i], depth)) < 0) {
            json_decref(list_of);
            return NULL;
        }
    return list_of;
}

static json_t *value_to_json(const amqp_field_value_t *value, unsigned depth) {
    uint64_t magnitude = 0;
    bool negative = false;
    if (depth >= DEPTH_MAX)
        return json_null();
    if (field_integer(value, &magnitude, &negative))
        return json_integer(negative ? -(json_int_t)(magnitude - 1) - 1 : (json_int_t)magnitude);
    switch (value->kind) {
    case AMQP_FIELD_KIND_BOOLEAN:
        return json_boolean(value->value.boolean);
    case AMQP_FIELD_KIND_F32:
        return json_real((double)value->value.f32);
    case AMQP_FIELD_KIND_F64:
        return json_real(value->value.f64);
    case AMQP_FIELD_KIND_TIMESTAMP:
        return json_integer((json_int_t)value->value.u64);
    case AMQP_FIELD_KIND_UTF8:
    case AMQP_FIELD_KIND_BYTES:
        return amqp_json_text(value->value.bytes);
    case AMQP_FIELD_KIND_TABLE:
        return table_to_json(&value->value.table, depth + 1);
    case AMQP_FIELD_KIND_ARRAY:
        return array_to_json(&value->value.array, depth + 1);
    default:
        return json_null();
    }
}

json_t *amqp_to_json(const amqp_basic_properties_t *properties) {
    json_t *json = json_object();
    for (size_t i = 0; json && i < PROPERTIES; i++) {
        const void *at = (const char *)properties + list[i].offset;
        if (!(properties->_flags & list[i].flag))
            continue;
        json_t *value = list[i].kind == PROPERTY_TEXT   ? amqp_json_text(*(const amqp_bytes_t *)at)
                        : list[i].kind == PROPERTY_BYTE ? json_integer(*(const uint8_t *)at)
                                                        : json_integer((json_int_t) * (const uint64_t *)at);
        if (json_object_set_new(json, list[i].name, value) < 0) {
            json_decref(json);
            return NULL;
        }
    }
    if (json && (properties->_flags & AMQP_BASIC_HEADERS_FLAG) &&
        json_object_set_new(json, "headers", table_to_json(&properties->headers, 0)) < 0) {
        json_decref(json);
        return NULL;
    }
    return json;
}

/* ---- checking ---- */

static int refuse(char *error, size_t error_size, const char *name, const char *right) {
    (void)snprintf(error, error_size, "properties.%s has to be %s", name, right);
    return -EINVAL;
}

/* Bytes that a value takes at most in a header frame, or over HEADERS_MAX where it is of no kind that can be sent. */
static size_t header_size(const json_t *value, unsigned depth) {
    const char *key;
    const json_t *one;
    size_t size = 16;
    size_t i;
    if (depth >= DEPTH_MAX)
        return HEADERS_MAX + 1;
    if (json_is_string(value))
        return size + json_string_length(value);
    json_object_foreach((json_t *)value, key, one) {
        if (strlen(key) > 127) /* AMQP 0-9-1 §4.2.5.5 */
            return HEADERS_MAX + 1;
        size += strlen(key) + header_size(one, depth + 1);
        if (size > HEADERS_MAX)
            return size;
    }
    json_array_foreach(value, i, one) {
        size += header_size(one, depth + 1);
        if (size > HEADERS_MAX)
            return size;
    }
    return size;
}

static int check_one(const char *name, const json_t *value, char *error, size_t error_size) {
    const struct property *property = find(name);
    json_int_t number;
    if (strcmp(name, "headers") == 0) {
        if (json_is_object(value) && header_size(value, 0) <= HEADERS_MAX)
            return 0;
        return refuse(error, error_size, name, "an object of at most 64 KiB, with names of at most 127 bytes");
    }
    if (!property && strncmp(name, "x-", 2) == 0)
        return 0;
    if (!property) {
        (void)snprintf(error, error_size, "unknown in properties: %.100s", name);
        return -EINVAL;
    }
    if (property->kind == PROPERTY_TEXT && !(json_is_string(value) && json_string_length(value) <= SHORT_MAX))
        return refuse(error, error_size, name, "a text of at most 255 bytes");
    if (property->kind == PROPERTY_BYTE && !json_whole(value, 0, UINT8_MAX, &number))
        return refuse(error, error_size, name, "a whole number from 0 to 255");
    if (property->kind == PROPERTY_TIME && !json_whole(value, 0, INT64_MAX, &number))
        return refuse(error, error_size, name, "a whole number: seconds since 1970");
    return 0;
}

int amqp_json_check(const json_t *properties, char *error, size_t error_size) {
    const char *name;
    const json_t *value;
    if (!json_is_object(properties)) {
        (void)snprintf(error, error_size, "properties has to be an object");
        return -EINVAL;
    }
    json_object_foreach((json_t *)properties, name, value) {
        int r = check_one(name, value, error, error_size);
        if (r < 0)
            return r;
    }
    return 0;
}

/* ---- from JSON ---- */

static int value_from_json(const json_t *json, amqp_field_value_t *value, amqp_pool_t *pool);

static int table_from_json(const json_t *json, amqp_table_t *table, amqp_pool_t *pool) {
    const char *key;
    const json_t *one;
    size_t count = json_object_size(json);
    *table = (amqp_table_t){.num_entries = 0};
    if (count == 0)
        return 0;
    table->entries = amqp_pool_alloc(pool, count * sizeof *table->entries);
    if (!table->entries)
        return -ENOMEM;
    json_object_foreach((json_t *)json, key, one) {
        amqp_table_entry_t *entry = &table->entries[table->num_entries++];
        entry->key = amqp_cstring_bytes(key);
        if (value_from_json(one, &entry->value, pool) < 0)
            return -ENOMEM;
    }
    return 0;
}

static int array_from_json(const json_t *json, amqp_array_t *array, amqp_pool_t *pool) {
    size_t i;
    const json_t *one;
    *array = (amqp_array_t){.num_entries = (int)json_array_size(json)};
    if (array->num_entries == 0)
        return 0;
    array->entries = amqp_pool_alloc(pool, (size_t)array->num_entries * sizeof *array->entries);
    if (!array->entries)
        return -ENOMEM;
    json_array_foreach(json, i, one) {
        if (value_from_json(one, &array->entries[i], pool) < 0)
            return -ENOMEM;
    }
    return 0;
}

static int value_from_json(const json_t *json, amqp_field_value_t *value, amqp_pool_t *pool) {
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        value->kind = AMQP_FIELD_KIND_TABLE;
        return table_from_json(json, &value->value.table, pool);
    case JSON_ARRAY:
        value->kind = AMQP_FIELD_KIND_ARRAY;
        return array_from_json(json, &value->value.array, pool);
    case JSON_STRING:
        value->kind = AMQP_FIELD_KIND_UTF8;
        value->value.bytes = (amqp_bytes_t){.len = json_string_length(json), .bytes = (char *)json_string_value(json)};
        return 0;
    case JSON_INTEGER:
        value->kind = AMQP_FIELD_KIND_I64;
        value->value.i64 = json_integer_value(json);
        return 0;
    case JSON_REAL:
        value->kind = AMQP_FIELD_KIND_F64;
        value->value.f64 = json_real_value(json);
        return 0;
    case JSON_TRUE:
    case JSON_FALSE:
        value->kind = AMQP_FIELD_KIND_BOOLEAN;
        value->value.boolean = json_is_true(json);
        return 0;
    case JSON_NULL:
    default:
        value->kind = AMQP_FIELD_KIND_VOID;
        return 0;
    }
}

int amqp_from_json(const json_t *json, amqp_basic_properties_t *properties, amqp_pool_t *pool) {
    const char *name;
    const json_t *value;
    *properties = (amqp_basic_properties_t){0};
    json_object_foreach((json_t *)json, name, value) {
        const struct property *property = find(name);
        if (strcmp(name, "headers") == 0) {
            if (table_from_json(value, &properties->headers, pool) < 0)
                return -ENOMEM;
            properties->_flags |= AMQP_BASIC_HEADERS_FLAG;
        }
        if (!property)
            continue;
        void *at = (char *)properties + property->offset;
        json_int_t number = 0;
        properties->_flags |= property->flag;
        if (property->kind != PROPERTY_TEXT)
            (void)json_whole(value, 0, INT64_MAX, &number);
        if (property->kind == PROPERTY_TEXT)
            *(amqp_bytes_t *)at =
                (amqp_bytes_t){.len = json_string_length(value), .bytes = (char *)json_string_value(value)};
        else if (property->kind == PROPERTY_BYTE)
            *(uint8_t *)at = (uint8_t)number;
        else
            *(uint64_t *)at = (uint64_t)number;
    }
    return 0;
}

static const char *text_of(const json_t *object, const char *name) {
    return json_string_value(json_object_get(object, name));
}

void delivery_from_json(struct delivery *delivery, const json_t *properties, char generation[static 24]) {
    const json_t *headers = json_object_get(properties, "headers");
    const json_t *wanted = json_object_get(headers, "x-portal-generation");
    const json_t *deadline = json_object_get(headers, "x-portal-deadline");
    json_int_t number = 0;
    delivery->message_id = text_of(properties, "message_id");
    delivery->correlation_id = text_of(properties, "correlation_id");
    delivery->reply_to = text_of(properties, "reply_to");
    delivery->user_id = text_of(properties, "user_id");
    delivery->traceparent = text_of(headers, "traceparent");
    delivery->tracestate = text_of(headers, "tracestate");
    if (json_whole(json_object_get(properties, "timestamp"), 0, INT64_MAX, &number))
        delivery->timestamp = (uint64_t)number;
    if (json_is_integer(wanted))
        (void)snprintf(generation, 24, "%" PRId64, (int64_t)json_integer_value(wanted));
    if (wanted)
        delivery->generation = json_is_integer(wanted) ? generation : "not an integer";
    if (deadline)
        delivery->deadline = json_is_string(deadline) ? json_string_value(deadline) : "not a text";
}
