/* broker-connection.c — one connection to RabbitMQ on the loop: has it opened, reads its frames, keeps its heartbeat,
 * watches for room before anything is sent, and opens it again when it is lost. */
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "broker-internal.h"
#include "portal/portal.h"

enum {
    FRAMES_PER_TURN = 192, /* of one connection, then the loop's other sources have their turn: 64 messages */
};

static const uint64_t SECOND = 1000000;       /* microseconds, as all times here */
static const uint64_t STABLE = 2 * SECOND;    /* a connection that lived that long is replaced at once */
static const uint64_t RETRY_MIN = SECOND / 4; /* else between two rounds over the urls, at random */
static const uint64_t RETRY_MAX = SECOND;

static void connection_attempt(struct connection *connection);

static uint64_t retry_delay(void) {
    uint32_t random = 0;
    if (getrandom(&random, sizeof random, GRND_NONBLOCK) != (ssize_t)sizeof random)
        return RETRY_MAX;
    return RETRY_MIN + random % (RETRY_MAX - RETRY_MIN);
}

/* ---- the state ---- */

bool connection_usable(const struct connection *connection) {
    return connection->amqp && !connection->broken;
}

void connection_break(struct connection *connection, const char *format, ...) {
    va_list arguments;
    char cause[CAUSE_MAX]; /* what it is made of may be the cause so far */
    if (!connection_usable(connection))
        return;
    va_start(arguments, format);
    (void)vsnprintf(cause, sizeof cause, format, arguments);
    va_end(arguments);
    memcpy(connection->cause, cause, sizeof cause);
    connection->broken = true;
    (void)sd_event_source_set_enabled(connection->again, SD_EVENT_ONESHOT);
}

/* Failing to arm a source would leave a connection that nobody looks after. These calls fail only for want of memory or
 * in the wrong state, and there is nothing to do then but to open a new one. */
static void connection_watch(struct connection *connection, uint32_t events) {
    if (sd_event_source_set_io_events(connection->io, events) < 0)
        connection_break(connection, "the loop can't watch the connection");
}

static void connection_arm(struct connection *connection, uint64_t delay) {
    if (sd_event_source_set_time_relative(connection->timer, delay) < 0 ||
        sd_event_source_set_enabled(connection->timer, SD_EVENT_ONESHOT) < 0)
        connection_break(connection, "the loop can't keep the time");
}

/* ---- sending ---- */

bool connection_room(struct connection *connection) {
    struct pollfd pollfd = {.fd = connection->fd, .events = POLLOUT};
    if (!connection_usable(connection))
        return false;
    if (poll(&pollfd, 1, 0) > 0 && (pollfd.revents & POLLOUT))
        return true;
    connection_try_later(connection);
    return false;
}

void connection_try_later(struct connection *connection) {
    if (!connection->want_room && connection_usable(connection)) {
        connection->want_room = true;
        connection_watch(connection, EPOLLIN | EPOLLOUT);
    }
}

void connection_prove(struct connection *connection) {
    if (!connection->unproven)
        return;
    connection->unproven = false;
    broker_report(connection->broker);
}

static int connection_sent(struct connection *connection, int status) {
    if (status != AMQP_STATUS_OK) {
        connection_break(connection, "the connection to RabbitMQ was lost: %s", amqp_error_string2(status));
        return -EPIPE;
    }
    connection->sent_at = broker_now();
    return 0;
}

/* What one turn of the loop sends goes out together at its end: then the broker wakes once for all of it (seen: two
 * fifths of its CPU). The kernel holds it back for 200 ms at most, whatever happens here (tcp(7), TCP_CORK). */
static bool connection_set_cork(const struct connection *connection, int value) {
    return setsockopt(connection->fd, IPPROTO_TCP, TCP_CORK, &value, sizeof value) == 0;
}

static void connection_hold(struct connection *connection) {
    if (!connection->held && sd_event_source_set_enabled(connection->push, SD_EVENT_ONESHOT) >= 0)
        connection->held = connection_set_cork(connection, 1);
}

static void connection_push(struct connection *connection) {
    if (connection->held)
        (void)connection_set_cork(connection, 0);
    connection->held = false;
}

static int connection_on_push(sd_event_source *source, void *userdata) {
    (void)source;
    connection_push(userdata);
    return 0;
}

int connection_send(struct connection *connection, amqp_channel_t channel, amqp_method_number_t id, void *method) {
    if (!connection_usable(connection))
        return -EPIPE;
    connection_hold(connection);
    return connection_sent(connection, amqp_send_method(connection->amqp, channel, id, method));
}

int connection_publish(struct connection *connection, const struct message *message) {
    if (!connection_usable(connection))
        return -EPIPE;
    connection_hold(connection);
    int status = amqp_basic_publish(connection->amqp, CHANNEL, amqp_cstring_bytes(""), message->routing_key,
                                    message->mandatory, false, &message->properties, message->body);
    return connection_sent(connection, status);
}

/* ---- receiving ---- */

static void connection_closed_by_broker(struct connection *connection, uint16_t code, amqp_bytes_t text) {
    amqp_connection_close_ok_t close_ok = {0};
    if (connection_room(connection))
        (void)connection_send(connection, 0, AMQP_CONNECTION_CLOSE_OK_METHOD, &close_ok);
    connection->closed_with = code;
    connection_break(connection, "RabbitMQ closed the connection: %u %.*s", code, (int)text.len,
                     text.bytes ? (const char *)text.bytes : "");
}

static void connection_block(struct connection *connection, bool blocked, amqp_bytes_t reason) {
    connection->blocked = blocked;
    connection->patient_from = broker_now();
    if (blocked)
        (void)snprintf(connection->cause, sizeof connection->cause,
                       "RabbitMQ blocks publishers: %.*s (a memory or disk alarm)", (int)reason.len,
                       reason.bytes ? (const char *)reason.bytes : "");
    else if (connection->stalled)
        stall_look(connection); /* it has its whole time again */
    broker_report(connection->broker);
    if (!blocked && connection_usable(connection))
        connection->user->writable(connection);
}

static void connection_method_zero(struct connection *connection, const amqp_method_t *method) {
    if (method->id == AMQP_CONNECTION_CLOSE_METHOD) {
        const amqp_connection_close_t *close = method->decoded;
        connection_closed_by_broker(connection, close->reply_code, close->reply_text);
    } else if (method->id == AMQP_CONNECTION_CLOSE_OK_METHOD) {
        connection_break(connection, "closed");
    } else if (method->id == AMQP_CONNECTION_BLOCKED_METHOD) {
        connection_block(connection, true, ((const amqp_connection_blocked_t *)method->decoded)->reason);
    } else if (method->id == AMQP_CONNECTION_UNBLOCKED_METHOD) {
        connection_block(connection, false, amqp_empty_bytes);
    }
}

static void connection_method(struct connection *connection, const amqp_method_t *method) {
    if (method->id == AMQP_CHANNEL_CLOSE_METHOD) {
        const amqp_channel_close_t *close = method->decoded;
        connection->closed_with = close->reply_code;
        connection_break(connection, "%sRabbitMQ closed the channel: %u %.*s",
                         close->reply_code == AMQP_ACCESS_REFUSED ? "AMQP_URL: its user lacks a right: " : "",
                         close->reply_code, (int)close->reply_text.len,
                         close->reply_text.bytes ? (const char *)close->reply_text.bytes : "");
    } else if (method->id == AMQP_CHANNEL_FLOW_METHOD) {
        amqp_channel_flow_ok_t flow_ok = {.active = ((const amqp_channel_flow_t *)method->decoded)->active};
        if (connection_send(connection, CHANNEL, AMQP_CHANNEL_FLOW_OK_METHOD, &flow_ok) >= 0)
            connection_block(connection, !flow_ok.active, amqp_cstring_bytes("flow"));
    } else {
        connection->user->method(connection, method);
    }
}

static void connection_frame(struct connection *connection, const amqp_frame_t *frame) {
    if (frame->frame_type == AMQP_FRAME_METHOD && frame->channel == 0) {
        connection_method_zero(connection, &frame->payload.method);
    } else if (frame->channel != CHANNEL) {
        connection_break(connection, "RabbitMQ sent a frame on channel %u, which is not open", frame->channel);
    } else if (frame->frame_type == AMQP_FRAME_METHOD) {
        connection_method(connection, &frame->payload.method);
    } else if (frame->frame_type == AMQP_FRAME_HEADER) {
        if (frame->payload.properties.class_id != AMQP_BASIC_CLASS || connection->body_left > 0) {
            connection_break(connection, "RabbitMQ sent a header frame out of turn");
            return;
        }
        connection->body_left = frame->payload.properties.body_size;
        connection->user->header(connection, frame->payload.properties.body_size, frame->payload.properties.decoded,
                                 frame->payload.properties.raw);
    } else if (frame->frame_type == AMQP_FRAME_BODY) {
        amqp_bytes_t piece = frame->payload.body_fragment;
        if (piece.len > connection->body_left) {
            connection_break(connection, "RabbitMQ sent more of a message than it announced");
            return;
        }
        connection->body_left -= piece.len;
        connection->user->body(connection, piece);
    }
}

/* Reads what is there, without waiting: with a time-out of zero the library takes a frame from its buffer, or else
 * reads once from the socket (wait_frame_inner() of librabbitmq 0.11). What it decoded is forgotten after each frame.
 */
static void connection_read(struct connection *connection) {
    for (unsigned n = 0; n < FRAMES_PER_TURN && connection_usable(connection); n++) {
        struct timeval none = {0};
        amqp_frame_t frame;
        int status = amqp_simple_wait_frame_noblock(connection->amqp, &frame, &none);
        if (status == AMQP_STATUS_TIMEOUT)
            return;
        if (status != AMQP_STATUS_OK) {
            connection_break(connection, "the connection to RabbitMQ was lost: %s", amqp_error_string2(status));
            return;
        }
        connection_frame(connection, &frame);
        amqp_maybe_release_buffers_on_channel(connection->amqp, frame.channel);
    }
    /* What is in the library's buffer makes no descriptor readable. */
    (void)sd_event_source_set_enabled(connection->again, SD_EVENT_ONESHOT);
}

static int connection_on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
    struct connection *connection = userdata;
    (void)source;
    (void)fd;
    if (revents & EPOLLIN)
        connection->received_at = broker_now();
    if ((revents & EPOLLOUT) && connection->want_room) {
        connection->want_room = false;
        connection_watch(connection, EPOLLIN);
        connection->user->writable(connection);
    }
    if (revents & (EPOLLIN | EPOLLERR | EPOLLHUP))
        connection_read(connection);
    return 0;
}

/* ---- its end ---- */

static void connection_teardown(struct connection *connection) {
    connection->io = sd_event_source_disable_unref(connection->io);
    (void)sd_event_source_set_enabled(connection->timer, SD_EVENT_OFF);
    (void)sd_event_source_set_enabled(connection->again, SD_EVENT_OFF);
    (void)sd_event_source_set_enabled(connection->push, SD_EVENT_OFF);
    (void)sd_event_source_set_enabled(connection->patience, SD_EVENT_OFF);
    if (connection->amqp)
        (void)amqp_destroy_connection(connection->amqp);
    connection->amqp = NULL;
    connection->fd = -1;
    connection->broken = connection->blocked = connection->stalled = false;
    connection->want_room = connection->held = false;
    connection->body_left = 0;
}

static void connection_lost(struct connection *connection) {
    bool stable = broker_now() - connection->opened_at >= STABLE;
    connection->unproven |= connection->closed_with == AMQP_ACCESS_REFUSED;
    connection_teardown(connection);
    connection_arm(connection, stable ? 0 : retry_delay());
    broker_report(connection->broker);
    connection->user->lost(connection);
}

static int connection_on_again(sd_event_source *source, void *userdata) {
    struct connection *connection = userdata;
    (void)source;
    if (connection->broken)
        connection_lost(connection);
    else if (connection->amqp)
        connection_read(connection);
    return 0;
}

/* ---- time ---- */

/* AMQP 0-9-1 §4.2.7: a peer that has been silent for two intervals is gone. Whatever it sends counts. */
static void connection_beat(struct connection *connection) {
    uint64_t now = broker_now();
    struct pollfd pollfd = {.fd = connection->fd, .events = POLLIN};
    if (now - connection->received_at >= 2 * connection->heartbeat && poll(&pollfd, 1, 0) == 0) {
        connection_break(connection, "RabbitMQ has been silent for %u s",
                         (unsigned)((now - connection->received_at) / SECOND));
        return;
    }
    /* Without room there is enough on its way to tell the broker that this side lives. */
    if (now - connection->sent_at >= connection->heartbeat / 2 && connection_room(connection)) {
        amqp_frame_t heartbeat = {.frame_type = AMQP_FRAME_HEARTBEAT, .channel = 0};
        (void)connection_sent(connection, amqp_send_frame(connection->amqp, &heartbeat));
    }
    connection_arm(connection, connection->heartbeat / 4);
}

static int connection_on_time(sd_event_source *source, uint64_t usec, void *userdata) {
    struct connection *connection = userdata;
    (void)source;
    (void)usec;
    if (!connection->amqp)
        connection_attempt(connection);
    else if (connection_usable(connection))
        connection_beat(connection);
    return 0;
}

/* ---- opening ---- */

static void connection_attempt_failed(struct connection *connection) {
    connection->failures++;
    connection->url = (connection->url + 1) % connection->broker->url_count;
    bool round_over = connection->failures % connection->broker->url_count == 0;
    connection_arm(connection, round_over ? retry_delay() : 0);
    broker_report(connection->broker);
    if (connection->user->failed)
        connection->user->failed(connection);
}

void connection_hurry(struct connection *connection) {
    bool waits = sd_event_source_get_enabled(connection->timer, NULL) > 0;
    if (!connection->amqp && waits && !connector_busy(connection->connector))
        connection_arm(connection, 0);
}

static void connection_adopt(struct connection *connection, struct opening *opening) {
    connection->amqp = opening->amqp;
    opening->amqp = NULL;
    connection->fd = amqp_get_sockfd(connection->amqp);
    connection->heartbeat = opening->heartbeat_seconds * SECOND;
    connection->received_at = connection->sent_at = connection->opened_at = broker_now();
    connection->closed_with = 0;
    connection->failures = 0;
    int r = sd_event_add_io(connection->broker->event, &connection->io, connection->fd, EPOLLIN, connection_on_io,
                            connection);
    if (r < 0) {
        (void)snprintf(connection->cause, sizeof connection->cause, "the loop can't watch the connection: %s",
                       strerror(-r));
        connection_teardown(connection);
        connection_attempt_failed(connection);
        return;
    }
    portal_connected(connection->broker->portal, "broker");
    if (connection->heartbeat > 0)
        connection_arm(connection, connection->heartbeat / 4);
    /* The thread may have read frames that came early. */
    (void)sd_event_source_set_enabled(connection->again, SD_EVENT_ONESHOT);
    broker_report(connection->broker);
    connection->user->ready(connection);
    /* Where one gets through, so will the others. */
    connection_hurry(&connection->broker->consumer.connection);
    connection_hurry(&connection->broker->publisher.connection);
    connection_hurry(&connection->broker->direct.connection);
}

static void connection_on_opened(void *userdata, void *job) {
    struct connection *connection = userdata;
    struct opening *opening = job;
    if (opening->amqp) {
        connection_adopt(connection, opening);
    } else {
        memcpy(connection->cause, opening->cause, sizeof connection->cause);
        connection_attempt_failed(connection);
    }
    opening_free(opening);
}

static void connection_attempt(struct connection *connection) {
    const struct broker *broker = connection->broker;
    struct opening *opening = NULL;
    int r = opening_new(&broker->settings, broker->settings.urls[connection->url], connection->user->role, &opening,
                        connection->cause);
    if (r >= 0) {
        struct connector_work work = {.run = opening_run, .drop = opening_free, .job = opening};
        r = connector_begin(connection->connector, &work);
        if (r >= 0)
            return;
        (void)snprintf(connection->cause, sizeof connection->cause, "no thread to connect with: %s", strerror(-r));
        opening_free(opening);
    }
    connection_attempt_failed(connection);
}

void connection_want(struct connection *connection) {
    assert(!connection->broker->stopped);
    if (connection->amqp || connector_busy(connection->connector))
        return;
    if (sd_event_source_get_enabled(connection->timer, NULL) <= 0) /* else an attempt is due anyway */
        connection_arm(connection, 0);
}

int connection_init(struct connection *connection, struct broker *broker, const struct connection_user *user) {
    *connection = (struct connection){.user = user, .broker = broker, .fd = -1};
    int r = connector_new(broker->event, connection_on_opened, connection, &connection->connector);
    if (r >= 0)
        r = sd_event_add_defer(broker->event, &connection->again, connection_on_again, connection);
    if (r >= 0)
        r = sd_event_source_set_enabled(connection->again, SD_EVENT_OFF);
    if (r >= 0)
        r = sd_event_add_defer(broker->event, &connection->push, connection_on_push, connection);
    if (r >= 0)
        r = sd_event_source_set_enabled(connection->push, SD_EVENT_OFF);
    if (r >= 0)
        r = sd_event_source_set_priority(connection->push, SD_EVENT_PRIORITY_IDLE + 1); /* after the core's turn */
    if (r >= 0)
        r = sd_event_add_time(broker->event, &connection->timer, CLOCK_MONOTONIC, 0, 1000, connection_on_time,
                              connection);
    if (r >= 0)
        r = sd_event_source_set_enabled(connection->timer, SD_EVENT_OFF);
    return r < 0 ? r : stall_init(connection);
}

void connection_clear(struct connection *connection) {
    connector_free(connection->connector);
    connection->connector = NULL;
    connection_teardown(connection);
    connection->again = sd_event_source_disable_unref(connection->again);
    connection->push = sd_event_source_disable_unref(connection->push);
    connection->timer = sd_event_source_disable_unref(connection->timer);
    connection->patience = sd_event_source_disable_unref(connection->patience);
}

/* Waits for the socket; whether it is ready by then. */
static bool connection_wait(const struct connection *connection, short events, uint64_t deadline) {
    struct pollfd pollfd = {.fd = connection->fd, .events = events};
    uint64_t now = broker_now();
    int left_ms = now < deadline ? (int)((deadline - now) / 1000) : 0;
    return poll(&pollfd, 1, left_ms) > 0;
}

void connection_close(struct connection *connection, uint64_t deadline) {
    amqp_connection_close_t close = {.reply_code = AMQP_REPLY_SUCCESS, .reply_text = amqp_cstring_bytes("stopped")};
    connector_cancel(connection->connector);
    /* From a connection that it blocks the broker does not even read. */
    bool asked = connection_usable(connection) && !connection->blocked &&
                 connection_wait(connection, POLLOUT, deadline) &&
                 connection_send(connection, 0, AMQP_CONNECTION_CLOSE_METHOD, &close) >= 0;
    connection_push(connection); /* the loop has ended */
    while (asked && connection_usable(connection)) {
        struct timeval none = {0};
        amqp_frame_t frame;
        int status = amqp_simple_wait_frame_noblock(connection->amqp, &frame, &none);
        if (status == AMQP_STATUS_TIMEOUT) {
            if (!connection_wait(connection, POLLIN, deadline))
                break;
            continue;
        }
        if (status != AMQP_STATUS_OK || (frame.channel == 0 && frame.frame_type == AMQP_FRAME_METHOD &&
                                         (frame.payload.method.id == AMQP_CONNECTION_CLOSE_OK_METHOD ||
                                          frame.payload.method.id == AMQP_CONNECTION_CLOSE_METHOD)))
            break;
        amqp_maybe_release_buffers_on_channel(connection->amqp, frame.channel);
    }
    connection_teardown(connection);
}
