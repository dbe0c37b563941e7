/* The endpoints of Stripe's API that the emulator has. */
#pragma once

#include "schema.h"

struct emulator;
struct request;

enum {
    ENDPOINTS = 8,
    ENDPOINT_OTHER = ENDPOINTS, /* the number of all that Stripe would not know either */
};

struct endpoint {
    unsigned number;
    const char *name;       /* "POST /v1/billing_portal/sessions" */
    const char *permission; /* what a restricted key would need */
    const struct parameter *parameters;
    /* Works under the emulator's lock. 0 or -EINVAL, answered either way. */
    int (*execute)(struct emulator *emulator, struct request *request);
};

/* The endpoint, or NULL. *id is then the last part of `path`, where the endpoint has one, else NULL. */
const struct endpoint *endpoint_find(const char *method, const char *path, const char **id);

/* The name of endpoint `number`, up to and with ENDPOINT_OTHER. */
const char *endpoint_name(unsigned number);
