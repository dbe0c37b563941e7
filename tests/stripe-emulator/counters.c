/* Totals to assert on. */
#include "counters.h"

#include <stdio.h>
#include <string.h>

void counters_begin(struct counters *counters) {
    *counters = (struct counters){.errors = json_object()};
}

void counters_done(struct counters *counters) {
    json_decref(counters->errors);
    counters->errors = NULL;
}

void counters_arrived(struct counters *counters, unsigned endpoint, double now) {
    int64_t second = (int64_t)now;
    struct counter_second *slot = &counters->seconds[second % COUNTERS_SECONDS];

    if (slot->second != second) {
        *slot = (struct counter_second){.second = second};
    }
    slot->calls[endpoint]++;
    counters->calls++;
}

void counters_answered(struct counters *counters, unsigned endpoint, const struct answer *answer, bool by_fault) {
    unsigned status = answer->transport == ANSWER_RESET || answer->transport == ANSWER_HANG ? 0 : answer->status;

    counters->statuses[endpoint][status < COUNTERS_STATUSES ? status : 0]++;
    counters->replays += answer->replayed;
    counters->faults += by_fault;
    counters->refused += !by_fault && status >= 400 && status < 500;
    if (answer->code[0] && status != 0) {
        const json_t *old = json_object_get(counters->errors, answer->code);

        if (old || json_object_size(counters->errors) < COUNTERS_ERROR_CODES) {
            json_object_set_new(counters->errors, answer->code, json_integer(json_integer_value(old) + 1));
        }
    }
}

static json_t *counters_endpoints(const struct counters *counters) {
    json_t *endpoints = json_object();

    for (unsigned endpoint = 0; endpoint <= ENDPOINT_OTHER; endpoint++) {
        json_t *statuses = json_object();

        for (unsigned status = 0; status < COUNTERS_STATUSES; status++) {
            char key[16];

            (void)snprintf(key, sizeof key, status ? "%u" : "none", status);
            if (counters->statuses[endpoint][status]) {
                json_object_set_new(statuses, key, json_integer((json_int_t)counters->statuses[endpoint][status]));
            }
        }
        if (json_object_size(statuses) > 0) {
            json_object_set(endpoints, endpoint_name(endpoint), statuses);
        }
        json_decref(statuses);
    }
    return endpoints;
}

static json_t *counters_seconds(const struct counters *counters) {
    json_t *seconds = json_object();

    for (size_t i = 0; i < COUNTERS_SECONDS; i++) {
        const struct counter_second *slot = &counters->seconds[i];
        json_t *calls = json_object();
        char key[24];

        for (unsigned endpoint = 0; endpoint <= ENDPOINT_OTHER; endpoint++) {
            if (slot->calls[endpoint]) {
                json_object_set_new(calls, endpoint_name(endpoint), json_integer(slot->calls[endpoint]));
            }
        }
        (void)snprintf(key, sizeof key, "%lld", (long long)slot->second);
        if (json_object_size(calls) > 0) {
            json_object_set(seconds, key, calls);
        }
        json_decref(calls);
    }
    return seconds;
}

json_t *counters_show(const struct counters *counters, const struct connection_counters *connections) {
    return json_pack("{s:I, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:{s:I, s:I, s:I}, s:o}", "calls",
                     (json_int_t)counters->calls, "endpoints", counters_endpoints(counters), "sessions_made",
                     (json_int_t)counters->sessions_made, "configurations_made",
                     (json_int_t)counters->configurations_made, "configurations_updated",
                     (json_int_t)counters->configurations_updated, "idempotency_keys", (json_int_t)counters->keys,
                     "idempotency_keys_with_effect", (json_int_t)counters->keys_with_effect, "replays",
                     (json_int_t)counters->replays, "refused", (json_int_t)counters->refused, "faults",
                     (json_int_t)counters->faults, "errors", json_deep_copy(counters->errors), "connections", "now",
                     (json_int_t)atomic_load(&connections->now), "peak", (json_int_t)atomic_load(&connections->peak),
                     "total", (json_int_t)atomic_load(&connections->total), "seconds", counters_seconds(counters));
}
