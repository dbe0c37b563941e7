/* request.c — a message read as a request: reply address, body, ids, deadline, generation. flow.c reads the deep link.
 */
#include "portal/request.h"

#include <errno.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json-text.h"
#include "portal/names.h"
#include "portal/text.h"
#include "portal/timestamp.h"
#include "request-internal.h"

/* Stripe's BillingPortal.Session.Locale, "auto" included. */
static const char *const locales[] = {
    "auto",  "bg",    "cs", "da",     "de", "el", "en",  "en-AU", "en-CA", "en-GB", "en-IE", "en-IN",
    "en-NZ", "en-SG", "es", "es-419", "et", "fi", "fil", "fr",    "fr-CA", "hr",    "hu",    "id",
    "it",    "ja",    "ko", "lt",     "lv", "ms", "mt",  "nb",    "nl",    "pl",    "pt",    "pt-BR",
    "ro",    "ru",    "sk", "sl",     "sv", "th", "tr",  "vi",    "zh",    "zh-HK", "zh-TW", NULL,
};

int request_refuse(struct request_problem *problem, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    problem->code = "invalid_request";
    (void)vsnprintf(problem->message, sizeof problem->message, format, arguments);
    va_end(arguments);
    text_make_utf8(problem->message); /* what the sender wrote was cut to fit */
    return -EINVAL;
}

/* ---- the reply address ---- */

static bool matches_any(const char *name, char *const *patterns) {
    for (; *patterns; patterns++)
        if (fnmatch(*patterns, name, FNM_NOESCAPE) == 0)
            return true;
    return false;
}

int request_check_reply_to(const char *reply_to, char *const *patterns, struct request_problem *problem) {
    if (!reply_to)
        return 0;
    if (strcmp(reply_to, QUEUE_REQUESTS) != 0 && strcmp(reply_to, QUEUE_DEAD) != 0 && matches_any(reply_to, patterns))
        return 0;
    problem->code = "reply_refused";
    (void)snprintf(problem->message, sizeof problem->message,
                   "reply_to \"%.100s\" is not allowed: it has to match PORTAL_REPLY_QUEUES", reply_to);
    text_make_utf8(problem->message);
    return -EINVAL;
}

/* ---- single fields ---- */

static bool is_request_id(const char *id) {
    size_t length = strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-");
    return length >= 1 && length <= REQUEST_ID_MAX && id[length] == '\0';
}

void request_id_from_message(struct request *request, const struct delivery *delivery) {
    if (delivery->message_id && is_request_id(delivery->message_id))
        (void)snprintf(request->request_id, sizeof request->request_id, "%s", delivery->message_id);
}

/* An absent field and null are the same: many senders write null for what they leave out. */
const json_t *request_field(const json_t *object, const char *name) {
    const json_t *value = json_object_get(object, name);
    return json_is_null(value) ? NULL : value;
}

static int read_request_id(const json_t *body, const struct delivery *delivery, struct request *request,
                           struct request_problem *problem) {
    const json_t *value = request_field(body, "request_id");
    if (value) {
        if (!json_is_string(value) || !is_request_id(json_string_value(value)))
            return request_refuse(problem, "request_id has to be a string of 1 to %d characters of A-Za-z0-9._:-",
                                  REQUEST_ID_MAX);
        (void)snprintf(request->request_id, sizeof request->request_id, "%s", json_string_value(value));
        return 0;
    }
    if (!delivery->message_id)
        return request_refuse(problem, "request_id is missing, and so is the AMQP message_id that could serve instead");
    request_id_from_message(request, delivery);
    if (request->request_id[0] == '\0')
        return request_refuse(problem,
                              "message_id, which serves as request_id, has to be 1 to %d characters of "
                              "A-Za-z0-9._:-",
                              REQUEST_ID_MAX);
    return 0;
}

static int read_id(const json_t *body, const char *name, int64_t *ret, struct request_problem *problem) {
    const json_t *value = request_field(body, name);
    if (!value)
        return 0;
    if (!json_is_integer(value) || json_integer_value(value) <= 0)
        return request_refuse(problem, "%s has to be a positive integer of at most %" PRId64, name, INT64_MAX);
    *ret = json_integer_value(value);
    return 0;
}

const char *request_path_problem(const char *path) {
    if (path[0] != '/')
        return "has to begin with a single \"/\": it is a path on BASE_URL";
    if (path[1] == '/')
        return "must not begin with \"//\", which names another host";
    for (const char *c = path; *c != '\0'; c++) {
        if (*c == '\\')
            return "must not hold a backslash, which browsers read as \"/\"";
        if ((unsigned char)*c <= ' ' || (unsigned char)*c >= 0x7f)
            return "may hold only printable ASCII without spaces; write the rest percent-encoded";
    }
    return strlen(path) > RETURN_PATH_MAX ? "is longer than 2000 bytes" : NULL;
}

static int read_return_path(const json_t *body, struct request *request, struct request_problem *problem) {
    const json_t *value = request_field(body, "return_path");
    if (value && !json_is_string(value))
        return request_refuse(problem, "return_path has to be a string");
    const char *path = value ? json_string_value(value) : DEFAULT_RETURN_PATH;
    const char *wrong = request_path_problem(path);
    if (wrong)
        return request_refuse(problem, "return_path %s", wrong);
    request->return_path = strdup(path);
    return request->return_path ? 0 : -ENOMEM;
}

static int read_locale(const json_t *body, struct request *request, struct request_problem *problem) {
    const json_t *value = request_field(body, "locale");
    if (!value)
        return 0;
    if (!json_is_string(value))
        return request_refuse(problem, "locale has to be a string");
    for (const char *const *locale = locales; *locale; locale++)
        if (strcmp(*locale, json_string_value(value)) == 0) {
            request->locale = strdup(*locale);
            return request->locale ? 0 : -ENOMEM;
        }
    return request_refuse(problem,
                          "locale \"%.40s\" is none that Stripe's portal speaks, such as \"auto\", \"en\", "
                          "\"de\" or \"pt-BR\"",
                          json_string_value(value));
}

bool request_is_stripe_id(const char *id, const char *prefix) {
    size_t length = strlen(id), start = strlen(prefix);
    return length > start && length <= STRIPE_ID_MAX && strncmp(id, prefix, start) == 0 &&
           strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") == length;
}

static int read_configuration(const json_t *body, struct request *request, struct request_problem *problem) {
    const json_t *value = request_field(body, "configuration");
    if (!value)
        return 0;
    if (!json_is_string(value) || !request_is_stripe_id(json_string_value(value), "bpc_"))
        return request_refuse(problem, "configuration has to be the id of a Stripe portal configuration, bpc_…");
    request->configuration = strdup(json_string_value(value));
    return request->configuration ? 0 : -ENOMEM;
}

static int read_fresh(const json_t *body, struct request *request, struct request_problem *problem) {
    const json_t *value = request_field(body, "fresh");
    if (value && !json_is_boolean(value))
        return request_refuse(problem, "fresh has to be true or false");
    request->fresh = json_is_true(value);
    return 0;
}

/* The header wins over the body, and the body over the default, which counts from the sender's timestamp. A timestamp
 * that no clock shows (milliseconds, say) is taken for none. */
static int read_deadline(const json_t *body, const struct delivery *delivery, const struct request_rules *rules,
                         uint64_t now, struct request *request, struct request_problem *problem) {
    const json_t *value = request_field(body, "deadline");
    if (value && (!json_is_string(value) || timestamp_parse(json_string_value(value), &request->deadline) < 0))
        return request_refuse(problem, "deadline has to be an RFC 3339 time such as \"2030-01-31T12:00:00Z\"");
    if (delivery->deadline) {
        request->deadline = 0;
        if (strcmp(delivery->deadline, "none") == 0 || timestamp_parse(delivery->deadline, &request->deadline) == 0)
            return 0;
        return request_refuse(problem, "header x-portal-deadline has to be an RFC 3339 time or \"none\"");
    }
    if (value)
        return 0;
    if (rules->deadline_seconds == 0)
        return 0;
    bool stamped = delivery->timestamp > 0 && delivery->timestamp <= TIMESTAMP_MAX_SECONDS;
    request->deadline_from_arrival = !stamped;
    request->deadline = (stamped ? delivery->timestamp * 1000000 : now) + (uint64_t)rules->deadline_seconds * 1000000;
    return 0;
}

static int read_generation(const struct delivery *delivery, struct request *request, struct request_problem *problem) {
    request->generation = 1;
    if (!delivery->generation)
        return 0;
    char *end;
    errno = 0;
    long value = strtol(delivery->generation, &end, 10);
    if (errno != 0 || end == delivery->generation || *end != '\0' || value < 1 || value > GENERATION_MAX)
        return request_refuse(problem, "header x-portal-generation has to be an integer from 1 to %d", GENERATION_MAX);
    request->generation = (uint32_t)value;
    return 0;
}

/* ---- the whole ---- */

static int read_fields(const json_t *body, const struct delivery *delivery, const struct request_rules *rules,
                       uint64_t now, struct request *request, struct request_problem *problem) {
    int r = read_request_id(body, delivery, request, problem);
    if (r == 0)
        r = read_id(body, "team_id", &request->team_id, problem);
    if (r == 0)
        r = read_id(body, "user_id", &request->user_id, problem);
    if (r == 0 && request->team_id == 0 && request->user_id == 0)
        r = request_refuse(problem, "team_id or user_id is required");
    if (r == 0)
        r = read_return_path(body, request, problem);
    if (r == 0)
        r = read_locale(body, request, problem);
    if (r == 0)
        r = read_configuration(body, request, problem);
    if (r == 0)
        r = request_read_flow(body, request, problem);
    if (r == 0)
        r = read_fresh(body, request, problem);
    if (r == 0)
        r = read_deadline(body, delivery, rules, now, request, problem);
    if (r == 0)
        r = read_generation(delivery, request, problem);
    return r;
}

static bool set_id(json_t *object, const char *name, int64_t id) {
    return id == 0 || json_object_set_new(object, name, json_integer((json_int_t)id)) == 0;
}

static int write_ask(struct request *request) {
    json_t *ask = json_object();
    if (json_text_set(ask, "return_path", request->return_path) && json_text_set(ask, "locale", request->locale) &&
        json_text_set(ask, "configuration", request->configuration) &&
        (!request->flow || json_object_set(ask, "flow", request->flow) == 0) &&
        set_id(ask, "team_id", request->team_id) && set_id(ask, "user_id", request->user_id))
        request->ask = json_text_write(ask, JSON_COMPACT | JSON_SORT_KEYS);
    json_decref(ask);
    return request->ask ? 0 : -ENOMEM;
}

/* Whether a number, an integer or a real, is more than jansson holds. */
static bool is_huge(const char *number, size_t length) {
    if (strspn(number, "+-0123456789") < length)
        return isinf(strtod(number, NULL));
    errno = 0;
    (void)strtoll(number, NULL, 10);
    return errno == ERANGE;
}

/* Puts a 0.0 in the place of each such number: no field of ours takes it either, and in others it is no matter. */
static void blunt_huge_numbers(char *body, size_t body_length) {
    bool quoted = false;
    for (char *at = body; at < body + body_length; at++) {
        size_t length = quoted ? 0 : strspn(at, "+-.0123456789Ee");
        if (*at == '"')
            quoted = !quoted;
        else if (quoted && *at == '\\')
            at++;
        else if (length > 0) {
            if (is_huge(at, length)) { /* which takes more than four characters */
                memset(at, '0', length);
                at[1] = '.';
            }
            at += length - 1;
        }
    }
}

/* A number beyond 64 bits, or beyond a double, is an error to jansson, even in a field that we ignore. */
static int parse_body(const struct delivery *delivery, json_t **ret, json_error_t *error) {
    int r = json_text_read(delivery->body, delivery->body_length, JSON_REJECT_DUPLICATES, ret, error);
    if (r != -EINVAL || json_error_code(error) != json_error_numeric_overflow)
        return r;
    char *body = malloc(delivery->body_length + 1);
    if (!body)
        return -ENOMEM;
    memcpy(body, delivery->body, delivery->body_length);
    body[delivery->body_length] = '\0'; /* for whoever reads the last number */
    blunt_huge_numbers(body, delivery->body_length);
    r = json_text_read(body, delivery->body_length, JSON_REJECT_DUPLICATES, ret, error);
    free(body);
    return r;
}

static int refuse_json(const json_error_t *error, struct request_problem *problem) {
    enum json_error_code code = json_error_code(error);
    bool nul = code == json_error_null_character || code == json_error_null_byte_in_key;
    return request_refuse(problem, "the body has to be a JSON object in UTF-8: %s (line %d, column %d)",
                          nul ? "no text in it may hold \\u0000" : error->text, error->line, error->column);
}

static int check_sender(const struct request *request, const struct delivery *delivery,
                        const struct request_rules *rules, struct request_problem *problem) {
    if (request->user_id != 0 || !rules->team_senders)
        return 0;
    for (char *const *sender = rules->team_senders; *sender; sender++)
        if (delivery->user_id && strcmp(*sender, delivery->user_id) == 0)
            return 0;
    problem->code = "forbidden_sender";
    (void)snprintf(
        problem->message, sizeof problem->message,
        "a request without user_id needs an AMQP user_id that PORTAL_TEAM_SENDERS lists; this one has %s%.64s",
        delivery->user_id ? "" : "none", delivery->user_id ? delivery->user_id : "");
    text_make_utf8(problem->message);
    return -EINVAL;
}

int request_read(const struct delivery *delivery, const struct request_rules *rules, uint64_t now,
                 struct request *request, struct request_problem *problem) {
    *request = (struct request){0};
    *problem = (struct request_problem){0};

    int r = request_check_reply_to(delivery->reply_to, rules->reply_queues, problem);
    if (r < 0)
        return r;
    if (delivery->oversized) {
        request_id_from_message(request, delivery);
        return request_refuse(problem,
                              "the message is too large: the body (here %" PRIu64 " bytes) and its properties "
                              "may have %d bytes each",
                              delivery->body_size, DELIVERY_BODY_MAX);
    }
    json_error_t error;
    json_t *body = NULL;
    r = parse_body(delivery, &body, &error);
    if (r == -ENOMEM)
        return r;
    if (!json_is_object(body)) {
        request_id_from_message(request, delivery);
        r = body ? request_refuse(problem, "the body has to be a JSON object") : refuse_json(&error, problem);
    } else
        r = read_fields(body, delivery, rules, now, request, problem);
    json_decref(body);
    if (r < 0)
        return r;
    r = check_sender(request, delivery, rules, problem);
    return r < 0 ? r : write_ask(request);
}

void request_clear(struct request *request) {
    free(request->return_path);
    free(request->locale);
    free(request->configuration);
    json_decref(request->flow);
    free(request->ask);
    *request = (struct request){0};
}

char *request_properties(const struct delivery *delivery) {
    const bool stamped = delivery->timestamp > 0 && delivery->timestamp <= TIMESTAMP_MAX_SECONDS;
    json_t *properties = json_object();
    char *text = NULL;
    if (properties && json_text_set(properties, "message_id", delivery->message_id) &&
        json_text_set(properties, "correlation_id", delivery->correlation_id) &&
        json_text_set(properties, "reply_to", delivery->reply_to) &&
        json_text_set(properties, "user_id", delivery->user_id) &&
        json_text_set(properties, "traceparent", delivery->traceparent) &&
        json_text_set(properties, "tracestate", delivery->tracestate) &&
        set_id(properties, "timestamp", stamped ? (int64_t)delivery->timestamp : 0))
        text = json_text_write(properties, JSON_COMPACT);
    json_decref(properties);
    return text;
}
