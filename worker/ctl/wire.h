/* wire.h — portalctl's connection to RabbitMQ: opened by the daemon's code, then one event after the other. It blocks,
 * but never for longer than it is told to. */
#pragma once

#include <amqp.h>
#include <amqp_framing.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "links/broker.h"

enum {
    WIRE_BODY_MAX = 64 * 1024, /* bytes of a message that are kept; four times what a request may have */
    WIRE_NAME_MAX = 256,       /* a short string of AMQP and its NUL */
    WIRE_CAUSE_MAX = 1024,
    WIRE_PATIENCE_SECONDS = 300, /* how long a broker that was there may be away */
};

enum wire_event {
    WIRE_NOTHING,   /* the time is over, or there is room again */
    WIRE_CONFIRMED, /* wire->tag, wire->multiple: the broker has what was published */
    WIRE_NACKED,    /* likewise: it has not, a queue is at its limit */
    WIRE_RETURNED,  /* no queue takes what was published; it is confirmed next */
    WIRE_MESSAGE,   /* wire->message: consumed */
    WIRE_STOPPED,   /* Ctrl-C or SIGTERM */
    WIRE_LOST,      /* the connection is gone: wire->cause, wire->hopeless */
};

struct wire_message {
    uint64_t tag;
    amqp_basic_properties_t properties;
    amqp_bytes_t body;  /* its first WIRE_BODY_MAX bytes */
    uint64_t body_size; /* of all of it */
};

struct wire {
    const struct broker_settings *settings;
    int stop; /* ctl_stop_open(); -1: none */
    unsigned url;
    amqp_connection_state_t amqp;   /* NULL: not connected */
    char user[WIRE_NAME_MAX];       /* who is logged in */
    uint64_t sequence;              /* of the last message published: what a confirm's tag counts */
    bool consuming, asking;         /* the channels that are open */
    bool blocked;                   /* the broker takes no messages just now: memory or disk */
    uint64_t unblocked_at;          /* monotonic: when that ended last: until then nothing could be confirmed */
    uint64_t opened_at;             /* monotonic */
    uint64_t lost_at;               /* monotonic: since when it is not there, or of no use; 0: it is */
    uint64_t settled_at;            /* monotonic: when something was acknowledged last; 0: nothing was */
    bool want_room;                 /* wire_wait() ends when the socket has room again */
    bool hopeless;                  /* trying again can't help: a right, a queue or an exchange is missing */
    bool denied;                    /* … and it is a right */
    bool stranger;                  /* … that to log in */
    bool ever;                      /* it was connected before */
    uint64_t give_up_at;            /* monotonic: wire_reopen() tries no longer than that; 0: as long as always */
    char cause[WIRE_CAUSE_MAX];     /* why it is not there */
    uint64_t tag;                   /* of the event, as the next */
    bool multiple;                  /* all up to the tag */
    struct wire_message message;    /* valid until the next wire_wait() */
    struct wire_incoming *incoming; /* what a message is put together in */
};

/* The settings are borrowed. Nothing is opened yet. Result: 0 or -ENOMEM; ended with wire_close(). */
int wire_init(struct wire *wire, const struct broker_settings *settings, int stop);

/* Connects to the first URL that takes us. Result: 0, or a negative errno with wire->cause. */
int wire_open(struct wire *wire);

/* Connects again, trying each second for WIRE_PATIENCE_SECONDS, and says so on standard error. Result: 0; -ECANCELED
 * when stopped; or a negative errno. */
int wire_reopen(struct wire *wire);

/* Says why it is not there, and what to do. Result: the exit status. */
int wire_complain(const struct wire *wire);

/* Closes in order where it is open; what was delivered and not settled goes back to its queue. */
void wire_close(struct wire *wire);

/* ---- each result: 0, or -EPIPE with the connection lost, its cause there ---- */

/* An exclusive queue that the broker names, its messages delivered without acknowledgement. */
int wire_reply_queue(struct wire *wire, char name[static WIRE_NAME_MAX]);

/* An exclusive queue likewise, bound to the requests' exchange, of at most so many messages; to be acknowledged. */
int wire_capture_queue(struct wire *wire, uint32_t at_most, uint16_t prefetch);

/* Consumes from a queue, to be acknowledged; `name` tells one consumer of the connection from another. */
int wire_consume(struct wire *wire, const char *queue, const char *name, uint16_t prefetch);

/* How many messages wait in a queue, and how many consumers it has. Also -ENOENT: there is no such queue. */
int wire_count(struct wire *wire, const char *queue, uint32_t *messages, uint32_t *consumers);

/* ---- messages ---- */

/* Publishes, mandatory, with a confirm to come. Result: 0 and wire->sequence is its number; -EAGAIN: no room now, ask
 * after the next wire_wait(); -EMSGSIZE: properties too large for AMQP; -EPIPE. */
int wire_publish(struct wire *wire, const char *exchange, const char *routing_key,
                 const amqp_basic_properties_t *properties, amqp_bytes_t body);

/* Takes what was consumed out of its queue for good: 0 or -EPIPE. */
int wire_acknowledge(struct wire *wire, uint64_t tag);

/* Whether something came that no wire_wait() has looked at. */
bool wire_has_input(const struct wire *wire);

/* The next thing that happens, within so many milliseconds. */
enum wire_event wire_wait(struct wire *wire, unsigned milliseconds);
