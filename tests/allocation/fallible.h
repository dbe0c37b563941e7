/* fallible.h — memory that can run out when a test wants it to, for the core and for jansson at the core's bidding. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* From now on counts allocations, from 1: number `first` fails, and `many` in a row. */
void fallible_begin(uint64_t first, uint64_t many);

/* Allocations are neither counted nor fail any more. Result: how many there were. */
uint64_t fallible_end(void);

/* For a while they succeed uncounted. */
void fallible_pause(bool pause);

/* How many have failed since fallible_begin(). */
uint64_t fallible_failures(void);

/* Has jansson allocate here as well. */
void fallible_adopt_json(void);
