/* allocation.c — lives each life again and again, with the first, the second, the third … allocation of the core
 * failing, until one is lived without a failure. The simulator checks after each step what is promised, and so that no
 * request is lost and that nothing stays behind; a sanitizer checks the rest. The idea is curl's. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../simulation/world.h"
#include "fallible.h"
#include "lives.h"
#include "portal/features.h"

enum { STUCK_SECONDS = 60, TEXT_MAX = 160 };

/* How many allocations fail in a row: one, a few, and so many that all that is in hand suffers. */
static const uint64_t rows_of_failures[] = {1, 3, 40};

static char running[TEXT_MAX];
static uint64_t first, many;

/* ---- where the core crashes ---- */

static void write_text(const char *text) {
    (void)!write(STDERR_FILENO, text, strlen(text));
}

/* The lives before it have said that they went well; which allocation it was shows in a debugger, in `first`. */
static void on_signal(int number) {
    write_text("\nFAIL: ");
    write_text(running);
    write_text(number == SIGALRM ? ": it spins\n" : ": it crashed\n");
    (void)signal(number == SIGALRM ? SIGABRT : number, SIG_DFL);
    (void)raise(number == SIGALRM ? SIGABRT : number);
}

static void watch_signals(void) {
#ifdef __SANITIZE_ADDRESS__ /* which tells more of a crash than we do */
    static const int signals[] = {SIGALRM};
#else
    static const int signals[] = {SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGALRM};
#endif
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        (void)signal(signals[i], on_signal);
}

/* ---- leaks ---- */

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
static bool has_leaked(void) {
    return __lsan_do_recoverable_leak_check() != 0;
}
#else
static bool has_leaked(void) {
    return false;
}
#endif

/* ---- the beginning of a worker ---- */

/* The linker puts this in front of the core's: the simulated worker can't begin without memory, so that memory runs out
 * only once it has begun. */
static bool begun;
struct portal *__real_portal_new(const struct portal_settings *settings, const struct host *host,
                                 const struct broker_link *broker, const struct store_link *store,
                                 const struct stripe_link *stripe);
struct portal *__wrap_portal_new(const struct portal_settings *settings, const struct host *host,
                                 const struct broker_link *broker, const struct store_link *store,
                                 const struct stripe_link *stripe);
struct portal *__wrap_portal_new(const struct portal_settings *settings, const struct host *host,
                                 const struct broker_link *broker, const struct store_link *store,
                                 const struct stripe_link *stripe) {
    if (begun)
        fallible_pause(true);
    struct portal *portal = __real_portal_new(settings, host, broker, store, stripe);
    if (begun)
        fallible_pause(false);
    else
        fallible_begin(first, many);
    begun = true;
    return portal;
}

/* ---- what is asked again ---- */

/* Likewise: an answer that there was no memory for is asked for again, also where it uses up the key. */
unsigned __wrap_stripe_told_used_up(const struct world *world, const char *key, uint64_t asker);
unsigned __wrap_stripe_told_used_up(const struct world *world, const char *key, uint64_t asker) {
    (void)world;
    (void)key;
    (void)asker;
    return 0;
}

/* ---- lives ---- */

/* Result: whether all went well; `*ended`: no allocation failed any more. */
static bool live(const struct scenario *scenario, enum tracing tracing, bool *ended) {
    struct statistics statistics = {0};
    struct outcome_of_world outcome;
    begun = false;
    (void)alarm(STUCK_SECONDS);
    world_run(scenario, tracing, &statistics, &outcome);
    (void)alarm(0);
    (void)fallible_end();
    *ended = fallible_failures() == 0;
    if (outcome.violated)
        (void)fprintf(stderr, "FAIL: %s: allocation %" PRIu64 " (%" PRIu64 " in a row): %s: %s\n", running, first, many,
                      outcome.promise, outcome.explanation);
    return !outcome.violated;
}

/* Result: how many allocations a life has; 0 where it failed. */
static uint64_t live_all(const struct scenario *scenario, uint64_t in_a_row) {
    bool ended = false;
    many = in_a_row;
    for (first = 1; !ended; first++) {
        bool good = live(scenario, TRACING_NONE, &ended);
        if (good && ended && has_leaked()) { /* looked for once, as it takes a while: which one it was is told below */
            (void)fprintf(stderr, "FAIL: %s: memory has leaked (%" PRIu64 " in a row)\n", running, many);
            good = false;
        }
        if (!good) {
            (void)live(scenario, TRACING_RELEVANT, &ended);
            return 0;
        }
    }
    return first - 1;
}

static bool run_life(const struct life *life) {
    struct scenario scenario;
    uint64_t count = 0;
    (void)snprintf(running, sizeof running, "%s", life->name);
    for (size_t i = 0; i < sizeof rows_of_failures / sizeof *rows_of_failures; i++) {
        life_scenario(life, &scenario);
        count = live_all(&scenario, rows_of_failures[i]);
        scenario_free(&scenario);
        if (count == 0)
            break;
        if (i == 0)
            (void)printf("  %5" PRIu64 "  %s\n", count - 1, life->name);
    }
    return count > 0;
}

/* ---- what is done once, at the start ---- */

static bool make_features(void) {
    struct features *features = NULL;
    json_t *override =
        json_pack("{s:{s:s}, s:{s:{s:b}, s:{s:b, s:[s]}}}", "business_profile", "headline", "A headline", "features",
                  "invoice_history", "enabled", 0, "customer_update", "enabled", 1, "allowed_updates", "email");
    int r = -1;
    if (!override)
        return false;
    (void)snprintf(running, sizeof running, "the features of a configuration");
    many = 1;
    for (first = 1; r < 0; first++) {
        fallible_begin(first, many);
        r = features_new(override, "features", &features, stderr);
        (void)fallible_end();
        if (r < 0 && fallible_failures() == 0)
            break;
        if (r == 0 && fallible_failures() > 0) { /* it did without */
            features_free(features);
            r = -1;
        }
    }
    if (r == 0)
        features_free(features);
    json_decref(override);
    (void)printf("  %5" PRIu64 "  %s\n", first - 2, running);
    return r == 0 && !has_leaked();
}

/* ---- a request read ---- */

/* The simulator stands in front of it, and knows only its own messages. */
int __real_request_read(const struct delivery *delivery, const struct request_rules *rules, uint64_t now,
                        struct request *request, struct request_problem *problem);

static bool read_request(const char *body) {
    static char *const queues[] = {"portal.replies", NULL};
    const struct request_rules rules = {.reply_queues = queues, .deadline_seconds = 900};
    const struct delivery delivery = {.body = body,
                                      .body_length = strlen(body),
                                      .body_size = strlen(body),
                                      .message_id = "m",
                                      .correlation_id = "c",
                                      .timestamp = WORLD_EPOCH};
    int r = -ENOMEM;
    many = 1;
    for (first = 1; r != 0; first++) {
        struct request request;
        struct request_problem problem;
        fallible_begin(first, many);
        r = __real_request_read(&delivery, &rules, WORLD_EPOCH * SECOND_US, &request, &problem);
        char *properties = request_properties(&delivery);
        (void)fallible_end();
        if (fallible_failures() == 0 ? r != 0 || !properties : r != -ENOMEM && properties)
            r = -EINVAL;
        else if (fallible_failures() > 0)
            r = -ENOMEM;
        free(properties);
        request_clear(&request);
        if (r == -EINVAL) {
            (void)fprintf(stderr, "FAIL: %s: allocation %" PRIu64 ": %s\n", running, first, problem.message);
            return false;
        }
    }
    (void)printf("  %5" PRIu64 "  %s\n", first - 2, running);
    return !has_leaked();
}

static bool read_requests(void) {
    static const char *const bodies[] = {
        "{\"request_id\":\"r\",\"user_id\":7,\"team_id\":1,\"return_path\":\"/a\",\"locale\":\"de\",\"configuration\":"
        "\"bpc_1\",\"deadline\":\"2030-01-31T12:00:00.5+01:00\",\"fresh\":true,\"flow\":{\"type\":"
        "\"subscription_update_confirm\",\"subscription\":\"sub_1\",\"items\":[{\"id\":\"si_1\",\"price\":\"price_1\","
        "\"quantity\":2}],\"discounts\":[{\"promotion_code\":\"promo_1\"}],\"after_completion\":{\"type\":\"redirect\","
        "\"return_path\":\"/done\"}}}",
        "{\"team_id\":1,\"flow\":{\"type\":\"subscription_cancel\",\"subscription\":\"sub_1\",\"retention\":{\"type\":"
        "\"coupon_offer\",\"coupon\":\"c\"},\"after_completion\":{\"type\":\"hosted_confirmation\",\"custom_message\":"
        "\"bye\"}}}",
        "{\"team_id\":1,\"other\":123456789012345678901234567890}",
    };
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        (void)snprintf(running, sizeof running, "reading request %zu", i + 1);
        if (!read_request(bodies[i]))
            return false;
    }
    return true;
}

static uint64_t no_time(void *self) {
    (void)self;
    return 0;
}

static void no_wake(void *self, uint64_t monotonic) {
    (void)self;
    (void)monotonic;
}

static bool make_portal(void) {
    struct features *features = NULL;
    if (features_new(NULL, "", &features, stderr) < 0)
        return false;
    const struct portal_settings settings = {.worker = "w", .features = features};
    const struct host host = {.now = no_time, .wall = no_time, .random = no_time, .wake_at = no_wake};
    struct portal *portal = NULL;
    (void)snprintf(running, sizeof running, "a worker's mind");
    many = 1;
    for (first = 1; !portal; first++) {
        fallible_begin(first, many);
        portal = __real_portal_new(&settings, &host, &(struct broker_link){0}, &(struct store_link){0},
                                   &(struct stripe_link){0});
        (void)fallible_end();
        if (!portal && fallible_failures() == 0)
            return false;
    }
    portal_free(portal);
    features_free(features);
    (void)printf("  %5" PRIu64 "  %s\n", first - 2, running);
    return !has_leaked();
}

int main(int argc, char **argv) {
    unsigned passed = 0, failed = 0;
    const char *wanted = argc > 1 ? argv[1] : "";
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    json_object_seed(1); /* the same every time */
    fallible_adopt_json();
    watch_signals();
    (void)printf("  allocations, of which each failed in turn\n");
    if (*wanted == '\0') {
        bool good = make_features();
        passed += good;
        failed += !good;
        good = make_portal();
        passed += good;
        failed += !good;
        good = read_requests();
        passed += good;
        failed += !good;
    }
    for (size_t i = 0; i < lives_count; i++) {
        if (!strstr(lives[i].name, wanted))
            continue;
        bool good = run_life(&lives[i]);
        passed += good;
        failed += !good;
    }
    (void)printf("%u passed, %u failed\n", passed, failed);
    return failed > 0 || passed == 0;
}
