/* shrink.h — makes a scenario that breaks a promise as small as it can. */
#pragma once

#include "world.h"

enum { SHRINK_MAX = 65536 }; /* messages or faults of a scenario that is shrunk */

/* Marks as dropped what is not needed to break the same promise. */
void shrink(struct scenario *scenario, const char *promise);
