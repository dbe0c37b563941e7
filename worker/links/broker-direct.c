/* broker-direct.c — replies to amq.rabbitmq.reply-to.*, over a connection of their own: a malformed address of that
 * kind raises inside the broker (its issue #6396) and costs the connection with all that is under way on it.
 *
 * So each is kept until it is confirmed. After a loss what was under way is suspect and sent again, one at a time; the
 * one that costs the connection again has an address to which nothing can be delivered. What comes meanwhile waits. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "broker-internal.h"

/* A connection may also be lost for reasons of its own, while a suspect happens to be under way: unless the broker says
 * that it was an internal error, it takes more than one loss to convict. */
static const unsigned COSTS_MAX = 3;

static struct publisher *direct_of(struct connection *connection) {
    return (struct publisher *)connection; /* its first member */
}

static amqp_bytes_t keep(char **at, amqp_bytes_t bytes) {
    if (!bytes.bytes)
        return amqp_empty_bytes;
    amqp_bytes_t kept = {.len = bytes.len, .bytes = *at};
    memcpy(*at, bytes.bytes, bytes.len);
    *at += bytes.len;
    return kept;
}

static struct outgoing *outgoing_keep(const struct reply *reply) {
    size_t size = reply->routing_key.len + reply->correlation_id.len + reply->traceparent.len + reply->tracestate.len +
                  reply->body.len;
    struct outgoing *outgoing = calloc(1, sizeof *outgoing + size);
    if (!outgoing)
        return NULL;
    char *at = (char *)(outgoing + 1);
    outgoing->reply = (struct reply){
        .routing_key = keep(&at, reply->routing_key),
        .correlation_id = keep(&at, reply->correlation_id),
        .traceparent = keep(&at, reply->traceparent),
        .tracestate = keep(&at, reply->tracestate),
        .body = keep(&at, reply->body),
        .expiration_ms = reply->expiration_ms,
    };
    return outgoing;
}

/* Result: whether it was sent. */
static bool direct_send(struct publisher *direct, struct outgoing *outgoing) {
    struct message message;
    if (!connection_room(&direct->connection))
        return false;
    message_from_reply(&message, &outgoing->reply, direct->sequence + 1);
    return publisher_send(direct, outgoing, &message) >= 0;
}

/* Suspects come first in the list, as they were sent before the others. */
void direct_pump(struct publisher *direct) {
    struct outgoing *outgoing = TAILQ_FIRST(&direct->outgoing);
    while (outgoing && !direct->connection.blocked && connection_usable(&direct->connection)) {
        struct outgoing *next = TAILQ_NEXT(outgoing, entry);
        if (outgoing->sequence > 0) {
            if (outgoing->suspect)
                return; /* it is on trial */
        } else if (!outgoing->publication) {
            publisher_finish(direct, outgoing, PUBLISH_LOST); /* abandoned; there is nobody to tell */
        } else if (!direct_send(direct, outgoing) || outgoing->suspect) {
            return;
        }
        outgoing = next;
    }
}

int direct_publish(struct publisher *direct, struct publication *publication) {
    struct reply reply = reply_of(publication);
    struct outgoing *outgoing = outgoing_keep(&reply);
    if (!outgoing) {
        connection_try_later(&direct->connection.broker->publisher.connection);
        return -EAGAIN;
    }
    publisher_append(direct, outgoing, publication);
    connection_want(&direct->connection);
    direct_pump(direct);
    return 0;
}

static void direct_on_ready(struct connection *connection) {
    publisher_reset(direct_of(connection));
    direct_pump(direct_of(connection));
}

static void direct_on_writable(struct connection *connection) {
    direct_pump(direct_of(connection));
    broker_tell_ready(connection->broker);
}

/* Finds the one that was on trial when the connection was lost, if it is guilty. */
static struct outgoing *direct_judge(struct publisher *direct) {
    bool internal_error = direct->connection.closed_with == AMQP_INTERNAL_ERROR;
    struct outgoing *guilty = NULL;
    struct outgoing *outgoing;
    for (outgoing = TAILQ_FIRST(&direct->outgoing); outgoing; outgoing = TAILQ_NEXT(outgoing, entry)) {
        if (outgoing->sequence == 0)
            continue;
        if (outgoing->suspect)
            outgoing->costs += internal_error ? COSTS_MAX : 1;
        if (outgoing->costs >= COSTS_MAX)
            guilty = outgoing;
        outgoing->suspect = true;
        outgoing->sequence = 0;
    }
    return guilty;
}

static void direct_on_lost(struct connection *connection) {
    struct publisher *direct = direct_of(connection);
    struct connection *publishing = &connection->broker->publisher.connection;
    if (connection->closed_with == AMQP_ACCESS_REFUSED) { /* to publish at all: not the address's fault */
        publishing->closed_with = AMQP_ACCESS_REFUSED;
        connection_break(publishing, "%s", connection->cause);
        publisher_lose_all(direct);
        return;
    }
    struct outgoing *guilty = direct_judge(direct);
    /* Two losses for one address are the price of finding it: nothing to be gained by waiting. */
    if (connection->closed_with == AMQP_INTERNAL_ERROR)
        connection_hurry(connection);
    if (guilty)
        publisher_finish(direct, guilty, PUBLISH_RETURNED);
    if (!connection_usable(publishing))
        publisher_lose_all(direct);
}

/* Nobody is kept waiting for a connection that does not come. */
static void direct_on_failed(struct connection *connection) {
    publisher_lose_all(direct_of(connection));
}

const struct connection_user direct_user = {
    .role = ROLE_DIRECT,
    .name = "direct",
    .ready = direct_on_ready,
    .method = publisher_on_method,
    .header = publisher_on_header,
    .body = publisher_on_body,
    .writable = direct_on_writable,
    .lost = direct_on_lost,
    .failed = direct_on_failed,
    .look = publisher_look,
};
