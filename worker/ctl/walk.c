/* walk.c — goes through a queue. */
#include "walk.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "portalctl.h"

enum { PREFETCH = 500, QUIET_US = 2000000 };

/* One more consumer once those before hold as much as they may: so what is on its way stays bounded, and the order is
 * kept. */
static int widen(struct walk *walk) {
    char name[32];
    if (walk->left == 0 || walk->held < walk->room)
        return 0;
    (void)snprintf(name, sizeof name, "portalctl-%u", ++walk->consumers);
    walk->room += PREFETCH;
    return wire_consume(walk->wire, walk->queue, name, PREFETCH);
}

int walk_begin(struct walk *walk, struct wire *wire, const char *queue) {
    uint32_t consumers = 0;
    *walk = (struct walk){.wire = wire, .queue = queue, .quiet_since = ctl_monotonic()};
    int r = wire_count(wire, queue, &walk->left, &consumers);
    return r < 0 ? r : widen(walk);
}

/* Another who looks into the queue holds what was counted, or has taken it. */
static bool is_over(struct walk *walk) {
    uint32_t ready = 0;
    uint32_t consumers = 0;
    if (ctl_monotonic() - walk->quiet_since < QUIET_US)
        return false;
    walk->quiet_since = ctl_monotonic();
    if (wire_count(walk->wire, walk->queue, &ready, &consumers) < 0 || ready > 0)
        return false;
    (void)ctl_complain(0, NULL, "%u of the messages in %s are held or were taken by somebody else", walk->left,
                       walk->queue);
    walk->left = 0;
    return true;
}

int walk_next(struct walk *walk, unsigned milliseconds) {
    if (walk->left == 0)
        return 0;
    switch (wire_wait(walk->wire, milliseconds)) {
    case WIRE_MESSAGE:
        walk->left--;
        walk->held++;
        walk->quiet_since = ctl_monotonic();
        return widen(walk) < 0 ? -EPIPE : 1;
    case WIRE_STOPPED:
        return -ECANCELED;
    case WIRE_LOST:
        return -EPIPE;
    default:
        if (is_over(walk))
            return 0;
        return walk->wire->amqp ? -EAGAIN : -EPIPE;
    }
}

int walk_take(struct walk *walk, uint64_t tag) {
    walk->held--;
    return wire_acknowledge(walk->wire, tag);
}
