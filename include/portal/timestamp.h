/* timestamp.h — times as RFC 3339 writes them. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* The last second that RFC 3339 can write: 9999-12-31T23:59:59Z. */
#define TIMESTAMP_MAX_SECONDS 253402300799

/* Reads an RFC 3339 §5.6 date-time from 1970 on into microseconds since then. Result: 0, or -EINVAL. */
int timestamp_parse(const char *string, uint64_t *ret);

enum { TIMESTAMP_SIZE = 32 };

/* Writes microseconds since 1970 in UTC, to the second or, where `milliseconds`, to them; "?" for a year of five
 * digits. */
void timestamp_format(char text[static TIMESTAMP_SIZE], uint64_t microseconds, bool milliseconds);
