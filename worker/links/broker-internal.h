/* broker-internal.h — what the files of the broker link share. Bottom up: opening (on a helper thread), connection (on
 * the loop), then the three that use one: consumer, publisher, and direct, the publisher of direct replies. */
#pragma once

#include <amqp.h>
#include <amqp_framing.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <systemd/sd-event.h>

#include "amqp-table.h"
#include "amqp-url.h"
#include "links/broker.h"
#include "links/connector.h"
#include "portal/names.h"
#include "portal/timestamp.h"

#define DIRECT_REPLY_PREFIX "amq.rabbitmq.reply-to."

enum {
    CHANNEL = 1, /* every connection uses one channel, this one */
    CONSUMER_TAG_MAX = 40,
    CAUSE_MAX = 1024, /* bytes of a text that says why a connection is not there */
    REASON_MAX = 320, /* of the broker's or the library's words in it: a code and a short string of AMQP */
};

/* ---- broker-open.c: opening a connection; everything here blocks ------------------------------------------------- */

enum role { ROLE_CONSUME, ROLE_PUBLISH, ROLE_DIRECT };

/* One attempt. It owns copies of all it needs, as its thread may outlive the broker. */
struct opening {
    enum role role;
    struct amqp_url url;
    char worker[256];
    struct broker_settings settings; /* without urls and worker, which are borrowed */

    int error;                    /* out: 0 or a negative errno */
    char cause[CAUSE_MAX];        /* out: why not; names AMQP_URL or AMQP_TOPOLOGY where it is a matter of those */
    amqp_connection_state_t amqp; /* out: with CHANNEL open, in confirm mode or with the prefetch set */
    uint32_t heartbeat_seconds;   /* out: as agreed with the broker; 0: none */
    unsigned major_version;       /* of RabbitMQ */
};

/* Result: 0, and `*ret` is the caller's, freed with opening_free(); or a negative errno, with the cause of -EINVAL. */
int opening_new(const struct broker_settings *settings, const char *url, enum role role, struct opening **ret,
                char cause[static CAUSE_MAX]);
void opening_run(void *argument);  /* struct connector_work's run() */
void opening_free(void *argument); /* and its drop(); also closes the connection where it is still there */

/* Why an AMQP call went wrong, in words. */
void reply_explain(const amqp_rpc_reply_t *reply, char reason[static REASON_MAX]);

/* broker-topology.c: declares or checks exchange, queues and binding. Result: 0, or a negative errno with all that is
 * missing or differs in opening->cause. */
int topology_ensure(struct opening *opening);

/* ---- broker-connection.c: one connection on the loop --------------------------------------------------------------
 */

struct connection;

/* What its user does with it. All are called on the loop, and may send and break, but not close the connection. */
struct connection_user {
    enum role role;
    const char *name;
    void (*ready)(struct connection *connection);                               /* it can be used */
    void (*method)(struct connection *connection, const amqp_method_t *method); /* on CHANNEL */
    /* A message that follows a basic.deliver or basic.return: its header, then its body in pieces. */
    void (*header)(struct connection *connection, uint64_t body_size, const amqp_basic_properties_t *properties,
                   amqp_bytes_t raw);
    void (*body)(struct connection *connection, amqp_bytes_t piece);
    void (*writable)(struct connection *connection); /* there is room again, or it is unblocked */
    void (*lost)(struct connection *connection);     /* it is gone, the cause is in connection->cause */
    void (*failed)(struct connection *connection);   /* an attempt to open it failed; may be NULL */
    /* Looks for what should have been answered by now, and calls stall_set(). Result: when to look next, UINT64_MAX
     * where nothing is owed. */
    uint64_t (*look)(struct connection *connection, uint64_t now);
};

struct connection {
    const struct connection_user *user;
    struct broker *broker;
    struct connector *connector;
    amqp_connection_state_t amqp; /* NULL: not connected */
    int fd;
    sd_event_source *io;
    sd_event_source *again;    /* what is buffered or broken is looked at in the next turn */
    sd_event_source *push;     /* at the end of a turn: what was sent in it goes out */
    sd_event_source *timer;    /* while connected the heartbeat, else the next attempt */
    sd_event_source *patience; /* looks for what is not answered; on while anything is owed */
    uint64_t patient_from;     /* when it was last blocked or unblocked: until then the broker owed nothing */
    uint64_t heartbeat;        /* microseconds; 0: none */
    uint64_t received_at;      /* monotonic microseconds; as the next */
    uint64_t sent_at;
    uint64_t opened_at;
    uint64_t body_left;    /* of the message that is being received */
    unsigned url;          /* which one is tried next */
    unsigned failures;     /* in a row */
    uint16_t closed_with;  /* AMQP reply code of the broker's close; 0: it did not say one */
    bool broken;           /* to be torn down in the next turn */
    bool blocked;          /* connection.blocked or channel.flow: the broker takes no messages */
    bool stalled;          /* the broker took something and does not answer it */
    bool unproven;         /* the last one was closed for want of a right: this one counts once that was tried */
    bool want_room;        /* somebody waits for writable() */
    bool held;             /* what is sent is held back until `push` */
    char cause[CAUSE_MAX]; /* why it is not there, or is blocked; "" before the first attempt ended */
};

int connection_init(struct connection *connection, struct broker *broker, const struct connection_user *user);
void connection_clear(struct connection *connection);

/* Opens it and keeps it open. Harmless where that is so already. */
void connection_want(struct connection *connection);

/* Where the next attempt waits for its time: makes it now. */
void connection_hurry(struct connection *connection);

/* Connected and not broken. */
bool connection_usable(const struct connection *connection);

/* Whether the socket takes one message or method at once, so that sending does not block; if not, writable() follows.
 */
bool connection_room(struct connection *connection);

/* Has writable() called in the next turn, for whoever could not get memory. */
void connection_try_later(struct connection *connection);

/* The right that was wanting is there. */
void connection_prove(struct connection *connection);

/* Sends a method or a message; the caller made sure that there is room. Result: 0, or -EPIPE and it is broken. */
int connection_send(struct connection *connection, amqp_channel_t channel, amqp_method_number_t id, void *method);
struct message;
int connection_publish(struct connection *connection, const struct message *message);

/* Marks it as lost; it is torn down in the next turn of the loop. */
void connection_break(struct connection *connection, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Closes it in order, waiting for the broker until `deadline` (CLOCK_MONOTONIC, microseconds), and stays closed. */
void connection_close(struct connection *connection, uint64_t deadline);

/* ---- broker-stall.c: what the broker owes --------------------------------------------------------------------------
 */

int stall_init(struct connection *connection); /* result: 0 or a negative errno */

/* Something was sent that the broker has to answer. */
void stall_expect(struct connection *connection);

/* When the answer to something sent at `sent_at` is overdue; both monotonic microseconds. */
uint64_t stall_due(const struct connection *connection, uint64_t sent_at);

/* Has the user look now; for when an answer came. */
void stall_look(struct connection *connection);

/* `what` the broker has not done: it ends "RabbitMQ has not …". */
void stall_set(struct connection *connection, bool stalled, const char *what);

/* ---- broker-delivery.c: one delivery --------------------------------------------------------------------------- */

struct inbound {
    struct delivery delivery; /* what the core sees; first, so that one can be had from the other */
    TAILQ_ENTRY(inbound) entry;
    uint64_t tag;
    uint64_t epoch;             /* of the consumer when it came */
    enum settlement settlement; /* once it waits to be sent */
    size_t body_room;           /* bytes of the body still to come */
    /* As it was sent, for the echo and the dead letter; they point into the same allocation. */
    amqp_bytes_t raw_properties; /* encoded as in the header frame; empty where oversized */
    amqp_bytes_t correlation_id;
    amqp_bytes_t traceparent;
    amqp_bytes_t tracestate;
};
TAILQ_HEAD(inbound_list, inbound);

/* Result: a delivery, freed with free(), that waits for its body; NULL without memory. */
struct inbound *inbound_new(uint64_t body_size, const amqp_basic_properties_t *properties, amqp_bytes_t raw);
void inbound_append(struct inbound *inbound, amqp_bytes_t piece);

/* ---- broker-message.c: one message to publish ------------------------------------------------------------------- */

/* What a reply is made of; borrowed. */
struct reply {
    amqp_bytes_t routing_key;
    amqp_bytes_t correlation_id;
    amqp_bytes_t traceparent;
    amqp_bytes_t tracestate;
    amqp_bytes_t body;
    uint64_t expiration_ms;
};

struct message {
    amqp_bytes_t routing_key; /* on the default exchange */
    bool mandatory;
    amqp_basic_properties_t properties;
    amqp_bytes_t body;
    struct table headers;
    struct table original;
    char expiration[24];
    char first_at[TIMESTAMP_SIZE];
    char last_at[TIMESTAMP_SIZE];
    amqp_pool_t pool; /* of a letter: the original's properties, decoded */
};

/* The header by which a message that comes back is known: the number of its confirm. */
#define HEADER_SEQUENCE "x-portal-sequence"

struct reply reply_of(const struct publication *publication);
bool reply_is_direct(const struct delivery *delivery);
void message_from_reply(struct message *message, const struct reply *reply, uint64_t sequence);

/* Result: 0 or -ENOMEM. Cleared with message_clear(), which is harmless after message_from_reply() too. */
int message_from_letter(struct message *message, const struct publication *publication, const char *worker,
                        uint64_t sequence);
void message_clear(struct message *message);

/* ---- broker-consumer.c ------------------------------------------------------------------------------------------ */

struct consumer {
    struct connection connection; /* first, so that one can be had from the other */
    enum intake wanted;
    /* What the broker has yet to answer: a prefetch, a subscription, or that all are cancelled. Sized: the prefetch is
     * set, its subscription is to be sent. */
    enum consumer_state {
        CONSUMER_SETTLED,
        CONSUMER_SIZING,
        CONSUMER_SIZED,
        CONSUMER_STARTING,
        CONSUMER_STOPPING
    } state;
    uint64_t asked_at; /* when what the broker has yet to answer was sent; monotonic microseconds */
    unsigned live;     /* subscriptions; their tags end in the numbers before next_tag */
    uint64_t next_tag;
    unsigned prefetch;            /* of the channel, for the next subscription */
    unsigned granted;             /* to the live ones together */
    unsigned unsettled;           /* deliveries in hand or settling */
    unsigned old;                 /* of those, of subscriptions that were cancelled */
    uint64_t epoch;               /* raised when all were cancelled */
    uint64_t tag;                 /* of the basic.deliver whose message comes now */
    struct inbound *assembling;   /* and that message, from its header on */
    struct inbound_list in_hand;  /* the core's */
    struct inbound_list settling; /* settled, and waiting for room on the socket */
    struct inbound_list lost;     /* the core's, of a channel that is gone */
};

int consumer_init(struct consumer *consumer, struct broker *broker);
void consumer_clear(struct consumer *consumer);
void consumer_intake(struct consumer *consumer, enum intake wanted);
void consumer_settle(struct consumer *consumer, struct delivery *delivery, enum settlement settlement);
void consumer_flush(struct consumer *consumer); /* sends the settlements that wait, as far as there is room */

/* ---- broker-publisher.c, broker-direct.c ------------------------------------------------------------------------ */

/* A message under way. */
struct outgoing {
    TAILQ_ENTRY(outgoing) entry;
    struct publication *publication; /* NULL: abandoned */
    uint64_t sequence;               /* its number on the channel; 0: not sent (direct only) */
    uint64_t sent_at;                /* monotonic microseconds */
    bool own;                        /* to a queue of the worker's own */
    bool returned;                   /* its basic.return came */
    bool suspect;                    /* direct only: it was under way when the connection was lost */
    unsigned costs;                  /* direct only: how often it was under way alone then */
    struct reply reply;              /* direct only: a copy that it owns */
};
TAILQ_HEAD(outgoing_list, outgoing);

struct publisher {
    struct connection connection;  /* first, so that one can be had from the other */
    uint64_t sequence;             /* of the last message sent */
    uint64_t confirmed;            /* the highest number that was confirmed: what is under way below it was overtaken */
    uint64_t probed;               /* number of the last probe; 0: none */
    uint64_t probed_at;            /* monotonic microseconds */
    struct outgoing_list outgoing; /* in the order they were sent, then those not sent yet (direct only) */
};

int publisher_init(struct publisher *publisher, struct broker *broker, const struct connection_user *user);
void publisher_clear(struct publisher *publisher);
int publisher_publish(struct publisher *publisher, struct publication *publication);
void publisher_abandon(struct publication *publication);
void publisher_append(struct publisher *publisher, struct outgoing *outgoing, struct publication *publication);
void publisher_reset(struct publisher *publisher); /* a new channel counts from 1 */
int publisher_send(struct publisher *publisher, struct outgoing *outgoing, const struct message *message);

/* Takes `outgoing` off and tells its owner, if there still is one. */
void publisher_finish(struct publisher *publisher, struct outgoing *outgoing, enum publish_result result);

/* Ends all that is under way; what a basic.return came for is PUBLISH_RETURNED, the rest PUBLISH_LOST. */
void publisher_lose_all(struct publisher *publisher);

/* struct connection_user's methods, the same for both kinds of publisher. */
void publisher_on_method(struct connection *connection, const amqp_method_t *method);
void publisher_on_header(struct connection *connection, uint64_t body_size, const amqp_basic_properties_t *properties,
                         amqp_bytes_t raw);
void publisher_on_body(struct connection *connection, amqp_bytes_t piece);
uint64_t publisher_look(struct connection *connection, uint64_t now);

extern const struct connection_user publisher_user;
extern const struct connection_user direct_user;

int direct_publish(struct publisher *direct, struct publication *publication);
void direct_pump(struct publisher *direct); /* sends what may be sent now */

/* ---- broker.c ---------------------------------------------------------------------------------------------------- */

struct broker {
    struct broker_settings settings;
    sd_event *event;
    struct portal *portal;
    struct consumer consumer;
    struct publisher publisher;
    struct publisher direct;
    unsigned url_count;
    bool stopped;
};

/* Tells the core whether the broker serves, from what the connections say. */
void broker_report(struct broker *broker);

/* Tells the core that publishing is possible, if it is. */
void broker_tell_ready(struct broker *broker);

uint64_t broker_now(void); /* CLOCK_MONOTONIC, microseconds */
