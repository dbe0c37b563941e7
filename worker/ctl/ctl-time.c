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

void ctl_format_time(char text[static CTL_TIME_SIZE], uint64_t time, bool milliseconds) {
    time_t seconds = (time_t)(time / 1000000);
    struct tm tm;
    char day[24];
    if (!gmtime_r(&seconds, &tm) || strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &tm) == 0)
        (void)snprintf(text, CTL_TIME_SIZE, "?"); /* a year of five digits */
    else if (milliseconds)
        (void)snprintf(text, CTL_TIME_SIZE, "%s.%03uZ", day, (unsigned)(time / 1000 % 1000));
    else
        (void)snprintf(text, CTL_TIME_SIZE, "%sZ", day);
}

void ctl_format_span(char text[static CTL_TIME_SIZE], uint64_t seconds) {
    static const struct {
        uint64_t from, unit;
        const char *name;
    } units[] = {{172800, 86400, "d"}, {7200, 3600, "h"}, {120, 60, "min"}, {0, 1, "s"}};
    size_t i = 0;
    while (seconds < units[i].from)
        i++;
    (void)snprintf(text, CTL_TIME_SIZE, "%" PRIu64 " %s", seconds / units[i].unit, units[i].name);
}
