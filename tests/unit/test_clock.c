/* test_clock.c — when the daemon's clock wakes the core: not before it wants, not again, not while something is ready.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../../worker/daemon/clock.h"

#define MS UINT64_C(1000)
#define PATIENCE_US (5000 * MS)

static unsigned wakes;
static uint64_t woken_at;
static unsigned heard_before; /* what was heard by then */
static unsigned heard;

/* In front of the core's. */
void portal_wake(struct portal *portal) {
    assert_ptr_equal(portal, (struct portal *)&wakes);
    wakes++;
    woken_at = clock_monotonic();
    heard_before = heard;
}

static int begin(void **state) {
    sd_event *event = NULL;
    struct clock *clock = NULL;
    assert_true(sd_event_new(&event) >= 0);
    assert_int_equal(clock_new(event, &clock), 0);
    clock_set_portal(clock, (struct portal *)&wakes);
    wakes = heard = heard_before = 0;
    void **both = calloc(2, sizeof *both);
    assert_non_null(both);
    both[0] = event;
    both[1] = clock;
    *state = both;
    return 0;
}

static int end(void **state) {
    void **both = *state;
    clock_free(both[1]);
    assert_null(sd_event_unref(both[0]));
    free(both);
    return 0;
}

/* Lets the loop run until the core was woken, or for so long. */
static void run(sd_event *event, uint64_t most_us) {
    uint64_t until = clock_monotonic() + most_us;
    for (uint64_t now = clock_monotonic(); wakes == 0 && now < until; now = clock_monotonic())
        assert_true(sd_event_run(event, until - now) >= 0);
}

static void it_wakes_when_asked_and_once(void **state) {
    sd_event *event = ((void **)*state)[0];
    struct clock *clock = ((void **)*state)[1];
    uint64_t when = clock_monotonic() + 20 * MS;
    clock_wake_at(clock, when);
    run(event, PATIENCE_US);
    assert_int_equal(wakes, 1);
    assert_true(woken_at >= when);
    wakes = 0;
    run(event, 50 * MS);
    assert_int_equal(wakes, 0);
}

static void what_is_put_off_comes_no_earlier(void **state) {
    sd_event *event = ((void **)*state)[0];
    struct clock *clock = ((void **)*state)[1];
    uint64_t when = clock_monotonic() + 60 * MS;
    clock_wake_at(clock, clock_monotonic() + 10 * MS);
    clock_wake_at(clock, when);
    run(event, PATIENCE_US);
    assert_int_equal(wakes, 1);
    assert_true(woken_at >= when);
}

static void what_is_brought_forward_comes_first(void **state) {
    sd_event *event = ((void **)*state)[0];
    struct clock *clock = ((void **)*state)[1];
    clock_wake_at(clock, clock_monotonic() + 600000 * MS);
    clock_wake_at(clock, clock_monotonic() + 10 * MS);
    run(event, PATIENCE_US);
    assert_int_equal(wakes, 1);
}

static void what_is_called_off_does_not_come(void **state) {
    sd_event *event = ((void **)*state)[0];
    struct clock *clock = ((void **)*state)[1];
    clock_wake_at(clock, clock_monotonic() + 10 * MS);
    clock_wake_at(clock, UINT64_MAX);
    run(event, 60 * MS);
    assert_int_equal(wakes, 0);
}

static int hear(sd_event_source *source, void *userdata) {
    (void)source;
    (void)userdata;
    heard++;
    return 0;
}

static void its_turn_comes_once_all_that_is_ready_was_heard(void **state) {
    sd_event *event = ((void **)*state)[0];
    struct clock *clock = ((void **)*state)[1];
    clock_soon(clock);
    clock_soon(clock);
    for (int i = 0; i < 3; i++)
        assert_true(sd_event_add_defer(event, NULL, hear, NULL) >= 0);
    run(event, PATIENCE_US);
    assert_int_equal(wakes, 1);
    assert_int_equal(heard_before, 3);
    wakes = 0;
    run(event, 20 * MS);
    assert_int_equal(wakes, 0);
}

static void without_a_core_nobody_is_woken(void **state) {
    sd_event *event = ((void **)*state)[0];
    struct clock *clock = ((void **)*state)[1];
    clock_set_portal(clock, NULL);
    clock_soon(clock);
    clock_wake_at(clock, clock_monotonic() + 10 * MS);
    run(event, 40 * MS);
    assert_int_equal(wakes, 0);
}

static void chance_does_not_repeat(void **state) {
    struct clock *clock = ((void **)*state)[1];
    uint64_t before = clock_random(clock);
    for (int i = 0; i < 100; i++) {
        uint64_t next = clock_random(clock);
        assert_true(next != before);
        before = next;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(it_wakes_when_asked_and_once, begin, end),
        cmocka_unit_test_setup_teardown(what_is_put_off_comes_no_earlier, begin, end),
        cmocka_unit_test_setup_teardown(what_is_brought_forward_comes_first, begin, end),
        cmocka_unit_test_setup_teardown(what_is_called_off_does_not_come, begin, end),
        cmocka_unit_test_setup_teardown(its_turn_comes_once_all_that_is_ready_was_heard, begin, end),
        cmocka_unit_test_setup_teardown(without_a_core_nobody_is_woken, begin, end),
        cmocka_unit_test_setup_teardown(chance_does_not_repeat, begin, end),
    };
    return cmocka_run_group_tests_name("clock", tests, NULL, NULL);
}
