/* test_features.c — what the portal lets a customer do: the reference's, a file over it, and what Stripe would refuse.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "portal/features.h"

/* The features of a file with this text, and what is said of it. Result: as features_new(). */
static int features_of(const char *text, struct features **ret, char *said, size_t size) {
    json_t *file = json_loads(text, 0, NULL);
    assert_non_null(file);
    FILE *errors = fmemopen(said, size, "w");
    assert_non_null(errors);
    *ret = NULL;
    int r = features_new(file, "file", ret, errors);
    assert_int_equal(fclose(errors), 0);
    json_decref(file);
    return r;
}

static char *form_of(const struct features *features, bool update, const char *key) {
    json_t *prices = json_pack("[ss]", "price_1", "price_2");
    char *form = features_form(features, update, "prod_1", prices, key);
    json_decref(prices);
    return form;
}

static void without_a_file_they_are_the_references(void **state) {
    (void)state;
    struct features *features;
    assert_int_equal(features_load(NULL, &features, stderr), 0);
    char *form = form_of(features, false, NULL);
    assert_string_equal(form,
                        "business_profile[headline]=Manage%20your%20subscription&"
                        "features[subscription_update][enabled]=true&"
                        "features[subscription_update][default_allowed_updates][0]=price&"
                        "features[subscription_update][default_allowed_updates][1]=quantity&"
                        "features[subscription_update][default_allowed_updates][2]=promotion_code&"
                        "features[subscription_update][proration_behavior]=create_prorations&"
                        "features[subscription_update][products][0][product]=prod_1&"
                        "features[subscription_update][products][0][prices][0]=price_1&"
                        "features[subscription_update][products][0][prices][1]=price_2&"
                        "features[subscription_cancel][enabled]=true&features[subscription_cancel][mode]=at_period_end&"
                        "features[subscription_cancel][cancellation_reason][enabled]=true&"
                        "features[subscription_cancel][cancellation_reason][options][0]=too_expensive&"
                        "features[subscription_cancel][cancellation_reason][options][1]=missing_features&"
                        "features[subscription_cancel][cancellation_reason][options][2]=switched_service&"
                        "features[subscription_cancel][cancellation_reason][options][3]=unused&"
                        "features[subscription_cancel][cancellation_reason][options][4]=other&"
                        "features[payment_method_update][enabled]=true");
    free(form);
    features_free(features);
}

static void a_file_wins_field_by_field(void **state) {
    (void)state;
    char said[1000] = "";
    struct features *features;
    assert_int_equal(features_of("{\"business_profile\":{\"headline\":\"Acme\"},\"features\":{\"invoice_history\":"
                                 "{\"enabled\":true},\"subscription_cancel\":{\"mode\":\"immediately\"}}}",
                                 &features, said, sizeof said),
                     0);
    assert_string_equal(said, "");
    char *form = form_of(features, false, "product/prod_1");
    assert_non_null(strstr(form, "business_profile[headline]=Acme&"));
    assert_non_null(strstr(form, "features[subscription_cancel][mode]=immediately&"));
    assert_non_null(strstr(form, "features[subscription_cancel][enabled]=true&"));
    assert_non_null(strstr(form, "features[invoice_history][enabled]=true"));
    assert_non_null(strstr(form, "&metadata[portal_worker]=product%2Fprod_1"));
    free(form);
    features_free(features);
}

static void no_products_are_named_where_none_can_be_switched_to(void **state) {
    (void)state;
    char said[1000] = "";
    struct features *features;
    assert_int_equal(
        features_of("{\"features\":{\"subscription_update\":{\"enabled\":false}}}", &features, said, sizeof said), 0);
    char *form = form_of(features, false, NULL);
    assert_null(strstr(form, "prod_1"));
    free(form);
    features_free(features);
}

static void an_update_takes_back_what_is_not_named(void **state) {
    (void)state;
    struct features *features;
    assert_int_equal(features_load(NULL, &features, stderr), 0);
    char *form = form_of(features, true, NULL);
    assert_non_null(strstr(form, "business_profile[headline]=Manage"));
    assert_non_null(strstr(form, "business_profile[privacy_policy_url]=&"));
    assert_non_null(strstr(form, "features[invoice_history][enabled]=false"));
    assert_non_null(strstr(form, "login_page[enabled]=false"));
    free(form);
    features_free(features);
}

static void the_fingerprint_tells_features_apart(void **state) {
    (void)state;
    char said[1000] = "";
    struct features *one, *same, *other;
    assert_int_equal(features_load(NULL, &one, stderr), 0);
    assert_int_equal(
        features_of("{\"features\":{\"payment_method_update\":{\"enabled\":true}}}", &same, said, sizeof said), 0);
    assert_int_equal(features_of("{\"business_profile\":{\"headline\":\"x\"}}", &other, said, sizeof said), 0);
    assert_true(features_fingerprint(one) == features_fingerprint(same));
    assert_true(features_fingerprint(one) != features_fingerprint(other));
    assert_true(fingerprint_of("a") != fingerprint_of("b"));
    features_free(one);
    features_free(same);
    features_free(other);
    features_free(NULL);
}

static void what_stripe_would_refuse_is_refused_by_name(void **state) {
    (void)state;
    static const struct {
        const char *text, *named;
    } cases[] = {
        {"[]", "file"},
        {"{\"nonsense\":1}", "nonsense"},
        {"{\"name\":7}", "name"},
        {"{\"business_profile\":\"x\"}", "business_profile"},
        {"{\"business_profile\":{\"headline\":7}}", "business_profile.headline"},
        {"{\"business_profile\":{\"headline\":\"0123456789012345678901234567890123456789012345678901234567890\"}}",
         "business_profile.headline"},
        {"{\"business_profile\":{\"privacy_policy_url\":\"ftp://x\"}}", "business_profile.privacy_policy_url"},
        {"{\"default_return_url\":\"https://a b\"}", "default_return_url"},
        {"{\"login_page\":{\"enabled\":1}}", "login_page.enabled"},
        {"{\"login_page\":{}}", "login_page.enabled"},
        {"{\"features\":{\"customer_update\":{\"enabled\":true,\"allowed_updates\":[\"soul\"]}}}",
         "features.customer_update.allowed_updates"},
        {"{\"features\":{\"customer_update\":{\"allowed_updates\":[\"email\"]}}}", "features.customer_update.enabled"},
        {"{\"features\":{\"subscription_cancel\":{\"mode\":\"at_period\"}}}", "features.subscription_cancel.mode"},
        {"{\"features\":{\"subscription_cancel\":{\"mode\":[\"immediately\"]}}}", "features.subscription_cancel.mode"},
        {"{\"features\":{\"subscription_update\":{\"products\":[]}}}", "features.subscription_update.products"},
        {"{\"features\":{\"subscription_update\":{\"default_allowed_updates\":[]}}}",
         "features.subscription_update.default_allowed_updates"},
        {"{\"features\":{\"subscription_update\":{\"schedule_at_period_end\":{\"conditions\":[{\"type\":\"x\"}]}}}}",
         "schedule_at_period_end.conditions"},
        {"{\"features\":{\"subscription_update\":{\"schedule_at_period_end\":{\"conditions\":7}}}}",
         "schedule_at_period_end.conditions"},
        {"{\"features\":{\"payment_method_update\":{\"enabled\":false}}}", "features.payment_method_update"},
        {"{\"default_return_url\":7}", "default_return_url"},
        {"{\"default_return_url\":\"https://a\\tb\"}", "default_return_url"},
        {"{\"features\":{\"customer_update\":{\"enabled\":true,\"allowed_updates\":\"email\"}}}",
         "features.customer_update.allowed_updates"},
        {"{\"features\":{\"subscription_cancel\":{\"mode\":\"\"}}}", "features.subscription_cancel.mode"},
        {"{\"features\":{\"subscription_cancel\":{\"mode\":\"period_end\"}}}", "features.subscription_cancel.mode"},
        {"{\"features\":{\"subscription_cancel\":{\"proration_behavior\":\"none of it\"}}}",
         "features.subscription_cancel.proration_behavior"},
        {"{\"features\":{\"subscription_update\":{\"schedule_at_period_end\":{\"conditions\":[7]}}}}",
         "schedule_at_period_end.conditions"},
        {"{\"features\":{\"subscription_update\":{\"schedule_at_period_end\":{\"conditions\":[{}]}}}}",
         "schedule_at_period_end.conditions"},
        {"{\"features\":{\"subscription_update\":{\"schedule_at_period_end\":7}}}",
         "features.subscription_update.schedule_at_period_end"},
        {"{\"features\":{\"subscription_update\":{\"default_allowed_updates\":[\"price promotion_code\"]}}}",
         "features.subscription_update.default_allowed_updates"},
        {"{\"business_profile.headline\":\"A headline\"}", "business_profile.headline"},
        {"{\"features\":{\"subscription_update.schedule_at_period_end.conditions\":[]}}",
         "features.subscription_update.schedule_at_period_end.conditions"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char said[1000] = "";
        struct features *features;
        if (features_of(cases[i].text, &features, said, sizeof said) != -EINVAL)
            fail_msg("%s is taken", cases[i].text);
        if (!strstr(said, cases[i].named))
            fail_msg("%s: \"%s\" does not name %s", cases[i].text, said, cases[i].named);
        assert_null(features);
    }
}

static void all_that_can_be_set_is_taken(void **state) {
    (void)state;
    static const char *const named[] = {
        "name=A&",
        "default_return_url=http%3A%2F%2Fa.example",
        "features[customer_update][allowed_updates][1]=tax_id",
        "features[subscription_cancel][proration_behavior]=none",
        "features[subscription_update][schedule_at_period_end][conditions][1][type]=shortening_interval",
    };
    char said[1000] = "";
    struct features *features;
    assert_int_equal(
        features_of("{\"name\":\"A\",\"default_return_url\":\"http://a.example\",\"login_page\":{\"enabled\":true},"
                    "\"features\":{\"customer_update\":{\"enabled\":true,\"allowed_updates\":[\"email\",\"tax_id\"]},"
                    "\"subscription_cancel\":{\"proration_behavior\":\"none\"},\"subscription_update\":"
                    "{\"schedule_at_period_end\":{\"conditions\":[{\"type\":\"decreasing_item_amount\"},"
                    "{\"type\":\"shortening_interval\"}]}}}}",
                    &features, said, sizeof said),
        0);
    assert_string_equal(said, "");
    char *form = form_of(features, false, NULL);
    for (size_t i = 0; i < sizeof named / sizeof *named; i++)
        if (!strstr(form, named[i]))
            fail_msg("%s is not in %s", named[i], form);
    free(form);
    features_free(features);
}

static void every_wrong_field_is_named_at_once(void **state) {
    (void)state;
    char said[1000] = "";
    struct features *features;
    assert_int_equal(features_of("{\"name\":7,\"login_page\":{\"enabled\":0},\"features\":{\"invoice_history\":{}}}",
                                 &features, said, sizeof said),
                     -EINVAL);
    assert_non_null(strstr(said, "file: name "));
    assert_non_null(strstr(said, "file: login_page.enabled "));
    assert_non_null(strstr(said, "file: features.invoice_history.enabled "));
}

static void a_file_is_read_or_the_reason_told(void **state) {
    (void)state;
    char path[] = "/tmp/portal-features-XXXXXX", said[500] = "";
    struct features *features = NULL;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    static const char text[] = "{\"name\":\"Acme\"}\n";
    assert_int_equal(write(fd, text, sizeof text - 1), sizeof text - 1);
    assert_int_equal(features_load(path, &features, stderr), 0);
    char *form = form_of(features, false, NULL);
    assert_non_null(strstr(form, "name=Acme"));
    free(form);
    features_free(features);

    assert_int_equal(ftruncate(fd, 5), 0);
    FILE *errors = fmemopen(said, sizeof said, "w");
    assert_int_equal(features_load(path, &features, errors), -EINVAL);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(features_load(path, &features, errors), -ENOENT);
    assert_int_equal(fclose(errors), 0);
    assert_non_null(strstr(said, ":1:")); /* where it is not JSON */
    assert_non_null(strstr(said, "can't be read"));
    close(fd);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_file_they_are_the_references),
        cmocka_unit_test(a_file_wins_field_by_field),
        cmocka_unit_test(no_products_are_named_where_none_can_be_switched_to),
        cmocka_unit_test(an_update_takes_back_what_is_not_named),
        cmocka_unit_test(the_fingerprint_tells_features_apart),
        cmocka_unit_test(what_stripe_would_refuse_is_refused_by_name),
        cmocka_unit_test(all_that_can_be_set_is_taken),
        cmocka_unit_test(every_wrong_field_is_named_at_once),
        cmocka_unit_test(a_file_is_read_or_the_reason_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
