/* Pages of objects, and `expand`, as all of Stripe's lists have them. */
#pragma once

#include "answer.h"

struct list {
    const char *url;       /* the endpoint's path */
    const char *kind;      /* what a cursor names, in "No such price: 'x'" */
    const json_t *objects; /* in the order in which they were made; the list shows the newest first */
    /* Whether the list shows this object, and what it shows (new, the caller's). */
    bool (*shows)(const json_t *object, const void *context);
    json_t *(*render)(const json_t *object, const void *context);
    const void *context;
};

/* Answers a page, by `limit`, `starting_after` and `ending_before` of `parameters`. 0 or -EINVAL, answered either way.
 */
int list_answer(const struct list *list, const json_t *parameters, struct answer *answer);

/* Whether `expand` asks for this property. */
bool expand_wants(const json_t *parameters, const char *property);

/* Refuses what is not among `allowed` (ends with NULL). 0 or -EINVAL with an answer. */
int expand_check(const json_t *parameters, const char *const *allowed, struct answer *answer);
