/* timers.h — what is due when: a pairing heap of timers that live inside their owners, so that setting one never fails.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* {.fire = …} is an unset one. */
struct timer {
    uint64_t at; /* microseconds, monotonic */
    void (*fire)(struct timer *timer);
    bool set;
    struct timer *child, *sibling, *previous; /* previous: the left sibling, or the parent of a first child */
};

struct timers {
    struct timer *root;
};

/* Sets it to `at`, also where it is set already. */
void timers_set(struct timers *timers, struct timer *timer, uint64_t at);
void timers_unset(struct timers *timers, struct timer *timer);

/* When the next is due; UINT64_MAX: none. */
uint64_t timers_next(const struct timers *timers);

/* Fires all that are due at `now`, in order. None may be set again to a time that is past. */
void timers_run(struct timers *timers, uint64_t now);
