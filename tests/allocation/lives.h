/* lives.h — the lives of requests that are lived with too little memory. */
#pragma once

#include <stddef.h>

#include "../simulation/scenario.h"

/* A small world with one worker. `prepare` changes what is usual; `sendings` ends with an `at` of 0. */
struct life {
    const char *name;
    void (*prepare)(struct scenario *scenario);
    struct sending sendings[6];
    struct fault faults[3];
};

extern const struct life lives[];
extern const size_t lives_count;

/* Result: the scenario, which borrows from nobody; freed with scenario_free(). */
void life_scenario(const struct life *life, struct scenario *scenario);
