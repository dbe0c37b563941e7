/* report.c — says what the worker is doing: STATUS= for systemctl, a heartbeat row for portalctl, a file for
 * Prometheus.
 */
#include "report.h"

#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "clock.h"
#include "daemon/messages.h"

enum {
    STATUS_US = 2 * 1000000,
    HEARTBEAT_US = 10 * 1000000,
    METRICS_US = 10 * 1000000,
    TIMER_ACCURACY_US = 100 * 1000,
    WAITING_MAX = 3 * 320, /* a link's name and cause, three times */
    STATUS_MAX = WAITING_MAX + 64,
    RATE_SECONDS = 10,
};

struct report {
    const struct settings *settings;
    struct metrics *metrics;
    struct log *log;
    const struct portal *portal; /* NULL before and after */
    struct store_link store;
    sd_event_source *timer;
    sd_event_source *changed;
    bool draining;
    bool ended;          /* in order */
    uint64_t started_us; /* since 1970 */
    char status[STATUS_MAX];

    uint64_t heartbeat_at; /* when the next is due, as the next */
    uint64_t metrics_at;
    struct store_task heartbeat;
    char *heartbeat_state; /* not NULL while it is under way */
    bool metrics_failed;   /* told already */
};

static uint64_t total(const struct metrics_recent *recent) {
    return recent->created + recent->reused + recent->redirect + recent->failed;
}

/* ---- the status line ---- */

static size_t waiting_for(const struct portal_state *state, char *text, size_t size) {
    const struct {
        const char *name;
        const struct link_pause *pause;
    } links[] = {{"RabbitMQ", &state->broker}, {"PostgreSQL", &state->store}, {"Stripe", &state->stripe}};
    size_t length = 0;
    for (size_t i = 0; i < 3; i++) {
        if (!links[i].pause->cause)
            continue;
        int added =
            snprintf(text + length, size - length, "%s%s since %llu s (%s)", length ? ", " : "waiting for ",
                     links[i].name, (unsigned long long)(links[i].pause->since_us / 1000000), links[i].pause->cause);
        if (added > 0)
            length += (size_t)added < size - length ? (size_t)added : size - length - 1;
    }
    return length;
}

void report_status_line(const struct portal_state *state, const struct metrics *metrics, uint64_t now, bool draining,
                        char *line, size_t size) {
    char waiting[WAITING_MAX] = "";
    bool paused = waiting_for(state, waiting, sizeof waiting) > 0;
    struct metrics_recent recent = metrics_recent(metrics, now, RATE_SECONDS);
    const char *doing = draining ? "Stopping" : paused ? "Paused" : state->in_hand ? "Working" : "Ready";
    (void)snprintf(line, size, "%s: %s%s%u in hand, %.1f requests/s", doing, waiting, paused ? "; " : "",
                   state->in_hand, (double)total(&recent) / RATE_SECONDS);
    /* sd_notify() takes a line break as the end of a field. */
    for (char *c = line; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = ' ';
}

static void refresh_status(struct report *report, const struct portal_state *state, uint64_t now) {
    char line[STATUS_MAX];
    report_status_line(state, report->metrics, now, report->draining, line, sizeof line);
    if (strcmp(line, report->status) == 0)
        return;
    memcpy(report->status, line, sizeof line);
    (void)sd_notifyf(0, "STATUS=%s", line);
}

/* ---- the heartbeat ---- */

static json_t *outcomes_json(const struct metrics *metrics, uint64_t now, unsigned seconds) {
    struct metrics_recent recent = metrics_recent(metrics, now, seconds);
    return json_pack("{sI sI sI sI}", "created", (json_int_t)recent.created, "reused", (json_int_t)recent.reused,
                     "redirect", (json_int_t)recent.redirect, "failed", (json_int_t)recent.failed);
}

static json_t *pause_json(const struct link_pause *pause) {
    if (!pause->cause)
        return json_null();
    return json_pack("{ss sI}", "cause", pause->cause, "seconds", (json_int_t)(pause->since_us / 1000000));
}

/* Calls a second to each of Stripe's endpoints. */
static json_t *calls_json(const struct metrics *metrics, uint64_t now) {
    json_t *rates = json_object();
    const char *endpoint;
    uint64_t calls = 0;
    for (unsigned i = 0; (endpoint = metrics_recent_calls(metrics, now, RATE_SECONDS, i, &calls)); i++)
        (void)json_object_set_new(rates, endpoint, json_real((double)calls / RATE_SECONDS));
    return rates;
}

static json_t *state_json(const struct report *report, const struct portal_state *state, uint64_t now) {
    const struct portal_settings *settings = &report->settings->portal;
    struct metrics_recent recent = metrics_recent(report->metrics, now, RATE_SECONDS);
    char host[65] = "";
    (void)gethostname(host, sizeof host - 1);
    return json_pack(
        "{ss ss si sI sb sb sb si s{si si si si si} sI sf so s{so so so} s{so so} s{ss sb si si si}}", "version",
        PORTAL_VERSION, "host", host, "pid", (int)getpid(), "started_at", (json_int_t)(report->started_us / 1000000),
        "draining", report->draining, "ended", report->ended, "intake", state->intake, "in_hand", (int)state->in_hand,
        "stages", "loading", (int)state->loading, "configuring", (int)state->configuring, "calling",
        (int)state->calling, "saving", (int)state->saving, "replying", (int)state->replying, "oldest_ms",
        (json_int_t)(state->oldest_us / 1000), "requests_per_second", (double)total(&recent) / RATE_SECONDS,
        "calls_per_second", calls_json(report->metrics, now), "waiting_for", "broker", pause_json(&state->broker),
        "store", pause_json(&state->store), "stripe", pause_json(&state->stripe), "outcomes", "minute",
        outcomes_json(report->metrics, now, 60), "five_minutes",
        outcomes_json(report->metrics, now, METRICS_RECENT_SECONDS), "settings", "namespace", settings->account,
        "livemode", settings->livemode, "concurrency", (int)settings->concurrency, "stripe_concurrency",
        (int)settings->stripe_concurrency, "stripe_rate_limit", (int)settings->stripe_rate_limit);
}

static void heartbeat_done(struct store_task *task, enum store_status status) {
    (void)status; /* one that did not arrive is told by those that do not follow */
    struct report *report = (struct report *)((char *)task - offsetof(struct report, heartbeat));
    free(report->heartbeat_state);
    report->heartbeat_state = NULL;
    if (report->heartbeat_at == 0) /* what it said is out of date already */
        (void)sd_event_source_set_enabled(report->changed, SD_EVENT_ONESHOT);
}

/* Where it is time for one, and a store to take it. */
static void beat(struct report *report, const struct portal_state *state, uint64_t now) {
    if (now < report->heartbeat_at || report->heartbeat_state || state->store.cause)
        return;
    report->heartbeat_at = now + HEARTBEAT_US;
    json_t *json = state_json(report, state, now);
    report->heartbeat_state = json ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    if (!report->heartbeat_state)
        return;
    report->heartbeat = (struct store_task){.kind = STORE_HEARTBEAT, .done = heartbeat_done};
    report->heartbeat.heartbeat =
        (struct heartbeat){.worker = report->settings->portal.worker, .state = report->heartbeat_state};
    report->store.submit(report->store.self, &report->heartbeat);
}

static void write_metrics(struct report *report, const struct portal_state *state) {
    const char *path = report->settings->metrics_file;
    if (!path)
        return;
    int r = metrics_write(report->metrics, state, path);
    if (r < 0 && !report->metrics_failed)
        log_message(report->log, LOG_ERR, MESSAGE_FAILED, "PORTAL_METRICS_FILE can't be written to %s: %s", path,
                    strerror(-r));
    report->metrics_failed = r < 0;
}

/* ---- when ---- */

/* Says what is new, and what it is time for. */
static void say(struct report *report, uint64_t now) {
    struct portal_state state;
    if (!report->portal)
        return;
    portal_state(report->portal, &state);
    refresh_status(report, &state, now);
    beat(report, &state, now);
    if (now >= report->metrics_at) {
        report->metrics_at = now + METRICS_US;
        write_metrics(report, &state);
    }
}

static int on_timer(sd_event_source *source, uint64_t time, void *userdata) {
    (void)time;
    uint64_t now = clock_monotonic();
    say(userdata, now);
    int r = sd_event_source_set_time(source, now + STATUS_US);
    return r < 0 ? r : sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

static int on_changed(sd_event_source *source, void *userdata) {
    (void)source;
    say(userdata, clock_monotonic());
    return 0;
}

int report_new(sd_event *event, const struct settings *settings, struct metrics *metrics, struct log *log,
               struct report **ret) {
    assert(event && settings && metrics && log);
    assert(ret);

    struct report *report = calloc(1, sizeof *report);
    if (!report)
        return -ENOMEM;
    *report = (struct report){.settings = settings, .metrics = metrics, .log = log, .started_us = clock_wall()};
    int r = sd_event_add_time(event, &report->timer, CLOCK_MONOTONIC, UINT64_MAX, TIMER_ACCURACY_US, on_timer, report);
    if (r >= 0)
        r = sd_event_add_defer(event, &report->changed, on_changed, report);
    if (r >= 0)
        r = sd_event_source_set_enabled(report->changed, SD_EVENT_OFF);
    if (r >= 0)
        r = sd_event_source_set_priority(report->changed, SD_EVENT_PRIORITY_IDLE);
    if (r < 0) {
        report_free(report);
        return r;
    }
    *ret = report;
    return 0;
}

void report_free(struct report *report) {
    if (!report)
        return;
    (void)sd_event_source_disable_unref(report->timer);
    (void)sd_event_source_disable_unref(report->changed);
    free(report->heartbeat_state);
    free(report);
}

void report_start(struct report *report, const struct portal *portal, const struct store_link *store) {
    assert(report && portal && store);

    report->portal = portal;
    report->store = *store;
    (void)sd_event_source_set_time(report->timer, clock_monotonic());
    (void)sd_event_source_set_enabled(report->timer, SD_EVENT_ONESHOT);
}

void report_stop(struct report *report) {
    assert(report);

    report->portal = NULL;
}

void report_draining(struct report *report) {
    assert(report);

    report->draining = true;
    report_changed(report);
}

bool report_farewell(struct report *report) {
    assert(report);

    struct portal_state state;
    if (report->heartbeat_state)
        return false; /* one is under way */
    if (report->ended)
        return true;
    report->ended = true;
    report->heartbeat_at = 0;
    portal_state(report->portal, &state);
    beat(report, &state, clock_monotonic());
    return !report->heartbeat_state; /* there is no store to tell */
}

void report_changed(struct report *report) {
    assert(report);

    report->heartbeat_at = 0; /* who looks at it should not see a pause that is over, or miss one, for 10 s */
    (void)sd_event_source_set_enabled(report->changed, SD_EVENT_ONESHOT);
}
