/* store.h — PostgreSQL on the loop: one connection in pipeline mode, one sync a task. Connecting (name look-up, several
 * hosts, login, preparing the statements) happens in a helper thread and hands the connection over. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "portal/links.h"

struct portal;
struct store;

struct store_settings {
    const char *url;     /* DATABASE_URL: anything libpq takes */
    const char *account; /* PORTAL_NAMESPACE */
    bool livemode;
    uint32_t session_seconds;        /* how long a session's URL lives */
    uint32_t session_reuse_seconds;  /* the reuse window; 0: never */
    uint32_t session_margin_seconds; /* what must be left of a session for its answer to stand: 60 */
    uint32_t connect_seconds;        /* time-out of one attempt to connect */
    uint32_t answer_seconds;         /* a task unanswered this long means the connection is dead */
    const char *worker;              /* application_name */
};

/* Settings are borrowed for the store's life. Result: 0 or a negative errno; `*ret` is freed with store_free(). */
int store_new(const struct store_settings *settings, sd_event *event, struct store **ret);
void store_free(struct store *store);

struct store_link store_link(struct store *store);
int store_start(struct store *store, struct portal *portal);

/* Connects on the caller's thread, checks that the schema is there with all migrations this program knows and that the
 * rights suffice; for --check. Result: 0, or a negative errno with the cause in `error`, without the password. */
int store_check(const struct store_settings *settings, char *error, size_t error_size);

/* Whether libpq can make sense of `url`: 0, or -EINVAL with what would be right in `error`. */
int store_url_check(const char *url, char *error, size_t error_size);
