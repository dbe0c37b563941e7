/* trace.c — what happened, kept only while a broken promise is looked into. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "world.h"

enum { LINE_MAX_BYTES = 1000, PRINTED_MAX = 150 };

struct line {
    uint64_t at;
    int64_t request; /* -1: of the world */
    char *text;
};

struct trace {
    struct line *lines;
    size_t count, size;
};

const char *trace_event_name(enum event_kind kind) {
    static const char *const names[EVENTS] = {
        [EVENT_REQUEST_DONE] = "request done",
        [EVENT_REQUEST_DROPPED] = "requests dropped",
        [EVENT_REPLY_RETURNED] = "reply returned",
        [EVENT_DEAD_LETTER] = "dead letter",
        [EVENT_STRIPE_CALL] = "Stripe call",
        [EVENT_PAUSED] = "paused",
        [EVENT_RESUMED] = "resumed",
        [EVENT_SLOWED] = "slowed",
        [EVENT_CONFIGURATION] = "configuration",
        [EVENT_STRIPE_MISBEHAVED] = "misbehaved",
        [EVENT_SUSPECT] = "suspect",
        [EVENT_GIVEN_BACK] = "given back",
        [EVENT_BATCH] = "batch",
        [EVENT_CONNECTED] = "connected",
        [EVENT_TOKENS] = "tokens",
    };
    return names[kind];
}

void trace_new(struct world *world) {
    world->trace = calloc(1, sizeof *world->trace);
    if (!world->trace)
        abort();
}

void trace_write(struct world *world, const struct message *message, const char *format, ...) {
    struct trace *trace = world->trace;
    char text[LINE_MAX_BYTES];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (trace->count == trace->size) {
        trace->size = trace->size > 0 ? 2 * trace->size : 1024;
        trace->lines = realloc(trace->lines, trace->size * sizeof *trace->lines);
        if (!trace->lines)
            abort();
    }
    char *whole = NULL;
    int length = message ? asprintf(&whole, "m%u r%u: %s", message->index, message->plan->id, text)
                         : asprintf(&whole, "%s", text);
    if (length < 0)
        abort();
    trace->lines[trace->count++] = (struct line){world->clock.now, message ? (int64_t)message->plan->id : -1, whole};
}

/* Whether a line is of the request: told of it, or naming it in a key or a reply. */
static bool concerns(const struct line *line, int64_t request) {
    char name[32];
    if (line->request >= 0 || request < 0)
        return request < 0 || line->request == request;
    if (strstr(line->text, "fault:") || strstr(line->text, "loses") || strstr(line->text, "crashed") ||
        strstr(line->text, "starts") || strstr(line->text, "paused") || strstr(line->text, "resumed") ||
        strstr(line->text, "intake"))
        return true;
    (void)snprintf(name, sizeof name, "r%lld", (long long)request);
    const char *found = strstr(line->text, name);
    return found && strchr(":\" ,", found[strlen(name)]) != NULL;
}

void trace_print(const struct world *world, bool all) {
    const struct trace *trace = world->trace;
    int64_t request = world->about >= 0 && !all ? (int64_t)world->messages[world->about].plan->id : -1;
    size_t relevant = 0, seen = 0;
    for (size_t i = 0; i < trace->count; i++)
        relevant += concerns(&trace->lines[i], request);
    for (size_t i = 0; i < trace->count; i++)
        if (concerns(&trace->lines[i], request) && (relevant - seen++ <= PRINTED_MAX || all))
            (void)fprintf(stderr, "  %12.6f  %s\n", (double)trace->lines[i].at / 1e6, trace->lines[i].text);
}

void trace_free(struct world *world) {
    if (!world->trace)
        return;
    for (size_t i = 0; i < world->trace->count; i++)
        free(world->trace->lines[i].text);
    free(world->trace->lines);
    free(world->trace);
}
