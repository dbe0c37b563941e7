/* Checks a form against a table of parameters, with Stripe's errors, and gives the values their types. */
#pragma once

#include "answer.h"

enum parameter_kind {
    PARAMETER_STRING,
    PARAMETER_URL,
    PARAMETER_ENUM,
    PARAMETER_BOOLEAN,
    PARAMETER_INTEGER,
    PARAMETER_HASH,     /* of `fields` */
    PARAMETER_LIST,     /* of `fields[0]`, at most `maximum` entries where that is not 0 */
    PARAMETER_METADATA, /* any keys, within Stripe's limits for metadata */
    PARAMETER_RANGE,    /* an integer, or a hash of `fields` (gt, gte, lt, lte) */
};

/* A table ends with an entry without a name; the entry that describes a list's elements is named "". */
struct parameter {
    const char *name;
    enum parameter_kind kind;
    bool required;
    bool unset;      /* "" is allowed and means: none. It becomes a JSON null */
    int64_t minimum; /* integers: the range, where the two differ */
    int64_t maximum; /* and strings: most characters, 0: 5,000 */
    const char *const *choices;
    const struct parameter *fields;
};

/* Checks `tree` (of form_tree) against `fields`. 0: *typed, the caller's, holds what was given, as strings, booleans,
 * integers, arrays, objects and nulls. -EINVAL: `answer` holds the error. */
int schema_check(const struct parameter *fields, const json_t *tree, json_t **typed, struct answer *answer);
