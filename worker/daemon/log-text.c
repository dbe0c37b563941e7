/* log-text.c — puts an event of the core's into words. */
#include "daemon/log.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>

/* A line that grows up to its size and is cut there. */
struct line {
    char *text;
    size_t size;
    size_t length;
};

__attribute__((format(printf, 2, 3))) static void add(struct line *line, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line->text + line->length, line->size - line->length, format, arguments);
    va_end(arguments);
    if (length > 0)
        line->length += (size_t)length;
    if (line->length >= line->size)
        line->length = line->size - 1;
}

static double ms(uint64_t microseconds) {
    return (double)microseconds / 1000;
}

static double seconds(uint64_t microseconds) {
    return (double)microseconds / 1000000;
}

static const char *link_name(const char *link) {
    static const struct {
        const char *link;
        const char *name;
    } names[] = {{"broker", "RabbitMQ"}, {"store", "PostgreSQL"}, {"stripe", "Stripe"}};
    for (size_t i = 0; link && i < sizeof names / sizeof names[0]; i++)
        if (strcmp(link, names[i].link) == 0)
            return names[i].name;
    return link ? link : "something";
}

static bool given(const char *text) {
    return text && text[0];
}

static const char *or_else(const char *text, const char *instead) {
    return given(text) ? text : instead;
}

static int request_done(const struct event *event, struct line *line) {
    add(line, "request %s: %s", or_else(event->request_id, "without id"), or_else(event->outcome, "done"));
    if (given(event->code))
        add(line, " %s", event->code);
    if (event->team_id)
        add(line, ", team %" PRId64, event->team_id);
    if (event->user_id)
        add(line, ", user %" PRId64, event->user_id);
    if (event->generation > 1)
        add(line, ", generation %" PRIu32, event->generation);
    add(line, ", %.0f ms", ms(event->duration_us));
    if (given(event->text))
        add(line, ": %s", event->text);
    return event->status >= 500 ? LOG_WARNING : LOG_INFO;
}

static int dead_letter(const struct event *event, struct line *line) {
    add(line, "request %s is in portal.dead: %s", or_else(event->request_id, "without id"),
        or_else(event->code, "no reason"));
    if (given(event->text))
        add(line, ": %s", event->text);
    return LOG_WARNING;
}

static int stripe_call(const struct event *event, struct line *line) {
    add(line, "Stripe %s: ", or_else(event->link, "call"));
    if (event->status)
        add(line, "%d", event->status);
    else
        add(line, "no answer");
    add(line, " in %.0f ms", ms(event->duration_us));
    if (event->count > 1)
        add(line, ", attempt %u", event->count);
    if (given(event->stripe_request_id))
        add(line, ", %s", event->stripe_request_id);
    if (given(event->code))
        add(line, ", %s", event->code);
    if (given(event->text))
        add(line, ": %s", event->text);
    return LOG_DEBUG;
}

static int paused(const struct event *event, struct line *line) {
    add(line, "waiting for %s", link_name(event->link));
    if (event->duration_us >= 1000000)
        add(line, " since %.0f s", seconds(event->duration_us));
    add(line, ": %s", or_else(event->text, "it does not serve"));
    if (event->count)
        add(line, " (%u in hand)", event->count);
    return event->quiet ? LOG_DEBUG : LOG_WARNING;
}

static int misbehaved(const struct event *event, struct line *line) {
    add(line, "Stripe's answer is not what its API promises (%s", or_else(event->link, "unknown endpoint"));
    if (event->status)
        add(line, ", %d", event->status);
    if (given(event->stripe_request_id))
        add(line, ", %s", event->stripe_request_id);
    add(line, "): %s", or_else(event->text, "no more is known"));
    return LOG_ERR;
}

static int suspect(const struct event *event, struct line *line) {
    add(line, "request %s came back often and is worked alone", or_else(event->request_id, "without id"));
    if (event->count)
        add(line, ", try %u", event->count);
    if (given(event->text))
        add(line, ": %s", event->text);
    return LOG_WARNING;
}

static int configuration(const struct event *event, struct line *line) {
    add(line, "portal configuration %s: %s", or_else(event->configuration, "unknown"),
        or_else(event->text, or_else(event->code, "changed")));
    return LOG_NOTICE;
}

static int describe(const struct event *event, struct line *line) {
    switch (event->kind) {
    case EVENT_REQUEST_DONE:
        return request_done(event, line);
    case EVENT_REQUEST_DROPPED:
        add(line, "%u requests in hand lost their channel; RabbitMQ delivers them again", event->count);
        return LOG_NOTICE;
    case EVENT_REPLY_RETURNED:
        add(line, "request %s: no queue took its reply, it is kept in the store: %s",
            or_else(event->request_id, "without id"), or_else(event->text, "returned"));
        return LOG_WARNING;
    case EVENT_DEAD_LETTER:
        return dead_letter(event, line);
    case EVENT_STRIPE_CALL:
        return stripe_call(event, line);
    case EVENT_PAUSED:
        return paused(event, line);
    case EVENT_RESUMED:
        add(line, "%s serves", link_name(event->link));
        if (event->duration_us >= 1000000)
            add(line, " again after %.1f s", seconds(event->duration_us));
        return event->quiet ? LOG_DEBUG : LOG_NOTICE;
    case EVENT_SLOWED:
        add(line, "Stripe limits the rate of %s, the fleet slows down: %s", or_else(event->link, "calls"),
            or_else(event->text, "429"));
        return LOG_WARNING;
    case EVENT_CONFIGURATION:
        return configuration(event, line);
    case EVENT_STRIPE_MISBEHAVED:
        return misbehaved(event, line);
    case EVENT_SUSPECT:
        return suspect(event, line);
    case EVENT_GIVEN_BACK:
        add(line, "%u requests were given back to the queue", event->count);
        return LOG_NOTICE;
    case EVENT_BATCH:
        add(line, "%s of %u rows in %.1f ms", or_else(event->link, "batch"), event->count, ms(event->duration_us));
        return LOG_DEBUG;
    case EVENT_CONNECTED:
        add(line, "connected to %s", link_name(event->link));
        return LOG_DEBUG;
    case EVENT_TOKENS:
        add(line, "%u send times for %s: %s", event->count, or_else(event->link, "calls"),
            or_else(event->code, "changed"));
        return LOG_DEBUG;
    case EVENTS:
        break;
    }
    assert(false);
    return LOG_DEBUG;
}

int log_describe(const struct event *event, char *line, size_t size) {
    assert(event);
    assert(line && size > 0);

    struct line growing = {.text = line, .size = size};
    line[0] = '\0';
    return describe(event, &growing);
}
