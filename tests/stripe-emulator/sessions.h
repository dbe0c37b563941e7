/* Portal sessions, and the URLs they are reached by. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct emulator;
struct request;

enum { SESSIONS_KEPT = 200000 /* the newest ones; the page of an older one is an expired page */ };

struct session {
    char token[48]; /* the last part of its URL */
    char *object;   /* the session as JSON text; owned */
    double created; /* seconds since 1970 */
};

struct sessions {
    struct session *ring; /* session n is at n % SESSIONS_KEPT */
    uint64_t made;
};

void sessions_begin(struct sessions *sessions);
void sessions_done(struct sessions *sessions);

/* The endpoint. 0 or -EINVAL, answered either way. */
int sessions_create(struct emulator *emulator, struct request *request);

/* The session behind a URL, or NULL. */
const struct session *sessions_find(const struct sessions *sessions, const char *token);

/* The kept sessions after the first `since` ones, at most `limit`, as Stripe answered them. The caller owns the list.
 */
json_t *sessions_list(const struct sessions *sessions, uint64_t since, size_t limit);
