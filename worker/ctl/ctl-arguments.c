/* ctl-arguments.c — reads the arguments of options: numbers, spans of time, times. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "portalctl.h"

/* Digits only, at most `most`. */
static bool read_digits(const char *text, size_t length, uint64_t most, uint64_t *ret) {
    uint64_t number = 0;
    for (size_t i = 0; i < length; i++) {
        uint64_t digit = (uint64_t)(text[i] - '0');
        if (text[i] < '0' || text[i] > '9' || number > (most - digit) / 10)
            return false;
        number = number * 10 + digit;
    }
    *ret = number;
    return length > 0;
}

int ctl_read_number(const char *title, const char *option, const char *text, uint64_t least, uint64_t most,
                    uint64_t *ret) {
    uint64_t number = 0;
    if (!read_digits(text, strlen(text), most, &number) || number < least)
        return ctl_misused(title, "%s \"%s\": has to be a whole number from %" PRIu64 " to %" PRIu64, option, text,
                           least, most);
    *ret = number;
    return 0;
}

static bool read_duration(const char *text, uint64_t *ret) {
    static const uint64_t year = 366 * 86400ULL;
    size_t length = strlen(text);
    uint64_t unit = 1;
    if (length > 0) {
        char last = text[length - 1];
        unit = last == 'm' ? 60 : last == 'h' ? 3600 : last == 'd' ? 86400 : 1;
        length -= last == 's' || last == 'm' || last == 'h' || last == 'd';
    }
    if (!read_digits(text, length, 100 * year / unit, ret))
        return false;
    *ret *= unit;
    return true;
}

int ctl_read_duration(const char *title, const char *option, const char *text, uint64_t *ret) {
    if (read_duration(text, ret))
        return 0;
    return ctl_misused(title, "%s \"%s\": has to be a span of time: 90s, 15m, 2h, 7d", option, text);
}

int ctl_read_deadline(const char *title, const char *text, uint64_t *ret) {
    if (strcmp(text, "none") != 0)
        return ctl_read_duration(title, "--deadline", text, ret);
    *ret = 0;
    return 0;
}

int ctl_read_time(const char *title, const char *option, const char *text, uint64_t *ret) {
    uint64_t seconds = 0;
    uint64_t now = ctl_wall();
    if (read_duration(text, &seconds)) {
        *ret = seconds * 1000000 < now ? now - seconds * 1000000 : 0;
        return 0;
    }
    if (timestamp_parse(text, ret) == 0)
        return 0;
    return ctl_misused(title,
                       "%s \"%s\": has to be a time such as 2026-01-31T12:00:00Z, or how long ago: 90s, 15m, 2h, 7d",
                       option, text);
}

int ctl_read_rate(const char *title, const char *option, const char *text, double *ret) {
    char *end = NULL;
    double rate = strtod(text, &end);
    if (end != text && *end == '\0' && isfinite(rate) && rate >= 0 && rate <= 1e6) {
        *ret = rate;
        return 0;
    }
    return ctl_misused(title, "%s \"%s\": has to be a number of requests a second; 0: as fast as it goes", option,
                       text);
}

int ctl_no_more(int argc, char **argv) {
    if (optind >= argc)
        return 0;
    return ctl_misused(argv[0], "\"%s\" is one word too many", argv[optind]);
}
