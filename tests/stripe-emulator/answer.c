/* An answer to one request, and errors in Stripe's form. */
#include "answer.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

void answer_json(struct answer *answer, unsigned status, const json_t *json) {
    free(answer->body);
    answer->body = json_dumps(json, JSON_INDENT(2) | JSON_ENCODE_ANY);
    answer->content_type = "application/json";
    answer->status = status;
    answer->code[0] = '\0';
}

static void answer_verror(struct answer *answer, unsigned status, const char *type, const char *code, const char *param,
                          const char *format, va_list arguments) {
    _cleanup_free_ char *message = memory_vformat(format, arguments);
    _cleanup_json_ json_t *error = json_object();
    _cleanup_json_ json_t *whole = json_pack("{s:O}", "error", error);

    if (code) {
        char document[96];

        (void)snprintf(document, sizeof document, "https://stripe.com/docs/error-codes/%s", code);
        for (char *at = strrchr(document, '/'); *at; at++) {
            *at = *at == '_' ? '-' : *at;
        }
        json_object_set_new(error, "code", json_string(code));
        json_object_set_new(error, "doc_url", json_string(document));
    }
    json_object_set_new(error, "message", json_string(message));
    if (param) {
        json_object_set_new(error, "param", json_string(param));
    }
    if (answer->request_id[0]) {
        json_object_set_new(error, "request_log_url",
                            json_sprintf("https://dashboard.stripe.com/%slogs/%s", answer->livemode ? "" : "test/",
                                         answer->request_id));
    }
    json_object_set_new(error, "type", json_string(type));
    answer_json(answer, status, whole);
    (void)snprintf(answer->code, sizeof answer->code, "%s", code ? code : type);
}

void answer_error(struct answer *answer, unsigned status, const char *type, const char *code, const char *param,
                  const char *format, ...) {
    va_list arguments;

    va_start(arguments, format);
    answer_verror(answer, status, type, code, param, format, arguments);
    va_end(arguments);
}

int answer_invalid(struct answer *answer, const char *code, const char *param, const char *format, ...) {
    va_list arguments;

    va_start(arguments, format);
    answer_verror(answer, 400, "invalid_request_error", code, param, format, arguments);
    va_end(arguments);
    return -EINVAL;
}

int answer_missing(struct answer *answer, unsigned status, const char *kind, const char *id, const char *param) {
    answer_error(answer, status, "invalid_request_error", "resource_missing", param, "No such %s: '%s'", kind, id);
    return -EINVAL;
}

void answer_clear(struct answer *answer) {
    struct answer kept = {.livemode = answer->livemode};

    memcpy(kept.request_id, answer->request_id, sizeof kept.request_id);
    free(answer->body);
    *answer = kept;
}
