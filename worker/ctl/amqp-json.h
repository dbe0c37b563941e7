/* amqp-json.h — AMQP properties as JSON, in the form that replay files have (tests/replay/README.md), and back. */
#pragma once

#include <amqp.h>
#include <amqp_framing.h>
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "portal/delivery.h"

/* The properties that are there, and the headers as an object. What JSON has no word for comes as the nearest: bytes as
 * texts, times as numbers. Result: the caller's; NULL without memory. */
json_t *amqp_to_json(const amqp_basic_properties_t *properties);

/* Checks such an object. Result: 0; -EINVAL with what would be right in `error`. */
int amqp_json_check(const json_t *properties, char *error, size_t error_size);

/* Makes properties of one that was checked; they borrow its texts, and have their tables from the pool. Result: 0 or
 * -ENOMEM. */
int amqp_from_json(const json_t *json, amqp_basic_properties_t *properties, amqp_pool_t *pool);

/* Fills in what request_read() looks at beside the body; borrowed from the properties and from `generation`. */
void delivery_from_json(struct delivery *delivery, const json_t *properties, char generation[static 24]);

/* The value of a whole number within bounds, also where it was read as a real one. */
bool json_whole(const json_t *json, json_int_t least, json_int_t most, json_int_t *ret);

/* A text made of strangers' bytes: U+FFFD for what is no UTF-8. NULL without memory. */
json_t *amqp_json_text(amqp_bytes_t bytes);
