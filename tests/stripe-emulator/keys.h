/* Which API keys are accepted. */
#pragma once

#include "answer.h"

struct endpoint;

struct keys {
    json_t *accepted;   /* list of strings; NULL: every key that is shaped like one of Stripe's */
    json_t *restricted; /* list of strings: known keys without any right */
    json_t *first;      /* what `accepted` was at the start */
};

/* `accepted` may be NULL; it stays the caller's. */
void keys_begin(struct keys *keys, const json_t *accepted);
void keys_done(struct keys *keys);
void keys_reset(struct keys *keys);

/* Replaces the lists by {"accept": [...], "restricted": [...]}; one that is not given stays. 0 or -EINVAL. */
int keys_set(struct keys *keys, const json_t *lists);

/* The key in an Authorization header (Bearer, or Basic with the key as the user), or NULL. The caller frees it. */
char *keys_from_header(const char *authorization);

/* Whether `key` (may be NULL) may call `endpoint` (may be NULL). 0, or -EACCES with a 401 or 403 in `answer`. */
int keys_check(const struct keys *keys, const char *key, const struct endpoint *endpoint, struct answer *answer);
