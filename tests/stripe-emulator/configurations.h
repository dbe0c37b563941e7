/* Portal configurations: what the portal lets a customer do. */
#pragma once

#include "answer.h"

struct emulator;
struct request;

/* The endpoints. 0 or -EINVAL, answered either way. */
int configurations_list(struct emulator *emulator, struct request *request);
int configurations_create(struct emulator *emulator, struct request *request);
int configurations_retrieve(struct emulator *emulator, struct request *request);
int configurations_update(struct emulator *emulator, struct request *request);

/* A configuration with an id of its own, active, with every feature off. The caller owns it. */
json_t *configuration_new(void);

/* Gives the entries of features.subscription_update.products what they lack. */
void configuration_complete(json_t *configuration);

/* As Stripe shows it in that mode; features.subscription_update.products only if asked for. The caller owns it. */
json_t *configuration_render(const json_t *configuration, bool livemode, bool products);

/* Whether a feature such as "subscription_update" is enabled. */
bool configuration_enables(const json_t *configuration, const char *feature);

enum { CONFIGURATIONS_MAX = 10000 /* kept at a time */ };
