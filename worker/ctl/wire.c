/* wire.c — opening and closing portalctl's connection, its queues, and publishing. */
#include "wire.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../links/broker-internal.h"
#include "portalctl.h"
#include "wire-internal.h"

enum { CLOSE_MS = 3000, SETTLE_MS = 300, STABLE_MS = 30000, AGAIN_MS = 1000 };

_Static_assert((int)WIRE_CHANNEL == (int)CHANNEL, "the daemon's code opens this one");
_Static_assert((int)WIRE_CAUSE_MAX == (int)CAUSE_MAX, "causes are copied");

/* ---- losing it ---- */

static void destroy(struct wire *wire) {
    if (wire->amqp)
        (void)amqp_destroy_connection(wire->amqp);
    wire->amqp = NULL;
    wire->consuming = wire->asking = wire->blocked = wire->want_room = false;
    wire->sequence = wire->settled_at = 0;
    wire->incoming->active = false;
}

int wire_lose(struct wire *wire, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(wire->cause, sizeof wire->cause, format, arguments);
    va_end(arguments);
    destroy(wire);
    return -EPIPE;
}

int wire_lose_closed(struct wire *wire, const char *what, const amqp_method_t *method) {
    char reason[REASON_MAX];
    int code =
        method->id == AMQP_CHANNEL_CLOSE_METHOD ? ((const amqp_channel_close_t *)method->decoded)->reply_code : 0;
    amqp_rpc_reply_t reply = {0};
    reply.reply_type = AMQP_RESPONSE_SERVER_EXCEPTION;
    reply.reply = *method;
    reply_explain(&reply, reason);
    wire->denied = code == AMQP_ACCESS_REFUSED;
    /* While a broker starts, a queue may not be there yet. */
    wire->hopeless = wire->denied || code == AMQP_PRECONDITION_FAILED || (code == AMQP_NOT_FOUND && !wire->ever);
    return wire_lose(wire, "RabbitMQ %s: %s", what, reason);
}

int wire_check_rpc(struct wire *wire, const char *what) {
    amqp_rpc_reply_t reply = amqp_get_rpc_reply(wire->amqp);
    char refuses[128];
    if (reply.reply_type == AMQP_RESPONSE_NORMAL)
        return 0;
    (void)snprintf(refuses, sizeof refuses, "refuses %s", what);
    if (reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION)
        return wire_lose_closed(wire, refuses, &reply.reply);
    return wire_lose(wire, "the connection to RabbitMQ was lost: %s", amqp_error_string2(reply.library_error));
}

int wire_complain(const struct wire *wire) {
    if (wire->stranger)
        return ctl_complain(CTL_DENIED, "Put user, password and virtual host in AMQP_URL right.", "%s", wire->cause);
    if (wire->denied)
        return ctl_complain(CTL_DENIED, "\"rabbitmqctl list_permissions\" shows what the user in AMQP_URL may do.",
                            "%s", wire->cause);
    if (wire->hopeless)
        return ctl_complain(CTL_UNAVAILABLE,
                            "\"portalctl check\" looks at every queue; a worker that starts declares them.", "%s",
                            wire->cause);
    return ctl_complain(CTL_UNAVAILABLE, "Is RabbitMQ running, and AMQP_URL right? \"portalctl check\" looks.", "%s",
                        wire->cause);
}

/* ---- opening and closing ---- */

int wire_init(struct wire *wire, const struct broker_settings *settings, int stop) {
    *wire = (struct wire){.settings = settings, .stop = stop, .incoming = calloc(1, sizeof *wire->incoming)};
    if (!wire->incoming)
        return -ENOMEM;
    init_amqp_pool(&wire->incoming->pool, 4096);
    return 0;
}

static int open_url(struct wire *wire, const char *url) {
    struct broker_settings settings = *wire->settings;
    struct opening *opening = NULL;
    settings.worker = "portalctl";
    settings.heartbeat_seconds = 0; /* TCP notices a broker that vanished, and nobody holds a place in a line here */
    int r = opening_new(&settings, url, ROLE_PUBLISH, &opening, wire->cause);
    if (r < 0)
        return r;
    opening_run(opening);
    r = opening->error;
    if (r >= 0) {
        wire->amqp = opening->amqp;
        opening->amqp = NULL;
        (void)snprintf(wire->user, sizeof wire->user, "%s", opening->url.user);
    } else {
        memcpy(wire->cause, opening->cause, sizeof wire->cause);
        wire->stranger = strstr(wire->cause, "ACCESS_REFUSED") || strstr(wire->cause, "NOT_ALLOWED");
        wire->denied = wire->hopeless = wire->stranger;
    }
    opening_free(opening);
    return r;
}

int wire_open(struct wire *wire) {
    assert(!wire->amqp);
    int r = -EINVAL;
    unsigned count = 0;
    while (wire->settings->urls[count])
        count++;
    wire->hopeless = wire->denied = wire->stranger = false;
    bool first = wire->stop >= 0 && !wire->ever; /* nothing is begun yet */
    if (first)
        ctl_stop_ends(true);
    for (unsigned i = 0; i < count; i++) {
        r = open_url(wire, wire->settings->urls[wire->url % count]);
        if (r >= 0) {
            wire->opened_at = ctl_monotonic();
            break;
        }
        wire->url++;
    }
    if (first)
        ctl_stop_ends(false);
    return r;
}

int wire_reopen(struct wire *wire) {
    uint64_t now = ctl_monotonic();
    char span[CTL_SPAN_SIZE];
    if (wire->hopeless)
        return -EPERM;
    wire->ever = true;
    /* One that is lost again soon, before it was of any use, was never there. */
    if (wire->lost_at == 0 || now - wire->opened_at > (uint64_t)STABLE_MS * 1000)
        wire->lost_at = now;
    uint64_t end = wire->lost_at + (uint64_t)WIRE_PATIENCE_SECONDS * 1000000;
    if (wire->give_up_at > 0 && wire->give_up_at < end)
        end = wire->give_up_at;
    if (now > end)
        return -ETIMEDOUT;
    ctl_format_span(span, (end - now + 999999) / 1000000);
    (void)ctl_complain(0, NULL, "%s; trying again for up to %s", wire->cause, span);
    for (;;) {
        if (wire->stop >= 0 ? !ctl_stop_sleep(wire->stop, AGAIN_MS) : poll(NULL, 0, AGAIN_MS) < 0)
            return -ECANCELED;
        int r = wire_open(wire);
        if (r >= 0) {
            (void)ctl_complain(0, NULL, "RabbitMQ is there again");
            return 0;
        }
        if (ctl_monotonic() > end)
            return r;
    }
}

/* A quorum queue takes acknowledgements in its own time: of a channel that closes right after many, RabbitMQ may give
 * some messages back (its client keeps them back while it is slow), to be sent a second time. */
static void let_settle(const struct wire *wire) {
    uint64_t since = ctl_monotonic() - wire->settled_at;
    if (wire->settled_at > 0 && since < (uint64_t)SETTLE_MS * 1000)
        (void)poll(NULL, 0, (int)(SETTLE_MS - since / 1000));
}

/* The library's own amqp_connection_close() would keep every message in memory that is still on its way. */
static void close_in_order(struct wire *wire) {
    amqp_connection_close_t method = {.reply_code = AMQP_REPLY_SUCCESS, .reply_text = amqp_cstring_bytes("done")};
    uint64_t end = ctl_monotonic() + (uint64_t)CLOSE_MS * 1000;
    if (amqp_send_method(wire->amqp, 0, AMQP_CONNECTION_CLOSE_METHOD, &method) != AMQP_STATUS_OK)
        return;
    while (ctl_monotonic() < end) {
        amqp_frame_t frame;
        struct timeval wait = {.tv_sec = 1};
        amqp_maybe_release_buffers(wire->amqp);
        int status = amqp_simple_wait_frame_noblock(wire->amqp, &frame, &wait);
        if (status == AMQP_STATUS_TIMEOUT)
            continue;
        if (status != AMQP_STATUS_OK ||
            (frame.frame_type == AMQP_FRAME_METHOD && frame.payload.method.id == AMQP_CONNECTION_CLOSE_OK_METHOD))
            return;
    }
}

void wire_close(struct wire *wire) {
    if (!wire->incoming)
        return;
    if (wire->amqp) {
        let_settle(wire);
        close_in_order(wire);
    }
    destroy(wire);
    empty_amqp_pool(&wire->incoming->pool);
    free(wire->incoming->raw);
    free(wire->incoming);
    wire->incoming = NULL;
}

/* ---- queues ---- */

static int open_channel(struct wire *wire, amqp_channel_t channel, bool *open) {
    if (*open)
        return 0;
    amqp_channel_open(wire->amqp, channel);
    int r = wire_check_rpc(wire, "a channel");
    *open = r == 0;
    return r;
}

static int consume(struct wire *wire, amqp_bytes_t queue, const char *name, bool no_ack, uint16_t prefetch) {
    if (prefetch > 0) {
        amqp_basic_qos(wire->amqp, WIRE_CHANNEL_CONSUME, 0, prefetch, false);
        int r = wire_check_rpc(wire, "the prefetch");
        if (r < 0)
            return r;
    }
    amqp_basic_consume(wire->amqp, WIRE_CHANNEL_CONSUME, queue, amqp_cstring_bytes(name), false, no_ack, false,
                       amqp_empty_table);
    return wire_check_rpc(wire, "to deliver");
}

/* Declares it and hands out its name, which stays valid until the next frame is read. */
static int declare_exclusive(struct wire *wire, struct table *arguments, amqp_bytes_t *name) {
    int r = open_channel(wire, WIRE_CHANNEL_CONSUME, &wire->consuming);
    if (r < 0)
        return r;
    amqp_queue_declare_ok_t *declared = amqp_queue_declare(wire->amqp, WIRE_CHANNEL_CONSUME, amqp_empty_bytes, false,
                                                           false, true, true, table_view(arguments));
    r = wire_check_rpc(wire, "a queue of one's own (amq.gen-…)");
    if (r < 0)
        return r;
    *name = declared->queue;
    return 0;
}

int wire_reply_queue(struct wire *wire, char name[static WIRE_NAME_MAX]) {
    struct table none = {.count = 0};
    amqp_bytes_t queue;
    int r = declare_exclusive(wire, &none, &queue);
    if (r < 0)
        return r;
    (void)snprintf(name, WIRE_NAME_MAX, "%.*s", (int)queue.len, (const char *)queue.bytes);
    return consume(wire, amqp_cstring_bytes(name), "replies", true, 0);
}

int wire_capture_queue(struct wire *wire, uint32_t at_most, uint16_t prefetch) {
    struct table arguments = {.count = 0};
    char name[WIRE_NAME_MAX];
    amqp_bytes_t queue;
    table_add_integer(&arguments, "x-max-length", at_most);
    int r = declare_exclusive(wire, &arguments, &queue);
    if (r < 0)
        return r;
    (void)snprintf(name, sizeof name, "%.*s", (int)queue.len, (const char *)queue.bytes);
    r = consume(wire, amqp_cstring_bytes(name), "capture", false, prefetch);
    if (r < 0)
        return r;
    amqp_queue_bind(wire->amqp, WIRE_CHANNEL_CONSUME, amqp_cstring_bytes(name), amqp_cstring_bytes(EXCHANGE),
                    amqp_cstring_bytes(ROUTING_KEY), amqp_empty_table);
    return wire_check_rpc(wire, "to bind a queue to the exchange " EXCHANGE);
}

int wire_consume(struct wire *wire, const char *queue, const char *name, uint16_t prefetch) {
    int r = open_channel(wire, WIRE_CHANNEL_CONSUME, &wire->consuming);
    return r < 0 ? r : consume(wire, amqp_cstring_bytes(queue), name, false, prefetch);
}

int wire_count(struct wire *wire, const char *queue, uint32_t *messages, uint32_t *consumers) {
    int r = open_channel(wire, WIRE_CHANNEL_ASK, &wire->asking);
    if (r < 0)
        return r;
    amqp_queue_declare_ok_t *declared = amqp_queue_declare(wire->amqp, WIRE_CHANNEL_ASK, amqp_cstring_bytes(queue),
                                                           true, false, false, false, amqp_empty_table);
    if (declared) {
        *messages = declared->message_count;
        *consumers = declared->consumer_count;
        return 0;
    }
    amqp_rpc_reply_t reply = amqp_get_rpc_reply(wire->amqp);
    if (reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION && reply.reply.id == AMQP_CHANNEL_CLOSE_METHOD &&
        ((const amqp_channel_close_t *)reply.reply.decoded)->reply_code == AMQP_NOT_FOUND) {
        amqp_channel_close_ok_t close_ok = {0};
        wire->asking = false;
        if (amqp_send_method(wire->amqp, WIRE_CHANNEL_ASK, AMQP_CHANNEL_CLOSE_OK_METHOD, &close_ok) == AMQP_STATUS_OK)
            return -ENOENT;
    }
    return wire_check_rpc(wire, "to look at a queue");
}

/* ---- messages ---- */

static bool has_room(const struct wire *wire) {
    struct pollfd poller = {.fd = amqp_get_sockfd(wire->amqp), .events = POLLOUT};
    return poll(&poller, 1, 0) > 0 && (poller.revents & POLLOUT);
}

int wire_publish(struct wire *wire, const char *exchange, const char *routing_key,
                 const amqp_basic_properties_t *properties, amqp_bytes_t body) {
    if (!wire->amqp)
        return -EPIPE;
    if (wire->blocked || !has_room(wire)) { /* the library would wait for room for ever */
        wire->want_room = true;
        return -EAGAIN;
    }
    int status = amqp_basic_publish(wire->amqp, WIRE_CHANNEL, amqp_cstring_bytes(exchange),
                                    amqp_cstring_bytes(routing_key), true, false, properties, body);
    if (status == AMQP_STATUS_TABLE_TOO_BIG || status == AMQP_STATUS_BAD_AMQP_DATA)
        return wire_lose(wire, "the message's properties do not fit into AMQP"), -EMSGSIZE;
    if (status != AMQP_STATUS_OK)
        return wire_lose(wire, "the connection to RabbitMQ was lost: %s", amqp_error_string2(status));
    wire->sequence++;
    return 0;
}

int wire_acknowledge(struct wire *wire, uint64_t tag) {
    if (!wire->amqp)
        return -EPIPE;
    int status = amqp_basic_ack(wire->amqp, WIRE_CHANNEL_CONSUME, tag, false);
    if (status != AMQP_STATUS_OK)
        return wire_lose(wire, "the connection to RabbitMQ was lost: %s", amqp_error_string2(status));
    wire->settled_at = ctl_monotonic();
    return 0;
}
