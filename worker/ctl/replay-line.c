/* replay-line.c — reads one line of a replay file. */
#include "replay-line.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "amqp-json.h"
#include "portal/text.h"

static int refuse(char *error, size_t error_size, const char *format, ...) __attribute__((format(printf, 3, 4)));
static int refuse(char *error, size_t error_size, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(error, error_size, format, arguments);
    va_end(arguments);
    return -EINVAL;
}

/* ---- the text ---- */

/* The line with each "{run}" replaced: the caller's to free; NULL without memory. */
static char *put_run(const char *text, size_t length, const char *run, size_t *ret_length) {
    static const char mark[] = "{run}";
    struct text whole = {0};
    const char *end = text + length;
    while (run) {
        const char *at = memmem(text, (size_t)(end - text), mark, sizeof mark - 1);
        if (!at)
            break;
        text_append_bytes(&whole, text, (size_t)(at - text));
        text_append(&whole, run);
        text = at + sizeof mark - 1;
    }
    text_append_bytes(&whole, text, (size_t)(end - text));
    *ret_length = whole.length;
    return text_take(&whole);
}

/* The end of the text that begins with a quote at `at`, past its closing quote. The JSON is known to be right. */
static const char *skip_string(const char *at) {
    for (at++; *at != '"'; at++)
        at += *at == '\\';
    return at + 1;
}

static bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Copies the value at `at`, up to the comma or bracket that ends it, without the white space between its tokens. */
static const char *copy_value(const char *at, struct text *to) {
    unsigned depth = 0;
    for (;;) {
        const char *from = at;
        if (*at == '"')
            at = skip_string(at);
        else if ((*at == '}' || *at == ']' || *at == ',') && depth == 0)
            return at;
        else {
            depth += *at == '{' || *at == '[';
            depth -= *at == '}' || *at == ']';
            at++;
        }
        if (!is_space(*from))
            text_append_bytes(to, from, (size_t)(at - from));
    }
}

/* The bytes of the line's own field `request`, numbers and escapes as they were written: "every byte counts" to whoever
 * tests with them, and a number of any size is one of JSON. */
static char *request_bytes(const char *json, size_t *length) {
    struct text body = {0};
    const char *at = strchr(json, '{') + 1;
    for (;;) {
        while (is_space(*at) || *at == ',')
            at++;
        const char *key = at;
        at = skip_string(at);
        bool wanted =
            (size_t)(at - key) == strlen("\"request\"") && memcmp(key, "\"request\"", (size_t)(at - key)) == 0;
        while (*at != ':')
            at++;
        at++;
        text_clear(&body);
        at = copy_value(at, &body);
        if (wanted)
            break;
        if (*at == '}') { /* the field's name is there, but not as plain as it has to be */
            text_clear(&body);
            return NULL;
        }
    }
    *length = body.length;
    return text_take(&body);
}

/* RFC 4648 §4, with its padding and nothing else. */
static char *base64_bytes(const char *text, size_t *length) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t size = strlen(text);
    size_t padding = size > 0 && text[size - 1] == '=' ? 1 : 0;
    padding += padding > 0 && size > 1 && text[size - 2] == '=' ? 1 : 0;
    char *bytes = size % 4 == 0 ? malloc(size / 4 * 3 + 1) : NULL;
    uint32_t bits = 0;
    if (!bytes)
        return NULL;
    *length = 0;
    for (size_t i = 0; i < size; i++) {
        const char *letter = i < size - padding && text[i] ? strchr(letters, text[i]) : NULL;
        if (!letter && i < size - padding) {
            free(bytes);
            return NULL;
        }
        bits = bits << 6 | (uint32_t)(letter ? letter - letters : 0);
        if (i % 4 != 3)
            continue;
        for (int shift = 16; shift >= 0; shift -= 8)
            bytes[(*length)++] = (char)(bits >> shift & 0xff);
    }
    *length -= padding;
    bytes[*length] = '\0';
    return bytes;
}

/* ---- the fields ---- */

static bool is_among(const char *name, const char *const *names) {
    for (; *names; names++)
        if (strcmp(*names, name) == 0)
            return true;
    return false;
}

/* A misspelt field is not silently left out; what begins with "x-" is a remark. */
static int check_fields(const json_t *object, const char *what, const char *const *names, char *error,
                        size_t error_size) {
    const char *name;
    const json_t *value;
    if (!json_is_object(object))
        return refuse(error, error_size, "%s has to be an object", what);
    json_object_foreach((json_t *)object, name, value) {
        if (!is_among(name, names) && strncmp(name, "x-", 2) != 0)
            return refuse(error, error_size, "unknown in %s: %.100s", what, name);
    }
    return 0;
}

static int check_expect(const json_t *expect, char *error, size_t error_size) {
    static const char *const fields[] = {"reply", "properties", "same_as", "dead_letter", "calls", NULL};
    static const char *const call_fields[] = {"method", "path", "parameters", "idempotency_key", NULL};
    const json_t *call;
    const json_t *same_as = json_object_get(expect, "same_as");
    size_t i;
    int r = check_fields(expect, "expect", fields, error, error_size);
    if (r == 0 && same_as && !json_is_string(same_as))
        r = refuse(error, error_size, "expect.same_as has to be the name of a line before this one");
    json_array_foreach(json_object_get(expect, "calls"), i, call) {
        r = r < 0 ? r : check_fields(call, "call", call_fields, error, error_size);
    }
    return r;
}

static int check_line(struct replay_line *line, char *error, size_t error_size) {
    static const char *const fields[] = {"name",       "request", "body",   "body_base64",
                                         "properties", "before",  "expect", NULL};
    static const char *const before_fields[] = {"settings", "teams",  "users",  "team_members",
                                                "sql",      "stripe", "faults", NULL};
    const json_t *name = json_object_get(line->json, "name");
    const json_t *before = json_object_get(line->json, "before");
    int r = check_fields(line->json, "line", fields, error, error_size);
    if (r == 0 && name && !json_is_string(name))
        r = refuse(error, error_size, "name has to be a text");
    line->name = json_string_value(name);
    line->properties = json_object_get(line->json, "properties");
    if (r == 0 && line->properties)
        r = amqp_json_check(line->properties, error, error_size);
    line->prepared = before != NULL;
    if (r == 0 && before)
        r = check_fields(before, "before", before_fields, error, error_size);
    line->expect = json_object_get(line->json, "expect");
    if (r == 0 && line->expect)
        r = check_expect(line->expect, error, error_size);
    return r;
}

static int take_body(struct replay_line *line, const char *text, char *error, size_t error_size) {
    const json_t *body = json_object_get(line->json, "body");
    const json_t *base64 = json_object_get(line->json, "body_base64");
    bool request = json_object_get(line->json, "request") != NULL;
    if (request + (body != NULL) + (base64 != NULL) != 1)
        return refuse(error, error_size, "exactly one of request, body and body_base64 has to be there");
    if ((body && !json_is_string(body)) || (base64 && !json_is_string(base64)))
        return refuse(error, error_size, "%s has to be a text", body ? "body" : "body_base64");
    if (request) {
        line->body = request_bytes(text, &line->body_length);
        if (!line->body)
            return refuse(error, error_size, "the name \"request\" has to be written without escapes");
    } else if (body) {
        line->body_length = json_string_length(body);
        line->body = strdup(json_string_value(body));
    } else {
        line->body = base64_bytes(json_string_value(base64), &line->body_length);
        if (!line->body)
            return refuse(error, error_size, "body_base64 has to be base64 (RFC 4648, section 4)");
    }
    return line->body ? 0 : -ENOMEM;
}

/* Where a number is beyond 64 bits, which a request may well have, all whole ones are read as real ones. */
static json_t *parse(const char *text, size_t length, json_error_t *error) {
    const size_t flags = JSON_REJECT_DUPLICATES;
    json_t *json = json_loadb(text, length, flags, error);
    if (json || json_error_code(error) != json_error_numeric_overflow)
        return json;
    return json_loadb(text, length, flags | JSON_DECODE_INT_AS_REAL, error);
}

int replay_line_read(struct replay_line *line, const char *text, size_t length, const char *run, char *error,
                     size_t error_size) {
    *line = (struct replay_line){0};
    size_t start = 0;
    while (start < length && is_space(text[start]))
        start++;
    if (start == length || text[0] == '#')
        return 0;
    if (length > REPLAY_LINE_MAX)
        return refuse(error, error_size, "the line is longer than %d bytes", REPLAY_LINE_MAX);

    AUTOFREE char *whole = put_run(text, length, run, &length);
    if (!whole)
        return -ENOMEM;
    json_error_t trouble;
    line->json = parse(whole, length, &trouble);
    if (!line->json && json_error_code(&trouble) == json_error_out_of_memory)
        return -ENOMEM;
    if (!line->json)
        return refuse(error, error_size, "not JSON: %s (column %d)", trouble.text, trouble.column);
    if (!json_is_object(line->json))
        return refuse(error, error_size, "has to be a JSON object");
    int r = check_line(line, error, error_size);
    if (r == 0)
        r = take_body(line, whole, error, error_size);
    return r < 0 ? r : 1;
}

void replay_line_clear(struct replay_line *line) {
    json_decref(line->json);
    free(line->body);
    *line = (struct replay_line){0};
}
