/* dialogue.c — requests under way and their replies. */
#include "dialogue.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-id128.h>

#include "amqp-json.h"
#include "portal/names.h"
#include "portalctl.h"
#include "wire-internal.h"

enum { REFUSED_WAIT_US = 1000000, EXPIRE_US = 50000, CONFIRM_US = 15000000 };

void dialogue_random_name(char name[static 9]) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    sd_id128_t random = SD_ID128_NULL;
    if (sd_id128_randomize(&random) < 0)
        random.qwords[0] = ctl_monotonic() ^ ctl_wall(); /* no more is needed than not to meet another run */
    for (unsigned i = 0; i < 8; i++)
        name[i] = letters[random.bytes[i] % 36];
    name[8] = '\0';
}

void dialogue_request_free(struct dialogue_request *request) {
    if (!request)
        return;
    free(request->body);
    json_decref(request->properties);
    free(request);
}

bool dialogue_has_room(const struct dialogue *dialogue, size_t at_most, size_t length) {
    return dialogue->count < at_most && dialogue->count < DIALOGUE_MAX &&
           (dialogue->count == 0 || dialogue->bytes + length <= DIALOGUE_BYTES_MAX);
}

size_t dialogue_lowest(const struct dialogue *dialogue, size_t otherwise) {
    size_t lowest = otherwise;
    for (size_t i = 0; i < dialogue->count; i++)
        if (dialogue->open[i]->line < lowest)
            lowest = dialogue->open[i]->line;
    return lowest;
}

/* ---- the connection ---- */

static int prepare(struct dialogue *dialogue) {
    return dialogue->listening ? wire_reply_queue(&dialogue->wire, dialogue->reply_to) : 0;
}

int dialogue_open(struct dialogue *dialogue, const struct broker_settings *settings, int stop, bool listening) {
    dialogue->listening = listening;
    dialogue->count = dialogue->bytes = dialogue->unsent = 0;
    dialogue_random_name(dialogue->run);
    int r = wire_init(&dialogue->wire, settings, stop);
    if (r < 0)
        return r;
    r = wire_open(&dialogue->wire);
    return r < 0 ? r : prepare(dialogue);
}

void dialogue_close(struct dialogue *dialogue) {
    while (dialogue->count > 0)
        dialogue_request_free(dialogue->open[--dialogue->count]);
    wire_close(&dialogue->wire);
}

/* All that has not ended is sent again: its reply may have gone to a queue that went with the connection. */
static int recover(struct dialogue *dialogue) {
    int r;
    do {
        r = wire_reopen(&dialogue->wire);
        if (r < 0)
            return r;
        r = prepare(dialogue);
    } while (r < 0);
    for (size_t i = 0; i < dialogue->count; i++) {
        dialogue->open[i]->sequence = dialogue->open[i]->since = 0;
        dialogue->open[i]->confirmed = false;
    }
    dialogue->unsent = dialogue->count;
    return 0;
}

/* ---- sending ---- */

static void finish(struct dialogue *dialogue, size_t place, enum dialogue_end end, const struct wire_message *reply) {
    struct dialogue_request *request = dialogue->open[place];
    memmove(&dialogue->open[place], &dialogue->open[place + 1], (dialogue->count - place - 1) * sizeof *dialogue->open);
    dialogue->count--;
    dialogue->bytes -= request->body_length;
    dialogue->unsent -= request->sequence == 0;
    dialogue->done(dialogue->userdata, request, end, reply);
}

/* What the line leaves to whoever sends it. A user_id is always the sender's own: RabbitMQ takes no other. */
static void complete(struct dialogue *dialogue, struct dialogue_request *request, amqp_basic_properties_t *properties) {
    if (!(properties->_flags & AMQP_BASIC_CONTENT_TYPE_FLAG))
        properties->content_type = amqp_cstring_bytes("application/json");
    if (!(properties->_flags & AMQP_BASIC_DELIVERY_MODE_FLAG))
        properties->delivery_mode = AMQP_DELIVERY_PERSISTENT;
    properties->_flags |= AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG;
    if (properties->_flags & AMQP_BASIC_USER_ID_FLAG)
        properties->user_id = amqp_cstring_bytes(dialogue->wire.user);
    if (!(properties->_flags & AMQP_BASIC_CORRELATION_ID_FLAG)) {
        properties->_flags |= AMQP_BASIC_CORRELATION_ID_FLAG;
        properties->correlation_id = amqp_cstring_bytes(request->correlation_id);
    }
    if (request->awaited) {
        properties->_flags |= AMQP_BASIC_REPLY_TO_FLAG;
        properties->reply_to = amqp_cstring_bytes(dialogue->reply_to);
    }
}

static int publish(struct dialogue *dialogue, struct dialogue_request *request) {
    amqp_basic_properties_t properties;
    amqp_pool_t pool;
    init_amqp_pool(&pool, 4096);
    int r = amqp_from_json(request->properties, &properties, &pool);
    if (r >= 0) {
        complete(dialogue, request, &properties);
        amqp_bytes_t body = {.len = request->body_length, .bytes = request->body};
        r = wire_publish(&dialogue->wire, EXCHANGE, ROUTING_KEY, &properties, body);
    }
    empty_amqp_pool(&pool);
    if (r < 0)
        return r;
    request->sequence = dialogue->wire.sequence;
    request->since = ctl_monotonic();
    dialogue->unsent--;
    return 0;
}

/* Sends what is to be sent, in order, as far as there is room. */
static int pump(struct dialogue *dialogue) {
    uint64_t now = ctl_monotonic();
    for (size_t i = 0; dialogue->unsent > 0 && i < dialogue->count; i++) {
        struct dialogue_request *request = dialogue->open[i];
        if (request->sequence > 0 || request->since > now)
            continue;
        int r = publish(dialogue, request);
        if (r == -EMSGSIZE) {
            finish(dialogue, i, DIALOGUE_TOO_LARGE, NULL);
            return recover(dialogue);
        }
        if (r == -EPIPE)
            return recover(dialogue);
        if (r < 0)
            return r == -EAGAIN ? 0 : r;
    }
    return 0;
}

void dialogue_send(struct dialogue *dialogue, struct dialogue_request *request) {
    assert(dialogue->count < DIALOGUE_MAX);
    const char *own = json_string_value(json_object_get(request->properties, "correlation_id"));
    if (own)
        (void)snprintf(request->correlation_id, sizeof request->correlation_id, "%s", own);
    else
        (void)snprintf(request->correlation_id, sizeof request->correlation_id, "portalctl-%s-%" PRIu64, dialogue->run,
                       ++dialogue->number);
    request->sequence = request->since = 0;
    request->confirmed = false;
    dialogue->open[dialogue->count++] = request;
    dialogue->bytes += request->body_length;
    dialogue->unsent++;
}

/* ---- what comes back ---- */

static void confirmed(struct dialogue *dialogue, bool good) {
    const struct wire *wire = &dialogue->wire;
    for (size_t i = 0; i < dialogue->count;) {
        struct dialogue_request *request = dialogue->open[i];
        bool meant = request->sequence > 0 && (wire->multiple ? request->sequence <= wire->tag || wire->tag == 0
                                                              : request->sequence == wire->tag);
        if (meant && good && !request->awaited) {
            finish(dialogue, i, DIALOGUE_SENT, NULL);
            continue;
        }
        if (meant && good) {
            request->confirmed = true;
            request->since = ctl_monotonic();
        } else if (meant) { /* the queue is at its limit: a little later */
            request->sequence = 0;
            request->since = ctl_monotonic() + REFUSED_WAIT_US;
            dialogue->unsent++;
        }
        i++;
    }
}

static void answered(struct dialogue *dialogue, const struct wire_message *reply) {
    const amqp_basic_properties_t *properties = &reply->properties;
    if (!(properties->_flags & AMQP_BASIC_CORRELATION_ID_FLAG))
        return;
    amqp_bytes_t id = properties->correlation_id;
    for (size_t i = 0; i < dialogue->count; i++) {
        const char *own = dialogue->open[i]->correlation_id;
        if (strlen(own) == id.len && memcmp(own, id.bytes, id.len) == 0) {
            finish(dialogue, i, DIALOGUE_ANSWERED, reply);
            return;
        }
    }
}

/* How long the broker has had to confirm it, in microseconds. */
static uint64_t unconfirmed_for(const struct dialogue *dialogue, const struct dialogue_request *request, uint64_t now) {
    const struct wire *wire = &dialogue->wire;
    if (request->sequence == 0 || request->confirmed || wire->blocked)
        return 0;
    return now - (request->since > wire->unblocked_at ? request->since : wire->unblocked_at);
}

/* Ends those whose time is over, unless their answers may be on their way in: it may be this process that stood still.
 * Result: whether the broker has left one unconfirmed for so long that it must have stopped behind its open socket; one
 * that is short of memory or disk says so. */
static bool expire(struct dialogue *dialogue) {
    uint64_t now = ctl_monotonic();
    bool stopped = false;
    if (now < dialogue->expire_at)
        return false;
    dialogue->expire_at = now + EXPIRE_US;
    if (wire_has_input(&dialogue->wire))
        return false;
    for (size_t i = 0; i < dialogue->count;) {
        const struct dialogue_request *request = dialogue->open[i];
        stopped |= unconfirmed_for(dialogue, request, now) > CONFIRM_US;
        if (request->confirmed && now - request->since > (uint64_t)request->patience_ms * 1000)
            finish(dialogue, i, DIALOGUE_LATE, NULL);
        else
            i++;
    }
    return stopped;
}

static int nobody(void) {
    (void)ctl_complain(0, "Start a worker, which declares its queues, or look with \"portalctl check\".",
                       "no queue takes requests: nothing is bound to the exchange " EXCHANGE
                       " with the key " ROUTING_KEY);
    return -EHOSTUNREACH;
}

int dialogue_step(struct dialogue *dialogue, unsigned milliseconds) {
    int r = pump(dialogue);
    if (r < 0)
        return r;
    if (expire(dialogue)) {
        (void)wire_lose(&dialogue->wire, "RabbitMQ does not confirm what it was sent");
        return recover(dialogue);
    }
    switch (wire_wait(&dialogue->wire, milliseconds)) {
    case WIRE_CONFIRMED:
        confirmed(dialogue, true);
        return 0;
    case WIRE_NACKED:
        confirmed(dialogue, false);
        return 0;
    case WIRE_RETURNED:
        return nobody();
    case WIRE_MESSAGE:
        answered(dialogue, &dialogue->wire.message);
        return 0;
    case WIRE_STOPPED:
        return -ECANCELED;
    case WIRE_LOST:
        return recover(dialogue);
    case WIRE_NOTHING:
    default:
        return 0;
    }
}
