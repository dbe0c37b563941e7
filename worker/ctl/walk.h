/* walk.h — goes through what lies in a queue when it begins, without taking it: what is not settled goes back, in its
 * order, when the connection closes. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "wire.h"

struct walk {
    struct wire *wire;
    const char *queue;
    uint32_t left; /* messages still to come */
    uint32_t held; /* that came and are not settled */
    uint32_t room; /* that the consumers so far may hold */
    unsigned consumers;
    uint64_t quiet_since; /* monotonic: nothing has come since */
};

/* Begins; the wire is open. Result: 0; -ENOENT: there is no such queue; -EPIPE. */
int walk_begin(struct walk *walk, struct wire *wire, const char *queue);

/* The next message, within so many milliseconds. Result: 1 with wire->message; 0: that was all; -EAGAIN: none yet;
 * -ECANCELED: stopped; -EPIPE. */
int walk_next(struct walk *walk, unsigned milliseconds);

/* Takes a message away for good: 0 or -EPIPE. */
int walk_take(struct walk *walk, uint64_t tag);
