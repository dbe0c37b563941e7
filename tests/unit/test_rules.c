/* test_rules.c — who may have a session, in the order of the contract. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../worker/portal/portal-internal.h"

static char *const refused[] = {"canceled", "incomplete_expired", NULL};
static char *const none_refused[] = {NULL};

/* A user's request with a flow, and all that the store knows, well. */
struct given {
    struct request request;
    struct load_row row;
};

static struct given well(void) {
    return (struct given){
        .request = {.user_id = 5,
                    .flow = json_pack("{s:s s:s}", "type", "subscription_cancel", "subscription", "sub_1")},
        .row = {.user_found = true,
                .team = {.found = true,
                         .id = 1,
                         .customer = (char *)"cus_1",
                         .product = (char *)"prod_1",
                         .subscription = (char *)"sub_1",
                         .subscription_status = (char *)"active"}}};
}

static void expect(struct given given, enum code code) {
    assert_int_equal(rules_apply(&given.request, &given.row, refused), code);
    json_decref(given.request.flow);
}

static void who_has_all_may(void **state) {
    (void)state;
    expect(well(), CODE_NONE);
    struct given team = well();
    team.request.user_id = 0;
    team.row.user_found = false; /* nobody was asked for */
    expect(team, CODE_NONE);
}

static void each_lack_has_its_code(void **state) {
    (void)state;
    struct given given = well();
    given.row.user_found = false;
    expect(given, CODE_UNAUTHENTICATED);
    given = well();
    given.row.team.found = false;
    expect(given, CODE_TEAM_NOT_FOUND);
    given = well();
    given.row.team.customer = NULL;
    expect(given, CODE_NO_SUBSCRIPTION);
    given = well();
    given.row.team.product = NULL;
    expect(given, CODE_NO_SUBSCRIPTION);
    given = well();
    given.row.team.subscription_status = (char *)"canceled";
    expect(given, CODE_SUBSCRIPTION_INACTIVE);
    given = well();
    given.row.team.subscription = (char *)"sub_2";
    expect(given, CODE_SUBSCRIPTION_NOT_FOUND);
    given = well();
    given.row.team.subscription = NULL;
    expect(given, CODE_SUBSCRIPTION_NOT_FOUND);
}

/* Each row lacks one thing less, beginning with the user. */
static void the_first_lack_counts(void **state) {
    (void)state;
    struct given given = well();
    given.row = (struct load_row){.team.subscription_status = (char *)"canceled"};
    json_t *flow = given.request.flow;
    static const enum code order[] = {CODE_UNAUTHENTICATED,       CODE_TEAM_NOT_FOUND,         CODE_NO_SUBSCRIPTION,
                                      CODE_SUBSCRIPTION_INACTIVE, CODE_SUBSCRIPTION_NOT_FOUND, CODE_NONE};
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        given.row.user_found = i > 0;
        given.row.team.found = i > 1;
        given.row.team.customer = given.row.team.product = i > 2 ? (char *)"x" : NULL;
        given.row.team.subscription_status = i > 3 ? (char *)"unpaid" : (char *)"canceled";
        given.row.team.subscription = i > 4 ? (char *)"sub_1" : NULL;
        assert_int_equal(rules_apply(&given.request, &given.row, refused), order[i]);
    }
    json_decref(flow);
}

static void the_status_is_asked_of_users_only(void **state) {
    (void)state;
    struct given given = well();
    given.request.user_id = 0;
    given.row.team.subscription_status = (char *)"canceled";
    expect(given, CODE_NONE);
}

static void what_is_refused_is_a_setting(void **state) {
    (void)state;
    struct given given = well();
    given.row.team.subscription_status = (char *)"canceled";
    assert_int_equal(rules_apply(&given.request, &given.row, none_refused), CODE_NONE);
    given.row.team.subscription_status = NULL;
    expect(given, CODE_NONE);
    given = well();
    given.row.team.subscription_status = (char *)"cancel"; /* a part of one is none */
    expect(given, CODE_NONE);
}

static void a_flow_without_a_subscription_asks_for_none(void **state) {
    (void)state;
    struct given given = well();
    json_decref(given.request.flow);
    given.request.flow = NULL;
    given.row.team.subscription = NULL;
    expect(given, CODE_NONE);
    given.request.flow = json_pack("{s:s}", "type", "payment_method_update");
    expect(given, CODE_NONE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_has_all_may),
        cmocka_unit_test(each_lack_has_its_code),
        cmocka_unit_test(the_first_lack_counts),
        cmocka_unit_test(the_status_is_asked_of_users_only),
        cmocka_unit_test(what_is_refused_is_a_setting),
        cmocka_unit_test(a_flow_without_a_subscription_asks_for_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
