/* clock.c — virtual time: a binary heap of alarms. */
#include "clock.h"

#include <stdio.h>
#include <stdlib.h>

static int is_before(const struct alarm *a, const struct alarm *b) {
    return a->at < b->at || (a->at == b->at && a->order < b->order);
}

static void put(struct clock *clock, struct alarm *alarm, size_t place) {
    clock->heap[place] = alarm;
    alarm->place = place;
}

static void rise(struct clock *clock, struct alarm *alarm, size_t place) {
    for (; place > 1 && is_before(alarm, clock->heap[place / 2]); place /= 2)
        put(clock, clock->heap[place / 2], place);
    put(clock, alarm, place);
}

static void sink(struct clock *clock, struct alarm *alarm, size_t place) {
    for (size_t child; (child = 2 * place) <= clock->count; place = child) {
        if (child < clock->count && is_before(clock->heap[child + 1], clock->heap[child]))
            child++;
        if (!is_before(clock->heap[child], alarm))
            break;
        put(clock, clock->heap[child], place);
    }
    put(clock, alarm, place);
}

void alarm_unset(struct clock *clock, struct alarm *alarm) {
    if (alarm->place == 0)
        return;
    struct alarm *last = clock->heap[clock->count--];
    if (last != alarm) {
        size_t place = alarm->place;
        rise(clock, last, place);
        sink(clock, last, last->place);
    }
    alarm->place = 0;
}

void alarm_set(struct clock *clock, struct alarm *alarm, uint64_t at, void (*ring)(struct alarm *)) {
    alarm_unset(clock, alarm);
    if (clock->count + 1 >= clock->size) {
        clock->size = clock->size > 0 ? 2 * clock->size : 256;
        clock->heap = realloc(clock->heap, clock->size * sizeof(struct alarm *));
        if (!clock->heap)
            abort();
    }
    alarm->at = at > clock->now ? at : clock->now;
    alarm->order = clock->order++;
    alarm->ring = ring;
    rise(clock, alarm, ++clock->count);
}

int clock_step(struct clock *clock) {
    if (clock->count == 0)
        return 0;
    struct alarm *alarm = clock->heap[1];
    alarm_unset(clock, alarm);
    clock->now = alarm->at;
    alarm->ring(alarm);
    return 1;
}

void clock_free(struct clock *clock) {
    free(clock->heap);
    *clock = (struct clock){0};
}
