/* links.h — the outside world as the core sees it: four small tables of functions. The daemon puts rabbitmq-c, libpq,
 * libcurl and sd-event behind them, the simulator its models. Nothing here blocks; every `done` is called at most once,
 * on the loop, and never from inside the function that began the work. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "portal/delivery.h"

/* ---- broker: RabbitMQ ------------------------------------------------------------------------------------------- */

enum publish_result {
    PUBLISH_CONFIRMED, /* basic.ack: the broker has it */
    PUBLISH_RETURNED,  /* basic.return: no queue takes it */
    PUBLISH_REFUSED,   /* basic.nack: its queue is at its limit, or the broker could not keep it; or nothing is heard of
                          it while others are confirmed */
    PUBLISH_LOST,      /* the connection went first: nobody knows */
};

/* What a dead letter says beside the message it carries; texts are borrowed until publish() returns. */
struct dead_letter {
    const char *reason;       /* an error code of the contract: "invalid_request", "stripe_unavailable", … */
    const char *error;        /* for a person; never a secret or a portal URL */
    unsigned attempts;        /* calls to Stripe made for it */
    uint64_t first_at;        /* microseconds since 1970: when it reached this worker */
    uint64_t last_at;         /* and when it was given up */
    uint32_t next_generation; /* what a replay has to ask for */
};

/* One message to publish; embedded in its owner, who keeps it in place until `done` or broker->abandon(). */
struct publication {
    const struct delivery *delivery; /* whom it answers or buries; reply_to, correlation_id, traceparent come from it */
    const struct dead_letter *letter; /* not NULL: a dead letter, to `portal.dead`, carrying the delivery itself */
    const char *body;                 /* else a reply: JSON in UTF-8, borrowed until publish() returns */
    size_t body_length;
    uint64_t expiration_ms; /* of a reply; 0: none */
    void (*done)(struct publication *publication, enum publish_result result);
    void *link; /* the link's own mark while it is under way */
};

enum settlement {
    SETTLE_ACKNOWLEDGE, /* basic.ack */
    SETTLE_REJECT,      /* basic.reject without requeue: the broker dead-letters it */
    SETTLE_GIVE_BACK,   /* basic.nack with requeue */
};

enum intake {
    INTAKE_NONE,
    INTAKE_ONE, /* of the prefetch, one delivery at a time, beside what is in hand from before */
    INTAKE_ALL, /* as many as the prefetch */
};

struct broker_link {
    void *self;

    /* Sends it. 0: under way, `done` follows. -EAGAIN: not connected, blocked or no room; portal_broker_ready() tells
     * when to try again. A reply goes to delivery->reply_to (the default queue where that is NULL). */
    int (*publish)(void *self, struct publication *publication);

    /* Forgets a publication that is under way: `done` is not called. */
    void (*abandon)(void *self, struct publication *publication);

    /* Ends a delivery and frees it; where it is lost only that. */
    void (*settle)(void *self, struct delivery *delivery, enum settlement settlement);

    /* How much is to be taken in, now and after each reconnect. Deliveries that were on their way when the consumer is
     * cancelled still arrive. */
    void (*intake)(void *self, enum intake wanted);
};

/* ---- store: PostgreSQL ------------------------------------------------------------------------------------------ */

enum store_status {
    STORE_DONE,
    STORE_LOST,      /* the connection went: it was done or not, nobody knows */
    STORE_BAD_VALUE, /* SQLSTATE 22xxx or 23xxx: a row of it can't be kept */
    STORE_DENIED,    /* SQLSTATE 28xxx, 42501, 42P01, 3F000, 42703, 42883: a right or a migration is missing */
    STORE_FAILED,    /* anything else; nothing was changed */
};

enum store_kind {
    STORE_LOAD,
    STORE_SAVE,
    STORE_CONFIGURATION_FIND,
    STORE_CONFIGURATION_LEASE,
    STORE_CONFIGURATION_KEEP,
    STORE_CONFIGURATION_RELEASE,
    STORE_CONFIGURATION_FORGET,
    STORE_TOKENS,
    STORE_SLOW_DOWN,
    STORE_SUSPECT_ADD,
    STORE_SUSPECT_REMOVE,
    STORE_HEARTBEAT,
};

/* One request to look up. Texts that come in are borrowed until `done`; those that come out are malloc()ed for the
 * row's owner, who frees them with load_row_clear(). */
struct load_row {
    const char *request_id;
    const char *ask; /* canonical JSON: what makes two requests the same */
    int64_t team_id; /* 0: not given */
    int64_t user_id; /* 0: not given */
    bool want_reuse; /* look for a session to reuse */

    struct {
        bool found;          /* there is a row of this request */
        bool same_ask;       /* … of the same ask: the rest of it is set only then */
        bool stands;         /* its answer still stands */
        uint32_t generation; /* its generation, set also for another ask */
        char *answer;        /* the stored answer (answer.h), JSON without the URL */
        char *url;           /* the session's URL; NULL where there is none or it was wiped */
    } stored;

    bool user_found; /* user_id names a user who is not deleted */
    struct {
        bool found;
        int64_t id;
        char *customer;            /* teams.stripe_customer_id; NULL where null or empty, as below */
        char *product;             /* teams.stripe_product_id */
        char *subscription;        /* teams.stripe_subscription_id */
        char *subscription_status; /* teams.subscription_status */
    } team;

    /* The newest session of the same ask, customer, account and mode within the reuse window, not made for a `fresh`
     * request and with its URL; the core compares its configuration. */
    struct {
        char *answer; /* NULL: none */
        char *url;
    } reusable;
};

void load_row_clear(struct load_row *row); /* frees what came out and zeroes it */

/* One answer to keep; texts as above, freed with save_row_clear(). */
struct save_row {
    const char *request_id;
    uint32_t generation;
    const char *ask;
    const char *answer; /* JSON without the URL */
    const char *outcome;
    const char *code; /* error or redirect code, or NULL */
    int64_t team_id;  /* 0: none */
    int64_t user_id;  /* 0: none */
    bool fresh;
    const char *session_id; /* NULL without a session, as the rest up to session_created */
    const char *url;
    const char *customer;
    const char *configuration;
    int64_t session_created; /* seconds since 1970 by Stripe's clock; 0 without a session */
    uint32_t stands_seconds; /* how long the answer stands: from session_created where there is one, else from now */
    const char *body;        /* the request, for a replay */
    const char *properties;  /* its AMQP properties as a JSON object, for a replay */

    struct {
        bool written;  /* the row that stands is the one written here; the rest is not set but `stands` */
        bool same_ask; /* else: whether the one that stands is of the same ask; the rest is set only then */
        bool stands;
        uint32_t generation; /* set also for another ask */
        char *answer;
        char *url;
    } standing;
};

void save_row_clear(struct save_row *row);

/* A row of portal.configurations. `key` names account, mode and policy. */
struct configuration_row {
    const char *key;
    const char *holder; /* LEASE, KEEP, RELEASE: who leases, the worker's own name */
    uint32_t lease_seconds;

    /* in for KEEP (id also for FORGET); out for FIND and LEASE, malloc()ed, freed with configuration_row_clear() */
    char *id;          /* bpc_…; NULL: none known */
    char *product;     /* the product whose prices it offers; NULL where it is not this worker's making */
    char *fingerprint; /* of the features and prices it was last given; NULL likewise */
    bool managed;      /* made by portal-worker, so its to update */

    bool leased;          /* LEASE: granted (also over a lease that ran out, or one's own); KEEP: it was kept */
    uint32_t retry_ms;    /* LEASE not granted: what is left of the other's lease, milliseconds */
    uint32_t forgotten;   /* FIND, LEASE: how many times one was forgotten; part of the next idempotency key. In for
                           * KEEP, which keeps nothing if another was forgotten since */
    uint64_t checked_ago; /* FIND, LEASE: seconds since KEEP; 0 where none is known */
};

void configuration_row_clear(struct configuration_row *row);

/* A run of send times leased for one endpoint, or, for SLOW_DOWN, a wait imposed on all. */
struct token_run {
    const char *endpoint;
    uint32_t wanted;      /* TOKENS: how many */
    uint64_t interval_us; /* TOKENS: apart, before any slow-down */
    uint64_t wait_us;     /* SLOW_DOWN: nobody sends before that, and for `slow_us` intervals are doubled */
    uint64_t slow_us;
    uint64_t first_us;   /* out: microseconds from now until the first may be used */
    uint64_t spacing_us; /* out: apart */
};

struct suspect {
    const char *message_id; /* or NULL */
    const char *body;
    size_t body_length;
    const char *worker;
    uint32_t tries; /* out of ADD: this try, and those of this message that other workers have on record */
    bool all;       /* REMOVE: every try of this message, not only this worker's */
};

struct heartbeat {
    const char *worker; /* the worker's name, host:pid:start */
    const char *state;  /* JSON object, for portalctl status */
};

/* One piece of work for the store; embedded in its owner, who keeps it in place until `done`. */
struct store_task {
    enum store_kind kind;
    union {
        struct {
            struct load_row **rows;
            size_t count;
        } load;
        struct {
            struct save_row **rows; /* no request id twice */
            size_t count;
        } save;
        struct configuration_row configuration;
        struct token_run tokens;
        struct suspect suspect;
        struct heartbeat heartbeat;
    };
    uint64_t database_now; /* out of LOAD and SAVE: microseconds since 1970 by the database's clock */
    char sqlstate[6];      /* where not done: "" if none */
    char error[256];       /* and the server's words, without values of the request */
    void (*done)(struct store_task *task, enum store_status status);
    struct store_task *next; /* the link's own */
};

struct store_link {
    void *self;

    /* Queues it; `done` follows. While there is no connection `done` says STORE_LOST, soon. */
    void (*submit)(void *self, struct store_task *task);
};

/* ---- Stripe ------------------------------------------------------------------------------------------------------ */

enum { STRIPE_ANSWER_MAX = 2 * 1024 * 1024 }; /* bytes of one answer's body */

/* One HTTP exchange; embedded in its owner, who keeps it in place until `done` or stripe->cancel(). */
struct stripe_exchange {
    bool post;
    const char *path;            /* from "/v1/" on, query included; borrowed until start() returns, as the next two */
    const char *form;            /* application/x-www-form-urlencoded body of a POST */
    const char *idempotency_key; /* of a POST */

    int error;             /* 0, or a negative errno: no usable answer (-ETIMEDOUT, -ECONNREFUSED, -EMSGSIZE, …) */
    char explanation[256]; /* of `error`, for a person */
    int status;            /* HTTP status; 0 with an error */
    char *body;            /* the link's, valid inside `done`; NUL-terminated */
    size_t body_length;
    char request_id[128];   /* Request-Id, "" if none */
    unsigned connections;   /* that were opened for it, also if it was cancelled; 0: one was there */
    bool replayed;          /* Idempotent-Replayed: true */
    int should_retry;       /* Stripe-Should-Retry: 1, 0, or -1 if not said */
    int64_t retry_after_ms; /* Retry-After (RFC 9110 §10.2.3: seconds or a date), -1 if none; at most an hour */
    void (*done)(struct stripe_exchange *exchange);
    void *link; /* the link's own mark while it is under way */
};

struct stripe_link {
    void *self;

    /* Begins it; `done` follows, also where it fails at once. */
    void (*start)(void *self, struct stripe_exchange *exchange);

    /* Drops one that is under way: `done` is not called. */
    void (*cancel)(void *self, struct stripe_exchange *exchange);
};

/* ---- host: time, chance, and someone to tell ----------------------------------------------------------------------
 */

struct event;

struct host {
    void *self;
    uint64_t (*now)(void *self);                     /* microseconds, monotonic */
    uint64_t (*wall)(void *self);                    /* microseconds since 1970, this machine's idea */
    uint64_t (*random)(void *self);                  /* 64 random bits; for jitter, not for secrets */
    void (*wake_at)(void *self, uint64_t monotonic); /* call portal_wake() then; UINT64_MAX: never; replaces the last */
    void (*soon)(void *self);                        /* call portal_wake() once more in this turn of the loop */
    void (*event)(void *self, const struct event *event); /* something worth telling: log, metrics, status */
};
