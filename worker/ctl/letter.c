/* letter.c — one message of portal.dead. */
#include "letter.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../links/amqp-table.h"
#include "amqp-json.h"
#include "portal/request.h"
#include "portalctl.h"
#include "replay-line.h"

/* ---- reading ---- */

/* FNV-1a: short, and the same tomorrow. Who makes two letters with one handle only confuses himself. */
static uint64_t digest(uint64_t hash, const void *bytes, size_t length) {
    const unsigned char *at = bytes;
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ at[i]) * 1099511628211U;
    return (hash ^ 0xff) * 1099511628211U;
}

static void make_handle(struct letter *letter) {
    const struct wire_message *message = letter->message;
    const amqp_basic_properties_t *properties = &message->properties;
    uint64_t hash = digest(14695981039346656037U, message->body.bytes, message->body.len);
    if (properties->_flags & AMQP_BASIC_MESSAGE_ID_FLAG)
        hash = digest(hash, properties->message_id.bytes, properties->message_id.len);
    if (properties->_flags & AMQP_BASIC_CORRELATION_ID_FLAG)
        hash = digest(hash, properties->correlation_id.bytes, properties->correlation_id.len);
    hash = digest(hash, letter->reason, strlen(letter->reason));
    hash = digest(hash, &letter->died_at, sizeof letter->died_at);
    (void)snprintf(letter->handle, sizeof letter->handle, "%012" PRIx64, hash >> 16);
}

static void read_headers(struct letter *letter) {
    const json_t *headers = json_object_get(letter->properties, "headers");
    const json_t *death = json_array_get(json_object_get(headers, "x-death"), 0);
    const char *reason = json_string_value(json_object_get(headers, "x-portal-reason"));
    const char *time = json_string_value(json_object_get(headers, "x-portal-last-time"));
    json_int_t number = 0;
    letter->by_worker = reason != NULL;
    letter->reason = reason;
    if (!reason)
        letter->reason = json_string_value(json_object_get(death, "reason"));
    if (!letter->reason)
        letter->reason = "unknown";
    const json_t *error = json_object_get(headers, "x-portal-error");
    if (json_is_string(error)) { /* may quote what the sender wrote */
        size_t length = 0;
        letter->error = replay_redact(json_string_value(error), json_string_length(error), &length);
    }
    letter->worker = json_string_value(json_object_get(headers, "x-portal-worker"));
    letter->attempts = json_integer_value(json_object_get(headers, "x-portal-attempts"));
    if (json_whole(json_object_get(headers, "x-portal-next-generation"), 1, GENERATION_MAX, &number))
        letter->next_generation = (uint32_t)number;
    if (reason && time && timestamp_parse(time, &letter->died_at) < 0)
        letter->died_at = 0;
    if (!reason && json_whole(json_object_get(death, "time"), 1, INT64_MAX / 1000000, &number))
        letter->died_at = (uint64_t)number * 1000000;
}

static void read_body(struct letter *letter) {
    amqp_bytes_t body = letter->message->body;
    json_int_t number = 0;
    if (letter->message->body_size == body.len)
        letter->body = json_loadb(body.bytes, body.len, JSON_REJECT_DUPLICATES, NULL);
    if (!json_is_object(letter->body)) {
        json_decref(letter->body);
        letter->body = NULL;
    }
    letter->request_id = json_string_value(json_object_get(letter->body, "request_id"));
    if (!letter->request_id)
        letter->request_id = json_string_value(json_object_get(letter->properties, "message_id"));
    if (json_whole(json_object_get(letter->body, "team_id"), 1, INT64_MAX, &number))
        letter->team_id = number;
    if (json_whole(json_object_get(letter->body, "user_id"), 1, INT64_MAX, &number))
        letter->user_id = number;
}

int letter_read(struct letter *letter, const struct wire_message *message) {
    *letter = (struct letter){.message = message, .properties = amqp_to_json(&message->properties)};
    if (!letter->properties)
        return -ENOMEM;
    read_headers(letter);
    read_body(letter);
    make_handle(letter);
    return 0;
}

void letter_clear(struct letter *letter) {
    json_decref(letter->properties);
    json_decref(letter->body);
    free(letter->error);
    *letter = (struct letter){0};
}

/* ---- showing ---- */

static json_t *time_json(uint64_t time) {
    char text[TIMESTAMP_SIZE];
    if (time == 0)
        return NULL;
    timestamp_format(text, time, true);
    return json_string(text);
}

static json_t *id_json(int64_t id) {
    return id > 0 ? json_integer((json_int_t)id) : NULL;
}

json_t *letter_to_json(const struct letter *letter) {
    return json_pack("{ss ss ss? ss? so? so? so? ss? sI so? sI}", "letter", letter->handle, "reason", letter->reason,
                     "error", letter->error, "request_id", letter->request_id, "team_id", id_json(letter->team_id),
                     "user_id", id_json(letter->user_id), "died_at", time_json(letter->died_at), "worker",
                     letter->worker, "attempts", (json_int_t)letter->attempts, "next_generation",
                     id_json(letter->next_generation), "bytes", (json_int_t)letter->message->body_size);
}

/* The headers that its sender gave it, without what the broker and the worker made of them: the caller's; NULL without
 * memory. CC and BCC would send it elsewhere once more. */
static json_t *own_headers(const json_t *headers) {
    static const char *const prefixes[] = {"x-death", "x-first-death-", "x-last-death-", "x-delivery-count", "CC",
                                           "BCC"};
    json_t *own = json_object();
    const char *name;
    const json_t *value;
    json_object_foreach((json_t *)headers, name, value) {
        bool foreign = false;
        for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
            foreign |= strncmp(name, prefixes[i], strlen(prefixes[i])) == 0;
        if (own && !foreign && json_object_set(own, name, (json_t *)value) < 0) {
            json_decref(own);
            return NULL;
        }
    }
    return own;
}

json_t *letter_original(const struct letter *letter) {
    static const char *const kept[] = {"content_type", "correlation_id", "message_id", "reply_to", "timestamp"};
    const json_t *headers = json_object_get(letter->properties, "headers");
    const json_t *source = letter->by_worker ? json_object_get(headers, "x-portal-original") : letter->properties;
    const json_t *expired =
        json_object_get(json_array_get(json_object_get(headers, "x-death"), 0), "original-expiration");
    json_t *properties = json_is_object(source) ? json_copy((json_t *)source) : json_object();
    int r = properties ? 0 : -ENOMEM;
    for (size_t i = 0; r == 0 && letter->by_worker && i < sizeof kept / sizeof *kept; i++)
        if (json_object_get(letter->properties, kept[i]))
            r = json_object_set(properties, kept[i], json_object_get(letter->properties, kept[i]));
    if (r == 0 && json_is_string(expired))
        r = json_object_set(properties, "expiration", (json_t *)expired);
    if (r == 0)
        r = json_object_set_new(properties, "headers", own_headers(json_object_get(source, "headers")));
    if (r == 0)
        return properties;
    json_decref(properties);
    return NULL;
}

char *letter_to_line(const struct letter *letter) {
    json_t *remark =
        json_pack("{ss ss ss*}", "x-letter", letter->handle, "x-reason", letter->reason, "x-error", letter->error);
    json_t *properties = letter_original(letter);
    if (properties)
        replay_tidy(properties);
    return replay_line_write(letter->message->body.bytes, letter->message->body.len, properties, remark);
}

/* ---- sending again ---- */

const char *letter_verdict(const struct letter *letter, char *words, size_t size) {
    static const char *const hopeless[] = {"invalid_request", "reply_refused", "forbidden_sender", "poisonous"};
    static char *const any[] = {(char *)"*", NULL};
    const struct request_rules rules = {.reply_queues = any};
    const struct wire_message *message = letter->message;
    struct delivery delivery = {.body = message->body.bytes, .body_length = message->body.len};
    struct request_problem problem;
    struct request request;
    for (size_t i = 0; i < sizeof hopeless / sizeof *hopeless; i++)
        if (strcmp(letter->reason, hopeless[i]) == 0)
            return hopeless[i];
    delivery.body_size = message->body_size;
    delivery.oversized = message->body_size > DELIVERY_BODY_MAX;
    delivery.message_id = json_string_value(json_object_get(letter->properties, "message_id"));
    int r = request_read(&delivery, &rules, ctl_wall(), &request, &problem);
    request_clear(&request);
    if (r == 0)
        return NULL;
    (void)snprintf(words, size, "%s", r == -ENOMEM ? "out of memory" : problem.message);
    return words;
}

json_t *revive(json_t *properties, uint64_t generation, const char *deadline) {
    json_t *headers = json_object_get(properties, "headers");
    int r = properties ? 0 : -ENOMEM;
    if (r == 0 && !headers)
        r = json_object_set_new(properties, "headers", headers = json_object());
    if (r == 0 && generation > 0)
        r = json_object_set_new(headers, "x-portal-generation", json_integer((json_int_t)generation));
    if (r == 0)
        r = json_object_set_new(headers, "x-portal-deadline", json_string(deadline));
    if (r == 0)
        r = json_object_set_new(properties, "user_id", json_string("")); /* whoever sends it */
    if (r == 0)
        r = json_object_set_new(properties, "timestamp", json_integer((json_int_t)(ctl_wall() / 1000000)));
    (void)json_object_del(properties, "expiration");
    (void)json_object_del(properties, "delivery_mode");
    if (r == 0)
        return properties;
    json_decref(properties);
    return NULL;
}
