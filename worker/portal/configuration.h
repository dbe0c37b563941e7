/* configuration.h — one portal configuration that this worker has to find, make or keep up to date: what
 * configuration.c (who waits, what is known) and configuration-walk.c (the way to it) share. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "errand.h"
#include "portal/links.h"

struct job;
struct portal;

/* Where the walk is. A walk begins with somebody who waits, or, for one that is known, as a refresh. */
enum walk {
    WALK_NONE,
    WALK_FORGETTING, /* store: it is not to be used any more */
    WALK_FINDING,    /* store: does anybody know it? */
    WALK_LEASING,    /* store: may I look for it? */
    WALK_QUEUEING,   /* somebody else may: until they are done */
    WALK_LISTING,    /* Stripe: is there one? */
    WALK_PRODUCT,    /* Stripe: is the product active? */
    WALK_PRICES,     /* Stripe: its active prices, page by page */
    WALK_WRITING,    /* Stripe: create or update it */
    WALK_KEEPING,    /* store: this is it */
    WALK_UNKEPT,     /* the store could not: said again once it serves */
    WALK_RELEASING,  /* store: I looked in vain */
};

struct configuration {
    struct portal *portal;
    TAILQ_ENTRY(configuration) entry;
    char *key;         /* in portal.configurations: account/mode/policy */
    const char *scope; /* its part after account and mode: what Stripe's metadata and idempotency keys say */
    bool per_product;

    /* what is known; id NULL: nothing */
    char *id, *product, *fingerprint;
    bool managed;
    uint32_t forgotten;
    uint64_t checked_at; /* microseconds, monotonic */

    /* the walk */
    enum walk walk;
    bool refreshing;   /* it is known and served meanwhile */
    struct job *asker; /* the one on whose product's behalf; NULL: nobody (any more) */
    char *asked_product;
    unsigned key_number;
    json_t *prices;        /* ids, as far as read */
    char *cursor;          /* starting_after of the next page */
    char *writing;         /* the fingerprint of what is being written */
    char *stale;           /* an id to forget before anything else; NULL: none */
    uint64_t refresh_from; /* not before; microseconds, monotonic */
    struct errand errand;
    struct store_task task;
    struct timer timer;
};

/* ---- configuration-walk.c ---- */

void walk_find(struct configuration *configuration);
void walk_refresh(struct configuration *configuration);
void walk_forget(struct configuration *configuration); /* `stale` says which */
void walk_keep_again(struct configuration *configuration);
void walk_abort(struct configuration *configuration); /* nobody wants any more what Stripe is asked for */
void walk_clear(struct configuration *configuration);

/* ---- configuration.c, what the walk ends in ---- */

/* It is known: everybody who waits goes on. */
void configuration_known(struct configuration *configuration);

/* Only the asker fails; the next one who waits is asked for. */
void configuration_fail_asker(struct configuration *configuration, enum code code, const char *message,
                              const char *stripe_request_id);

/* Everybody who waits fails. */
void configuration_fail_all(struct configuration *configuration, enum code code, const char *message,
                            const char *stripe_request_id);

/* Of the features and prices that it should have; the caller's to free; NULL: no memory. */
char *configuration_fingerprint(const struct configuration *configuration, const json_t *prices);
