/* status.c — portalctl status: one screen that says how things are. */
#include "status.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "look.h"
#include "portal/names.h"

static void help(FILE *out) {
    fputs("Usage: portalctl status [OPTION…]\n\n"
          "One screen: what each worker does and what it waits for, what is queued, how often Stripe is\n"
          "called against the limit, what requests were answered in the last minutes.\n\n"
          "  --watch[=SPAN]   again and again, each 2 s unless told otherwise, until Ctrl-C\n"
          "  --json           as a line of JSON\n\n"
          "Examples:\n"
          "  portalctl status\n"
          "  portalctl status --watch=5s\n"
          "  portalctl status --json | jq '.broker.queues[\"portal.dead\"].waiting'\n\n"
          "Exit status: 0; 1 no worker lives, or one is paused; 69 RabbitMQ or PostgreSQL could not be\n"
          "asked; and those of \"portalctl --help\". Needs AMQP_URL and DATABASE_URL, one of which may be\n"
          "missing.\n",
          out);
}

/* ---- showing ---- */

static json_int_t number(const json_t *object, const char *name) {
    return json_integer_value(json_object_get(object, name));
}

static bool is_silent(const json_t *worker) {
    return number(worker, "seen_seconds") > STATUS_SILENT_SECONDS;
}

static bool is_paused(const json_t *worker) {
    const char *name;
    const json_t *cause;
    bool paused = false;
    json_object_foreach(json_object_get(json_object_get(worker, "state"), "waiting_for"), name, cause) {
        paused |= json_is_object(cause);
    }
    return paused;
}

static const char *state_of(const json_t *worker, const struct look *look, const char **colour) {
    const json_t *state = json_object_get(worker, "state");
    *colour = is_silent(worker) || is_paused(worker) ? look->red : look->green;
    if (is_silent(worker))
        return "silent";
    if (json_is_true(json_object_get(state, "draining")))
        return "stopping";
    if (is_paused(worker))
        return "paused";
    return number(state, "in_hand") > 0 ? "working" : "ready";
}

static void add_span(struct grid *grid, uint64_t seconds) {
    char text[CTL_SPAN_SIZE];
    ctl_format_span(text, seconds);
    grid_add(grid, text, NULL);
}

static void print_workers(FILE *out, const json_t *workers) {
    static const char *const titles[] = {"WORKER", "STATE", "IN HAND", "REQUESTS/S", "OLDEST",
                                         "UP",     "SEEN",  "VERSION", NULL};
    struct grid grid;
    size_t i;
    const json_t *worker;
    uint64_t now = ctl_wall() / 1000000;
    grid_begin(&grid, out, titles);
    json_array_foreach(workers, i, worker) {
        const json_t *state = json_object_get(worker, "state");
        const char *colour;
        const char *word = state_of(worker, &grid.look, &colour);
        uint64_t started = (uint64_t)number(state, "started_at");
        grid_add(&grid, json_string_value(json_object_get(worker, "name")), grid.look.cyan);
        grid_add(&grid, word, colour);
        grid_addf(&grid, NULL, "%" PRId64 " of %" PRId64, (int64_t)number(state, "in_hand"),
                  (int64_t)number(json_object_get(state, "settings"), "concurrency"));
        grid_addf(&grid, NULL, "%.1f", json_number_value(json_object_get(state, "requests_per_second")));
        grid_addf(&grid, NULL, "%.1f s", (double)number(state, "oldest_ms") / 1000);
        add_span(&grid, now > started ? now - started : 0);
        grid_addf(&grid, NULL, "%" PRId64 " s ago", (int64_t)number(worker, "seen_seconds"));
        grid_add(&grid, json_string_value(json_object_get(state, "version")), NULL);
    }
    grid_end(&grid);
    if (json_array_size(workers) == 0)
        fprintf(out, "%sno worker was heard of in the last 15 minutes%s\n", grid.look.red, grid.look.plain);
}

/* What is paused and why. */
static void print_pauses(FILE *out, const json_t *workers) {
    const struct look look = look_of(out);
    size_t i;
    const json_t *worker;
    const char *name;
    const json_t *pause;
    json_array_foreach(workers, i, worker) {
        if (is_silent(worker))
            fprintf(out, "%s%s%s ended without a word, or can't reach the database: journalctl -u 'portal-worker*'\n",
                    look.red, json_string_value(json_object_get(worker, "name")), look.plain);
        json_object_foreach(json_object_get(json_object_get(worker, "state"), "waiting_for"), name, pause) {
            char span[CTL_SPAN_SIZE];
            if (!json_is_object(pause) || is_silent(worker))
                continue;
            ctl_format_span(span, (uint64_t)number(pause, "seconds"));
            const char *link = strcmp(name, "broker") == 0  ? "RabbitMQ"
                               : strcmp(name, "store") == 0 ? "PostgreSQL"
                                                            : "Stripe";
            fprintf(out, "%s%s%s waits for %s since %s: ", look.red, json_string_value(json_object_get(worker, "name")),
                    look.plain, link, span);
            ctl_write_text(out, json_string_value(json_object_get(pause, "cause")));
            fputc('\n', out);
        }
    }
}

static void print_queues(FILE *out, const json_t *queues) {
    static const char *const titles[] = {"QUEUE", "WAITING", "CONSUMERS", " ", NULL};
    struct grid grid;
    const char *name;
    const json_t *queue;
    grid_begin(&grid, out, titles);
    json_object_foreach((json_t *)queues, name, queue) {
        bool dead = strcmp(name, QUEUE_DEAD) == 0 && number(queue, "waiting") > 0;
        bool idle = strcmp(name, QUEUE_REQUESTS) == 0 && number(queue, "consumers") == 0;
        grid_add(&grid, name, NULL);
        if (json_is_null(queue)) {
            grid_add(&grid, "missing", grid.look.red);
            grid_add(&grid, NULL, NULL);
            grid_add(&grid, "a worker that starts declares it", NULL);
            continue;
        }
        grid_addf(&grid, dead ? grid.look.yellow : NULL, "%" PRId64, (int64_t)number(queue, "waiting"));
        grid_addf(&grid, idle ? grid.look.red : NULL, "%" PRId64, (int64_t)number(queue, "consumers"));
        grid_add(&grid, dead ? "\"portalctl dead list\" says why" : idle ? "nobody takes requests" : " ", NULL);
    }
    grid_end(&grid);
}

/* What all workers of an account together call an endpoint a second. */
static double calls_of(const json_t *workers, const json_t *limit) {
    const char *endpoint = json_string_value(json_object_get(limit, "endpoint"));
    double sum = 0;
    size_t i;
    const json_t *worker;
    json_array_foreach(workers, i, worker) {
        const json_t *state = json_object_get(worker, "state");
        const json_t *settings = json_object_get(state, "settings");
        if (!is_silent(worker) &&
            json_equal(json_object_get(settings, "namespace"), json_object_get(limit, "account")) &&
            json_equal(json_object_get(settings, "livemode"), json_object_get(limit, "livemode")))
            sum += json_number_value(json_object_get(json_object_get(state, "calls_per_second"), endpoint));
    }
    return sum;
}

static void print_limits(FILE *out, const json_t *limits, const json_t *workers) {
    static const char *const titles[] = {"STRIPE ENDPOINT", "ACCOUNT", "CALLS/S", "LIMIT", "BOOKED AHEAD", " ", NULL};
    struct grid grid;
    size_t i;
    const json_t *limit;
    grid_begin(&grid, out, titles);
    json_array_foreach(limits, i, limit) {
        const json_t *rate = json_object_get(limit, "per_second");
        json_int_t slowed = number(limit, "slowed_seconds");
        grid_add(&grid, json_string_value(json_object_get(limit, "endpoint")), NULL);
        grid_addf(&grid, NULL, "%s, %s", json_string_value(json_object_get(limit, "account")),
                  json_is_true(json_object_get(limit, "livemode")) ? "live" : "test");
        grid_addf(&grid, NULL, "%.1f", calls_of(workers, limit));
        if (json_is_number(rate))
            grid_addf(&grid, NULL, "%g/s", json_number_value(rate));
        else
            grid_add(&grid, "none", NULL);
        grid_addf(&grid, NULL, "%.1f s", (double)number(limit, "booked_ms") / 1000);
        if (slowed > 0)
            grid_addf(&grid, grid.look.yellow, "slowed down for %" PRId64 " s, as Stripe asked (429)", (int64_t)slowed);
        else
            grid_add(&grid, " ", NULL);
    }
    grid_end(&grid);
}

static void print_outcomes(FILE *out, const json_t *database) {
    const struct look look = look_of(out);
    const json_t *outcomes = json_object_get(database, "outcomes");
    size_t i;
    const json_t *one;
    fprintf(out, "%sAnswered in the last %d minutes:%s", look.bold, STATUS_MINUTES, look.plain);
    json_array_foreach(outcomes, i, one) {
        const char *outcome = json_string_value(json_object_get(one, "outcome"));
        const char *code = json_string_value(json_object_get(one, "code"));
        fprintf(out, "%s %" PRId64 " %s%s%s%s%s", i > 0 ? "," : "", (int64_t)number(one, "count"),
                look_of_outcome(&look, outcome), outcome, code ? " " : "", code ? code : "", look.plain);
    }
    fputs(json_array_size(outcomes) == 0 ? " nothing\n" : "\n", out);
}

static void print_error(FILE *out, const char *what, const json_t *part) {
    const struct look look = look_of(out);
    const char *error = json_string_value(json_object_get(part, "error"));
    if (!error)
        return;
    fprintf(out, "%s%s can't be asked:%s ", look.red, what, look.plain);
    ctl_write_text(out, error);
    fputc('\n', out);
}

void status_print(FILE *out, const json_t *status) {
    const struct look look = look_of(out);
    const json_t *database = json_object_get(status, "database");
    const json_t *broker = json_object_get(status, "broker");
    const json_t *workers = json_object_get(database, "workers");
    fprintf(out, "%sportal-worker%s, %s\n\n", look.bold, look.plain, json_string_value(json_object_get(status, "at")));
    print_error(out, "PostgreSQL", database);
    print_error(out, "RabbitMQ", broker);
    if (json_object_get(database, "error") || json_object_get(broker, "error"))
        fputs("  \"portalctl check\" says what to do.\n\n", out);
    if (json_is_array(workers)) {
        print_workers(out, workers);
        print_pauses(out, workers);
        fputc('\n', out);
    }
    if (json_object_size(json_object_get(broker, "queues")) > 0) {
        print_queues(out, json_object_get(broker, "queues"));
        fputc('\n', out);
    }
    if (json_array_size(json_object_get(database, "limits")) > 0) {
        print_limits(out, json_object_get(database, "limits"), workers);
        fputc('\n', out);
    }
    if (json_is_array(json_object_get(database, "outcomes")))
        print_outcomes(out, database);
}

int status_verdict(const json_t *status) {
    const json_t *database = json_object_get(status, "database");
    size_t i;
    const json_t *worker;
    bool lives = false;
    bool paused = false;
    if (json_object_get(database, "error") || json_object_get(json_object_get(status, "broker"), "error"))
        return CTL_UNAVAILABLE;
    json_array_foreach(json_object_get(database, "workers"), i, worker) {
        lives |= !is_silent(worker);
        paused |= !is_silent(worker) && is_paused(worker);
    }
    return lives && !paused ? CTL_DONE : CTL_FAILED;
}

/* ---- the command ---- */

static int show(struct status_source *source, bool json, bool redraw) {
    json_t *status = status_look(source);
    if (!status)
        return ctl_complain(CTL_FAILED, NULL, "out of memory");
    if (redraw)
        fputs("\033[H\033[J", stdout);
    if (json)
        (void)print_json(stdout, status);
    else
        status_print(stdout, status);
    (void)fflush(stdout);
    int verdict = status_verdict(status);
    json_decref(status);
    return verdict;
}

static int run(bool json, uint64_t watch_seconds) {
    struct status_source source = {0};
    int stop = watch_seconds > 0 ? ctl_stop_open() : -1;
    int status = status_open(&source, stop);
    if (status == 0) {
        bool redraw = watch_seconds > 0 && !json && isatty(STDOUT_FILENO);
        do
            status = show(&source, json, redraw);
        while (watch_seconds > 0 && !ferror(stdout) && ctl_stop_sleep(stop, (unsigned)watch_seconds * 1000));
    }
    status_close(&source);
    if (stop >= 0)
        (void)close(stop);
    return status;
}

int ctl_status(int argc, char **argv) {
    static const struct option options[] = {
        {"watch", optional_argument, NULL, 'w'},
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    bool json = false;
    uint64_t watch_seconds = 0;
    int status = 0;
    for (int option; status == 0 && (option = getopt_long(argc, argv, "h", options, NULL)) >= 0;) {
        if (option == 'h') {
            help(stdout);
            return CTL_DONE;
        }
        if (option == 'j')
            json = true;
        else if (option == 'w') {
            watch_seconds = 2;
            if (optarg)
                status = ctl_read_duration(argv[0], "--watch", optarg, &watch_seconds);
            if (status == 0 && (watch_seconds == 0 || watch_seconds > 86400))
                status = ctl_misused(argv[0], "--watch: from 1s to 1d");
        } else
            status = ctl_unknown(argv[0]);
    }
    status = status ? status : ctl_no_more(argc, argv);
    return status ? status : run(json, watch_seconds);
}
