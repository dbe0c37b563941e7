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
    int log_level;                /* the least urgent that is written: LOG_ERR … LOG_DEBUG of syslog.h */
    const char *metrics_file;     /* or NULL */
    struct settings_owner *owner; /* of all texts */
};

/* Reads the environment and, for AMQP_URL, DATABASE_URL and STRIPE_SECRET_KEY, the file of that name in
 * $CREDENTIALS_DIRECTORY (systemd.exec(5), LoadCredential=), which wins, or the file named by STRIPE_SECRET_KEY_FILE.
 * An empty setting is one that is not set. These three are then wiped from the environment, so that neither
 * /proc/<pid>/environ nor a child has them.
 *
 * Writes one line for each wrong or missing setting to `errors`: the setting, its value where that is no secret, and
 * what would be right; also one that begins with "warning: " for each setting that looks like one of ours and is none.
 * Result: 0, -EINVAL where anything was wrong or missing, -ENOMEM. On failure there is nothing to free. */
int settings_load(struct settings *settings, FILE *errors);

/* Reads only the settings in `names` (NULL at the end), for a program that can do without the others; these stay zero.
 * The environment is left as it is, so that it can be asked again. Result and `errors` as above, without warnings. */
int settings_load_only(struct settings *settings, const char *const *names, FILE *errors);

/* Reads the files again that settings were taken from: the Stripe key's and the portal's features. The old key is wiped
 * at once, the old features stay valid until the next settings_reread() or settings_free(). On failure everything is as
 * it was. Result and `errors` as above. */
int settings_reread(struct settings *settings, FILE *errors);

/* Wipes the secrets and frees all. */
void settings_free(struct settings *settings);

/* The table of all settings (name, default, meaning), for --help. */
void settings_help(FILE *out);
