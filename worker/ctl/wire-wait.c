/* wire-wait.c — what comes in on portalctl's connection: frames, put together to events. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "portalctl.h"
#include "wire-internal.h"

static const enum wire_event GO_ON = (enum wire_event) - 1;

/* ---- messages ---- */

static void message_begin(struct wire *wire, const amqp_method_t *method) {
    struct wire_incoming *incoming = wire->incoming;
    const amqp_basic_deliver_t *deliver = method->decoded;
    incoming->active = true;
    incoming->headed = false;
    wire->message = (struct wire_message){.tag = deliver->delivery_tag};
}

static enum wire_event message_end(struct wire *wire) {
    struct wire_incoming *incoming = wire->incoming;
    if (incoming->left > 0)
        return GO_ON;
    incoming->active = false;
    return WIRE_MESSAGE;
}

static enum wire_event message_header(struct wire *wire, const amqp_frame_t *frame) {
    struct wire_incoming *incoming = wire->incoming;
    amqp_bytes_t raw = frame->payload.properties.raw;
    void *decoded = NULL;
    if (raw.len > incoming->raw_size) {
        char *larger = realloc(incoming->raw, raw.len);
        if (!larger)
            return (void)wire_lose(wire, "no memory for a message"), WIRE_LOST;
        incoming->raw = larger;
        incoming->raw_size = raw.len;
    }
    if (raw.len > 0)
        memcpy(incoming->raw, raw.bytes, raw.len);
    recycle_amqp_pool(&incoming->pool);
    amqp_bytes_t copy = {.len = raw.len, .bytes = incoming->raw};
    if (amqp_decode_properties(AMQP_BASIC_CLASS, &incoming->pool, copy, &decoded) < 0)
        return (void)wire_lose(wire, "RabbitMQ sent a message that can't be read"), WIRE_LOST;
    wire->message.properties = *(const amqp_basic_properties_t *)decoded;
    wire->message.body_size = incoming->left = frame->payload.properties.body_size;
    wire->message.body = (amqp_bytes_t){.len = 0, .bytes = incoming->body};
    incoming->headed = true;
    return message_end(wire);
}

static enum wire_event message_body(struct wire *wire, const amqp_frame_t *frame) {
    struct wire_incoming *incoming = wire->incoming;
    amqp_bytes_t piece = frame->payload.body_fragment;
    size_t room = WIRE_BODY_MAX - wire->message.body.len;
    size_t kept = piece.len < room ? piece.len : room;
    if (piece.len > incoming->left)
        return (void)wire_lose(wire, "RabbitMQ sent more of a message than it announced"), WIRE_LOST;
    memcpy(incoming->body + wire->message.body.len, piece.bytes, kept);
    wire->message.body.len += kept;
    incoming->left -= piece.len;
    return message_end(wire);
}

/* ---- methods ---- */

static enum wire_event connection_method(struct wire *wire, const amqp_method_t *method) {
    amqp_connection_close_ok_t close_ok = {0};
    if (method->id == AMQP_CONNECTION_BLOCKED_METHOD && !wire->blocked) {
        amqp_bytes_t reason = ((const amqp_connection_blocked_t *)method->decoded)->reason;
        wire->blocked = true;
        (void)ctl_complain(0, NULL, "RabbitMQ takes no messages just now (%.*s); waiting", (int)reason.len,
                           (const char *)reason.bytes);
    } else if (method->id == AMQP_CONNECTION_UNBLOCKED_METHOD) {
        wire->blocked = false;
        wire->unblocked_at = ctl_monotonic();
    } else if (method->id == AMQP_CONNECTION_CLOSE_METHOD) {
        (void)amqp_send_method(wire->amqp, 0, AMQP_CONNECTION_CLOSE_OK_METHOD, &close_ok);
        (void)wire_lose_closed(wire, "closed the connection", method);
        return WIRE_LOST;
    }
    return GO_ON;
}

static enum wire_event channel_method(struct wire *wire, const amqp_method_t *method) {
    switch (method->id) {
    case AMQP_BASIC_ACK_METHOD: {
        const amqp_basic_ack_t *ack = method->decoded;
        wire->tag = ack->delivery_tag;
        wire->multiple = ack->multiple;
        return WIRE_CONFIRMED;
    }
    case AMQP_BASIC_NACK_METHOD: {
        const amqp_basic_nack_t *nack = method->decoded;
        wire->tag = nack->delivery_tag;
        wire->multiple = nack->multiple;
        return WIRE_NACKED;
    }
    case AMQP_BASIC_RETURN_METHOD:
        return WIRE_RETURNED;
    case AMQP_BASIC_DELIVER_METHOD:
        message_begin(wire, method);
        return GO_ON;
    case AMQP_BASIC_CANCEL_METHOD:
        (void)wire_lose(wire, "RabbitMQ ended the delivery: the queue was deleted, or moved to another node");
        return WIRE_LOST;
    case AMQP_CHANNEL_CLOSE_METHOD:
        (void)wire_lose_closed(wire, "refuses what was asked for", method);
        return WIRE_LOST;
    default:
        return GO_ON;
    }
}

/* Frames of two channels may mingle. What follows a basic.return, on the publishing channel, is of no interest. */
static enum wire_event take_frame(struct wire *wire, const amqp_frame_t *frame) {
    struct wire_incoming *incoming = wire->incoming;
    if (frame->frame_type == AMQP_FRAME_METHOD)
        return frame->channel == 0 ? connection_method(wire, &frame->payload.method)
                                   : channel_method(wire, &frame->payload.method);
    if (!incoming->active || frame->channel != WIRE_CHANNEL_CONSUME)
        return GO_ON;
    if (frame->frame_type == AMQP_FRAME_HEADER && !incoming->headed)
        return message_header(wire, frame);
    if (frame->frame_type == AMQP_FRAME_BODY && incoming->headed)
        return message_body(wire, frame);
    return GO_ON;
}

/* ---- waiting ---- */

bool wire_has_input(const struct wire *wire) {
    struct pollfd poller = {.fd = amqp_get_sockfd(wire->amqp), .events = POLLIN};
    return amqp_frames_enqueued(wire->amqp) || amqp_data_in_buffer(wire->amqp) || poll(&poller, 1, 0) != 0;
}

/* Whether something is there to be read within the time, or there is room where that is wanted. */
static void wait_for_socket(struct wire *wire, int milliseconds) {
    struct pollfd pollers[] = {
        {.fd = amqp_get_sockfd(wire->amqp),
         .events = (short)(POLLIN | (wire->want_room && !wire->blocked ? POLLOUT : 0))},
        {.fd = wire->stop, .events = POLLIN}, /* a negative one is left out */
    };
    (void)poll(pollers, 2, milliseconds);
    if (pollers[0].revents & POLLOUT)
        wire->want_room = false;
}

enum wire_event wire_wait(struct wire *wire, unsigned milliseconds) {
    uint64_t end = ctl_monotonic() + (uint64_t)milliseconds * 1000;
    if (!wire->amqp)
        return WIRE_LOST;
    for (;;) {
        amqp_frame_t frame;
        struct timeval none = {0};
        if (wire->stop >= 0 && ctl_stop_wanted(wire->stop))
            return WIRE_STOPPED;
        amqp_maybe_release_buffers(wire->amqp);
        int status = amqp_simple_wait_frame_noblock(wire->amqp, &frame, &none);
        if (status == AMQP_STATUS_OK) {
            enum wire_event event = take_frame(wire, &frame);
            if (event == WIRE_CONFIRMED || event == WIRE_MESSAGE)
                wire->lost_at = 0;
            if (event != GO_ON)
                return event;
            continue;
        }
        if (status != AMQP_STATUS_TIMEOUT) {
            (void)wire_lose(wire, "the connection to RabbitMQ was lost: %s", amqp_error_string2(status));
            return WIRE_LOST;
        }
        uint64_t now = ctl_monotonic();
        bool wanted_room = wire->want_room;
        if (now >= end)
            return WIRE_NOTHING;
        wait_for_socket(wire, (int)((end - now + 999) / 1000));
        if (wanted_room && !wire->want_room)
            return WIRE_NOTHING;
    }
}
