/* store-harness.h — a store on a loop, without a core: the test programs of the store include it once each, as it
 * defines what the core would (portal_store_up, portal_store_down). */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "links/store.h"
#include "portal/portal.h"
#include "private-postgres.h"

enum { HARNESS_PATIENCE_MS = 30000 };

struct harness {
    char url[256];
    struct store_settings settings;
    sd_event *event;
    struct store *store;
    struct store_link link;
    bool up;
    unsigned ups, downs, connections;
    char cause[512]; /* of the last time it went down */
};

/* The store takes the harness for its portal. */
void portal_connected(struct portal *portal, const char *link) {
    struct harness *harness = (struct harness *)portal;
    assert_string_equal(link, "store");
    harness->connections++;
}

void portal_store_up(struct portal *portal) {
    struct harness *harness = (struct harness *)portal;
    harness->up = true;
    harness->ups++;
}

void portal_store_down(struct portal *portal, const char *cause) {
    struct harness *harness = (struct harness *)portal;
    harness->up = false;
    harness->downs++;
    (void)snprintf(harness->cause, sizeof harness->cause, "%s", cause);
}

static inline uint64_t harness_now_ms(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Runs the loop until the condition holds; fails the test if it does not come. */
#define harness_until(harness, condition)                                                                              \
    do {                                                                                                               \
        uint64_t end_ = harness_now_ms() + HARNESS_PATIENCE_MS;                                                        \
        while (!(condition)) {                                                                                         \
            if (harness_now_ms() > end_)                                                                               \
                fail_msg("waited in vain for %s; the store said: %s", #condition, (harness)->cause);                   \
            assert_true(sd_event_run((harness)->event, 20000) >= 0);                                                   \
        }                                                                                                              \
    } while (false)

static inline void harness_start(struct harness *harness, const char *url) {
    *harness = (struct harness){0};
    (void)snprintf(harness->url, sizeof harness->url, "%s", url);
    harness->settings = (struct store_settings){.url = harness->url,
                                                .account = "default",
                                                .session_seconds = 300,
                                                .session_reuse_seconds = 120,
                                                .session_margin_seconds = 60,
                                                .connect_seconds = 5,
                                                .answer_seconds = 2,
                                                .worker = "test"};
    assert_true(sd_event_new(&harness->event) >= 0);
    assert_int_equal(store_new(&harness->settings, harness->event, &harness->store), 0);
    harness->link = store_link(harness->store);
    assert_int_equal(store_start(harness->store, (struct portal *)harness), 0);
}

static inline void harness_stop(struct harness *harness) {
    store_free(harness->store);
    sd_event_unref(harness->event);
}

/* A task, and what became of it. */
struct outcome_of {
    struct store_task task;
    bool done;
    enum store_status status;
};

static inline void harness_done(struct store_task *task, enum store_status status) {
    struct outcome_of *outcome = (struct outcome_of *)((char *)task - offsetof(struct outcome_of, task));
    assert_false(outcome->done);
    outcome->done = true;
    outcome->status = status;
}

static inline void harness_submit(struct harness *harness, struct outcome_of *outcome) {
    outcome->done = false;
    outcome->task.done = harness_done;
    harness->link.submit(harness->link.self, &outcome->task);
    assert_false(outcome->done); /* never from inside */
}

/* Submits it and waits for its end. */
static inline enum store_status harness_do(struct harness *harness, struct outcome_of *outcome) {
    harness_submit(harness, outcome);
    harness_until(harness, outcome->done);
    return outcome->status;
}

/* Likewise for one that has to succeed. */
static inline void harness_succeed(struct harness *harness, struct outcome_of *outcome) {
    if (harness_do(harness, outcome) != STORE_DONE)
        fail_msg("kind %d: status %d, SQLSTATE %s: %s", (int)outcome->task.kind, (int)outcome->status,
                 outcome->task.sqlstate, outcome->task.error);
}
