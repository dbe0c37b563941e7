/* service.c — puts the links, the core and the loop together, runs them, and takes them apart again in good order. */
#include "daemon/service.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>

#include "clock.h"
#include "daemon/messages.h"
#include "daemon/metrics.h"
#include "report.h"

enum {
    HURRY_US = 3 * 1000000, /* for replies that are on their way when the rest is given back */
    FAREWELL_US = 1000000,  /* for the last sign of life */
    CLOSE_MS = 2000,
    LEEWAY_SECONDS = 15, /* what ending may take beyond the drain */
};

enum stage { RUNNING, DRAINING, HURRYING, PARTING };

struct service {
    struct settings *settings;
    struct log *log;
    sd_event *event;
    struct metrics *metrics;
    struct clock *clock;
    struct report *report;
    struct broker *broker;
    struct store *store;
    struct stripe *stripe;
    struct portal *portal;
    enum stage stage;
    sd_event_source *drain_timer;
    sd_event_source *idle_check; /* after everything, while draining */
};

/* ---- the host of the core ---- */

static uint64_t host_now(void *self) {
    (void)self;
    return clock_monotonic();
}

static uint64_t host_wall(void *self) {
    (void)self;
    return clock_wall();
}

static uint64_t host_random(void *self) {
    struct service *service = self;
    return clock_random(service->clock);
}

static void host_wake_at(void *self, uint64_t monotonic) {
    struct service *service = self;
    clock_wake_at(service->clock, monotonic);
}

static void host_soon(void *self) {
    struct service *service = self;
    clock_soon(service->clock);
}

static void host_event(void *self, const struct event *event) {
    struct service *service = self;
    log_event(service->log, event);
    metrics_event(service->metrics, event, clock_monotonic());
    if (event->kind == EVENT_PAUSED || event->kind == EVENT_RESUMED)
        report_changed(service->report);
}

/* ---- ending ---- */

static int end(struct service *service) {
    return sd_event_exit(service->event, 0);
}

static int ring_in(struct service *service, uint64_t delay_us) {
    int r = sd_event_source_set_time(service->drain_timer, clock_monotonic() + delay_us);
    return r < 0 ? r : sd_event_source_set_enabled(service->drain_timer, SD_EVENT_ONESHOT);
}

static int hurry(struct service *service) {
    service->stage = HURRYING;
    portal_give_back_all(service->portal);
    return ring_in(service, HURRY_US);
}

static int on_drain_timer(sd_event_source *source, uint64_t time, void *userdata) {
    (void)source;
    (void)time;
    struct service *service = userdata;
    /* Requests that were on their way when it became idle may have come since. */
    bool late = service->stage == PARTING && !portal_idle(service->portal);
    return service->stage == DRAINING || late ? hurry(service) : end(service);
}

static int on_idle_check(sd_event_source *source, void *userdata) {
    (void)source;
    struct service *service = userdata;
    if (!portal_idle(service->portal))
        return 0;
    if (report_farewell(service->report))
        return end(service);
    if (service->stage == PARTING)
        return 0;
    service->stage = PARTING;
    return ring_in(service, FAREWELL_US);
}

static int drain(struct service *service) {
    struct portal_state state;
    uint64_t seconds = service->settings->drain_seconds;
    service->stage = DRAINING;
    portal_state(service->portal, &state);
    log_message(service->log, LOG_NOTICE, MESSAGE_STOPPING, "stopping: %u requests in hand, at most %llu s for them",
                state.in_hand, (unsigned long long)seconds);
    (void)sd_notifyf(0, "STOPPING=1\nEXTEND_TIMEOUT_USEC=%llu",
                     (unsigned long long)((seconds + LEEWAY_SECONDS) * 1000000));
    report_draining(service->report);
    portal_drain(service->portal);
    int r = sd_event_source_set_enabled(service->idle_check, SD_EVENT_ON);
    return r < 0 ? r : ring_in(service, seconds * 1000000);
}

/* ---- signals ---- */

static int on_terminate(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata) {
    (void)source;
    (void)info;
    struct service *service = userdata;
    switch (service->stage) {
    case RUNNING:
        return drain(service);
    case DRAINING:
        log_message(service->log, LOG_NOTICE, MESSAGE_STOPPING, "told to stop again: the rest is given back");
        return hurry(service);
    case HURRYING:
    case PARTING:
        return end(service);
    }
    return 0;
}

static void log_lines(struct log *log, char *lines) {
    char *rest = NULL;
    for (char *line = strtok_r(lines, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
        log_message(log, LOG_ERR, MESSAGE_SETTINGS, "%s", line);
}

static int reread(struct service *service) {
    char *lines = NULL;
    size_t size = 0;
    FILE *errors = open_memstream(&lines, &size);
    if (!errors)
        return -ENOMEM;
    int r = settings_reread(service->settings, errors);
    (void)fclose(errors); /* fails only without memory for the lines */
    if (r >= 0) {
        /* First of all: the features before these go with the next reading. */
        portal_reconfigure(service->portal, &service->settings->portal);
        r = stripe_set_key(service->stripe, service->settings->stripe.secret_key);
    } else if (lines)
        log_lines(service->log, lines);
    free(lines);
    return r;
}

static int on_hangup(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata) {
    (void)source;
    (void)info;
    struct service *service = userdata;
    if (service->stage != RUNNING)
        return 0;
    (void)sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long)clock_monotonic());
    int r = reread(service);
    if (r < 0)
        log_message(service->log, LOG_ERR, MESSAGE_REREAD, "settings were not read again, the old ones serve on: %s",
                    r == -EINVAL ? "see above" : strerror(-r));
    else
        log_message(service->log, LOG_NOTICE, MESSAGE_REREAD,
                    "the Stripe key's and the features' file were read again");
    (void)sd_notify(0, "READY=1");
    return 0;
}

/* ---- beginning ---- */

static int on_ready(sd_event_source *source, void *userdata) {
    (void)source;
    struct service *service = userdata;
    (void)sd_notify(0, "READY=1");
    log_message(service->log, LOG_NOTICE, MESSAGE_STARTED, "portal-worker " PORTAL_VERSION " runs as %s",
                service->settings->portal.worker);
    return 0;
}

static int add_signals(struct service *service) {
    int r = sd_event_add_signal(service->event, NULL, SIGTERM, on_terminate, service);
    if (r >= 0)
        r = sd_event_add_signal(service->event, NULL, SIGINT, on_terminate, service);
    if (r >= 0)
        r = sd_event_add_signal(service->event, NULL, SIGHUP, on_hangup, service);
    return r;
}

static int add_sources(struct service *service) {
    sd_event *event = service->event;
    int r = add_signals(service);
    if (r >= 0)
        r = sd_event_add_time(event, &service->drain_timer, CLOCK_MONOTONIC, UINT64_MAX, 0, on_drain_timer, service);
    if (r >= 0)
        r = sd_event_source_set_enabled(service->drain_timer, SD_EVENT_OFF);
    if (r >= 0)
        r = sd_event_add_post(event, &service->idle_check, on_idle_check, service);
    if (r >= 0)
        r = sd_event_source_set_enabled(service->idle_check, SD_EVENT_OFF);
    if (r >= 0)
        r = sd_event_add_defer(event, NULL, on_ready, service);
    if (r >= 0)
        r = sd_event_set_watchdog(event, true);
    return r < 0 ? r : 0;
}

static int add_links(struct service *service) {
    struct settings *settings = service->settings;
    int r = broker_new(&settings->broker, service->event, &service->broker);
    if (r >= 0)
        r = store_new(&settings->store, service->event, &service->store);
    if (r >= 0)
        r = stripe_new(&settings->stripe, service->event, &service->stripe);
    return r;
}

static int add_portal(struct service *service) {
    struct host host = {.self = service,
                        .now = host_now,
                        .wall = host_wall,
                        .random = host_random,
                        .wake_at = host_wake_at,
                        .soon = host_soon,
                        .event = host_event};
    struct broker_link broker = broker_link(service->broker);
    struct store_link store = store_link(service->store);
    struct stripe_link stripe = stripe_link(service->stripe);
    service->portal = portal_new(&service->settings->portal, &host, &broker, &store, &stripe);
    if (!service->portal)
        return -ENOMEM;
    clock_set_portal(service->clock, service->portal);
    report_start(service->report, service->portal, &store);
    return 0;
}

static int begin(struct service *service) {
    int r = sd_event_default(&service->event);
    if (r < 0)
        return r;
    service->metrics = metrics_new(service->settings->portal.worker);
    if (!service->metrics)
        return -ENOMEM;
    r = clock_new(service->event, &service->clock);
    if (r >= 0)
        r = report_new(service->event, service->settings, service->metrics, service->log, &service->report);
    if (r >= 0)
        r = add_sources(service);
    if (r >= 0)
        r = add_links(service);
    if (r >= 0)
        r = add_portal(service);
    if (r >= 0)
        r = store_start(service->store, service->portal);
    if (r >= 0)
        r = broker_start(service->broker, service->portal);
    return r;
}

/* What is in hand now was given back or is owed no answer: the broker delivers it again. The store goes before the
 * core, whose tasks it may hold, and before the report, whose heartbeat it may hold. */
static void take_apart(struct service *service) {
    if (service->report)
        report_stop(service->report);
    if (service->clock)
        clock_set_portal(service->clock, NULL);
    if (service->portal)
        broker_stop(service->broker, CLOSE_MS);
    store_free(service->store);
    portal_free(service->portal);
    broker_free(service->broker);
    stripe_free(service->stripe);
    report_free(service->report);
    clock_free(service->clock);
    metrics_free(service->metrics);
    (void)sd_event_source_disable_unref(service->drain_timer);
    (void)sd_event_source_disable_unref(service->idle_check);
    (void)sd_event_unref(service->event);
}

int service_run(struct settings *settings, struct log *log) {
    assert(settings);
    assert(log);

    struct service service = {.settings = settings, .log = log};
    int r = begin(&service);
    if (r >= 0)
        r = sd_event_loop(service.event);
    if (r < 0)
        log_message(log, LOG_ERR, MESSAGE_FAILED, "the worker can't go on: %s", strerror(-r));
    take_apart(&service);
    if (r >= 0)
        log_message(log, LOG_NOTICE, MESSAGE_STOPPED, "stopped");
    return r;
}
