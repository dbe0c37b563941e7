/* features.h — what the portal configurations this worker makes let a customer do. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "portal/text.h"

struct features;

/*
 * The reference's features, and over them, field by field, those of a JSON file that is laid out as the parameters of
 * Stripe's POST /v1/billing_portal/configurations; `path` NULL: the reference's alone. Writes a line for each error,
 * naming file and field, to `errors`. Result: 0 and `*ret`, the caller's, freed with features_free(); -EINVAL; -ENOMEM;
 * a negative errno where the file can't be read.
 */
int features_load(const char *path, struct features **ret, FILE *errors);
void features_free(struct features *features);

/* The same from a parsed file, `name` for messages; NULL: the reference's alone. */
int features_new(const json_t *file, const char *name, struct features **ret, FILE *errors);

/*
 * The form that creates or, with `update`, updates a configuration for one product with these prices (a list of price
 * ids). An update also unsets what is not among the features, as it may have been before.
 * `metadata_key` NULL: no metadata. Result: the form, the caller's to free; NULL: no memory.
 */
char *features_form(const struct features *features, bool update, const char *product, const json_t *prices,
                    const char *metadata_key);

/* Identifies features regardless of product and prices: an equal number means an equal form. */
uint64_t features_fingerprint(const struct features *features);

/* FNV-1a (64 bit) of a text, for fingerprints; not for anything an adversary chooses. */
uint64_t fingerprint_of(const char *text);

/* The key under which features_form() puts `metadata_key` into a configuration's metadata. */
#define FEATURES_METADATA "portal_worker"
