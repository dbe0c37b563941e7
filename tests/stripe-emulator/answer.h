/* An answer to one request, and errors in Stripe's form. */
#pragma once

#include "memory.h"

#include <stdbool.h>
#include <stdint.h>

/* How much of an answer reaches the client. */
enum answer_transport {
    ANSWER_WHOLE,
    ANSWER_HALF,  /* half of the body, then the connection ends */
    ANSWER_RESET, /* nothing: a TCP reset */
    ANSWER_HANG,  /* nothing, and the connection stays open until it is released */
};

struct answer {
    unsigned status; /* of HTTP; 0 while there is none */
    enum answer_transport transport;
    char *body; /* owned */
    const char *content_type;
    char request_id[32];
    char original_request[32]; /* of the request that an idempotency key was first used for; "" without a key */
    char code[48];             /* the error's code, or its type where it has none; "" without an error */
    char retry_after[16];
    char should_retry[8];
    char rate_limited_reason[24];
    bool livemode;
    bool replayed;
};

/* Sets a JSON body, as Stripe prints it. `json` stays the caller's. */
void answer_json(struct answer *answer, unsigned status, const json_t *json);

/* Sets an error object. `code` and `param` may be NULL. The fields are those of the official SDK's RawError. */
void answer_error(struct answer *answer, unsigned status, const char *type, const char *code, const char *param,
                  const char *format, ...) _printf_(6, 7);

/* The two commonest: 400 invalid_request_error; and resource_missing, which is 404 for what the path names (`param` is
 * then "id" or the like) and 400 for what a parameter names. Both return -EINVAL, so that a check can end with them. */
int answer_invalid(struct answer *answer, const char *code, const char *param, const char *format, ...) _printf_(4, 5);
int answer_missing(struct answer *answer, unsigned status, const char *kind, const char *id, const char *param);

/* Frees what an answer holds and forgets it, but for the request's id and mode. */
void answer_clear(struct answer *answer);
