/* verdict.h — what an exchange with Stripe means: Stripe's guides on errors, retries and idempotency as one decision.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "portal/answer.h"
#include "portal/links.h"

enum verdict {
    VERDICT_DONE,    /* 2xx and JSON */
    VERDICT_RETRY,   /* no answer, 409, 5xx, or not what Stripe's API promises: the same key again, later */
    VERDICT_SLOW,    /* 429: the same key again, and everybody slower */
    VERDICT_USED_UP, /* the key yields only a saved failure, or was used with other parameters: the next key */
    VERDICT_DENIED,  /* 401, 403: the worker's key, not the request */
    VERDICT_REFUSED, /* refused for good */
};

/* Stripe's error object (docs.stripe.com/api/errors), cut to what is told on; "" where it said nothing. */
struct refusal {
    int status;
    char type[64], code[64], param[128];
    char message[512];
    char request_id[128];
    bool misbehaved; /* an answer that Stripe's API does not promise; `message` says how */
};

/* Judges an exchange. Result: the verdict; `*ret` is the answer of a VERDICT_DONE (the caller's reference), else NULL
 * and `refusal` filled as far as Stripe said something. */
enum verdict verdict_of(const struct stripe_exchange *exchange, json_t **ret, struct refusal *refusal);

/* "type code: message (param …)" for a person and for the contract's error message; never a secret. */
void refusal_text(const struct refusal *refusal, char *text, size_t size);

/* Reads a session that was asked for `customer`. Result: 0; -EBADMSG, with what is wrong in `refusal`, where it is not
 * what Stripe promises; -ENOMEM. `https`: whether its URL has to be https. */
int verdict_session(const json_t *answer, const char *customer, bool https, struct session *session,
                    struct refusal *refusal);

/* The list in a list answer (borrowed) and whether more follows: 0 or -EBADMSG. Every element is an object with an id,
 * and the last one is not `after` (the starting_after it was asked with, or NULL), for such a list would never end. */
int verdict_list(const json_t *answer, const char *after, const json_t **data, bool *has_more, struct refusal *refusal);

/* Notes that an answer is not what Stripe promises. Result: -EBADMSG. */
int verdict_misbehaved(struct refusal *refusal, const char *what);
