/* broker-message.c — what is published: replies and dead letters. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "broker-internal.h"

enum { ERROR_TEXT_MAX = 1024 }; /* bytes of a dead letter's x-portal-error */

/* The queue that no broker has: a message to it comes back. */
static const char NOWHERE[] = "";

static const struct inbound *inbound_of(const struct delivery *delivery) {
    return (const struct inbound *)delivery; /* its first member */
}

bool reply_is_direct(const struct delivery *delivery) {
    return delivery->reply_to && strncmp(delivery->reply_to, DIRECT_REPLY_PREFIX, strlen(DIRECT_REPLY_PREFIX)) == 0;
}

struct reply reply_of(const struct publication *publication) {
    const struct inbound *inbound = inbound_of(publication->delivery);
    const char *queue = inbound->delivery.reply_to ? inbound->delivery.reply_to : QUEUE_REPLIES;
    /* Made valid UTF-8 a name may have become longer than AMQP has room for; no queue is called so. */
    if (strlen(queue) > 255)
        queue = NOWHERE;
    return (struct reply){
        .routing_key = amqp_cstring_bytes(queue),
        .correlation_id = inbound->correlation_id,
        .traceparent = inbound->traceparent,
        .tracestate = inbound->tracestate,
        .body = {.len = publication->body_length, .bytes = (char *)publication->body},
        .expiration_ms = publication->expiration_ms,
    };
}

static void message_common(struct message *message, uint64_t sequence) {
    table_add_integer(&message->headers, HEADER_SEQUENCE, (int64_t)sequence);
    message->properties._flags |= AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_APP_ID_FLAG | AMQP_BASIC_HEADERS_FLAG;
    message->properties.delivery_mode = AMQP_DELIVERY_PERSISTENT;
    message->properties.app_id = amqp_cstring_bytes("portal-worker");
    message->properties.headers = table_view(&message->headers);
}

void message_from_reply(struct message *message, const struct reply *reply, uint64_t sequence) {
    *message = (struct message){.routing_key = reply->routing_key, .body = reply->body};
    message->mandatory = reply->routing_key.len < strlen(DIRECT_REPLY_PREFIX) ||
                         memcmp(reply->routing_key.bytes, DIRECT_REPLY_PREFIX, strlen(DIRECT_REPLY_PREFIX)) != 0;

    amqp_basic_properties_t *properties = &message->properties;
    properties->_flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_TYPE_FLAG | AMQP_BASIC_TIMESTAMP_FLAG;
    properties->content_type = amqp_cstring_bytes("application/json");
    properties->type = amqp_cstring_bytes("portal_session.reply");
    properties->timestamp = (uint64_t)time(NULL);
    if (reply->correlation_id.bytes) {
        properties->_flags |= AMQP_BASIC_CORRELATION_ID_FLAG;
        properties->correlation_id = reply->correlation_id;
    }
    if (reply->expiration_ms > 0) {
        (void)snprintf(message->expiration, sizeof message->expiration, "%" PRIu64, reply->expiration_ms);
        properties->_flags |= AMQP_BASIC_EXPIRATION_FLAG;
        properties->expiration = amqp_cstring_bytes(message->expiration);
    }
    table_add_bytes(&message->headers, "traceparent", reply->traceparent);
    table_add_bytes(&message->headers, "tracestate", reply->tracestate);
    message_common(message, sequence);
}

/* What must not be a dead letter's own (a copied user_id closes the channel, CC loops the message, an expiration
 * deletes the letter), and what the worker has no place for. */
static void collect_original(struct table *original, const amqp_basic_properties_t *from) {
    if (from->_flags & AMQP_BASIC_USER_ID_FLAG)
        table_add_bytes(original, "user_id", from->user_id);
    if (from->_flags & AMQP_BASIC_EXPIRATION_FLAG)
        table_add_bytes(original, "expiration", from->expiration);
    if (from->_flags & AMQP_BASIC_PRIORITY_FLAG)
        table_add_integer(original, "priority", from->priority);
    if (from->_flags & AMQP_BASIC_TYPE_FLAG)
        table_add_bytes(original, "type", from->type);
    if (from->_flags & AMQP_BASIC_APP_ID_FLAG)
        table_add_bytes(original, "app_id", from->app_id);
    if (from->_flags & AMQP_BASIC_CONTENT_ENCODING_FLAG)
        table_add_bytes(original, "content_encoding", from->content_encoding);
    if (from->_flags & AMQP_BASIC_HEADERS_FLAG)
        table_add_table(original, "headers", from->headers);
}

static void copy_properties(amqp_basic_properties_t *to, const amqp_basic_properties_t *from) {
    to->_flags = from->_flags & (AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_CORRELATION_ID_FLAG |
                                 AMQP_BASIC_MESSAGE_ID_FLAG | AMQP_BASIC_REPLY_TO_FLAG | AMQP_BASIC_TIMESTAMP_FLAG);
    to->content_type = from->content_type;
    to->correlation_id = from->correlation_id;
    to->message_id = from->message_id;
    to->reply_to = from->reply_to;
    to->timestamp = from->timestamp;
}

int message_from_letter(struct message *message, const struct publication *publication, const char *worker,
                        uint64_t sequence) {
    const struct inbound *inbound = inbound_of(publication->delivery);
    const struct dead_letter *letter = publication->letter;
    *message = (struct message){
        .routing_key = amqp_cstring_bytes(QUEUE_DEAD),
        .mandatory = true,
        .body = {.len = inbound->delivery.body_length, .bytes = (char *)inbound->delivery.body},
    };

    void *decoded = NULL;
    if (inbound->raw_properties.len > 0) {
        init_amqp_pool(&message->pool, 4096);
        if (amqp_decode_properties(AMQP_BASIC_CLASS, &message->pool, inbound->raw_properties, &decoded) < 0) {
            message_clear(message);
            return -ENOMEM; /* it was decoded before, so nothing else can be wrong with it */
        }
        copy_properties(&message->properties, decoded);
        collect_original(&message->original, decoded);
    }

    timestamp_format(message->first_at, letter->first_at, true);
    timestamp_format(message->last_at, letter->last_at, true);
    amqp_bytes_t error = amqp_cstring_bytes(letter->error ? letter->error : "");
    error.len = text_fit(error.bytes, ERROR_TEXT_MAX);
    struct table *headers = &message->headers;
    table_add_text(headers, "x-portal-reason", letter->reason);
    table_add_bytes(headers, "x-portal-error", error);
    table_add_integer(headers, "x-portal-attempts", letter->attempts);
    table_add_text(headers, "x-portal-first-time", message->first_at);
    table_add_text(headers, "x-portal-last-time", message->last_at);
    table_add_text(headers, "x-portal-worker", worker);
    table_add_integer(headers, "x-portal-next-generation", letter->next_generation);
    table_add_table(headers, "x-portal-original", table_view(&message->original));
    message_common(message, sequence);
    return 0;
}

void message_clear(struct message *message) {
    if (message->pool.pagesize > 0)
        empty_amqp_pool(&message->pool);
    message->pool = (amqp_pool_t){0};
}
