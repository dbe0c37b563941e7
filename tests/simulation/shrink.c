/* shrink.c — leaves out messages and faults for as long as the same promise stays broken. */
#include "shrink.h"

#include <stdio.h>
#include <string.h>

static bool still_broken(const struct scenario *scenario, const char *promise) {
    struct statistics statistics = {0};
    struct outcome_of_world outcome;
    world_run(scenario, TRACING_NONE, &statistics, &outcome);
    return outcome.violated && strcmp(outcome.promise, promise) == 0;
}

static void drop_sendings(struct scenario *scenario, unsigned from, unsigned to, bool dropped, bool *before) {
    for (unsigned i = from; i < to; i++) {
        if (dropped)
            before[i - from] = scenario->sendings[i].dropped;
        scenario->sendings[i].dropped = dropped || before[i - from];
    }
}

static void drop_faults(struct scenario *scenario, unsigned from, unsigned to, bool dropped, bool *before) {
    for (unsigned i = from; i < to; i++) {
        if (dropped)
            before[i - from] = scenario->faults[i].dropped;
        scenario->faults[i].dropped = dropped || before[i - from];
    }
}

typedef void drop_function(struct scenario *scenario, unsigned from, unsigned to, bool dropped, bool *before);

/* Zeller's delta debugging, in its simplest form: halves, quarters, … single ones. */
static void reduce(struct scenario *scenario, const char *promise, unsigned count, drop_function *drop) {
    bool before[SHRINK_MAX];
    if (count > SHRINK_MAX)
        return;
    for (unsigned chunk = count; chunk > 0; chunk /= 2)
        for (unsigned from = 0; from < count; from += chunk) {
            unsigned to = from + chunk < count ? from + chunk : count;
            drop(scenario, from, to, true, before);
            if (!still_broken(scenario, promise))
                drop(scenario, from, to, false, before);
        }
}

void shrink(struct scenario *scenario, const char *promise) {
    for (int round = 0; round < 2; round++) {
        reduce(scenario, promise, scenario->fault_count, drop_faults);
        reduce(scenario, promise, scenario->sending_count, drop_sendings);
    }
    unsigned messages = 0, faults = 0;
    for (unsigned i = 0; i < scenario->sending_count; i++)
        messages += !scenario->sendings[i].dropped;
    for (unsigned i = 0; i < scenario->fault_count; i++)
        faults += !scenario->faults[i].dropped;
    (void)fprintf(stderr, "shrunk to %u of %u messages and %u of %u faults\n", messages, scenario->sending_count,
                  faults, scenario->fault_count);
}
