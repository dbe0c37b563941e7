/* Rules that make chosen requests go wrong, as networks and Stripe do. */
#pragma once

#include "answer.h"

struct form;

enum fault_action {
    FAULT_NONE,
    FAULT_STATUS,   /* answer `status` */
    FAULT_RESET,    /* a TCP reset in place of an answer */
    FAULT_HANG,     /* no answer, the connection left open */
    FAULT_HALF,     /* half of the real answer's body */
    FAULT_NOT_JSON, /* 200 with a page of HTML */
    FAULT_JSON,     /* 200 with `body` */
};

/* What a fault does to one request. */
struct fault_effect {
    enum fault_action action;
    bool works;   /* the endpoint does its work all the same */
    bool saves;   /* and `status` is what its idempotency key answers from then on */
    bool delayed; /* by `delay` milliseconds, before anything else */
    double delay;
    unsigned status;
    char retry_after[16];
    char should_retry[8];
    json_t *body;     /* owned, NULL: Stripe's words for that status */
    uint64_t rule;    /* which rule did it; 0: none */
    char summary[32]; /* for the log of calls */
};

enum {
    FAULTS_MAX = 1000, /* rules at a time */
};

struct fault_rule;

struct faults {
    struct fault_rule *rules[FAULTS_MAX];
    size_t count;
    uint64_t last; /* the number of the newest rule */
};

/* Adds a rule or an array of rules, as the admin API documents them (see README.md). 0, and *ids (the caller's) lists
 * their numbers; -EINVAL with *error (the caller's to free) saying what is wrong, and nothing added. */
int faults_add(struct faults *faults, const json_t *rules, json_t **ids, char **error);

/* What the rules do to this request. A rule that only delays is combined with the first that does more. */
struct fault_effect faults_choose(struct faults *faults, const char *method, const char *path, const char *key,
                                  const struct form *form);

/* The answer of FAULT_STATUS, FAULT_JSON and FAULT_NOT_JSON. */
void fault_answer(const struct fault_effect *effect, struct answer *answer);

json_t *faults_list(const struct faults *faults);
void faults_clear(struct faults *faults);
void fault_effect_done(struct fault_effect *effect);
