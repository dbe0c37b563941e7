/* test_flow.c — the deep link of a request: what is wrong with it is named by field, whatever it is. What is taken is
 * in test_request.c. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "portal/request.h"

static char *const patterns[] = {"portal.replies", NULL};
static const struct request_rules rules = {.reply_queues = patterns};

static int read_flow(const char *flow, struct request *request, struct request_problem *problem) {
    char body[2000];
    (void)snprintf(body, sizeof body, "{\"request_id\":\"r\",\"team_id\":1,\"flow\":%s}", flow);
    struct delivery delivery = {.body = body, .body_length = strlen(body), .body_size = strlen(body)};
    return request_read(&delivery, &rules, 0, request, problem);
}

static void refused(const char *flow, const char *named) {
    struct request request;
    struct request_problem problem;
    if (read_flow(flow, &request, &problem) != -EINVAL)
        fail_msg("%s is taken", flow);
    assert_string_equal(problem.code, "invalid_request");
    if (strncmp(problem.message, named, strlen(named)) != 0)
        fail_msg("%s: \"%s\" does not begin with %s", flow, problem.message, named);
    request_clear(&request);
}

static void taken(const char *flow) {
    struct request request;
    struct request_problem problem;
    if (read_flow(flow, &request, &problem) != 0)
        fail_msg("%s is refused: %s", flow, problem.message);
    request_clear(&request);
}

static void one_without_a_known_type_is_refused(void **state) {
    (void)state;
    refused("[]", "flow has to be an object");
    refused("true", "flow has to be an object");
    refused("{}", "flow.type");
    refused("{\"type\":null}", "flow.type");
    refused("{\"type\":1}", "flow.type");
    refused("{\"type\":\"payment_method_updat\"}", "flow.type");
}

static void what_does_not_go_with_the_type_is_refused(void **state) {
    (void)state;
    refused("{\"type\":\"payment_method_update\",\"subscription\":\"sub_1\"}", "flow.subscription does not go");
    refused("{\"type\":\"subscription_update\",\"subscription\":\"sub_1\",\"retention\":{}}",
            "flow.retention does not go");
    refused("{\"type\":\"subscription_cancel\",\"subscription\":\"sub_1\",\"items\":[]}", "flow.items does not go");
    refused("{\"type\":\"subscription_update\",\"subscription\":\"sub_1\",\"discounts\":[]}",
            "flow.discounts does not go");
    taken("{\"type\":\"payment_method_update\",\"subscription\":null,\"retention\":null,\"after_completion\":null}");
}

static void a_subscription_has_to_be_the_id_of_one(void **state) {
    (void)state;
    static const char *const values[] = {"1",           "[]",        "\"\"",         "\"sub_\"", "\"cus_1\"",
                                         "\"sub_1?x\"", "\"sub 1\"", "\"sub_1\\n\"", "\"sub_ü\""};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        char flow[200];
        (void)snprintf(flow, sizeof flow, "{\"type\":\"subscription_update\",\"subscription\":%s}", values[i]);
        refused(flow, "flow.subscription has to be the id of a Stripe object, sub_");
    }
    refused("{\"type\":\"subscription_update\"}", "flow.subscription is missing");
}

#define CONFIRM(more) "{\"type\":\"subscription_update_confirm\",\"subscription\":\"sub_1\"" more "}"

static void a_confirmed_update_has_one_item(void **state) {
    (void)state;
    static const char list[] = "flow.items has to be a list of exactly one object";
    refused(CONFIRM(""), "flow.items is missing");
    refused(CONFIRM(",\"items\":{}"), list);
    refused(CONFIRM(",\"items\":[]"), list);
    refused(CONFIRM(",\"items\":[{\"id\":\"si_1\"},{\"id\":\"si_2\"}]"), list);
    refused(CONFIRM(",\"items\":[\"si_1\"]"), list);
    refused(CONFIRM(",\"items\":[{}]"), "flow.items[0].id is missing");
    refused(CONFIRM(",\"items\":[{\"id\":\"sub_1\"}]"), "flow.items[0].id has to be");
    refused(CONFIRM(",\"items\":[{\"id\":\"si_1\",\"price\":7}]"), "flow.items[0].price has to be the id");
    refused(CONFIRM(",\"items\":[{\"id\":\"si_1\",\"price\":\"a b\"}]"), "flow.items[0].price has to be the id");
    static const char *const quantities[] = {"-1", "1.5", "\"1\"", "2147483648", "1e300", "true", "[]"};
    for (size_t i = 0; i < sizeof quantities / sizeof *quantities; i++) {
        char flow[200];
        (void)snprintf(flow, sizeof flow, CONFIRM(",\"items\":[{\"id\":\"si_1\",\"quantity\":%s}]"), quantities[i]);
        refused(flow, "flow.items[0].quantity has to be an integer from 0 to 2147483647");
    }
    taken(CONFIRM(",\"items\":[{\"id\":\"si_1\",\"quantity\":2147483647}]"));
}

static void a_discount_is_a_coupon_or_a_promotion_code(void **state) {
    (void)state;
#define DISCOUNTS(value) CONFIRM(",\"items\":[{\"id\":\"si_1\"}],\"discounts\":" value)
    static const char either[] = "flow.discounts[0] has to name either a coupon or a promotion_code";
    refused(DISCOUNTS("[]"), "flow.discounts has to be a list of exactly one object");
    refused(DISCOUNTS("{\"coupon\":\"A\"}"), "flow.discounts has to be a list of exactly one object");
    refused(DISCOUNTS("[{}]"), either);
    refused(DISCOUNTS("[{\"coupon\":\"A\",\"promotion_code\":\"promo_1\"}]"), either);
    refused(DISCOUNTS("[{\"coupon\":1}]"), "flow.discounts[0].coupon has to be the id");
    refused(DISCOUNTS("[{\"promotion_code\":\"A\"}]"), "flow.discounts[0].promotion_code has to be the id");
    taken(DISCOUNTS("null"));
}

static void a_retention_is_a_coupon_offer(void **state) {
    (void)state;
#define CANCEL(retention) "{\"type\":\"subscription_cancel\",\"subscription\":\"sub_1\",\"retention\":" retention "}"
    refused(CANCEL("[]"), "flow.retention has to be an object");
    refused(CANCEL("{}"), "flow.retention.type has to be");
    refused(CANCEL("{\"type\":\"discount\",\"coupon\":\"A\"}"), "flow.retention.type has to be");
    refused(CANCEL("{\"type\":\"coupon_offer\"}"), "flow.retention.coupon is missing");
    refused(CANCEL("{\"type\":\"coupon_offer\",\"coupon\":\"A&B\"}"), "flow.retention.coupon has to be the id");
}

static void what_comes_after_is_one_of_three(void **state) {
    (void)state;
#define AFTER(after) "{\"type\":\"payment_method_update\",\"after_completion\":" after "}"
#define REDIRECT(path) AFTER("{\"type\":\"redirect\",\"return_path\":" path "}")
    refused(AFTER("\"redirect\""), "flow.after_completion has to be an object");
    refused(AFTER("{}"), "flow.after_completion.type has to be");
    refused(AFTER("{\"type\":7}"), "flow.after_completion.type has to be");
    refused(AFTER("{\"type\":\"stay\"}"), "flow.after_completion.type has to be");
    refused(AFTER("{\"type\":\"redirect\"}"), "flow.after_completion.return_path has to be a string");
    refused(REDIRECT("7"), "flow.after_completion.return_path has to be a string");
    refused(REDIRECT("\"//evil.example\""), "flow.after_completion.return_path must not begin with");
    refused(REDIRECT("\"https://evil.example\""), "flow.after_completion.return_path has to begin with");
    refused(AFTER("{\"type\":\"portal_homepage\",\"return_path\":\"/a\"}"),
            "flow.after_completion.return_path goes with");
    refused(AFTER("{\"type\":\"redirect\",\"return_path\":\"/a\",\"custom_message\":\"Bye\"}"),
            "flow.after_completion.custom_message goes with");
}

static void a_custom_message_is_counted_in_characters(void **state) {
    (void)state;
#define MESSAGE(message) AFTER("{\"type\":\"hosted_confirmation\",\"custom_message\":" message "}")
    static const char named[] = "flow.after_completion.custom_message has to be a string of 1 to 500 characters";
    char umlauts[2 * (CUSTOM_MESSAGE_MAX + 1) + 1] = "", flow[1500];
    refused(MESSAGE("\"\""), named);
    refused(MESSAGE("7"), named);
    for (size_t i = 0; i < CUSTOM_MESSAGE_MAX; i++)
        memcpy(umlauts + 2 * i, "ü", sizeof "ü");
    (void)snprintf(flow, sizeof flow, MESSAGE("\"%s\""), umlauts);
    taken(flow);
    (void)snprintf(flow, sizeof flow, MESSAGE("\"%sü\""), umlauts);
    refused(flow, named);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_without_a_known_type_is_refused),
        cmocka_unit_test(what_does_not_go_with_the_type_is_refused),
        cmocka_unit_test(a_subscription_has_to_be_the_id_of_one),
        cmocka_unit_test(a_confirmed_update_has_one_item),
        cmocka_unit_test(a_discount_is_a_coupon_or_a_promotion_code),
        cmocka_unit_test(a_retention_is_a_coupon_offer),
        cmocka_unit_test(what_comes_after_is_one_of_three),
        cmocka_unit_test(a_custom_message_is_counted_in_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
