/* replay-write.c — makes a line of a replay file of a message. */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../links/amqp-table.h"
#include "amqp-json.h"
#include "portal/text.h"
#include "replay-line.h"

#define REDACTED "/redacted"

/* How many bytes of `text` an absolute http(s) URL takes up to its path; 0: there is none. */
static size_t url_origin(const char *text, size_t length) {
    size_t scheme = length >= 8 && strncasecmp(text, "https://", 8) == 0  ? 8
                    : length >= 7 && strncasecmp(text, "http://", 7) == 0 ? 7
                                                                          : 0;
    size_t end = scheme;
    if (scheme == 0)
        return 0;
    while (end < length && !strchr("/?#\"<>\\ \t\r\n", text[end]))
        end++;
    return end;
}

/* What follows the origin: up to white space, a quote, or the end. */
static size_t url_rest(const char *text, size_t length) {
    size_t end = 0;
    while (end < length && !strchr("\"<> \t\r\n", text[end]))
        end++;
    return end;
}

char *replay_redact(const char *text, size_t length, size_t *ret_length) {
    struct text clean = {0};
    size_t i = 0;
    while (i < length) {
        size_t origin = url_origin(text + i, length - i);
        size_t rest = origin > 0 ? url_rest(text + i + origin, length - i - origin) : 0;
        bool secret = rest > 1 || memchr(text + i, '@', origin);
        if (!secret) {
            text_append_bytes(&clean, text + i, origin > 0 ? origin : 1);
            i += origin > 0 ? origin : 1;
            continue;
        }
        const char *host = memrchr(text + i, '@', origin);
        const char *after = (const char *)memchr(text + i, ':', origin) + 3;
        text_append_bytes(&clean, text + i, (size_t)(after - text) - i);
        host = host ? host + 1 : after;
        text_append_bytes(&clean, host, (size_t)(text + i + origin - host));
        text_append(&clean, REDACTED);
        i += origin + rest;
    }
    *ret_length = clean.length;
    return text_take(&clean);
}

static json_t *redact_json(const json_t *value);

static json_t *redact_text(const json_t *value) {
    size_t length = 0;
    char *clean = replay_redact(json_string_value(value), json_string_length(value), &length);
    json_t *text = clean ? json_stringn(clean, length) : NULL;
    free(clean);
    return text;
}

/* A copy with all URLs cut, in whatever text they are; NULL without memory. */
static json_t *redact_json(const json_t *value) {
    const char *key;
    const json_t *one;
    size_t i;
    if (json_is_string(value))
        return redact_text(value);
    if (!json_is_object(value) && !json_is_array(value))
        return json_incref((json_t *)value);
    json_t *copy = json_is_object(value) ? json_object() : json_array();
    int r = copy ? 0 : -ENOMEM;
    json_object_foreach((json_t *)value, key, one) {
        r = r < 0 ? r : json_object_set_new(copy, key, redact_json(one));
    }
    json_array_foreach(value, i, one) {
        r = r < 0 ? r : json_array_append_new(copy, redact_json(one));
    }
    if (r == 0)
        return copy;
    json_decref(copy);
    return NULL;
}

static json_t *base64_text(const char *bytes, size_t length) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    struct text text = {0};
    for (size_t i = 0; i < length; i += 3) {
        uint32_t bits = 0;
        char four[4];
        for (size_t j = 0; j < 3; j++)
            bits = bits << 8 | (i + j < length ? (uint8_t)bytes[i + j] : 0);
        for (size_t j = 0; j < 4; j++)
            four[j] = i + j > length ? '=' : letters[bits >> (18 - 6 * j) & 63];
        text_append_bytes(&text, four, 4);
    }
    char *done = text_take(&text);
    json_t *json = done ? json_string(done) : NULL;
    free(done);
    return json;
}

static bool is_clean_text(const char *bytes, size_t length) {
    amqp_bytes_t all = {.len = length, .bytes = (char *)bytes};
    return text_sanitize(NULL, all) == length && (length == 0 || !memchr(bytes, '\0', length));
}

/* As JSON where it is an object that means the same when it is written anew; else as a text; else in base64. */
static int add_body(json_t *line, const char *body, size_t length) {
    json_t *json = json_loadb(body, length, JSON_REJECT_DUPLICATES, NULL);
    if (json_is_object(json)) {
        int r = json_object_set_new(line, "request", redact_json(json));
        json_decref(json);
        return r;
    }
    json_decref(json);
    size_t clean_length = 0;
    AUTOFREE char *clean = replay_redact(body, length, &clean_length);
    if (!clean)
        return -ENOMEM;
    if (is_clean_text(clean, clean_length))
        return json_object_set_new(line, "body", json_stringn(clean, clean_length));
    return json_object_set_new(line, "body_base64", base64_text(clean, clean_length));
}

char *replay_line_write(const char *body, size_t length, json_t *properties, json_t *remark) {
    json_t *line = json_object();
    char *text = NULL;
    int r = line && properties ? add_body(line, body, length) : -ENOMEM;
    if (r == 0 && json_object_size(properties) > 0)
        r = json_object_set_new(line, "properties", redact_json(properties));
    if (r == 0 && remark)
        r = json_object_update(line, remark);
    if (r == 0)
        text = json_dumps(line, JSON_COMPACT);
    json_decref(line);
    json_decref(properties);
    json_decref(remark);
    return text;
}

void replay_tidy(json_t *properties) {
    static const char *const names[][2] = {{"reply_to", "x-reply_to"},
                                           {"correlation_id", "x-correlation_id"},
                                           {"timestamp", "x-timestamp"},
                                           {"expiration", "x-expiration"},
                                           {"cluster_id", "x-cluster_id"}};
    const char *type = json_string_value(json_object_get(properties, "content_type"));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        json_t *value = json_object_get(properties, names[i][0]);
        if (value)
            (void)json_object_set(properties, names[i][1], value);
        (void)json_object_del(properties, names[i][0]);
    }
    if (type && strcmp(type, "application/json") == 0)
        (void)json_object_del(properties, "content_type"); /* it is the default, as the next */
    if (json_integer_value(json_object_get(properties, "delivery_mode")) == AMQP_DELIVERY_PERSISTENT)
        (void)json_object_del(properties, "delivery_mode");
    if (json_object_size(json_object_get(properties, "headers")) == 0)
        (void)json_object_del(properties, "headers");
}
