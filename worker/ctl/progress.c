/* progress.c — how far something has come. */
#include "progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "portalctl.h"

enum { BAR_US = 200000, LINE_US = 10000000, WIDTH = 30 };

void progress_begin(struct progress *progress, uint64_t total) {
    const char *terminal = getenv("TERM");
    uint64_t now = ctl_monotonic();
    *progress = (struct progress){.terminal = isatty(STDERR_FILENO) && terminal && strcmp(terminal, "dumb") != 0,
                                  .total = total,
                                  .started_at = now,
                                  .before_at = now};
    progress->next_at = now + (progress->terminal ? BAR_US : LINE_US);
}

void progress_clear(struct progress *progress) {
    if (progress->shown)
        fputs("\r\033[K", stderr);
    progress->shown = false;
}

/* Of late, so that a pause shows; a little smoothed, so that it can be read. */
static void measure(struct progress *progress, uint64_t done, uint64_t now) {
    double late = (double)(done - progress->before) * 1e6 / (double)(now - progress->before_at);
    progress->rate = progress->before == 0 ? late : 0.7 * progress->rate + 0.3 * late;
    progress->before = done;
    progress->before_at = now;
}

static void print_bar(const struct progress *progress, uint64_t done) {
    unsigned filled = (unsigned)(done * WIDTH / progress->total);
    fputs("\r\033[K[", stderr);
    for (unsigned i = 0; i < WIDTH; i++)
        fputc(i < filled ? '#' : '.', stderr);
    fputs("] ", stderr);
}

void progress_show(struct progress *progress, uint64_t done) {
    char left[CTL_SPAN_SIZE] = "?";
    uint64_t now = ctl_monotonic();
    if (now < progress->next_at || done == 0)
        return;
    progress->next_at = now + (progress->terminal ? BAR_US : LINE_US);
    measure(progress, done, now);
    if (progress->terminal && progress->total > 0)
        print_bar(progress, done);
    else if (progress->terminal)
        fputs("\r\033[K", stderr);
    else
        fputs("portalctl: ", stderr);
    fprintf(stderr, "%" PRIu64, done);
    if (progress->total > 0)
        fprintf(stderr, " of %" PRIu64, progress->total);
    fprintf(stderr, ", %.0f/s", progress->rate);
    if (progress->rate > 0 && progress->total > done) {
        ctl_format_span(left, (uint64_t)((double)(progress->total - done) / progress->rate));
        fprintf(stderr, ", %s left", left);
    }
    if (!progress->terminal)
        fputc('\n', stderr);
    progress->shown = progress->terminal;
    (void)fflush(stderr);
}
