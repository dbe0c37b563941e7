/* timestamp.h — times as RFC 3339 writes them. */
#pragma once

#include <stdint.h>

/* The last second that RFC 3339 can write: 9999-12-31T23:59:59Z. */
#define TIMESTAMP_MAX_SECONDS 253402300799

/* Reads an RFC 3339 §5.6 date-time from 1970 on into microseconds since then. Result: 0, or -EINVAL. */
int timestamp_parse(const char *string, uint64_t *ret);
