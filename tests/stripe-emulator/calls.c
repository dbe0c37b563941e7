/* The log of calls, in the order in which they came. */
#include "calls.h"

#include "form.h"

#include <string.h>

void calls_begin(struct calls *calls) {
    *calls = (struct calls){.ring = memory_get(CALLS_KEPT * sizeof(struct call)), .first = 1};
}

static void calls_drop(struct calls *calls) {
    struct call *oldest = &calls->ring[calls->first % CALLS_KEPT];

    calls->bytes -= oldest->bytes;
    free(oldest->method);
    *oldest = (struct call){0};
    calls->first++;
}

void calls_done(struct calls *calls) {
    while (calls->first <= calls->last) {
        calls_drop(calls);
    }
    free(calls->ring);
    *calls = (struct calls){0};
}

static char *calls_put(char *at, const char *text, size_t length) {
    memcpy(at, text, length);
    at[length] = '\0';
    return at + length + 1;
}

struct call *calls_add(struct calls *calls, const char *method, const char *path, const char *parameters,
                       const char *key) {
    size_t parameters_length = parameters ? strnlen(parameters, CALLS_PARAMETERS_MAX) : 0;
    size_t bytes = strlen(method) + strlen(path) + parameters_length + (key ? strlen(key) : 0) + 4;

    while (calls->first <= calls->last &&
           (calls->last + 1 - calls->first >= CALLS_KEPT || calls->bytes + bytes > CALLS_BYTES_MAX)) {
        calls_drop(calls);
    }
    calls->last++;
    calls->bytes += bytes;
    struct call *call = &calls->ring[calls->last % CALLS_KEPT];

    *call = (struct call){.n = calls->last, .bytes = bytes, .method = memory_get(bytes)};
    call->path = calls_put(call->method, method, strlen(method));
    call->parameters = calls_put((char *)call->path, path, strlen(path));
    char *end = calls_put((char *)call->parameters, parameters ? parameters : "", parameters_length);

    if (key) {
        (void)calls_put(end, key, strlen(key));
        call->key = end;
    }
    return call;
}

struct call *calls_get(const struct calls *calls, uint64_t n) {
    return n >= calls->first && n <= calls->last ? &calls->ring[n % CALLS_KEPT] : NULL;
}

/* Text from the outside, which JSON cannot hold where it is not UTF-8. */
static json_t *calls_text(const char *text) {
    json_t *string = text && *text ? json_string(text) : NULL;

    return string ? string : json_null();
}

static json_t *calls_show(const struct call *call) {
    struct form form;
    int r = form_parse(&form, call->parameters);
    json_t *parameters = r == 0 ? form_flat(&form) : json_null();

    form_done(&form);
    return json_pack("{s:I, s:f, s:s, s:o, s:o, s:o, s:o, s:b, s:o, s:s, s:o, s:o}", "n", (json_int_t)call->n, "time",
                     call->time, "method", call->method, "path", calls_text(call->path), "parameters", parameters,
                     "idempotency_key", calls_text(call->key), "status",
                     call->status ? json_integer(call->status) : json_null(), "replayed", call->replayed, "fault",
                     calls_text(call->fault), "request_id", call->request_id, "effect", calls_text(call->effect),
                     "api_key_suffix", calls_text(call->suffix));
}

json_t *calls_list(const struct calls *calls, uint64_t since, size_t limit, const char *path) {
    json_t *list = json_array();
    uint64_t n = since + 1 < calls->first ? calls->first : since + 1;

    for (; n <= calls->last && json_array_size(list) < limit; n++) {
        const struct call *call = calls_get(calls, n);

        if (strncmp(call->path, path, strlen(path)) == 0) {
            json_array_append_new(list, calls_show(call));
        }
    }
    return json_pack("{s:o, s:I, s:I, s:b}", "calls", list, "first", (json_int_t)calls->first, "last",
                     (json_int_t)calls->last, "has_more", n <= calls->last);
}
