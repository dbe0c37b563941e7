/* Requests that wait, without a thread that waits with them. */
#include "timers.h"

#include "request.h"

#include <microhttpd.h>
#include <stdio.h>
#include <time.h>

static int64_t timers_now(void) {
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void timers_put(struct timers *timers, struct timer timer) {
    size_t at = timers->count++;

    if (timers->count > timers->capacity) {
        timers->capacity = timers->capacity ? timers->capacity * 2 : 64;
        timers->heap = memory_resize(timers->heap, timers->capacity * sizeof *timers->heap);
    }
    for (; at > 0 && timers->heap[(at - 1) / 2].due > timer.due; at = (at - 1) / 2) {
        timers->heap[at] = timers->heap[(at - 1) / 2];
    }
    timers->heap[at] = timer;
}

static struct timer timers_take(struct timers *timers) {
    struct timer first = timers->heap[0];
    struct timer last = timers->heap[--timers->count];
    size_t at = 0;

    for (;;) {
        size_t child = at * 2 + 1;

        if (child + 1 < timers->count && timers->heap[child + 1].due < timers->heap[child].due) {
            child++;
        }
        if (child >= timers->count || timers->heap[child].due >= last.due) {
            break;
        }
        timers->heap[at] = timers->heap[child];
        at = child;
    }
    timers->heap[at] = last;
    return first;
}

static void timers_keep(struct timers *timers, struct request *request) {
    if (timers->held_count == timers->held_capacity) {
        timers->held_capacity = timers->held_capacity ? timers->held_capacity * 2 : 64;
        timers->held = memory_resize(timers->held, timers->held_capacity * sizeof(struct request *));
    }
    timers->held[timers->held_count++] = request;
}

static void timers_reset(struct request *request) {
    request->phase = REQUEST_ANSWERED;
    request->answer.transport = ANSWER_RESET;
    MHD_resume_connection(request->connection);
}

/* Called with the lock held, which it gives up while the request is worked on. */
static void timers_fire(struct timers *timers, struct request *request) {
    (void)pthread_mutex_unlock(&timers->lock);
    timers->fire(timers->context, request);
    (void)pthread_mutex_lock(&timers->lock);
    if (request->answer.transport != ANSWER_HANG) {
        MHD_resume_connection(request->connection);
    } else if (timers->ending) {
        timers_reset(request);
    } else {
        timers_keep(timers, request);
    }
}

static void *timers_run(void *argument) {
    struct timers *timers = argument;

    (void)pthread_mutex_lock(&timers->lock);
    while (!timers->ending) {
        if (timers->count == 0) {
            (void)pthread_cond_wait(&timers->changed, &timers->lock);
        } else if (timers->heap[0].due > timers_now()) {
            int64_t due = timers->heap[0].due;
            struct timespec until = {.tv_sec = due / 1000000000, .tv_nsec = due % 1000000000};

            (void)pthread_cond_timedwait(&timers->changed, &timers->lock, &until);
        } else {
            timers_fire(timers, timers_take(timers).request);
        }
    }
    (void)pthread_mutex_unlock(&timers->lock);
    return NULL;
}

void timers_begin(struct timers *timers, void (*fire)(void *context, struct request *request), void *context) {
    pthread_condattr_t monotonic;

    *timers = (struct timers){.fire = fire, .context = context};
    if (pthread_mutex_init(&timers->lock, NULL) != 0 || pthread_condattr_init(&monotonic) != 0 ||
        pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC) != 0 ||
        pthread_cond_init(&timers->changed, &monotonic) != 0 ||
        pthread_create(&timers->thread, NULL, timers_run, timers) != 0) {
        (void)fputs("stripe-emulator: no thread for the timers\n", stderr);
        abort();
    }
    (void)pthread_condattr_destroy(&monotonic);
}

bool timers_delay(struct timers *timers, struct request *request, double delay) {
    (void)pthread_mutex_lock(&timers->lock);
    bool going = !timers->ending;

    if (going) {
        MHD_suspend_connection(request->connection);
        timers_put(timers, (struct timer){.due = timers_now() + (int64_t)(delay * 1e6), .request = request});
        (void)pthread_cond_signal(&timers->changed);
    }
    (void)pthread_mutex_unlock(&timers->lock);
    return going;
}

bool timers_hold(struct timers *timers, struct request *request) {
    (void)pthread_mutex_lock(&timers->lock);
    bool going = !timers->ending;

    if (going) {
        MHD_suspend_connection(request->connection);
        timers_keep(timers, request);
    }
    (void)pthread_mutex_unlock(&timers->lock);
    return going;
}

static void timers_release_held(struct timers *timers) {
    while (timers->held_count > 0) {
        timers_reset(timers->held[--timers->held_count]);
    }
}

void timers_release(struct timers *timers) {
    (void)pthread_mutex_lock(&timers->lock);
    timers_release_held(timers);
    (void)pthread_mutex_unlock(&timers->lock);
}

void timers_end(struct timers *timers) {
    (void)pthread_mutex_lock(&timers->lock);
    timers->ending = true;
    (void)pthread_cond_signal(&timers->changed);
    (void)pthread_mutex_unlock(&timers->lock);
    (void)pthread_join(timers->thread, NULL);
    while (timers->count > 0) {
        timers_reset(timers_take(timers).request);
    }
    timers_release_held(timers);
}

void timers_done(struct timers *timers) {
    free(timers->heap);
    free(timers->held);
    (void)pthread_cond_destroy(&timers->changed);
    (void)pthread_mutex_destroy(&timers->lock);
}
