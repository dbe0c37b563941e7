/* ctl-time.c — clocks, and times for people. */
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "portalctl.h"

static uint64_t microseconds(clockid_t clock) {
    struct timespec now;
    if (clock_gettime(clock, &now) < 0)
        return 0; /* it has no way to fail on Linux */
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

uint64_t ctl_monotonic(void) {
    return microseconds(CLOCK_MONOTONIC);
}

uint64_t ctl_wall(void) {
    return microseconds(CLOCK_REALTIME);
}

void ctl_format_deadline(char text[static TIMESTAMP_SIZE], uint64_t seconds) {
    if (seconds > 0)
        timestamp_format(text, ctl_wall() + seconds * 1000000, true);
    else
        (void)snprintf(text, TIMESTAMP_SIZE, "none");
}

void ctl_format_span(char text[static CTL_SPAN_SIZE], uint64_t seconds) {
    static const struct {
        uint64_t from, unit;
        const char *name;
    } units[] = {{172800, 86400, "d"}, {7200, 3600, "h"}, {120, 60, "min"}, {0, 1, "s"}};
    size_t i = 0;
    while (seconds < units[i].from)
        i++;
    (void)snprintf(text, CTL_SPAN_SIZE, "%" PRIu64 " %s", seconds / units[i].unit, units[i].name);
}
