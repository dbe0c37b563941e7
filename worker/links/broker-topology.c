/* broker-topology.c — the exchange, the queues and the binding: declares them, or only checks that they are as they
 * should be. It blocks; it runs where the consuming connection is opened. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "broker-internal.h"

struct topology {
    struct opening *opening;
    size_t length; /* of the causes collected so far */
    int error;
};

static void topology_complain(struct topology *topology, const char *what, const char *why) {
    char *cause = topology->opening->cause;
    size_t left = CAUSE_MAX - topology->length;
    int length = snprintf(cause + topology->length, left, "%s%s: %s", topology->length > 0 ? "; " : "", what, why);
    if (length > 0)
        topology->length += (size_t)length < left ? (size_t)length : left - 1;
    if (topology->error == 0)
        topology->error = -EPROTO;
}

/* Looks at the answer to a declaration. The broker closes the channel over one it refuses; the next one needs it open
 * again. Result: 0, the AMQP reply code of a refusal, or -EPIPE with the connection lost. */
static int topology_answer(struct topology *topology, char reason[static REASON_MAX]) {
    amqp_connection_state_t amqp = topology->opening->amqp;
    amqp_rpc_reply_t reply = amqp_get_rpc_reply(amqp);
    if (reply.reply_type == AMQP_RESPONSE_NORMAL)
        return 0;
    reply_explain(&reply, reason);
    if (reply.reply_type != AMQP_RESPONSE_SERVER_EXCEPTION || reply.reply.id != AMQP_CHANNEL_CLOSE_METHOD)
        return -EPIPE;

    int code = ((const amqp_channel_close_t *)reply.reply.decoded)->reply_code;
    amqp_channel_close_ok_t close_ok = {0};
    if (amqp_send_method(amqp, CHANNEL, AMQP_CHANNEL_CLOSE_OK_METHOD, &close_ok) != AMQP_STATUS_OK)
        return -EPIPE;
    amqp_channel_open(amqp, CHANNEL);
    return amqp_get_rpc_reply(amqp).reply_type == AMQP_RESPONSE_NORMAL ? code : -EPIPE;
}

/* Says what a refusal means. */
static void topology_judge(struct topology *topology, const char *what, int code, const char *reason) {
    char why[CAUSE_MAX];
    bool verify = topology->opening->settings.verify_topology;
    if (code < 0)
        (void)snprintf(why, sizeof why, "the connection was lost (%s)", reason);
    else if (code == AMQP_NOT_FOUND)
        (void)snprintf(why, sizeof why, "is missing%s",
                       verify ? "; make it, or let the worker do so with AMQP_TOPOLOGY=declare" : "");
    else if (code == AMQP_PRECONDITION_FAILED)
        (void)snprintf(why, sizeof why, "differs from what is needed (%s)", reason);
    else if (code == AMQP_ACCESS_REFUSED)
        (void)snprintf(why, sizeof why, "the user in AMQP_URL lacks a right (%s)%s", reason,
                       verify ? "" : "; or make it yourself and set AMQP_TOPOLOGY=verify");
    else
        (void)snprintf(why, sizeof why, "%s", reason);
    topology_complain(topology, what, why);
    if (code < 0)
        topology->error = -EPIPE;
}

/* A passive declaration only asks whether the queue is there; one that is not passive also compares the arguments, and
 * changes nothing where the queue is there. Whoever only verifies may lack the right to that, which is no complaint. */
static void topology_queue(struct topology *topology, const char *name, struct table *arguments) {
    amqp_connection_state_t amqp = topology->opening->amqp;
    bool verify = topology->opening->settings.verify_topology;
    char what[128];
    char reason[REASON_MAX];
    if (topology->error == -EPIPE)
        return;

    (void)snprintf(what, sizeof what, "queue %s", name);
    for (int passive = verify ? 1 : 0; passive >= 0; passive--) {
        amqp_queue_declare(amqp, CHANNEL, amqp_cstring_bytes(name), passive, true, false, false, table_view(arguments));
        int code = topology_answer(topology, reason);
        if (code == AMQP_ACCESS_REFUSED && verify && !passive)
            return;
        if (code != 0) {
            topology_judge(topology, what, code, reason);
            return;
        }
    }
}

static void topology_exchange(struct topology *topology) {
    amqp_connection_state_t amqp = topology->opening->amqp;
    bool verify = topology->opening->settings.verify_topology;
    char reason[REASON_MAX];

    for (int passive = verify ? 1 : 0; passive >= 0; passive--) {
        amqp_exchange_declare(amqp, CHANNEL, amqp_cstring_bytes(EXCHANGE), amqp_cstring_bytes("direct"), passive, true,
                              false, false, amqp_empty_table);
        int code = topology_answer(topology, reason);
        if (code == AMQP_ACCESS_REFUSED && verify && !passive)
            return;
        if (code != 0) {
            topology_judge(topology, "exchange " EXCHANGE, code, reason);
            return;
        }
    }
}

/* AMQP has no way to ask for a binding, so it is made or taken for granted. */
static void topology_binding(struct topology *topology) {
    char reason[REASON_MAX];
    if (topology->error != 0 || topology->opening->settings.verify_topology)
        return;
    amqp_queue_bind(topology->opening->amqp, CHANNEL, amqp_cstring_bytes(QUEUE_REQUESTS), amqp_cstring_bytes(EXCHANGE),
                    amqp_cstring_bytes(ROUTING_KEY), amqp_empty_table);
    int code = topology_answer(topology, reason);
    if (code != 0)
        topology_judge(topology, "binding of " QUEUE_REQUESTS " to exchange " EXCHANGE, code, reason);
}

int topology_ensure(struct opening *opening) {
    struct topology topology = {.opening = opening};
    struct table requests = {.count = 0};
    struct table dead = {.count = 0};
    struct table replies = {.count = 0};

    /* At-least-once dead-lettering silently is at-most-once without reject-publish. */
    table_add_text(&requests, "x-queue-type", "quorum");
    table_add_text(&requests, "x-dead-letter-exchange", "");
    table_add_text(&requests, "x-dead-letter-routing-key", QUEUE_DEAD);
    table_add_text(&requests, "x-dead-letter-strategy", "at-least-once");
    table_add_text(&requests, "x-overflow", "reject-publish");
    table_add_text(&dead, "x-queue-type", "quorum");
    if (opening->major_version >= 4) { /* where a limit of 20 is the default */
        table_add_integer(&requests, "x-delivery-limit", -1);
        table_add_integer(&dead, "x-delivery-limit", -1);
    }
    table_add_text(&replies, "x-queue-type", "quorum");
    table_add_integer(&replies, "x-message-ttl", opening->settings.reply_ttl_ms);
    table_add_integer(&replies, "x-max-length", opening->settings.reply_max_length);
    table_add_text(&replies, "x-overflow", "reject-publish");

    topology_exchange(&topology);
    /* RabbitMQ 3.10 killed within a second of making a quorum queue finds it without a log when it starts again (seen);
     * of several only the one made last. So the one that can best be spared comes last. */
    topology_queue(&topology, QUEUE_REQUESTS, &requests);
    topology_queue(&topology, QUEUE_DEAD, &dead);
    topology_queue(&topology, QUEUE_REPLIES, &replies);
    topology_binding(&topology);
    return topology.error;
}
