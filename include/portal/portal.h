/* portal.h — the worker's mind: every request in hand and what becomes of it. It does no I/O: it sees the links of
 * links.h, and time through them, so that the daemon and the simulator run the same code. Not thread-safe: one loop. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "portal/links.h"

struct features; /* features.h */
struct portal;

enum configuration_policy { POLICY_SHARED, POLICY_PER_PRODUCT, POLICY_FIXED };

/* What the core is told once; texts are borrowed for the portal's life. */
struct portal_settings {
    const char *worker;            /* this worker's name: host:pid:start */
    const char *base_url;          /* without a trailing slash */
    const char *account;           /* PORTAL_NAMESPACE */
    bool livemode;                 /* of the Stripe key */
    bool plain_http;               /* STRIPE_API_BASE is http://, and so may the URLs be that it hands out */
    char *const *reply_queues;     /* patterns a reply_to may match, NULL at the end */
    char *const *team_senders;     /* AMQP user-ids that may leave out user_id; NULL: all may */
    char *const *refused_statuses; /* subscription_status that a user's request is refused for */
    enum configuration_policy policy;
    const char *fixed_configuration; /* bpc_… of POLICY_FIXED */
    const struct features *features; /* of the configurations this worker makes */
    uint32_t prices_seconds;         /* how old a managed configuration's price set may get before it is looked at */
    uint32_t concurrency;            /* requests in hand: the prefetch */
    uint32_t stripe_concurrency;     /* calls to Stripe at once */
    uint32_t stripe_rate_limit;      /* calls a second for each endpoint, by the whole fleet; 0: no limit */
    uint32_t stripe_max_retries;     /* that count, see errand.h */
    uint32_t deadline_seconds;       /* where the request sets none; 0: never */
    uint32_t hold_seconds;           /* in hand this long during an outage, then given back */
    uint32_t session_seconds;        /* how long Stripe lets a session's URL live */
    uint32_t session_reuse_seconds;  /* 0: never */
};

/* Result: a portal, freed with portal_free(); NULL without memory. The links and settings are copied, what they point
 * to is borrowed. */
struct portal *portal_new(const struct portal_settings *settings, const struct host *host,
                          const struct broker_link *broker, const struct store_link *store,
                          const struct stripe_link *stripe);

/* Drops everything in hand without a word to the broker, which delivers it again. The broker and Stripe links must be
 * there still; the store's must be gone, for it may hold tasks that end here. */
void portal_free(struct portal *portal);

/* ---- what the links tell ---- */

/* A request came; the portal owns it until it settles it. */
void portal_deliver(struct portal *portal, struct delivery *delivery);

/* The consuming channel is gone: the link has marked its deliveries `lost`. */
void portal_deliveries_lost(struct portal *portal);

/* The publishing connection is there, or has room again. */
void portal_broker_ready(struct portal *portal);

/* A link to the broker or the store serves or does not. `cause` (borrowed) is for a person and names the setting where
 * it is a matter of one. Repeating the state is harmless. */
void portal_broker_up(struct portal *portal);
void portal_broker_down(struct portal *portal, const char *cause);
void portal_store_up(struct portal *portal);
void portal_store_down(struct portal *portal, const char *cause);

/* A connection to the broker or the store was opened; what it is good for is told apart. Only counted. */
void portal_connected(struct portal *portal, const char *link);

/* The time asked for with host->wake_at(), or the turn asked for with host->soon(). */
void portal_wake(struct portal *portal);

/* ---- what the daemon asks ---- */

/* Takes in nothing more; portal_idle() becomes true when what is in hand is done, and no lease is held. */
void portal_drain(struct portal *portal);

/* Gives back all that is in hand, what the store has once that returns; used when the time to drain is over. */
void portal_give_back_all(struct portal *portal);

bool portal_idle(const struct portal *portal);

/* Replaces the features and the senders' lists (SIGHUP); borrowed as before. */
void portal_reconfigure(struct portal *portal, const struct portal_settings *settings);

struct link_pause {
    const char *cause; /* NULL: it serves */
    uint64_t since_us; /* how long it has not */
};

/* A snapshot for STATUS=, metrics and portal.workers. */
struct portal_state {
    unsigned in_hand;
    unsigned loading, configuring, calling, saving, replying; /* of those */
    uint64_t oldest_us;                                       /* how long the oldest has been in hand */
    bool intake;                                              /* the consumer is wanted */
    struct link_pause broker, store, stripe;
};

void portal_state(const struct portal *portal, struct portal_state *state);
