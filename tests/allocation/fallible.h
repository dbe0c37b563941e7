/* fallible.h — memory that can run out when a test wants it to, for the core and for jansson at the core's bidding. */
#pragma once

#include <stdint.h>

/* From now on counts allocations; those from number `first` on fail, `many` in a row (0: none). `until` they are made:
 * UINT64_MAX in `first` fails none. */
void fallible_begin(uint64_t first, uint64_t many);

/* Allocations are neither counted nor fail any more. Result: how many there were. */
uint64_t fallible_end(void);

/* Whether one has failed since fallible_begin(). */
uint64_t fallible_failures(void);

/* Has jansson allocate here as well. */
void fallible_adopt_json(void);
