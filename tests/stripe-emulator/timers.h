/* Requests that wait, without a thread that waits with them: their connections are suspended. */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct request;

struct timer {
    int64_t due; /* of CLOCK_MONOTONIC, nanoseconds */
    struct request *request;
};

struct timers {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t thread;
    bool ending;
    struct timer *heap; /* the earliest first */
    size_t count;
    size_t capacity;
    struct request **held; /* those that hang */
    size_t held_count;
    size_t held_capacity;
    void (*fire)(void *context, struct request *request);
    void *context;
};

/* `fire` is called from the timers' thread for each request whose time has come; its connection then goes on, unless
 * the answer is to hang. Ends the program where there is no thread to be had. */
void timers_begin(struct timers *timers, void (*fire)(void *context, struct request *request), void *context);

/* Suspends the request's connection for `delay` milliseconds, or until timers_release. Once timers_end was called,
 * false: nothing was suspended. */
bool timers_delay(struct timers *timers, struct request *request, double delay);
bool timers_hold(struct timers *timers, struct request *request);

/* Lets those that hang go on, to a reset. */
void timers_release(struct timers *timers);

/* Lets all go on, to a reset, and ends the thread; then frees what is left. */
void timers_end(struct timers *timers);
void timers_done(struct timers *timers);
