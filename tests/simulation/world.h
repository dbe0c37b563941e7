/* world.h — a simulated world: workers that run the real worker/portal/, and one broker, one database, one Stripe
 * around them, all on one virtual clock. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "../../worker/portal/portal-internal.h" /* leaks are looked for inside */
#include "clock.h"
#include "scenario.h"

/* When the world begins, seconds since 1970. */
#define WORLD_EPOCH UINT64_C(1800000000)

struct world;
struct worker;
struct table_row;

/* ---- messages ---- */

enum message_state { MESSAGE_UNSENT, MESSAGE_QUEUED, MESSAGE_DELIVERED, MESSAGE_DONE };

struct message {
    const struct sending *plan;
    unsigned index;
    enum message_state state;
    uint64_t sent_at;
    unsigned returns; /* x-delivery-count */
    unsigned deliveries;
    unsigned answers;       /* replies that the broker confirmed or returned */
    unsigned letters;       /* in portal.dead */
    unsigned crashes;       /* of whoever parsed it */
    unsigned crashes_alone; /* of workers that had it alone in hand, or left its try behind otherwise */
    unsigned live_tries;    /* of workers that had it in hand, too, when it was tried last */
    unsigned tries;         /* of those before the world began, that are still on record */
    TAILQ_ENTRY(message) entry;
};
TAILQ_HEAD(messages, message);

/* What has been said within a generation of a request. */
struct said {
    struct said *next;
    uint32_t generation;
    uint64_t body_hash;
    int64_t session; /* -1: none */
};

/* All messages of one request id. */
struct request_state {
    struct table_row *row; /* portal.sessions */
    struct said *said;
    bool bad;
    bool contested; /* messages of it ask for different things */
    bool mixed;     /* some of them fresh, some not: which comes first decides */
};

/* ---- what a worker has in hand ---- */

enum owed { OWED_NOTHING, OWED_UNDERWAY, OWED_CONFIRMED, OWED_RETURNED, OWED_REFUSED, OWED_LOST };

/* What the core is handed: freed when it settles it, so that a sanitizer sees who looks at it later. */
struct handed {
    struct delivery delivery; /* first */
    struct parcel *parcel;
    char message_id[32], correlation_id[32], timestamp_text[40], generation[16];
    char body[1024];
};

/* A delivery as the broker sees it. */
struct parcel {
    struct worker *worker;
    struct message *message;
    struct handed *handed; /* NULL: on its way to the worker, or settled */
    struct alarm alarm;    /* its arrival, or that of its settlement */
    bool arrived, settled;
    bool alone; /* came under INTAKE_ONE */
    enum settlement settlement;
    unsigned ordinal; /* among the deliveries of its message */
    TAILQ_ENTRY(parcel) entry;

    enum owed reply, letter; /* what this delivery led to */
    enum code code;
    uint32_t generation;
    int64_t session;
    uint64_t session_created;
    uint64_t refused_at;
    bool may_give_up; /* the reply, which its queue has refused */
};
TAILQ_HEAD(parcels, parcel);

struct consumer {
    bool up;
    enum intake wanted, there;
    struct parcels parcels; /* not yet settled with the broker */
    struct parcels lost;    /* the core still has them */
    unsigned unacked;
    unsigned alone; /* of those, what came under INTAKE_ONE */
    struct alarm connect, change;
    uint64_t last_arrival, last_settlement;
};

/* A message that a worker publishes. */
struct outgoing {
    struct worker *worker;
    struct publication *publication; /* NULL: nobody wants to know any more */
    struct parcel *parcel;           /* NULL: it is gone */
    struct message *message;
    bool letter, arrived;
    enum publish_result result;
    struct alarm alarm;
    TAILQ_ENTRY(outgoing) entry;
};
TAILQ_HEAD(outgoings, outgoing);

struct outbox {
    bool up, starved;
    struct outgoings outgoing;
    struct alarm connect, ready;
};

/* ---- database ---- */

struct statement {
    struct worker *worker;   /* NULL: its connection is gone */
    struct store_task *task; /* NULL: likewise */
    enum store_kind kind;
    struct alarm alarm;
    bool executed;
    enum store_status status;
    TAILQ_ENTRY(statement) entry;

    struct table_row **rows; /* SAVE: what is to be stored */
    size_t count;
    char key[160], holder[32], id[64], product[64], fingerprint[64];
    uint32_t lease_seconds, forgotten;
    bool managed, has_id, has_product, has_fingerprint;
    uint64_t digest;
    struct message *suspect;
};
TAILQ_HEAD(statements, statement);

struct database_connection {
    bool up;
    struct statements statements; /* in order */
    uint64_t last_execution, last_return;
    struct alarm connect;
    struct statements unconnected; /* submitted without a connection */
    struct alarm lose;
};

/* ---- Stripe ---- */

struct call {
    struct world *world;
    struct worker *worker;            /* NULL: gone */
    struct stripe_exchange *exchange; /* NULL: nobody listens */
    struct alarm alarm;
    TAILQ_ENTRY(call) entry;
    enum { CALL_SENT, CALL_WORKING } phase;
    bool post, respond;
    char path[256];
    char *form;
    char key[300];
    uint64_t asker;            /* a delivery, for checks */
    struct key_record *record; /* of the idempotency key, where it has one */
    bool uses_up;              /* the answer leaves nothing to be had from this key */
    int error, status, should_retry;
    int64_t retry_after_ms;
    bool replayed;
    char *body;
};
TAILQ_HEAD(calls_list, call);

/* ---- workers ---- */

struct worker {
    struct world *world;
    unsigned index, incarnation;
    char name[32];
    struct portal *portal; /* NULL: it does not run */
    bool dead;             /* it crashed; nothing it still says counts */
    bool soon, draining, gave_back, ending;
    unsigned dies_in; /* calls until it crashes; 0: not */
    bool dies_after;  /* the call has its effect */
    uint64_t stalled_until, booted_at, told_to_end_at;
    int64_t wall_skew;
    struct alarm wake, restart, end, recover;
    struct chance chance;
    struct portal_settings settings;

    struct consumer consumer;
    struct outbox outbox;
    struct database_connection database;
    struct calls_list calls;

    /* for the checks */
    uint64_t turn_at;
    unsigned turns;  /* at this very moment */
    uint64_t second; /* the second that is counted now */
    unsigned starts, submits, wakes;
    uint64_t slowed_until[ENDPOINTS];  /* Stripe told it to wait that long */
    uint64_t started_at, submitted_at; /* a call to Stripe, a statement: the last of them */
    uint64_t used_up;                  /* the key of a configuration that it was told of last, hashed; 0: it went on */
    uint64_t store_down_at;            /* when the core last knew it to be, on the world's clock */
    uint64_t one_since;                /* when it last began to take in one at a time; 0: never */
    uint64_t half_since[LINKS]; /* when it found that a link serves by half, by its own clock; 0: it need not know */
};

/* ---- Stripe's and the database's memory ---- */

struct world_session {
    uint64_t created; /* seconds since 1970 */
    unsigned customer;
    uint8_t path, locale, flow;
    unsigned configuration;
    bool handed, fresh;
    struct ask ask; /* of the first request it was handed to */
    uint32_t id;
    bool created_for; /* somebody was told that it was created for him */
    uint32_t creator;
};

struct world_configuration {
    bool active, ours;
    char mark[160];
    unsigned product;
};

enum { CALL_TIMES = 128 };

struct statistics {
    uint64_t worlds, messages, deliveries, replies, calls, sessions, statements, faults, crashes, steps;
    uint64_t codes[CODE_POISONOUS + 1], outcomes[OUTCOME_FAILED + 1];
    uint64_t events[EVENTS]; /* that the workers told */
};

struct world {
    const struct scenario *scenario;
    struct clock clock;
    struct chance chance, broker_chance, database_chance, stripe_chance;
    struct statistics *statistics;
    struct features *features[2];
    unsigned features_now;

    struct worker workers[WORKERS_MAX];
    struct message *messages;
    struct request_state *requests;
    unsigned next_sending, done_messages;
    struct alarm send;
    unsigned weather[FAULT_KINDS]; /* how many faults of the kind last now */
    struct arena *arena;

    /* broker */
    struct messages queue;
    unsigned next_consumer;
    struct outgoings ghosts; /* published, and their connection gone */

    /* database */
    struct database *database;
    struct statements late; /* their connection is gone, the server still works on them */

    /* Stripe */
    struct stripe_world *stripe;
    struct calls_list orphans;
    unsigned team_changed[TEAMS_MAX + 1]; /* how often its customer has */
    uint64_t call_times[ENDPOINTS][CALL_TIMES];
    uint64_t call_counts[ENDPOINTS];
    uint64_t steps;

    /* what was found */
    bool violated;
    const char *promise;
    char explanation[512];
    int64_t about; /* message, or -1 */
    struct trace *trace;
};

/* ---- world.c ---- */

struct outcome_of_world {
    bool violated;
    const char *promise; /* static */
    char explanation[512];
};

/* Of a world that breaks a promise: nothing, the last events of what it is about, or all. */
enum tracing { TRACING_NONE, TRACING_RELEVANT, TRACING_ALL };

/* Runs a scenario to its end. What is traced goes to stderr. */
void world_run(const struct scenario *scenario, enum tracing tracing, struct statistics *statistics,
               struct outcome_of_world *outcome);

static inline uint64_t world_wall(const struct world *world) {
    return WORLD_EPOCH * SECOND_US + world->clock.now;
}
static inline uint64_t world_seconds(const struct world *world) {
    return WORLD_EPOCH + world->clock.now / SECOND_US;
}
static inline bool world_has(const struct world *world, enum fault_kind kind) {
    return world->weather[kind] > 0;
}
/* Whether a link now serves all but what requests need in the end: in every other world a database that fails only
 * saves no answers. */
bool world_has_half(const struct world *world, enum link_id link);
void *world_alloc(struct world *world, size_t size); /* zeroed, freed with the world */

/* ---- weather.c: faults ---- */

void weather_begin(struct world *world);

/* ---- worker.c ---- */

void worker_start(struct worker *worker);
void worker_crash(struct worker *worker);
void worker_terminate(struct worker *worker);
void worker_stop(struct worker *worker); /* at once, for good */
void worker_turn(struct worker *worker);
void worker_reconfigure(struct worker *worker);
/* What comes for a worker that stands still comes later. Result: whether it was put off. */
bool worker_defers(struct worker *worker, struct alarm *alarm);
/* Before and after each call of the core's to the outside: it may be the last. Result: whether it has no effect. */
bool worker_call_begins(struct worker *worker);
void worker_call_ends(struct worker *worker);
bool worker_runs(const struct worker *worker);

/* ---- queue.c: portal.requests and the connections that consume ---- */

void queue_publish(struct world *world, struct message *message);
void queue_pump(struct world *world);
void consumer_begin(struct worker *worker);
void consumer_lose(struct worker *worker, bool tell);
void consumer_end(struct worker *worker); /* after the core is gone */
void queue_settle(void *self, struct delivery *delivery, enum settlement settlement);
void queue_intake(void *self, enum intake wanted);

/* ---- message.c: what a message looks like ---- */

struct handed *message_hand(struct world *world, struct message *message);
/* The deadline that it says, in itself or by its timestamp; microseconds since 1970, 0: none. */
uint64_t message_deadline(const struct world *world, const struct message *message);

/* ---- outbox.c: the connections that publish ---- */

void outbox_begin(struct worker *worker);
void outbox_lose(struct worker *worker, bool tell);
void outbox_unblock(struct worker *worker);
int outbox_publish(void *self, struct publication *publication);
void outbox_abandon(void *self, struct publication *publication);
void broker_report(struct worker *worker, const char *cause);

/* ---- database.c: the connections; tables.c: what the statements do ---- */

void database_begin(struct worker *worker);
void database_lose(struct worker *worker, bool tell);
void database_submit(void *self, struct store_task *task);
void statement_free(struct statement *statement);

void tables_new(struct world *world);
void tables_free(struct world *world);
/* Keeps what the statement is to do, apart from its task. */
void tables_prepare(struct world *world, struct statement *statement, const struct store_task *task);
enum store_status tables_execute(struct world *world, struct statement *statement);
/* What execution put into the task goes again, as if it had never come back. */
void tables_undo(struct store_task *task);
void table_row_free(struct table_row *row);

/* A row of portal.sessions. */
struct table_row {
    uint32_t id;
    uint32_t generation;
    char *ask, *answer, *url;
    bool fresh, has_session, bad;
    char customer[32];
    uint64_t session_created, stands_until, url_expires; /* microseconds since 1970 */
    enum code code;
    int64_t session;
    uint64_t ask_hash;
    struct table_row *next_same; /* in the index on asks */
};

/* ---- stripe.c: the way there; stripe-api.c: what it does ---- */

void stripe_start(void *self, struct stripe_exchange *exchange);
void stripe_cancel(void *self, struct stripe_exchange *exchange);
void stripe_drop_all(struct worker *worker);
void call_free(struct call *call);

void stripe_new(struct world *world);
void stripe_free(struct world *world);
/* Serves a call. Result: how long that takes, microseconds. */
uint64_t stripe_serve(struct world *world, struct call *call);
void stripe_served(struct world *world, struct call *call); /* its answer was delivered */
void stripe_configuration_gone(struct world *world);
void stripe_product_changes(struct world *world, unsigned product);
struct world_session *stripe_session(struct world *world, int64_t number);

/* ---- promises.c: what is checked ---- */

void violate(struct world *world, const struct message *message, const char *promise, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

void promise_delivered(struct world *world, const struct parcel *parcel);
void promise_published(struct world *world, struct parcel *parcel, const struct publication *publication);
/* For a person: in a log, a status, a dead letter. */
void promise_told(struct world *world, const struct message *message, const char *text);
/* A reply was refused: whether that may count as returned is decided now. */
void promise_refused(struct world *world, struct parcel *parcel);
void promise_settled(struct world *world, const struct parcel *parcel, enum settlement settlement);
void promise_rejected(struct world *world, const struct message *message);
void promise_call(struct world *world, struct worker *worker, const struct stripe_exchange *exchange);
/* It hears of a 429. */
void promise_slowed(struct worker *worker, const struct stripe_exchange *exchange);
void promise_submit(struct world *world, struct worker *worker, const struct store_task *task);
void promise_turn(struct worker *worker);
void promise_step(struct world *world);
void promise_end(struct world *world);

/* ---- oracle.c: what the contract lets a message be answered ---- */

/* A set of codes, as bits 1 << code. */
uint32_t oracle_codes(const struct world *world, const struct message *message);
bool oracle_is_owed_reply(const struct message *message);
/* Whether an answer of this code is owed a dead letter, too; whether it is kept before it is replied. */
bool oracle_is_dead_lettered(enum code code);
bool oracle_is_stored(enum code code);

/* ---- trace.c ---- */

/* Tells of a step; `message` NULL: of the world. Only while tracing. */
void trace_write(struct world *world, const struct message *message, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
#define TRACE(world, message, ...)                                                                                     \
    do {                                                                                                               \
        if ((world)->trace)                                                                                            \
            trace_write(world, message, __VA_ARGS__);                                                                  \
    } while (false)
const char *trace_event_name(enum event_kind kind);
void trace_new(struct world *world);
void trace_print(const struct world *world, bool all);
void trace_free(struct world *world);

static inline uint64_t hash_bytes(const char *bytes, size_t length) {
    uint64_t hash = 0xcbf29ce484222325;
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)bytes[i]) * 0x100000001b3;
    return hash;
}
