/* settings.h — everything that can be set, from the environment and systemd's credentials, checked all at once. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "links/broker.h"
#include "links/store.h"
#include "links/stripe.h"
#include "portal/portal.h"

/* Owns its texts; freed with settings_free(). The parts are laid out as the modules want them and borrow from here. */
struct settings {
    struct portal_settings portal;
    struct broker_settings broker;
    struct store_settings store;
    struct stripe_settings stripe;
    uint32_t drain_seconds;
    void *texts; /* the owner of all texts */
};

/* Reads the environment (getenv) and, for AMQP_URL, DATABASE_URL and STRIPE_SECRET_KEY, the file of that name in
 * $CREDENTIALS_DIRECTORY (systemd.exec(5), LoadCredential=), which wins, or the file named by STRIPE_SECRET_KEY_FILE.
 * Writes one line for each wrong or missing setting to `errors`: the setting, its value where that is no secret, and
 * what would be right. Result: 0, -EINVAL where there were any, -ENOMEM. */
int settings_load(struct settings *settings, FILE *errors);
void settings_free(struct settings *settings);

/* The table of all settings (name, default, meaning), for --help. */
void settings_help(FILE *out);
