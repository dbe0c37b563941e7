/* broker-delivery.c — turns a content header and body frames into a delivery: one allocation, as large as the limits of
 * delivery.h allow, whatever the sender put into the message. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker-internal.h"

enum { TEXTS = 8 };

/* The texts of a delivery before they are copied; `bytes` NULL: absent. */
struct texts {
    amqp_bytes_t bytes[TEXTS];
    const char **to[TEXTS];
    size_t count;
    char generation[24];
};

static void texts_add(struct texts *texts, const char **to, amqp_bytes_t bytes) {
    assert(texts->count < TEXTS);
    if (!bytes.bytes)
        return;
    texts->bytes[texts->count] = bytes;
    texts->to[texts->count++] = to;
}

/* A property of AMQP that is there but empty is there: give it an address. */
static amqp_bytes_t property(const amqp_basic_properties_t *properties, amqp_flags_t flag, amqp_bytes_t bytes) {
    if (!(properties->_flags & flag))
        return amqp_empty_bytes;
    return bytes.bytes ? bytes : amqp_cstring_bytes("");
}

static const amqp_field_value_t *header(const amqp_basic_properties_t *properties, const char *key) {
    return properties->_flags & AMQP_BASIC_HEADERS_FLAG ? table_find(&properties->headers, key) : NULL;
}

static amqp_bytes_t generation_text(struct texts *texts, const amqp_field_value_t *value) {
    uint64_t magnitude = 0;
    bool negative = false;
    if (!value)
        return amqp_empty_bytes;
    if (!field_integer(value, &magnitude, &negative))
        return amqp_cstring_bytes("not an integer");
    (void)snprintf(texts->generation, sizeof texts->generation, "%s%" PRIu64, negative ? "-" : "", magnitude);
    return amqp_cstring_bytes(texts->generation);
}

static amqp_bytes_t deadline_text(const amqp_field_value_t *value) {
    if (!value)
        return amqp_empty_bytes;
    amqp_bytes_t bytes = field_bytes(value);
    return bytes.bytes ? bytes : amqp_cstring_bytes("not a text");
}

static void collect(struct delivery *delivery, const amqp_basic_properties_t *properties, bool headers,
                    struct texts *texts) {
    texts_add(texts, &delivery->message_id, property(properties, AMQP_BASIC_MESSAGE_ID_FLAG, properties->message_id));
    texts_add(texts, &delivery->correlation_id,
              property(properties, AMQP_BASIC_CORRELATION_ID_FLAG, properties->correlation_id));
    texts_add(texts, &delivery->reply_to, property(properties, AMQP_BASIC_REPLY_TO_FLAG, properties->reply_to));
    texts_add(texts, &delivery->user_id, property(properties, AMQP_BASIC_USER_ID_FLAG, properties->user_id));
    if (!headers)
        return;
    texts_add(texts, &delivery->traceparent, field_bytes(header(properties, "traceparent")));
    texts_add(texts, &delivery->tracestate, field_bytes(header(properties, "tracestate")));
    texts_add(texts, &delivery->generation, generation_text(texts, header(properties, "x-portal-generation")));
    texts_add(texts, &delivery->deadline, deadline_text(header(properties, "x-portal-deadline")));
}

static uint64_t delivery_count(const amqp_basic_properties_t *properties) {
    uint64_t magnitude = 0;
    bool negative = false;
    (void)field_integer(header(properties, "x-delivery-count"), &magnitude, &negative);
    return negative ? 0 : magnitude;
}

/* Where `bytes`, which lie in `from`, lie in its copy. */
static amqp_bytes_t moved(amqp_bytes_t bytes, amqp_bytes_t from, amqp_bytes_t copy) {
    const char *at = bytes.bytes;
    const char *start = from.bytes;
    if (!at || at < start || at + bytes.len > start + from.len)
        return amqp_empty_bytes;
    return (amqp_bytes_t){.len = bytes.len, .bytes = (char *)copy.bytes + (at - start)};
}

static amqp_bytes_t copy(char **at, amqp_bytes_t bytes) {
    amqp_bytes_t result = {.len = bytes.len, .bytes = *at};
    memcpy(*at, bytes.bytes, bytes.len);
    *at += bytes.len;
    return result;
}

struct inbound *inbound_new(uint64_t body_size, const amqp_basic_properties_t *properties, amqp_bytes_t raw) {
    bool large_properties = raw.len > DELIVERY_PROPERTIES_MAX;
    bool oversized = large_properties || body_size > DELIVERY_BODY_MAX;
    struct delivery delivery = {.body_size = body_size, .oversized = oversized};
    struct texts texts = {.count = 0};
    amqp_bytes_t correlation_id =
        property(properties, AMQP_BASIC_CORRELATION_ID_FLAG, properties->correlation_id); /* at most 255 bytes */
    collect(&delivery, properties, !large_properties, &texts);

    size_t size = sizeof(struct inbound) + (large_properties ? correlation_id.len : raw.len);
    for (size_t i = 0; i < texts.count; i++)
        size += text_sanitize(NULL, texts.bytes[i]) + 1;
    size_t body_room = oversized ? 0 : (size_t)body_size;
    struct inbound *inbound = calloc(1, size + body_room);
    if (!inbound)
        return NULL;

    char *at = (char *)(inbound + 1);
    if (large_properties) {
        if (correlation_id.bytes)
            inbound->correlation_id = copy(&at, correlation_id);
    } else if (raw.len > 0) {
        amqp_bytes_t kept = copy(&at, raw);
        inbound->raw_properties = oversized ? amqp_empty_bytes : kept;
        inbound->correlation_id = moved(correlation_id, raw, kept);
        inbound->traceparent = moved(field_bytes(header(properties, "traceparent")), raw, kept);
        inbound->tracestate = moved(field_bytes(header(properties, "tracestate")), raw, kept);
    }
    inbound->delivery = delivery;
    for (size_t i = 0; i < texts.count; i++) {
        size_t offset = (size_t)((const char *)texts.to[i] - (const char *)&delivery);
        memcpy((char *)&inbound->delivery + offset, &at, sizeof at);
        at += text_sanitize(at, texts.bytes[i]) + 1;
    }
    if (properties->_flags & AMQP_BASIC_TIMESTAMP_FLAG)
        inbound->delivery.timestamp = properties->timestamp;
    inbound->delivery.delivery_count = delivery_count(properties);
    inbound->delivery.body = oversized ? NULL : at;
    inbound->body_room = body_room;
    return inbound;
}

void inbound_append(struct inbound *inbound, amqp_bytes_t piece) {
    struct delivery *delivery = &inbound->delivery;
    if (delivery->oversized || piece.len == 0)
        return;
    assert(piece.len <= inbound->body_room); /* the connection counts the body down */
    memcpy((char *)delivery->body + delivery->body_length, piece.bytes, piece.len);
    delivery->body_length += piece.len;
    inbound->body_room -= piece.len;
}
