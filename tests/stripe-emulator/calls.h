/* The log of calls, in the order in which they came. */
#pragma once

#include "answer.h"

enum {
    CALLS_KEPT = 200000,                 /* the newest ones, */
    CALLS_BYTES_MAX = 256 * 1024 * 1024, /* of whose texts no more than this is kept */
    CALLS_PARAMETERS_MAX = 16 * 1024,    /* bytes kept of one call's parameters */
};

struct call {
    uint64_t n; /* from 1 */
    double time;
    char *method; /* owned, as are path, parameters (encoded, as they came) and key, all in one piece */
    const char *path;
    const char *parameters;
    const char *key;
    size_t bytes;
    unsigned status; /* 0: none (yet) */
    bool answered;
    bool replayed;
    char suffix[8]; /* the last characters of the API key */
    char request_id[32];
    char fault[32];
    char effect[48];
};

struct calls {
    struct call *ring; /* call n is at n % CALLS_KEPT */
    uint64_t first;    /* the oldest that is kept */
    uint64_t last;     /* the newest; first is last + 1 while there is none */
    size_t bytes;
};

void calls_begin(struct calls *calls);
void calls_done(struct calls *calls);

/* Adds a call. `parameters` and `key` may be NULL. It stays valid until the next one is added. */
struct call *calls_add(struct calls *calls, const char *method, const char *path, const char *parameters,
                       const char *key);

/* The call of that number, or NULL. */
struct call *calls_get(const struct calls *calls, uint64_t n);

/* At most `limit` calls after number `since` whose path begins with `path`, as the admin API shows them. */
json_t *calls_list(const struct calls *calls, uint64_t since, size_t limit, const char *path);
