/* clock.h — virtual time: alarms that live inside their owners, rung in order. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct alarm {
    uint64_t at; /* microseconds since the world began */
    uint64_t order;
    size_t place; /* in the heap, from 1; 0: not set */
    void (*ring)(struct alarm *alarm);
};

struct clock {
    uint64_t now;
    uint64_t order;
    struct alarm **heap;
    size_t count, size;
};

#define OWNER(pointer, type, member) ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

/* Sets it to `at`, also where it is set already; what is set for the same time rings in the order it was set. */
void alarm_set(struct clock *clock, struct alarm *alarm, uint64_t at, void (*ring)(struct alarm *));
void alarm_unset(struct clock *clock, struct alarm *alarm);

/* Rings the next one, time moving on to it. Result: 0 where none is set. */
int clock_step(struct clock *clock);
void clock_free(struct clock *clock);
