/* verdict.c — what an exchange with Stripe means. */
#include "portal/verdict.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json-text.h"
#include "portal/text.h"
#include "portal/timestamp.h"

enum { URL_MAX = 8192 }; /* bytes of a session's URL */

static void copy(char *to, size_t size, const json_t *error, const char *name) {
    const char *value = json_string_value(json_object_get(error, name));
    (void)snprintf(to, size, "%s", value ? value : "");
    text_make_utf8(to);
}

/* Stripe names parts of the key it was sent; ours stays with us even so masked. */
static void mask_keys(char *message) {
    static const char *const prefixes[] = {"sk_", "rk_", "pk_"};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        for (char *key = message; (key = strstr(key, prefixes[i]));)
            for (key += strlen(prefixes[i]); *key != '\0' && !strchr(" .,'\"", *key); key++)
                *key = '*';
}

static void read_error(const json_t *answer, struct refusal *refusal) {
    const json_t *error = json_object_get(answer, "error");
    copy(refusal->type, sizeof refusal->type, error, "type");
    copy(refusal->code, sizeof refusal->code, error, "code");
    copy(refusal->param, sizeof refusal->param, error, "param");
    copy(refusal->message, sizeof refusal->message, error, "message");
    mask_keys(refusal->message);
}

int verdict_misbehaved(struct refusal *refusal, const char *what) {
    refusal->misbehaved = true;
    (void)snprintf(refusal->message, sizeof refusal->message, "Stripe's answer is not what its API promises: %s", what);
    return -EBADMSG;
}

/* Stripe-Should-Retry wins over the rule by status, as in the official SDKs. */
static enum verdict judge_failure(const struct stripe_exchange *exchange, const struct refusal *refusal) {
    if (exchange->status == 401 || exchange->status == 403)
        return VERDICT_DENIED;
    if (strcmp(refusal->type, "idempotency_error") == 0 && exchange->status != 409)
        return VERDICT_USED_UP;
    if (exchange->replayed && exchange->status >= 500)
        return VERDICT_USED_UP;
    if (exchange->should_retry == 0)
        return VERDICT_REFUSED;
    if (exchange->status == 429 && strcmp(refusal->code, "lock_timeout") != 0) /* which is about one object */
        return VERDICT_SLOW;
    if (exchange->status == 409 || exchange->status == 429 || exchange->status >= 500 || exchange->should_retry == 1)
        return VERDICT_RETRY;
    return VERDICT_REFUSED;
}

enum verdict verdict_of(const struct stripe_exchange *exchange, json_t **ret, struct refusal *refusal) {
    *ret = NULL;
    *refusal = (struct refusal){.status = exchange->status};
    (void)snprintf(refusal->request_id, sizeof refusal->request_id, "%s", exchange->request_id);
    if (exchange->error != 0) {
        (void)snprintf(refusal->message, sizeof refusal->message, "%s", exchange->explanation);
        return VERDICT_RETRY;
    }
    json_t *answer = NULL;
    if (exchange->body && json_text_read(exchange->body, exchange->body_length, 0, &answer, NULL) == -ENOMEM) {
        (void)snprintf(refusal->message, sizeof refusal->message, "no memory for Stripe's answer");
        return VERDICT_RETRY;
    }
    bool success = exchange->status >= 200 && exchange->status < 300;
    if (success && json_is_object(answer)) {
        *ret = answer;
        return VERDICT_DONE;
    }
    read_error(answer, refusal);
    bool unknown = exchange->status < 400 || (exchange->status < 500 && !json_is_object(answer));
    json_decref(answer);
    if (unknown && exchange->status != 401 && exchange->status != 403 && exchange->status != 429) {
        char what[64];
        (void)snprintf(what, sizeof what, "HTTP status %d without a JSON object", exchange->status);
        (void)verdict_misbehaved(refusal, what);
        return exchange->replayed ? VERDICT_USED_UP : VERDICT_RETRY;
    }
    return judge_failure(exchange, refusal);
}

void refusal_text(const struct refusal *refusal, char *text, size_t size) {
    bool coded = refusal->code[0] != '\0', typed = refusal->type[0] != '\0', param = refusal->param[0] != '\0';
    if (!typed && refusal->message[0] == '\0')
        (void)snprintf(text, size, "HTTP status %d", refusal->status);
    else
        (void)snprintf(text, size, "%s%s%s%s%s%s%s%s", refusal->type, coded ? " " : "", refusal->code,
                       typed ? ": " : "", refusal->message, param ? " (param " : "", refusal->param, param ? ")" : "");
    text_make_utf8(text);
}

static const char *text_of(const json_t *answer, const char *name) {
    const char *value = json_string_value(json_object_get(answer, name));
    return value && *value ? value : NULL;
}

static bool is_url(const char *url, bool https) {
    if (strncmp(url, "https://", 8) != 0 && (https || strncmp(url, "http://", 7) != 0))
        return false;
    for (const char *c = url; *c != '\0'; c++)
        if ((unsigned char)*c <= ' ' || *c == 0x7f)
            return false;
    return strlen(url) <= URL_MAX;
}

int verdict_session(const json_t *answer, const char *customer, bool https, struct session *session,
                    struct refusal *refusal) {
    const char *id = text_of(answer, "id"), *url = text_of(answer, "url");
    const char *given = text_of(answer, "customer"), *return_url = text_of(answer, "return_url");
    const char *configuration = text_of(answer, "configuration");
    const json_t *created = json_object_get(answer, "created");

    *session = (struct session){0};
    if (!id || strlen(id) > 255)
        return verdict_misbehaved(refusal, "the session has no id");
    if (!url || !is_url(url, https))
        return verdict_misbehaved(refusal, "the session has no https url");
    if (!given || strcmp(given, customer) != 0)
        return verdict_misbehaved(refusal, "the session is not the customer's that was asked for");
    if (!return_url || !configuration || !json_is_integer(created) || json_integer_value(created) <= 0 ||
        json_integer_value(created) > TIMESTAMP_MAX_SECONDS)
        return verdict_misbehaved(refusal, "the session has no return_url, configuration or created");
    struct session borrowed = {.id = (char *)id,
                               .url = (char *)url,
                               .customer = (char *)given,
                               .return_url = (char *)return_url,
                               .configuration = (char *)configuration,
                               .created = json_integer_value(created)};
    return session_copy(&borrowed, session);
}

int verdict_list(const json_t *answer, const char *after, const json_t **data, bool *has_more,
                 struct refusal *refusal) {
    *data = json_object_get(answer, "data");
    const json_t *more = json_object_get(answer, "has_more"), *element;
    size_t index;
    if (!json_is_array(*data) || !json_is_boolean(more))
        return verdict_misbehaved(refusal, "the list has no data or no has_more");
    json_array_foreach(*data, index, element) {
        if (!text_of(element, "id"))
            return verdict_misbehaved(refusal, "an element of the list has no id");
    }
    *has_more = json_is_true(more);
    if (*has_more && json_array_size(*data) == 0)
        return verdict_misbehaved(refusal, "the list is empty, yet more is to follow");
    element = json_array_get(*data, json_array_size(*data) - 1);
    if (*has_more && after && strcmp(text_of(element, "id"), after) == 0)
        return verdict_misbehaved(refusal, "a page of the list repeats the one before");
    return 0;
}
