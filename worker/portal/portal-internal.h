/* portal-internal.h — the portal and the jobs in it, for the files of worker/portal/ alone.
 *
 * A request in hand is a job. It stands in one queue, that of its state, and goes:
 *
 *   suspects.c   SUSPECT, HELD          a request that came back often is worked alone, the others wait
 *   job.c        BEHIND                 another delivery of the same request is in hand
 *   batch.c      TO_LOAD, LOADING       what the store knows
 *   configuration.c  CONFIGURING        which portal configuration
 *   sharing.c    FOLLOWING, CALLING     the session, one call for all of one shape
 *   batch.c      TO_SAVE, SAVING        the answer
 *   publish.c    TO_PUBLISH, PUBLISHING, REFUSED    the reply, then perhaps the dead letter
 *   job.c        LEAVING                a suspect's try is being removed before it is settled
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "errand.h"
#include "portal/answer.h"
#include "portal/event.h"
#include "portal/features.h"
#include "portal/portal.h"
#include "portal/request.h"
#include "timers.h"

enum {
    BATCH_MAX = 512,          /* rows of one load or save */
    SUSPECT_DELIVERIES = 5,   /* x-delivery-count from which a request is worked alone */
    POISONOUS_TRIES = 3,      /* tries left behind by crashes */
    KEY_NUMBERS_MAX = 50,     /* idempotency keys walked for one request and generation */
    IDEMPOTENCY_KEY_MAX = 255 /* bytes, as Stripe takes */
};

#define SECOND UINT64_C(1000000)

enum job_state {
    JOB_SUSPECT,
    JOB_HELD,
    JOB_BEHIND,
    JOB_TO_LOAD,
    JOB_LOADING,
    JOB_CONFIGURING,
    JOB_FOLLOWING,
    JOB_CALLING,
    JOB_TO_SAVE,
    JOB_SAVING,
    JOB_TO_PUBLISH,
    JOB_PUBLISHING,
    JOB_REFUSED,
    JOB_LEAVING,
    JOB_STATES,
};

enum { SAVE_ANSWER, SAVE_BODY, SAVE_PROPERTIES, SAVE_TEXTS };

struct configuration;
struct job;
TAILQ_HEAD(jobs, job);

/* The requests of one shape that share a call; the first leads, the rest follow. Open until the leader's commit. */
struct group {
    char *shape;
    struct job *leader;
    struct jobs followers;
    bool orphaned; /* in portal->orphans: it needs another leader */
    TAILQ_ENTRY(group) orphan;
    struct session session; /* the leader's, waiting for its commit; id NULL: not made yet */
};

struct job {
    struct portal *portal;
    struct delivery *delivery;
    enum job_state state;
    TAILQ_ENTRY(job) all;   /* in portal->jobs, oldest first */
    TAILQ_ENTRY(job) queue; /* in portal->queues[state] */
    uint64_t delivered_at;  /* microseconds, monotonic */
    uint64_t stage_since;   /* likewise: when its stage began */
    uint64_t stage_us[STAGES];
    bool leaving;   /* to be given back (or dropped, where lost) as soon as its store task returns */
    bool rejecting; /* the broker dead-letters it, for it has the body */
    bool urgent;    /* of HELD: begins before the next suspect does */

    struct request request;
    bool holds_id; /* is the one of its request id that is being worked */
    struct load_row load;
    uint64_t closings_seen; /* portal->closings when it was loaded */
    uint32_t generation;    /* that its answer has; 0: an answer that is not stored */

    struct configuration *wanted; /* of CONFIGURING */
    bool waited;                  /* for a configuration, so that what was loaded is old */
    char *configuration;          /* resolved */
    bool configured_again;        /* the one fresh look-up has been had */

    struct group *group;
    TAILQ_ENTRY(job) member; /* among group->followers */
    struct errand errand;
    unsigned key_number;
    unsigned keys_walked; /* of them, those that Stripe used up while it served others */

    struct answer answer;
    struct save_row save;
    char *save_texts[SAVE_TEXTS];

    struct publication publication;
    struct dead_letter letter;
    char *letter_error;
    bool replied;        /* the reply is done with: confirmed or returned; or none is owed */
    unsigned refusals;   /* of the reply, in a row */
    uint64_t refused_at; /* when the first of them came; microseconds, monotonic */
    struct timer retry;  /* of REFUSED */
    struct timer deadline;

    bool tried; /* it has a try in portal.suspects, or may have: the answer that would tell was lost */
    struct store_task suspect_task;
    enum settlement ending; /* of LEAVING: what follows */
};

enum { TOLD_MAX = 4 };

enum link_id { LINK_BROKER, LINK_STORE, LINK_STRIPE, LINKS };

struct link_state {
    struct portal *portal;
    bool down;
    char cause[256];
    uint64_t since;
    uint64_t held_since;   /* the same, but where it came back only to fall again: since the first fall */
    bool proven;           /* a request got its due from it since it came back, or it did not fall for long */
    struct timer unfallen; /* the end of that while */
    struct told {
        uint64_t cause; /* its fingerprint */
        uint64_t at;    /* 0: never */
    } told[TOLD_MAX];
    size_t oldest_told;
    bool quiet;          /* this pause was not told */
    struct timer minute; /* says again what is waited for */
};

/* One load or save under way; `jobs` are its rows in order. */
struct batch {
    struct portal *portal;
    struct store_task task;
    bool underway;
    unsigned count;
    uint64_t begun_at;
    struct job *jobs[BATCH_MAX];
    union {
        struct load_row *load[BATCH_MAX];
        struct save_row *save[BATCH_MAX];
    } rows;
    unsigned limit; /* of SAVE: halved while a bad row is looked for */
};

struct portal {
    struct portal_settings settings;
    struct request_rules rules;
    struct host host;
    struct broker_link broker;
    struct store_link store;
    struct stripe_link stripe;

    struct timers timers;
    uint64_t woken_for; /* what host->wake_at() was last told */
    bool turn_asked;

    struct jobs jobs;
    struct jobs queues[JOB_STATES];
    unsigned counts[JOB_STATES];
    unsigned in_hand;
    void *ids;    /* tsearch(3): jobs that hold their request id, by it */
    void *groups; /* tsearch(3): open groups, by shape */
    TAILQ_HEAD(, group) orphans;
    uint64_t closings; /* groups closed */
    struct job *alone; /* the suspect being worked */

    struct batch loads, saves;
    bool store_trial; /* one request first, after the store came back */
    struct timer trial_end;
    struct timer store_retry; /* after an error that was no loss of the connection */
    struct store_task store_probe;
    bool store_probe_underway;
    uint64_t database_at, database_seen_at; /* the database's clock, and when that was, monotonic; 0: not known */

    struct calls calls;
    TAILQ_HEAD(, configuration) configurations;
    uint64_t features_fingerprint;

    struct link_state links[LINKS];
    struct timer hold;  /* when what is in hand is given back */
    enum intake intake; /* as last told to the broker */
    bool draining;
    uint64_t draining_since; /* microseconds, monotonic */
    bool freeing;
};

/* ---- portal.c ---- */

uint64_t portal_now(const struct portal *portal);
uint64_t portal_database_now(const struct portal *portal); /* microseconds since 1970; the host's until it is known */
void portal_turn_soon(struct portal *portal);
void portal_tell(struct portal *portal, const struct event *event);
void portal_note_database_time(struct portal *portal, uint64_t database_now, uint64_t asked_at);

/* ---- job.c ---- Each may end its own job, never another: whoever walks over many needs to know no more. */

struct job *job_new(struct portal *portal, struct delivery *delivery);
void job_enter(struct job *job, enum job_state state);
void job_begin(struct job *job); /* reads the message */
/* Before it begins: reads the message for its deadline alone. Result: whether it could be read. */
bool job_watch_deadline(struct job *job);
void job_loaded(struct job *job); /* by the rules of the contract, decides what is next */
void job_configured(struct job *job);
/* Each ends in a save or a reply. `message` and `stripe_request_id` may be NULL. */
void job_fail(struct job *job, enum code code, const char *message, const char *stripe_request_id);
void job_give_session(struct job *job, enum outcome outcome, const struct session *session);
void job_withhold(struct job *job);  /* the session could not be saved before nobody waited any more */
void job_restart(struct job *job);   /* loads it again */
void job_give_back(struct job *job); /* to the queue; where that is too late, drops it */
void job_settle(struct job *job, enum settlement settlement); /* frees it */
void job_destroy(struct job *job);                            /* frees it without a word to the broker */
void job_release_id(struct job *job);
bool job_past_deadline(const struct job *job);
uint64_t job_arrived_at(const struct job *job); /* microseconds since 1970, by the clock of portal_database_now() */
/* Leaves whatever it waits for, so that it can enter another state. */
void job_leave_work(struct job *job);
struct job *job_of_errand(struct errand *errand);

/* ---- rules.c ---- */

/* What the rules say of a request, given what the store knows; CODE_NONE: it may have a session. */
enum code rules_apply(const struct request *request, const struct load_row *row, char *const *refused_statuses);

/* ---- batch.c ---- */

void batch_flush(struct portal *portal);
/* While the store fails: saves or loads one row. Result: whether one is under way. */
bool batch_try(struct portal *portal);

/* ---- sharing.c ---- */

/* Lets the next one lead where a leader is gone. */
void sharing_turn(struct portal *portal);
void sharing_join(struct job *job);      /* leads, follows, or gets the session that is there */
void sharing_leave(struct job *job);     /* the deadline passed, or it is given back: the next one leads */
void sharing_committed(struct job *job); /* its answer is in the store: the followers get the session */

/* ---- configuration.c ---- */

/* Finds the configuration for the job: job_configured() or job_fail() follow, at once where it is known. */
void configuration_resolve(struct job *job);
/* The job no longer waits. */
void configuration_leave(struct job *job);
/* Stripe no longer knows it, or it is not active: the job resolves anew. */
void configuration_forget(struct job *job);
/* The features may be others now: a refresh that was put off, as Stripe refused those before, is due again. */
void configurations_reconfigured(struct portal *portal);
/* Goes on with those that somebody waits for and nobody works on. */
void configurations_turn(struct portal *portal);
/* At the end, when nobody waits: leaves no lease behind for which other workers would have to wait. */
void configurations_let_go(struct portal *portal);
/* Nothing is under way for them, so that no lease is held. */
bool configurations_settled(const struct portal *portal);
void configurations_free(struct portal *portal);

/* ---- publish.c ---- */

void publish_answer(struct job *job); /* replies, then dead-letters where the answer's code says so */
void publish_letter(struct job *job, const char *reason, const char *error);
/* Instead of a letter of its own, where only the broker has the body: that dead-letters it. `error` may be NULL. */
void publish_reject(struct job *job, const char *reason, const char *error);
void publish_flush(struct portal *portal);

/* ---- suspects.c ---- */

/* Takes a new job in, which begins at once, or waits for its turn alone. */
void suspects_admit(struct job *job);
/* One that waits for suspects can wait no longer. */
void suspects_overtake(struct job *job);
void suspects_turn(struct portal *portal);
/* The job is at its end: removes its try. Result: whether it has to wait for that (job_settle is called again). */
bool suspects_end(struct job *job, enum settlement settlement);
/* The store is there again: what could not be removed is tried again. */
void suspects_store_up(struct portal *portal);

/* ---- pause.c ---- */

void link_down(struct portal *portal, enum link_id link, const char *cause);
void link_up(struct portal *portal, enum link_id link);
void links_note_delivery(struct portal *portal);
/* It does what requests need: what was let in one at a time comes as fast as it may. */
void link_proven(struct portal *portal, enum link_id link);
void links_init(struct portal *portal);
void links_set_intake(struct portal *portal);
void links_set_hold(struct portal *portal); /* what is in hand has changed, or who is down */
/* The first request after an outage was loaded; and got to its end, or took so long that the others may follow. */
void store_trial_loaded(struct portal *portal);
void store_trial_passed(struct portal *portal);
/* The store is connected, or does again what it failed to do. */
void store_serves(struct portal *portal);
/* The store answered with an error that is not one row's: pauses, tries again with one row. */
void store_failed(struct portal *portal, const struct store_task *task, enum store_status status);
