/* answer.h — what becomes of a request, as the contract words it: outcome, status, and a session, redirect or error. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* What must be left of a session's life for its URL to be handed out, and how long other answers stand; seconds. */
enum { SESSION_MARGIN_SECONDS = 60, ANSWER_STANDS_SECONDS = 300 };

enum outcome { OUTCOME_CREATED, OUTCOME_REUSED, OUTCOME_REDIRECT, OUTCOME_FAILED };

/* Every redirect and failure of the contract; the table in answer.c says what belongs to each. */
enum code {
    CODE_NONE,
    CODE_UNAUTHENTICATED,
    CODE_NO_SUBSCRIPTION,
    CODE_SUBSCRIPTION_INACTIVE,
    CODE_INVALID_REQUEST,
    CODE_FORBIDDEN_SENDER,
    CODE_REQUEST_CONFLICT,
    CODE_DEADLINE_EXCEEDED,
    CODE_TEAM_NOT_FOUND,
    CODE_SUBSCRIPTION_NOT_FOUND,
    CODE_PRODUCT_INACTIVE,
    CODE_NO_ACTIVE_PRICES,
    CODE_STRIPE_ERROR,
    CODE_STRIPE_UNAVAILABLE,
    CODE_INTERNAL_ERROR,
    CODE_POISONOUS,
};

/* A Stripe portal session; texts owned, freed with session_clear(). */
struct session {
    char *id, *url, *customer, *return_url, *configuration;
    int64_t created; /* seconds since 1970, by Stripe */
};

void session_clear(struct session *session);
int session_copy(const struct session *from, struct session *to); /* 0 or -ENOMEM */

/* Freed with answer_clear(); {0} is none. */
struct answer {
    json_t
        *json; /* outcome, status, session with url null, redirect, error: the reply but for request_id, generation */
    char *url; /* of the session, or NULL */
    enum outcome outcome;
    enum code code;
    int status;
    int64_t session_created; /* 0 without a session */
};

/* Each makes an answer; 0 or -ENOMEM. */
int answer_session(struct answer *answer, enum outcome outcome, const struct session *session,
                   uint32_t session_seconds);
int answer_redirect(struct answer *answer, enum code code, const char *base_url);
/* `message` NULL: the one the contract has for this code; `stripe_request_id` may be NULL. */
int answer_failed(struct answer *answer, enum code code, const char *message, const char *stripe_request_id);

/* Reads what answer_write() wrote; -EINVAL where it is none. `url` is copied, may be NULL. */
int answer_read(struct answer *answer, const char *json, const char *url);

/* The session in an answer, copied: 0, -ENOENT where there is none or its URL is gone, -ENOMEM. */
int answer_get_session(const struct answer *answer, struct session *session);

/* The answer for the store, without the URL: the caller's to free; NULL: no memory. */
char *answer_write(const struct answer *answer);

/* The reply's body, likewise. `request_id` NULL or "" and `generation` 0 become null. */
char *answer_reply(const struct answer *answer, const char *request_id, uint32_t generation);

void answer_clear(struct answer *answer);
void answer_move(struct answer *to, struct answer *from); /* clears `to` first, leaves `from` {0} */

const char *outcome_name(enum outcome outcome);
const char *code_name(enum code code); /* NULL for CODE_NONE */

/* Whether a request with this answer is dead-lettered too; whether the answer is kept in the store. */
bool code_is_dead_lettered(enum code code);
bool code_is_stored(enum code code);

/* How long an answer stands, in seconds: from the session's creation where there is one, else from being stored. */
uint32_t answer_stands_seconds(const struct answer *answer, uint32_t session_seconds);
