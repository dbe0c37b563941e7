/* timers.c — what is due when: a pairing heap (Fredman, Sedgewick, Sleator, Tarjan 1986). */
#include "timers.h"

#include <stddef.h>

/* Two heaps become one; either may be NULL. */
static struct timer *meld(struct timer *a, struct timer *b) {
    if (!a || !b)
        return a ? a : b;
    if (b->at < a->at) {
        struct timer *swap = a;
        a = b;
        b = swap;
    }
    b->previous = a;
    b->sibling = a->child;
    if (b->sibling)
        b->sibling->previous = b;
    a->child = b;
    a->sibling = NULL;
    a->previous = NULL;
    return a;
}

/* The children of a removed timer become one heap: pairs from the left, then all from the right. */
static struct timer *meld_siblings(struct timer *first) {
    struct timer *pairs = NULL;
    while (first) {
        struct timer *a = first, *b = first->sibling;
        first = b ? b->sibling : NULL;
        a->sibling = a->previous = NULL;
        if (b)
            b->sibling = b->previous = NULL;
        a = meld(a, b);
        a->sibling = pairs;
        pairs = a;
    }
    struct timer *root = NULL;
    while (pairs) {
        struct timer *next = pairs->sibling;
        pairs->sibling = NULL;
        root = meld(root, pairs);
        pairs = next;
    }
    return root;
}

void timers_unset(struct timers *timers, struct timer *timer) {
    if (!timer->set)
        return;
    struct timer *rest = meld_siblings(timer->child);
    if (timer == timers->root)
        timers->root = rest;
    else {
        if (timer->previous->child == timer)
            timer->previous->child = timer->sibling;
        else
            timer->previous->sibling = timer->sibling;
        if (timer->sibling)
            timer->sibling->previous = timer->previous;
        timers->root = meld(timers->root, rest);
    }
    timer->child = timer->sibling = timer->previous = NULL;
    timer->set = false;
}

void timers_set(struct timers *timers, struct timer *timer, uint64_t at) {
    timers_unset(timers, timer);
    timer->at = at;
    timer->set = true;
    timers->root = meld(timers->root, timer);
}

uint64_t timers_next(const struct timers *timers) {
    return timers->root ? timers->root->at : UINT64_MAX;
}

void timers_run(struct timers *timers, uint64_t now) {
    while (timers->root && timers->root->at <= now) {
        struct timer *timer = timers->root;
        timers_unset(timers, timer);
        timer->fire(timer); /* which may free its owner, and the timer with it */
    }
}
