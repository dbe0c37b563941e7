/* request.h — a message read as a request: what the sender said, checked. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "portal/delivery.h"

enum {
    REQUEST_ID_MAX = 128,
    RETURN_PATH_MAX = 2000,     /* bytes; Stripe takes a return_url of 5,000 */
    CUSTOM_MESSAGE_MAX = 500,   /* characters, as Stripe counts */
    STRIPE_ID_MAX = 255,        /* bytes of an id like sub_… */
    GENERATION_MAX = 1000000000 /* fits PostgreSQL's integer with room to count on */
};

#define DEFAULT_RETURN_PATH "/dashboard"

/* Freed with request_clear(). */
struct request {
    char request_id[REQUEST_ID_MAX + 1]; /* "": none that could be used */
    int64_t team_id;                     /* 0: not given */
    int64_t user_id;                     /* 0: not given */
    char *return_path;
    char *locale;        /* or NULL */
    char *configuration; /* or NULL */
    json_t *flow;        /* or NULL; only fields of the contract are in it */
    bool fresh;
    uint64_t deadline;          /* microseconds since 1970; 0: never */
    bool deadline_from_arrival; /* it is the default, counted from `now` */
    uint32_t generation;        /* the least one wanted, from 1 */
    char *ask;                  /* canonical JSON of what was asked: two requests are the same if these are equal */
};

/* What the rules of a request depend on beside the message. */
struct request_rules {
    char *const *reply_queues; /* patterns (fnmatch(3)), NULL at the end */
    char *const *team_senders; /* AMQP user-ids that may leave out user_id; NULL: all may */
    uint32_t deadline_seconds; /* the default; 0: never */
};

/* Why a message is no request we serve. */
struct request_problem {
    const char *code; /* static: reply_refused, invalid_request, forbidden_sender */
    char message[256];
};

/*
 * Reads a delivery. `now`: microseconds since 1970. Result: 0; -EINVAL, with the first problem in the order that the
 * contract sets (`request->request_id` is there if it could be told); -ENOMEM. The request is to be cleared in any
 * case.
 */
int request_read(const struct delivery *delivery, const struct request_rules *rules, uint64_t now,
                 struct request *request, struct request_problem *problem);
void request_clear(struct request *request);

/* Whether a reply may go to this queue: -EINVAL with the reason in `problem` if not; a missing one may. */
int request_check_reply_to(const char *reply_to, char *const *patterns, struct request_problem *problem);

/* Takes over the message id as the request id if it can serve as one, as for a message whose body is not read. */
void request_id_from_message(struct request *request, const struct delivery *delivery);

/* The AMQP properties of the delivery that a replay needs, as a JSON object: the caller's to free; NULL: no memory. */
char *request_properties(const struct delivery *delivery);
