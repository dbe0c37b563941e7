/* event.h — what the core thinks worth telling. The daemon makes log lines, journal fields and metrics of it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum event_kind {
    EVENT_REQUEST_DONE,      /* acknowledged: one for each request */
    EVENT_REQUEST_DROPPED,   /* its channel went before it could be acknowledged: it is delivered again */
    EVENT_REPLY_RETURNED,    /* nobody's queue took a reply; it is kept in the store */
    EVENT_DEAD_LETTER,       /* put into portal.dead */
    EVENT_STRIPE_CALL,       /* one exchange with Stripe ended */
    EVENT_PAUSED,            /* a link does not serve: the intake is closed; repeated each minute */
    EVENT_RESUMED,           /* it serves again */
    EVENT_SLOWED,            /* Stripe answered 429: the fleet slows down */
    EVENT_CONFIGURATION,     /* a portal configuration was found, created, updated or forgotten */
    EVENT_STRIPE_MISBEHAVED, /* an answer is not what Stripe's API promises */
    EVENT_SUSPECT,           /* a request that came back often is worked alone */
    EVENT_GIVEN_BACK,        /* requests in hand were given back to the queue */
    EVENT_BATCH,             /* one load or save came back */
    EVENT_CONNECTED,         /* connections were opened: the first ones, or others in their place */
    EVENT_TOKENS,            /* send times for Stripe were leased, or some of them became void */
    EVENTS,
};

/* What a request in hand waits for. What it waits for before (another delivery of the same request) is none of them. */
enum request_stage {
    STAGE_LOADING,
    STAGE_CONFIGURING,
    STAGE_CALLING,
    STAGE_SAVING,
    STAGE_REPLYING,
    STAGES,
};

/* Texts are borrowed for the call and may be NULL; none ever holds a secret or a portal URL. */
struct event {
    enum event_kind kind;
    const char *request_id;
    const char *outcome; /* REQUEST_DONE: created, reused, redirect, failed */
    const char *code;    /* error or redirect code; DEAD_LETTER: the reason; TOKENS: "leased", "void" */
    const char *text;    /* for a person: the cause, what to do */
    const char *link;    /* PAUSED, RESUMED, CONNECTED: "store", "stripe", "broker"; STRIPE_CALL, SLOWED, TOKENS: the
                          * endpoint; BATCH: "load", "save" */
    const char *stripe_request_id;
    const char *configuration;
    bool quiet;           /* PAUSED, RESUMED: the log has this cause already, a moment ago */
    int64_t team_id;      /* 0: unknown */
    int64_t user_id;      /* 0: none */
    uint32_t generation;  /* 0: none */
    int status;           /* HTTP status of the reply or of Stripe */
    unsigned count;       /* attempts, rows, requests given back, connections, send times */
    uint64_t duration_us; /* REQUEST_DONE: since delivery; RESUMED: of the pause; STRIPE_CALL, BATCH: its own */
    uint64_t queued_us; /* REQUEST_DONE: between the sender's timestamp and delivery, 0 if unknown; STRIPE_CALL: waited
                         * for a send time and a slot */
    uint64_t stage_us[STAGES]; /* REQUEST_DONE: of its duration, what each took; 0: it had no part in it */
};
