/* simulate.c — the program: runs worlds, one a seed, and tells of the first promise that one breaks. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "shrink.h"
#include "world.h"

enum { STUCK_SECONDS = 30, STEPS_DEFAULT = 100, EXIT_VIOLATED = 1, EXIT_USAGE = 2 };

struct options {
    uint64_t first, last;
    unsigned steps;
    bool shrink, quiet, go_on, all;
};

/* ---- where the core itself crashes or hangs ---- */

static char seed_now[64]; /* as text, since a signal handler may do little */

static void write_text(const char *text) {
    (void)!write(STDERR_FILENO, text, strlen(text));
}

static void on_signal(int number) {
    write_text(seed_now);
    if (number == SIGALRM) {
        write_text("the worker's code does not come back: it spins\n");
        _exit(EXIT_VIOLATED);
    }
    write_text("the worker's code crashed\n");
    (void)signal(number, SIG_DFL);
    (void)raise(number);
}

static void watch_signals(void) {
    static const int signals[] = {SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGALRM};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        (void)signal(signals[i], on_signal);
}

/* ---- what was found ---- */

static void tell(struct scenario *scenario, const struct options *options, const struct outcome_of_world *found) {
    struct statistics statistics = {0};
    struct outcome_of_world outcome;
    (void)fprintf(stderr, "\nBROKEN: seed %" PRIu64 ": %s: %s\n", scenario->seed, found->promise, found->explanation);
    if (options->quiet)
        return;
    if (options->shrink) {
        (void)alarm(0);
        shrink(scenario, found->promise);
    }
    world_run(scenario, options->all ? TRACING_ALL : TRACING_RELEVANT, &statistics, &outcome);
    const struct portal_settings *settings = &scenario->settings;
    (void)fprintf(stderr,
                  "%u workers, prefetch %u, Stripe at once %u, %u/s, retries %u, policy %d, hold %u s, reuse %u s\n"
                  "again: %s%s\nsimulate --seeds %" PRIu64 " --steps %u --shrink\n",
                  scenario->workers, settings->concurrency, settings->stripe_concurrency, settings->stripe_rate_limit,
                  settings->stripe_max_retries, (int)settings->policy, settings->hold_seconds,
                  settings->session_reuse_seconds, outcome.violated ? outcome.promise : "not broken a second time: ",
                  outcome.violated ? "" : "the simulator is not deterministic", scenario->seed, options->steps);
}

static void summarize(const struct options *options, const struct statistics *total, double seconds, unsigned broken) {
    (void)printf("seeds %" PRIu64 "..%" PRIu64 ", %u messages each: %" PRIu64 " worlds, %" PRIu64 " messages, %" PRIu64
                 " deliveries, %" PRIu64 " replies, %" PRIu64 " calls to Stripe, %" PRIu64 " sessions, %" PRIu64
                 " statements, %" PRIu64 " faults, %" PRIu64 " crashes, %" PRIu64 " steps\n",
                 options->first, options->last, options->steps, total->worlds, total->messages, total->deliveries,
                 total->replies, total->calls, total->sessions, total->statements, total->faults, total->crashes,
                 total->steps);
    for (int i = 0; i <= OUTCOME_FAILED; i++)
        (void)printf("%s%s %" PRIu64, i > 0 ? ", " : "", outcome_name((enum outcome)i), total->outcomes[i]);
    for (int i = CODE_NONE + 1; i <= CODE_POISONOUS; i++)
        (void)printf(", %s %" PRIu64, code_name((enum code)i), total->codes[i]);
    (void)puts("");
    for (int i = 0; i < EVENTS; i++)
        (void)printf("%s%s %" PRIu64, i > 0 ? ", " : "", trace_event_name((enum event_kind)i), total->events[i]);
    (void)printf("\n%.1f s, %.0f messages/s: %s\n", seconds, (double)total->messages / seconds,
                 broken > 0 ? "a promise is BROKEN" : "all promises hold");
}

static double now(void) {
    struct timespec time;
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static unsigned run(const struct options *options) {
    struct statistics total = {0};
    unsigned broken = 0;
    double begun = now();
    for (uint64_t seed = options->first; seed <= options->last && (broken == 0 || options->go_on); seed++) {
        struct scenario scenario;
        struct outcome_of_world outcome;
        (void)snprintf(seed_now, sizeof seed_now, "\nBROKEN: seed %" PRIu64 ": ", seed);
        (void)alarm(STUCK_SECONDS);
        scenario_draw(&scenario, seed, options->steps);
        world_run(&scenario, TRACING_NONE, &total, &outcome);
        (void)alarm(0);
        if (outcome.violated) {
            broken++;
            tell(&scenario, options, &outcome);
        }
        scenario_free(&scenario);
    }
    summarize(options, &total, now() - begun, broken);
    return broken;
}

/* ---- options ---- */

static bool read_number(const char *text, const char **end, uint64_t *ret) {
    char *after = NULL;
    errno = 0;
    *ret = strtoull(text, &after, 10);
    *end = after;
    return errno == 0 && after != text;
}

static bool read_seeds(const char *text, struct options *options) {
    const char *end;
    if (!read_number(text, &end, &options->first))
        return false;
    options->last = options->first;
    if (strncmp(end, "..", 2) == 0 && !read_number(end + 2, &end, &options->last))
        return false;
    return *end == '\0' && options->first <= options->last;
}

static bool read_options(int argc, char *argv[], struct options *options) {
    static const struct option known[] = {
        {"seeds", required_argument, NULL, 's'},
        {"steps", required_argument, NULL, 'n'},
        {"shrink", no_argument, NULL, 'k'},
        {"quiet", no_argument, NULL, 'q'},
        {"go-on", no_argument, NULL, 'g'},
        {"all", no_argument, NULL, 'a'},
        {NULL, 0, NULL, 0},
    };
    int option;
    uint64_t steps;
    const char *end;
    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1)
        switch (option) {
        case 's':
            if (!read_seeds(optarg, options))
                return false;
            break;
        case 'n':
            if (!read_number(optarg, &end, &steps) || *end != '\0' || steps < 1 || steps > SHRINK_MAX)
                return false;
            options->steps = (unsigned)steps;
            break;
        case 'k':
            options->shrink = true;
            break;
        case 'q':
            options->quiet = true;
            break;
        case 'g':
            options->go_on = true;
            break;
        case 'a':
            options->all = true;
            break;
        default:
            return false;
        }
    return optind == argc;
}

int main(int argc, char *argv[]) {
    struct options options = {.first = 1, .last = 100, .steps = STEPS_DEFAULT};
    if (!read_options(argc, argv, &options)) {
        (void)fputs("Usage: simulate [--seeds N[..M]] [--steps K] [--shrink] [--all] [--quiet] [--go-on]\n\n"
                    "Runs a simulated world for each seed, with K messages, and checks the promises of DESIGN.md.\n"
                    "--shrink leaves out of a world that breaks one what is not needed for it; --all traces\n"
                    "all that happens in it, not only what that promise is about; --quiet tells only which\n"
                    "seed and promise; --go-on does not end with the first.\n",
                    stderr);
        return EXIT_USAGE;
    }
    json_object_seed(1); /* the same every time */
    watch_signals();
    return run(&options) > 0 ? EXIT_VIOLATED : EXIT_SUCCESS;
}
