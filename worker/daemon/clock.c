/* clock.c — real time and chance for the core, and its turns: at a time, or once all that is ready has been heard. */
#include "clock.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

enum { TIMER_ACCURACY_US = 1000 };

struct clock {
    struct portal *portal;
    sd_event_source *timer;
    sd_event_source *turn;
    uint64_t wanted; /* when the core wants to be woken */
    uint64_t armed;  /* when the timer rings; never later than wanted */
    uint64_t seed;
};

static uint64_t microseconds(clockid_t id) {
    struct timespec now;
    (void)clock_gettime(id, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

uint64_t clock_monotonic(void) {
    return microseconds(CLOCK_MONOTONIC);
}

uint64_t clock_wall(void) {
    return microseconds(CLOCK_REALTIME);
}

/* xorshift64*, Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled" (2016). */
uint64_t clock_random(struct clock *clock) {
    clock->seed ^= clock->seed >> 12;
    clock->seed ^= clock->seed << 25;
    clock->seed ^= clock->seed >> 27;
    return clock->seed * UINT64_C(2685821657736338717);
}

static int arm(struct clock *clock) {
    clock->armed = clock->wanted;
    if (clock->wanted == UINT64_MAX)
        return 0; /* ONESHOT: it is off */
    int r = sd_event_source_set_time(clock->timer, clock->wanted);
    return r < 0 ? r : sd_event_source_set_enabled(clock->timer, SD_EVENT_ONESHOT);
}

static int on_timer(sd_event_source *source, uint64_t time, void *userdata) {
    (void)source;
    (void)time;
    struct clock *clock = userdata;
    clock->armed = UINT64_MAX;
    if (clock_monotonic() < clock->wanted)
        return arm(clock);
    clock->wanted = UINT64_MAX;
    if (clock->portal)
        portal_wake(clock->portal);
    return 0;
}

/* The core puts its next time off with every answer. The timer is left to ring once too often instead of being set
 * anew each time, which is a system call. */
void clock_wake_at(struct clock *clock, uint64_t when) {
    clock->wanted = when;
    if (when >= clock->armed)
        return;
    int r = arm(clock);
    assert(r >= 0); /* no I/O happens before the loop's next turn */
    (void)r;
}

static int on_turn(sd_event_source *source, void *userdata) {
    (void)source;
    struct clock *clock = userdata;
    if (clock->portal)
        portal_wake(clock->portal);
    return 0;
}

void clock_soon(struct clock *clock) {
    int r = sd_event_source_set_enabled(clock->turn, SD_EVENT_ONESHOT);
    assert(r >= 0); /* likewise */
    (void)r;
}

/* Idle, so that everything that is ready is heard first: that is what fills the core's batches. */
static int add_turn(struct clock *clock, sd_event *event) {
    int r = sd_event_add_defer(event, &clock->turn, on_turn, clock);
    if (r >= 0)
        r = sd_event_source_set_priority(clock->turn, SD_EVENT_PRIORITY_IDLE);
    return r < 0 ? r : sd_event_source_set_enabled(clock->turn, SD_EVENT_OFF);
}

static int add_timer(struct clock *clock, sd_event *event) {
    int r = sd_event_add_time(event, &clock->timer, CLOCK_MONOTONIC, UINT64_MAX, TIMER_ACCURACY_US, on_timer, clock);
    return r < 0 ? r : sd_event_source_set_enabled(clock->timer, SD_EVENT_OFF);
}

int clock_new(sd_event *event, struct clock **ret) {
    assert(event);
    assert(ret);

    struct clock *clock = calloc(1, sizeof *clock);
    if (!clock)
        return -ENOMEM;
    clock->wanted = clock->armed = UINT64_MAX;
    if (getrandom(&clock->seed, sizeof clock->seed, 0) != (ssize_t)sizeof clock->seed || clock->seed == 0)
        clock->seed = clock_wall() | 1;
    int r = add_timer(clock, event);
    if (r >= 0)
        r = add_turn(clock, event);
    if (r < 0) {
        clock_free(clock);
        return r;
    }
    *ret = clock;
    return 0;
}

void clock_free(struct clock *clock) {
    if (!clock)
        return;
    (void)sd_event_source_disable_unref(clock->timer);
    (void)sd_event_source_disable_unref(clock->turn);
    free(clock);
}

void clock_set_portal(struct clock *clock, struct portal *portal) {
    assert(clock);

    clock->portal = portal;
}
