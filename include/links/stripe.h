/* stripe.h — Stripe on the loop: libcurl's multi interface on sd-event. One exchange is one HTTP request; retries,
 * limits and meaning belong to the core. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "portal/links.h"

struct stripe;

struct stripe_settings {
    const char *secret_key;
    const char *api_base;    /* https://api.stripe.com, without a trailing slash */
    const char *api_version; /* Stripe-Version */
    const char *user_agent;
    const char *ca_file;  /* certificates to trust instead of the system's, or NULL */
    uint32_t connect_ms;  /* time-outs: to connect, */
    uint32_t answer_ms;   /* without a byte, */
    uint32_t total_ms;    /* of the whole call */
    uint32_t concurrency; /* connections to keep */
};

/* Settings are copied. Result: 0 or a negative errno; `*ret` is freed with stripe_free(). */
int stripe_new(const struct stripe_settings *settings, sd_event *event, struct stripe **ret);
void stripe_free(struct stripe *stripe);

struct stripe_link stripe_link(struct stripe *stripe);

/* Uses another key from the next exchange on (SIGHUP). Result: 0 or -ENOMEM. */
int stripe_set_key(struct stripe *stripe, const char *secret_key);

/* One cheap read (the first configuration) on the caller's thread, for --check. Result: 0, or a negative errno with the
 * cause in `error`, which never holds the key. */
int stripe_check(const struct stripe_settings *settings, char *error, size_t error_size);
