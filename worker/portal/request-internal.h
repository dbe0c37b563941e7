/* request-internal.h — what request.c and flow.c share. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "portal/request.h"

/* Notes an invalid_request. Result: -EINVAL, to be passed on. */
int request_refuse(struct request_problem *problem, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A field of an object; NULL where it is absent or null. */
const json_t *request_field(const json_t *object, const char *name);

/* What is wrong with a path to come back to, as the end of a sentence; NULL if nothing. */
const char *request_path_problem(const char *path);

bool request_is_stripe_id(const char *id, const char *prefix);

/* Reads the field `flow` into request->flow. Result: 0, -EINVAL, -ENOMEM. */
int request_read_flow(const json_t *body, struct request *request, struct request_problem *problem);
