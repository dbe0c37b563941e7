/* progress.h — how far something has come: a bar on a terminal, now and then a plain line elsewhere. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* On standard error. */
struct progress {
    bool terminal;
    bool shown;                   /* the bar stands in the terminal's last line */
    uint64_t total;               /* 0: nobody knows */
    uint64_t started_at, next_at; /* monotonic microseconds */
    uint64_t before, before_at;   /* for the rate of late */
    double rate;
};

void progress_begin(struct progress *progress, uint64_t total);

/* Says so many are done, where it is time to. */
void progress_show(struct progress *progress, uint64_t done);

/* Takes the bar away, so that something else can be printed. */
void progress_clear(struct progress *progress);
