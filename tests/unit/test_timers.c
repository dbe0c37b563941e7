/* test_timers.c — the heap of timers against a plain list, over many random orders. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../worker/portal/timers.h"

enum { TIMERS = 64, ROUNDS = 20000 };

struct owner {
    struct timer timer; /* first */
    unsigned fired;
};

static uint64_t last_fired;

static void fire(struct timer *timer) {
    struct owner *owner = (struct owner *)timer;
    assert_false(timer->set);
    assert_true(timer->at >= last_fired);
    last_fired = timer->at;
    owner->fired++;
}

static uint64_t next_random(uint64_t *state) {
    *state = *state * 6364136223846793005U + 1442695040888963407U;
    return *state >> 33;
}

static uint64_t earliest(const struct owner *owners) {
    uint64_t at = UINT64_MAX;
    for (size_t i = 0; i < TIMERS; i++)
        if (owners[i].timer.set && owners[i].timer.at < at)
            at = owners[i].timer.at;
    return at;
}

static void run_and_compare(struct timers *timers, struct owner *owners, uint64_t now) {
    bool due[TIMERS];
    for (size_t i = 0; i < TIMERS; i++) {
        due[i] = owners[i].timer.set && owners[i].timer.at <= now;
        owners[i].fired = 0;
    }
    last_fired = 0;
    timers_run(timers, now);
    for (size_t i = 0; i < TIMERS; i++)
        assert_int_equal(owners[i].fired, due[i]);
}

static void they_fire_in_order_whatever_is_set_and_unset(void **state) {
    (void)state;
    struct timers timers = {0};
    struct owner owners[TIMERS] = {0};
    uint64_t random = 7, now = 0;
    for (size_t i = 0; i < TIMERS; i++)
        owners[i].timer.fire = fire;
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct timer *timer = &owners[next_random(&random) % TIMERS].timer;
        switch (next_random(&random) % 4) {
        case 0:
            timers_unset(&timers, timer);
            break;
        case 1:
            now += next_random(&random) % 8;
            run_and_compare(&timers, owners, now);
            break;
        default:
            timers_set(&timers, timer, now + 1 + next_random(&random) % 50);
            break;
        }
        assert_int_equal(timers_next(&timers), earliest(owners));
    }
    run_and_compare(&timers, owners, UINT64_MAX);
    assert_null(timers.root);
}

static void setting_one_again_moves_it(void **state) {
    (void)state;
    struct timers timers = {0};
    struct owner owner = {.timer.fire = fire};
    timers_set(&timers, &owner.timer, 10);
    timers_set(&timers, &owner.timer, 20);
    last_fired = 0;
    timers_run(&timers, 10);
    assert_int_equal(owner.fired, 0);
    assert_int_equal(timers_next(&timers), 20);
    timers_run(&timers, 20);
    assert_int_equal(owner.fired, 1);
}

static void none_is_due_where_none_is_set(void **state) {
    (void)state;
    struct timers timers = {0};
    struct timer unset = {.fire = fire};
    assert_int_equal(timers_next(&timers), UINT64_MAX);
    timers_unset(&timers, &unset);
    timers_run(&timers, UINT64_MAX);
}

static struct timers *again_in;

static void fire_again(struct timer *timer) {
    struct owner *owner = (struct owner *)timer;
    if (++owner->fired < 3)
        timers_set(again_in, timer, timer->at + 5);
}

static void one_that_sets_itself_again_fires_again_when_due(void **state) {
    (void)state;
    struct timers timers = {0};
    struct owner owner = {.timer.fire = fire_again};
    again_in = &timers;
    timers_set(&timers, &owner.timer, 1);
    timers_run(&timers, 6);
    assert_int_equal(owner.fired, 2);
    timers_run(&timers, 11);
    assert_int_equal(owner.fired, 3);
    assert_null(timers.root);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(they_fire_in_order_whatever_is_set_and_unset),
        cmocka_unit_test(setting_one_again_moves_it),
        cmocka_unit_test(none_is_due_where_none_is_set),
        cmocka_unit_test(one_that_sets_itself_again_fires_again_when_due),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
