/* retry.c — portalctl retry: the next generation of requests whose answer is stored. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctl-store.h"
#include "dialogue.h"
#include "letter.h"
#include "look.h"
#include "portal/text.h"

enum { STEP_MS = 200, WAIT_SECONDS = 60, ANSWER_SECONDS = 10, WINDOW = 100 };

struct retry {
    char **names;
    bool *sent;          /* of each name */
    int64_t *generation; /* wanted of each */
    size_t count;
    uint64_t wait_seconds;
    uint64_t deadline_seconds; /* 0: none */
    bool force, no_wait, json;
    int stop;
    PGconn *connection;
    struct dialogue dialogue;
    size_t confirmed;
    bool failed; /* one of them can't be retried, or failed again */
};

static void help(FILE *out) {
    fputs("Usage: portalctl retry [OPTION…] REQUEST…\n\n"
          "Works requests again whose stored answer is a failure or a redirect: sends each once more, as\n"
          "it was, as the next generation and with a new deadline. The reply goes where the request\n"
          "wanted it; what came of it is read from the database and printed.\n\n"
          "  --deadline SPAN  how long each is waited for, or \"none\"; default PORTAL_DEADLINE_SECONDS (15m)\n"
          "  --force          also where the answer is a session\n"
          "  --timeout SPAN   how long to wait for the new answers; default 60s\n"
          "  --no-wait        only send them\n"
          "  --json           a line of JSON for each new answer\n\n"
          "Examples:\n"
          "  portalctl retry r-17\n"
          "  portalctl sessions --code stripe_unavailable --since 1h --json | jq -r .request_id \\\n"
          "      | xargs portalctl retry\n\n"
          "Exit status: 0 all were answered, none as failed; 1 some failed again, or were not sent; 75 no\n"
          "new answer in time; and those of \"portalctl --help\". Needs AMQP_URL and DATABASE_URL.\n",
          out);
}

/* ---- the message ---- */

/* The row's properties (portal/request.h, request_properties()) as those of a message; the trace is in the headers. */
static json_t *properties_of(const char *row, int64_t generation, const char *deadline) {
    static const char *const names[] = {"traceparent", "tracestate"};
    json_t *properties = json_loads(row, 0, NULL);
    json_t *headers = json_object();
    for (size_t i = 0; properties && headers && i < sizeof names / sizeof *names; i++) {
        json_t *value = json_object_get(properties, names[i]);
        if (value)
            (void)json_object_set(headers, names[i], value);
        (void)json_object_del(properties, names[i]);
    }
    if (!json_is_object(properties) || json_object_set_new(properties, "headers", headers) < 0) {
        json_decref(properties);
        return NULL;
    }
    return revive(properties, (uint64_t)generation, deadline);
}

static void on_done(void *userdata, struct dialogue_request *request, enum dialogue_end end,
                    const struct wire_message *reply) {
    struct retry *retry = userdata;
    (void)reply;
    retry->confirmed += end == DIALOGUE_SENT;
    retry->failed |= end != DIALOGUE_SENT;
    dialogue_request_free(request);
}

static int submit(struct retry *retry, const char *body, const char *row_properties, int64_t generation) {
    char deadline[TIMESTAMP_SIZE];
    ctl_format_deadline(deadline, retry->deadline_seconds);
    struct dialogue_request *request = calloc(1, sizeof *request);
    json_t *properties = properties_of(row_properties, generation, deadline);
    char *copy = strdup(body);
    if (!request || !properties || !copy) {
        free(request);
        free(copy);
        json_decref(properties);
        return ctl_complain(CTL_FAILED, NULL, "out of memory");
    }
    *request = (struct dialogue_request){.body = copy, .body_length = strlen(copy), .properties = properties};
    dialogue_send(&retry->dialogue, request);
    return 0;
}

/* ---- sending ---- */

/* ctl_query(), but Ctrl-C ends nothing here by itself: a database that stands still must not hold it for ever. */
static PGresult *ask(struct retry *retry, const char *sql, int count, const char *const *values, int *status) {
    PGresult *result = PQsendQueryParams(retry->connection, sql, count, NULL, values, NULL, NULL, 0)
                           ? database_result(retry->connection, ANSWER_SECONDS)
                           : NULL;
    if (PQresultStatus(result) == PGRES_TUPLES_OK)
        return result;
    if (result || *PQerrorMessage(retry->connection))
        *status = ctl_query_complain(retry->connection, result, "portal.sessions", NULL);
    else
        *status = ctl_complain(CTL_UNAVAILABLE, "\"portalctl check\" looks at it.",
                               "PostgreSQL does not answer within %d s", ANSWER_SECONDS);
    PQclear(result);
    return NULL;
}

static int refuse(struct retry *retry, const char *next, const char *name, const char *why) {
    retry->failed = true;
    (void)ctl_complain(CTL_FAILED, next, "%s: %s", name, why);
    return 0;
}

/* One of the requests. Result: 0 or an exit status. */
static int send_one(struct retry *retry, size_t i) {
    static const char sql[] = "SELECT generation, outcome, body, properties FROM portal.sessions WHERE request_id = $1";
    const char *const values[] = {retry->names[i]};
    int status = 0;
    AUTOCLEAR PGresult *result = ask(retry, sql, 1, values, &status);
    if (!result)
        return status;
    if (PQntuples(result) == 0)
        return refuse(retry, "Dead letters are not all in the database: \"portalctl dead list\" shows them.",
                      retry->names[i], "there is no answer to such a request");
    const char *outcome = PQgetvalue(result, 0, 1);
    bool session = strcmp(outcome, "created") == 0 || strcmp(outcome, "reused") == 0;
    if (session && !retry->force)
        return refuse(retry, "--force asks for another all the same.", retry->names[i], "was answered with a session");
    retry->sent[i] = true;
    retry->generation[i] = ctl_value_number(result, 0, 0) + 1;
    return submit(retry, PQgetvalue(result, 0, 2), PQgetvalue(result, 0, 3), retry->generation[i]);
}

static int explain(struct retry *retry, int error) {
    if (error == -ECANCELED)
        return ctl_complain(CTL_INTERRUPTED, NULL, "interrupted");
    return error == -EHOSTUNREACH ? CTL_UNAVAILABLE : wire_complain(&retry->dialogue.wire);
}

static int send_all(struct retry *retry) {
    size_t next = 0;
    while (next < retry->count || retry->dialogue.count > 0) {
        if (next < retry->count && retry->dialogue.count < WINDOW) {
            int status = send_one(retry, next++);
            if (status)
                return status;
        }
        int r = dialogue_step(&retry->dialogue, next < retry->count && retry->dialogue.count < WINDOW ? 0 : STEP_MS);
        if (r < 0)
            return explain(retry, r);
    }
    return 0;
}

/* ---- what comes of them ---- */

/* Prints the answer where there is a new one. Result: 1; 0: not yet; or a negated exit status. */
static int look(struct retry *retry, size_t i, struct grid *grid) {
    static const char sql[] = "SELECT generation, outcome, code, session_id, answer::json -> 'error' ->> 'message'"
                              " FROM portal.sessions WHERE request_id = $1 AND generation >= $2::int8";
    char generation[24];
    const char *const values[] = {retry->names[i], generation};
    int status = 0;
    (void)snprintf(generation, sizeof generation, "%" PRId64, retry->generation[i]);
    AUTOCLEAR PGresult *result = ask(retry, sql, 2, values, &status);
    if (!result)
        return -status;
    if (PQntuples(result) == 0)
        return 0;
    const char *outcome = PQgetvalue(result, 0, 1);
    const char *code = ctl_value(result, 0, 2);
    retry->failed |= strcmp(outcome, "failed") == 0;
    if (retry->json) {
        json_t *json = json_pack("{ss sI ss ss? ss? ss?}", "request_id", retry->names[i], "generation",
                                 (json_int_t)ctl_value_number(result, 0, 0), "outcome", outcome, "code", code,
                                 "session_id", ctl_value(result, 0, 3), "message", ctl_value(result, 0, 4));
        (void)print_json(stdout, json);
        json_decref(json);
        return 1;
    }
    grid_add(grid, retry->names[i], grid->look.cyan);
    grid_add(grid, PQgetvalue(result, 0, 0), NULL);
    grid_addf(grid, look_of_outcome(&grid->look, outcome), "%s%s%s", outcome, code ? " " : "", code ? code : "");
    grid_add(grid, ctl_value(result, 0, 4) ? ctl_value(result, 0, 4) : ctl_value(result, 0, 3), NULL);
    return 1;
}

/* One that has no answer keeps nobody from the others': each is looked for once, also when the time is over. */
static int wait_all(struct retry *retry, struct grid *grid) {
    static const char next[] =
        "\"portalctl status\" shows what the workers do, \"portalctl dead list\" what they gave up.";
    uint64_t end = ctl_monotonic() + retry->wait_seconds * 1000000;
    int status = 0;
    for (size_t i = 0; i < retry->count; i++) {
        int r = retry->sent[i] ? look(retry, i, grid) : 1;
        while (r == 0 && ctl_monotonic() <= end) {
            if (!ctl_stop_sleep(retry->stop, STEP_MS))
                return ctl_complain(CTL_INTERRUPTED, NULL, "interrupted; what was sent is worked all the same");
            r = look(retry, i, grid);
        }
        if (r < 0)
            return -r;
        if (r == 0)
            status = ctl_complain(CTL_LATE, status ? NULL : next, "no new answer to %s within %" PRIu64 " s",
                                  retry->names[i], retry->wait_seconds);
    }
    return status;
}

static void tell_sent(const struct retry *retry) {
    if (!retry->json)
        printf("sent %zu request%s\n", retry->confirmed, retry->confirmed == 1 ? "" : "s");
    for (size_t i = 0; retry->json && i < retry->count; i++) {
        json_t *json = json_pack("{ss sI}", "request_id", retry->names[i], "generation", retry->generation[i]);
        if (retry->sent[i])
            (void)print_json(stdout, json);
        json_decref(json);
    }
}

static int converse(struct retry *retry, const struct settings *settings) {
    static const char *const titles[] = {"REQUEST", "GEN", "OUTCOME", "SESSION OR MESSAGE", NULL};
    struct grid grid;
    int status = 0;
    AUTOFINISH PGconn *connection = ctl_database(&status);
    if (!connection)
        return status;
    retry->connection = connection;
    retry->stop = ctl_stop_open();
    retry->dialogue.done = on_done;
    retry->dialogue.userdata = retry;
    if (dialogue_open(&retry->dialogue, &settings->broker, retry->stop, false) < 0)
        return wire_complain(&retry->dialogue.wire);
    status = send_all(retry);
    if (status == 0 && !retry->no_wait) {
        grid_begin(&grid, stdout, titles);
        status = wait_all(retry, &grid);
        grid_end(&grid);
    } else if (status == 0)
        tell_sent(retry);
    return status ? status : retry->failed ? CTL_FAILED : CTL_DONE;
}

static int run(struct retry *retry, bool deadline_given) {
    static const char *const names[] = {"AMQP_URL", "PORTAL_DEADLINE_SECONDS", NULL};
    AUTOSETTINGS struct settings settings = {0};
    int status = ctl_settings(&settings, names);
    if (status)
        return status;
    if (!deadline_given)
        retry->deadline_seconds = settings.portal.deadline_seconds;
    retry->sent = calloc(retry->count + 1, sizeof *retry->sent);
    retry->generation = calloc(retry->count + 1, sizeof *retry->generation);
    retry->stop = -1;
    status =
        retry->sent && retry->generation ? converse(retry, &settings) : ctl_complain(CTL_FAILED, NULL, "out of memory");
    dialogue_close(&retry->dialogue);
    if (retry->stop >= 0)
        (void)close(retry->stop);
    free(retry->sent);
    free(retry->generation);
    return status;
}

/* ---- the command line ---- */

static const struct option options[] = {
    {"deadline", required_argument, NULL, 'D'},
    {"force", no_argument, NULL, 'f'},
    {"timeout", required_argument, NULL, 't'},
    {"no-wait", no_argument, NULL, 'n'},
    {"json", no_argument, NULL, 'j'},
    {"help", no_argument, NULL, 'h'},
    {0},
};

static int take_option(struct retry *retry, const char *title, int option) {
    switch (option) {
    case 'D':
        return ctl_read_deadline(title, optarg, &retry->deadline_seconds);
    case 't':
        return ctl_read_duration(title, "--timeout", optarg, &retry->wait_seconds);
    case 'f':
        retry->force = true;
        return 0;
    case 'n':
        retry->no_wait = true;
        return 0;
    case 'j':
        retry->json = true;
        return 0;
    default:
        return ctl_unknown(title);
    }
}

int ctl_retry(int argc, char **argv) {
    struct retry *retry = calloc(1, sizeof *retry);
    bool deadline_given = false;
    int status = 0;
    if (!retry)
        return ctl_complain(CTL_FAILED, NULL, "out of memory");
    retry->wait_seconds = WAIT_SECONDS;
    for (int option; status == 0 && (option = getopt_long(argc, argv, "h", options, NULL)) >= 0;) {
        if (option == 'h') {
            help(stdout);
            free(retry);
            return CTL_DONE;
        }
        deadline_given |= option == 'D';
        status = take_option(retry, argv[0], option);
    }
    retry->names = argv + optind;
    retry->count = (size_t)(argc - optind);
    if (status == 0 && retry->count == 0)
        status = ctl_misused(argv[0], "which requests? \"portalctl sessions --outcome failed\" lists them");
    status = status ? status : run(retry, deadline_given);
    free(retry);
    return status;
}
