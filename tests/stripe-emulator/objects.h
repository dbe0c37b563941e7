/* Stripe's objects: customers, subscriptions, products, prices, configurations. Sessions have a file of their own. */
#pragma once

#include "answer.h"

struct objects {
    json_t *customers;       /* id -> when it was made */
    json_t *customer_ranges; /* [{"prefix", "count"}] */
    bool any_customer;
    json_t *subscriptions; /* id -> customer; NULL: every subscription is taken for the customer's */
    json_t *products;      /* id -> product */
    bool any_product;
    json_t *prices;              /* in the order in which they were made */
    json_t *price_index;         /* id -> price */
    json_t *configurations;      /* in the order in which they were made */
    json_t *configuration_index; /* id -> configuration */
    json_t *configuration_data;  /* a set: those that were not made through the API */
};

void objects_begin(struct objects *objects);
void objects_done(struct objects *objects);

/* Merges data as --data and POST /_emulator/data give it: objects with a known id are changed, others added. 0, or
 * -EINVAL with *error (the caller's to free) saying what is wrong; what came before the error is then merged. */
int objects_merge(struct objects *objects, const json_t *data, char **error);

/* Forgets all but the data, or everything. */
void objects_reset(struct objects *objects, bool keep_data);

bool objects_has_customer(const struct objects *objects, const char *id);

/* A borrowed product or price or configuration, or NULL. */
json_t *objects_product(struct objects *objects, const char *id);
json_t *objects_price(const struct objects *objects, const char *id);
json_t *objects_configuration(const struct objects *objects, const char *id, bool livemode);

/* Adds a configuration and takes it over. */
void objects_add_configuration(struct objects *objects, json_t *configuration);

/* Copies the fields of `given` over those of `target`, hash by hash; a null empties a list and unsets anything else. */
void objects_overlay(json_t *target, const json_t *given);
