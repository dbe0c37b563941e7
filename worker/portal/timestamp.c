/* timestamp.c — times as RFC 3339 writes them. */
#include "portal/timestamp.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

/* Reads exactly `digits` digits and, unless it is NUL, the character that has to follow. */
static bool field(const char **cursor, unsigned digits, char after, int *ret) {
    int value = 0;
    for (; digits > 0; digits--, (*cursor)++) {
        if (**cursor < '0' || **cursor > '9')
            return false;
        value = value * 10 + (**cursor - '0');
    }
    if (after != '\0' && *(*cursor)++ != after)
        return false;
    *ret = value;
    return true;
}

static bool fraction(const char **cursor, uint64_t *microseconds) {
    *microseconds = 0;
    if (**cursor != '.')
        return true;
    uint64_t unit = 100000;
    const char *first = ++(*cursor);
    for (; **cursor >= '0' && **cursor <= '9'; (*cursor)++, unit /= 10)
        *microseconds += (uint64_t)(**cursor - '0') * unit;
    return *cursor > first;
}

/* Seconds east of UTC. */
static bool zone(const char **cursor, int *offset) {
    char sign = *(*cursor)++;
    *offset = 0;
    if (sign == 'Z' || sign == 'z')
        return true;
    int hours, minutes;
    if (sign != '+' && sign != '-')
        return false;
    if (!field(cursor, 2, ':', &hours) || !field(cursor, 2, '\0', &minutes) || hours > 23 || minutes > 59)
        return false;
    *offset = (hours * 60 + minutes) * 60 * (sign == '-' ? -1 : 1);
    return true;
}

int timestamp_parse(const char *string, uint64_t *ret) {
    struct tm tm = {0};
    uint64_t microseconds;
    int offset;

    if (!field(&string, 4, '-', &tm.tm_year) || !field(&string, 2, '-', &tm.tm_mon) ||
        !field(&string, 2, '\0', &tm.tm_mday))
        return -EINVAL;
    char separator = *string++;
    if (separator != 'T' && separator != 't' && separator != ' ')
        return -EINVAL;
    if (!field(&string, 2, ':', &tm.tm_hour) || !field(&string, 2, ':', &tm.tm_min) ||
        !field(&string, 2, '\0', &tm.tm_sec) || !fraction(&string, &microseconds) || !zone(&string, &offset) ||
        *string != '\0')
        return -EINVAL;

    /* 60 is a leap second, which POSIX time counts as the next one. */
    if (tm.tm_mon < 1 || tm.tm_mon > 12 || tm.tm_mday < 1 || tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 60)
        return -EINVAL;
    int day = tm.tm_mday;
    bool leap = tm.tm_sec == 60;
    tm.tm_sec -= leap;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    time_t seconds = timegm(&tm); /* normalises: 30 February becomes another day */
    if (tm.tm_mday != day)
        return -EINVAL;
    seconds += leap - offset;
    if (seconds < 0)
        return -EINVAL;
    *ret = (uint64_t)seconds * 1000000 + microseconds;
    return 0;
}

void timestamp_format(char text[static TIMESTAMP_SIZE], uint64_t microseconds, bool milliseconds) {
    time_t seconds = (time_t)(microseconds / 1000000);
    struct tm tm;
    char day[24];
    if (microseconds / 1000000 > TIMESTAMP_MAX_SECONDS || !gmtime_r(&seconds, &tm) ||
        strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &tm) == 0)
        (void)snprintf(text, TIMESTAMP_SIZE, "?");
    else if (milliseconds)
        (void)snprintf(text, TIMESTAMP_SIZE, "%s.%03uZ", day, (unsigned)(microseconds / 1000 % 1000));
    else
        (void)snprintf(text, TIMESTAMP_SIZE, "%sZ", day);
}
