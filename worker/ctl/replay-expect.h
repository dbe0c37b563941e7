/* replay-expect.h — compares a reply with what a line of a replay file expects. */
#pragma once

#include <jansson.h>

#include "portal/text.h"

/* Appends, separated by "; ", how `actual` differs from what was expected: objects field by field, and a text that
 * begins with "~" is a regular expression (POSIX, extended) that has to match the whole text. `actual` NULL: absent. */
void replay_differences(const json_t *expected, const json_t *actual, const char *where, struct text *found);
