/* broker-consumer.c — the connection that consumes: the consumer comes and goes as the core wants it, deliveries are
 * put together frame by frame, and settlements go back on the channel the delivery came by. */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker-internal.h"
#include "portal/portal.h"

static struct consumer *consumer_of(struct connection *connection) {
    return (struct consumer *)connection; /* its first member */
}

/* ---- the subscriptions ----
 *
 * RabbitMQ bounds what is in hand for each subscription, not for the channel (quorum queues know no global prefetch).
 * What is in hand when all are cancelled stays in hand, so the next one gets what is left of the prefetch, and another
 * is added once more is left: together they have the prefetch. Each has a tag of its own: under one that was cancelled
 * with messages in hand RabbitMQ 3.10 delivers those again, and crashes the channel over the second acknowledgement
 * (seen). */

static void consumer_write_tag(char tag[static CONSUMER_TAG_MAX], uint64_t number) {
    (void)snprintf(tag, CONSUMER_TAG_MAX, "portal-worker-%" PRIu64, number);
}

static int consumer_start(struct consumer *consumer) {
    char tag[CONSUMER_TAG_MAX];
    consumer_write_tag(tag, consumer->next_tag);
    amqp_basic_consume_t consume = {
        .queue = amqp_cstring_bytes(QUEUE_REQUESTS),
        .consumer_tag = amqp_cstring_bytes(tag),
    };
    return connection_send(&consumer->connection, CHANNEL, AMQP_BASIC_CONSUME_METHOD, &consume);
}

/* Cancels them all; they are few, so there is room for it. */
static int consumer_stop(struct consumer *consumer) {
    int r = 0;
    for (unsigned i = consumer->live; i > 0 && r >= 0; i--) {
        char tag[CONSUMER_TAG_MAX];
        consumer_write_tag(tag, consumer->next_tag - i);
        amqp_basic_cancel_t cancel = {.consumer_tag = amqp_cstring_bytes(tag)};
        r = connection_send(&consumer->connection, CHANNEL, AMQP_BASIC_CANCEL_METHOD, &cancel);
    }
    return r;
}

/* How large a subscription may be begun now; 0: none. A few, not one for each message that is settled. */
static unsigned consumer_room(const struct consumer *consumer, enum intake wanted) {
    unsigned prefetch = consumer->connection.broker->settings.prefetch;
    unsigned taken = consumer->granted + consumer->old;
    unsigned left = taken < prefetch ? prefetch - taken : 0;
    if (wanted != INTAKE_ALL)
        return wanted == INTAKE_ONE && consumer->live == 0 && left > 0 ? 1 : 0;
    return consumer->live == 0 || consumer->old == 0 || left >= prefetch / 4 ? left : 0;
}

/* The broker has to answer before the next step is taken. */
static void consumer_await(struct consumer *consumer, enum consumer_state state) {
    consumer->state = state;
    consumer->asked_at = broker_now();
    stall_expect(&consumer->connection);
}

static bool consumer_awaits(const struct consumer *consumer) {
    return consumer->state != CONSUMER_SETTLED && consumer->state != CONSUMER_SIZED;
}

static uint64_t consumer_look(struct connection *connection, uint64_t now) {
    const struct consumer *consumer = consumer_of(connection);
    uint64_t due = consumer_awaits(consumer) ? stall_due(connection, consumer->asked_at) : UINT64_MAX;
    stall_set(connection, now >= due, "begun or ended the consumer of " QUEUE_REQUESTS);
    return now >= due ? UINT64_MAX : due;
}

/* The prefetch of a subscription is that of the channel when it begins (RabbitMQ's "Consumer Prefetch"). */
static void consumer_begin(struct consumer *consumer, unsigned room) {
    amqp_basic_qos_t qos = {.prefetch_count = (uint16_t)room};
    if (room != consumer->prefetch) {
        if (connection_send(&consumer->connection, CHANNEL, AMQP_BASIC_QOS_METHOD, &qos) >= 0)
            consumer_await(consumer, CONSUMER_SIZING);
        consumer->prefetch = room;
    } else if (consumer_start(consumer) >= 0)
        consumer_await(consumer, CONSUMER_STARTING);
}

/* Moves towards what is wanted, one step at a time: the broker answers each before the next is taken. */
static void consumer_reconcile(struct consumer *consumer) {
    /* Only consuming tells whether the user may. */
    enum intake wanted = consumer->wanted;
    if (wanted == INTAKE_NONE && consumer->connection.unproven)
        wanted = INTAKE_ONE;
    if (consumer->state == CONSUMER_SIZED && connection_room(&consumer->connection) && consumer_start(consumer) >= 0)
        consumer_await(consumer, CONSUMER_STARTING);
    if (consumer->state != CONSUMER_SETTLED)
        return;
    unsigned room = consumer_room(consumer, wanted);
    bool too_much = wanted == INTAKE_ONE && consumer->granted > 1; /* begun late, when more had been wanted */
    bool stop = consumer->live > 0 && (wanted == INTAKE_NONE || too_much);
    if ((room == 0 && !stop) || !connection_room(&consumer->connection))
        return;
    if (room > 0)
        consumer_begin(consumer, room);
    else if (consumer_stop(consumer) >= 0)
        consumer_await(consumer, CONSUMER_STOPPING);
}

static void consumer_sized(struct consumer *consumer) {
    if (consumer->state == CONSUMER_SIZING)
        consumer->state = CONSUMER_SIZED;
}

static void consumer_started(struct consumer *consumer) {
    if (consumer->state != CONSUMER_STARTING)
        return;
    consumer->live++;
    consumer->next_tag++;
    consumer->granted += consumer->prefetch;
    consumer->state = CONSUMER_SETTLED;
}

/* Nothing more comes under a tag once that is cancelled: what is in hand after the last is old. */
static void consumer_stopped(struct consumer *consumer) {
    if (consumer->state != CONSUMER_STOPPING || --consumer->live > 0)
        return;
    consumer->granted = 0;
    consumer->epoch++;
    consumer->old = consumer->unsettled;
    consumer->state = CONSUMER_SETTLED;
}

static void consumer_answered(struct consumer *consumer) {
    consumer_reconcile(consumer);
    if (consumer->connection.stalled)
        stall_look(&consumer->connection);
}

void consumer_intake(struct consumer *consumer, enum intake wanted) {
    consumer->wanted = wanted;
    consumer_reconcile(consumer);
}

static void consumer_on_ready(struct connection *connection) {
    struct consumer *consumer = consumer_of(connection);
    consumer->prefetch = connection->broker->settings.prefetch; /* set when the channel was opened */
    consumer_reconcile(consumer);
}

static void consumer_on_method(struct connection *connection, const amqp_method_t *method) {
    struct consumer *consumer = consumer_of(connection);
    switch (method->id) {
    case AMQP_BASIC_DELIVER_METHOD:
        consumer->tag = ((const amqp_basic_deliver_t *)method->decoded)->delivery_tag;
        break;
    case AMQP_BASIC_QOS_OK_METHOD:
        consumer_sized(consumer);
        consumer_answered(consumer);
        break;
    case AMQP_BASIC_CONSUME_OK_METHOD:
        consumer_started(consumer);
        connection_prove(connection);
        consumer_answered(consumer);
        break;
    case AMQP_BASIC_CANCEL_OK_METHOD:
        consumer_stopped(consumer);
        consumer_answered(consumer);
        break;
    case AMQP_BASIC_CANCEL_METHOD:
        /* The queue is gone, and with it what is in hand. Connecting anew declares it, or says that it is missing. */
        connection_break(connection, "RabbitMQ cancelled the consumer: queue " QUEUE_REQUESTS " was deleted or moved");
        break;
    default:
        break;
    }
}

/* ---- deliveries ---- */

static void consumer_deliver(struct consumer *consumer) {
    struct inbound *inbound = consumer->assembling;
    consumer->assembling = NULL;
    inbound->epoch = consumer->epoch;
    consumer->unsettled++;
    TAILQ_INSERT_TAIL(&consumer->in_hand, inbound, entry);
    portal_deliver(consumer->connection.broker->portal, &inbound->delivery);
}

static void consumer_on_header(struct connection *connection, uint64_t body_size,
                               const amqp_basic_properties_t *properties, amqp_bytes_t raw) {
    struct consumer *consumer = consumer_of(connection);
    if (consumer->assembling || consumer->tag == 0) {
        connection_break(connection, "RabbitMQ sent a header frame out of turn");
        return;
    }
    consumer->assembling = inbound_new(body_size, properties, raw);
    if (!consumer->assembling) {
        connection_break(connection, "no memory for a delivery");
        return;
    }
    consumer->assembling->tag = consumer->tag;
    consumer->tag = 0;
    if (body_size == 0)
        consumer_deliver(consumer);
}

static void consumer_on_body(struct connection *connection, amqp_bytes_t piece) {
    struct consumer *consumer = consumer_of(connection);
    if (!consumer->assembling)
        return;
    inbound_append(consumer->assembling, piece);
    if (connection->body_left == 0)
        consumer_deliver(consumer);
}

/* ---- settling ---- */

static void consumer_send(struct consumer *consumer, const struct inbound *inbound) {
    struct connection *connection = &consumer->connection;
    if (inbound->settlement == SETTLE_ACKNOWLEDGE) {
        amqp_basic_ack_t ack = {.delivery_tag = inbound->tag};
        (void)connection_send(connection, CHANNEL, AMQP_BASIC_ACK_METHOD, &ack);
    } else if (inbound->settlement == SETTLE_REJECT) {
        amqp_basic_reject_t reject = {.delivery_tag = inbound->tag};
        (void)connection_send(connection, CHANNEL, AMQP_BASIC_REJECT_METHOD, &reject);
    } else {
        amqp_basic_nack_t nack = {.delivery_tag = inbound->tag, .requeue = true};
        (void)connection_send(connection, CHANNEL, AMQP_BASIC_NACK_METHOD, &nack);
    }
}

void consumer_flush(struct consumer *consumer) {
    struct inbound *inbound = NULL;
    while ((inbound = TAILQ_FIRST(&consumer->settling)) && connection_room(&consumer->connection)) {
        consumer_send(consumer, inbound);
        TAILQ_REMOVE(&consumer->settling, inbound, entry);
        consumer->unsettled--;
        consumer->old -= inbound->epoch != consumer->epoch;
        free(inbound);
    }
    consumer_reconcile(consumer);
}

/* A settlement that can't be sent now waits. There are never more of them than the prefetch. */
void consumer_settle(struct consumer *consumer, struct delivery *delivery, enum settlement settlement) {
    struct inbound *inbound = (struct inbound *)delivery; /* its first member */
    if (delivery->lost) {
        TAILQ_REMOVE(&consumer->lost, inbound, entry);
        free(inbound);
        return;
    }
    inbound->settlement = settlement;
    TAILQ_REMOVE(&consumer->in_hand, inbound, entry);
    TAILQ_INSERT_TAIL(&consumer->settling, inbound, entry);
    consumer_flush(consumer);
}

static void consumer_on_writable(struct connection *connection) {
    consumer_flush(consumer_of(connection));
}

/* ---- the end of a channel ---- */

static void inbound_list_free(struct inbound_list *list) {
    struct inbound *inbound = NULL;
    while ((inbound = TAILQ_FIRST(list))) {
        TAILQ_REMOVE(list, inbound, entry);
        free(inbound);
    }
}

static void consumer_on_lost(struct connection *connection) {
    struct consumer *consumer = consumer_of(connection);
    struct inbound *inbound;
    consumer->state = CONSUMER_SETTLED;
    consumer->live = consumer->granted = consumer->unsettled = consumer->old = 0;
    consumer->epoch++;
    consumer->tag = 0;
    free(consumer->assembling);
    consumer->assembling = NULL;
    inbound_list_free(&consumer->settling);
    if (TAILQ_EMPTY(&consumer->in_hand))
        return;
    for (inbound = TAILQ_FIRST(&consumer->in_hand); inbound; inbound = TAILQ_NEXT(inbound, entry))
        inbound->delivery.lost = true;
    TAILQ_CONCAT(&consumer->lost, &consumer->in_hand, entry);
    portal_deliveries_lost(connection->broker->portal);
}

static const struct connection_user consumer_user = {
    .role = ROLE_CONSUME,
    .name = "consuming",
    .ready = consumer_on_ready,
    .method = consumer_on_method,
    .header = consumer_on_header,
    .body = consumer_on_body,
    .writable = consumer_on_writable,
    .lost = consumer_on_lost,
    .look = consumer_look,
};

int consumer_init(struct consumer *consumer, struct broker *broker) {
    TAILQ_INIT(&consumer->in_hand);
    TAILQ_INIT(&consumer->settling);
    TAILQ_INIT(&consumer->lost);
    return connection_init(&consumer->connection, broker, &consumer_user);
}

void consumer_clear(struct consumer *consumer) {
    connection_clear(&consumer->connection);
    free(consumer->assembling);
    inbound_list_free(&consumer->in_hand);
    inbound_list_free(&consumer->settling);
    inbound_list_free(&consumer->lost);
}
