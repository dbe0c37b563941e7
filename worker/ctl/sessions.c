/* sessions.c — portalctl sessions: finds stored answers. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "ctl-store.h"
#include "look.h"
#include "portal/text.h"

enum { LIMIT = 50, PARAMETERS_MAX = 16 };

/* A statement under construction, with its values as texts. */
struct search {
    struct text where;
    const char *values[PARAMETERS_MAX];
    char numbers[PARAMETERS_MAX][24];
    int count;
    uint64_t limit;
    bool json, show_url;
};

static void help(FILE *out) {
    fputs("Usage: portalctl sessions [OPTION…] [REQUEST…]\n\n"
          "Finds what requests were answered, the newest first.\n\n"
          "  --team ID        of this team\n"
          "  --user ID        asked for by this user\n"
          "  --outcome O      created, reused, redirect or failed\n"
          "  --code C         with this code: stripe_error, team_not_found, no_subscription, …\n"
          "  --since TIME     answered since: RFC 3339, or how long ago: 30m, 2h, 7d\n"
          "  --until TIME     answered before\n"
          "  --limit N        at most so many; default 50\n"
          "  --show-url       also the portal URL while it works: a credential\n"
          "  --json           a line of JSON for each\n\n"
          "Examples:\n"
          "  portalctl sessions --outcome failed --since 1h\n"
          "  portalctl sessions --team 42 --limit 5\n"
          "  portalctl sessions r-17 --json\n\n"
          "Exit status: 0 also where nothing was found, but 1 where a REQUEST was not; and those of\n"
          "\"portalctl --help\". Needs DATABASE_URL.\n",
          out);
}

/* One more condition; its value is the next parameter. */
static void add(struct search *search, const char *condition, const char *value) {
    search->values[search->count++] = value;
    text_appendf(&search->where, " AND %s $%d", condition, search->count);
}

static const char *number_text(struct search *search, uint64_t number) {
    char *text = search->numbers[search->count];
    (void)snprintf(text, sizeof search->numbers[0], "%" PRIu64, number);
    return text;
}

static int add_id(struct search *search, const char *title, const char *option, const char *condition) {
    uint64_t id = 0;
    int status = ctl_read_number(title, option, optarg, 1, INT64_MAX, &id);
    if (status == 0)
        add(search, condition, number_text(search, id));
    return status;
}

static int add_time(struct search *search, const char *title, const char *option, const char *comparison) {
    uint64_t time = 0;
    int status = ctl_read_time(title, option, optarg, &time);
    if (status)
        return status;
    search->values[search->count] = number_text(search, time);
    search->count++;
    text_appendf(&search->where, " AND answered_at %s to_timestamp($%d::int8 / 1e6)", comparison, search->count);
    return 0;
}

static int add_outcome(struct search *search, const char *title) {
    static const char *const outcomes[] = {"created", "reused", "redirect", "failed"};
    for (size_t i = 0; i < sizeof outcomes / sizeof *outcomes; i++)
        if (strcmp(optarg, outcomes[i]) == 0) {
            add(search, "outcome =", optarg);
            return 0;
        }
    return ctl_misused(title, "--outcome \"%s\": has to be created, reused, redirect or failed", optarg);
}

/* A list of ids as an array of PostgreSQL's: ids are plain ASCII, what else is given is no id. */
static int add_requests(struct search *search, const char *title, char **names, struct text *list) {
    if (!names[0])
        return 0;
    text_append(list, "{");
    for (size_t i = 0; names[i]; i++) {
        size_t length = strspn(names[i], "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-");
        if (length == 0 || names[i][length])
            return ctl_misused(title, "\"%s\" is no request_id: 1 to 128 of A-Za-z0-9._:-", names[i]);
        text_appendf(list, "%s\"%s\"", i > 0 ? "," : "", names[i]);
    }
    text_append(list, "}");
    if (list->failed)
        return ctl_complain(CTL_FAILED, NULL, "out of memory");
    search->values[search->count++] = list->data;
    text_appendf(&search->where, " AND request_id = ANY ($%d::text[])", search->count);
    return 0;
}

/* ---- showing ---- */

enum column {
    ID,
    GENERATION,
    OUTCOME,
    CODE,
    TEAM,
    USER,
    ANSWERED,
    SESSION,
    CUSTOMER,
    CONFIGURATION,
    EXPIRES,
    LEFT,
    STANDS,
    FRESH,
    MESSAGE,
    URL
};

static const char columns[] =
    "SELECT request_id, generation, outcome, code, team_id, user_id,"
    " to_char(answered_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), session_id, customer, configuration,"
    " to_char(url_expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'),"
    " greatest(0, extract(epoch FROM url_expires_at - clock_timestamp()))::int8,"
    " stands_until > clock_timestamp() AND (session_id IS NULL OR url IS NOT NULL), fresh,"
    " answer::json -> 'error' ->> 'message', url FROM portal.sessions WHERE true";

static json_t *text_json(const PGresult *result, int row, int column) {
    const char *value = ctl_value(result, row, column);
    return value ? json_string(value) : NULL;
}

static json_t *number_json(const PGresult *result, int row, int column) {
    return ctl_value(result, row, column) ? json_integer(ctl_value_number(result, row, column)) : NULL;
}

static bool is_true(const PGresult *result, int row, int column) {
    const char *value = ctl_value(result, row, column);
    return value && *value == 't';
}

static int print_row_json(const struct search *search, const PGresult *result, int row) {
    json_t *json = json_pack(
        "{so so so so? so? so? so so? so? so? so? sb sb so?}", "request_id", text_json(result, row, ID), "generation",
        number_json(result, row, GENERATION), "outcome", text_json(result, row, OUTCOME), "code",
        text_json(result, row, CODE), "team_id", number_json(result, row, TEAM), "user_id",
        number_json(result, row, USER), "answered_at", text_json(result, row, ANSWERED), "session_id",
        text_json(result, row, SESSION), "customer", text_json(result, row, CUSTOMER), "configuration",
        text_json(result, row, CONFIGURATION), "url_expires_at", text_json(result, row, EXPIRES), "stands",
        is_true(result, row, STANDS), "fresh", is_true(result, row, FRESH), "message", text_json(result, row, MESSAGE));
    if (json && search->show_url)
        (void)json_object_set_new(json, "url", ctl_value(result, row, URL) ? text_json(result, row, URL) : json_null());
    int r = json ? print_json(stdout, json) : -ENOMEM;
    json_decref(json);
    return r;
}

static void print_row(const struct search *search, struct grid *grid, const PGresult *result, int row) {
    const char *outcome = ctl_value(result, row, OUTCOME);
    const char *code = ctl_value(result, row, CODE);
    const char *url = ctl_value(result, row, URL);
    int64_t left = ctl_value_number(result, row, LEFT);
    char who[64] = "";
    char span[CTL_SPAN_SIZE];
    ctl_format_span(span, (uint64_t)left);
    if (ctl_value(result, row, TEAM))
        (void)snprintf(who, sizeof who, "%s", ctl_value(result, row, TEAM));
    if (ctl_value(result, row, USER))
        (void)snprintf(who + strlen(who), sizeof who - strlen(who), "%suser %s", *who ? ", " : "",
                       ctl_value(result, row, USER));
    grid_add(grid, ctl_value(result, row, ANSWERED), NULL);
    grid_add(grid, ctl_value(result, row, ID), grid->look.cyan);
    grid_add(grid, ctl_value(result, row, GENERATION), NULL);
    grid_addf(grid, look_of_outcome(&grid->look, outcome), "%s%s%s", outcome, code ? " " : "", code ? code : "");
    grid_add(grid, who, NULL);
    grid_add(grid, url ? span : NULL, NULL);
    if (search->show_url)
        grid_add(grid, url, NULL);
    else
        grid_add(grid,
                 ctl_value(result, row, MESSAGE) ? ctl_value(result, row, MESSAGE) : ctl_value(result, row, SESSION),
                 NULL);
}

static int print(const struct search *search, const PGresult *result) {
    const char *const titles[] = {
        "ANSWERED", "REQUEST", "GEN", "OUTCOME", "TEAM", "URL LEFT", search->show_url ? "URL" : "SESSION OR MESSAGE",
        NULL};
    int rows = PQntuples(result);
    struct grid grid;
    grid_begin(&grid, stdout, titles);
    for (int row = 0; row < rows; row++) {
        if (!search->json)
            print_row(search, &grid, result, row);
        else if (print_row_json(search, result, row) < 0)
            return ctl_complain(CTL_FAILED, NULL, "out of memory");
    }
    grid_end(&grid);
    if (!search->json && rows == 0)
        fputs("no answers\n", stderr);
    if (!search->json && (uint64_t)rows == search->limit)
        fprintf(stderr, "the newest %" PRIu64 "; --limit shows more\n", search->limit);
    return CTL_DONE;
}

/* Names each request that is not there. */
static int tell_missing(const PGresult *result, char **names) {
    int status = CTL_DONE;
    for (size_t i = 0; names[i]; i++) {
        bool found = false;
        for (int row = 0; row < PQntuples(result); row++)
            found |= strcmp(PQgetvalue(result, row, ID), names[i]) == 0;
        if (!found)
            status = ctl_complain(CTL_FAILED, NULL, "%s: there is no answer to such a request", names[i]);
    }
    return status;
}

static int run(struct search *search, char **names) {
    int status = 0;
    text_appendf(&search->where, " ORDER BY answered_at DESC, request_id LIMIT %" PRIu64, search->limit);
    struct text sql = {0};
    text_append(&sql, columns);
    text_append(&sql, search->where.failed ? "" : search->where.data);
    AUTOFREE char *statement = search->where.failed ? NULL : text_take(&sql);
    text_clear(&sql);
    if (!statement)
        return ctl_complain(CTL_FAILED, NULL, "out of memory");
    AUTOFINISH PGconn *connection = ctl_database(&status);
    if (!connection)
        return status;
    AUTOCLEAR PGresult *result =
        ctl_query(connection, "portal.sessions", statement, search->count, search->values, &status);
    if (!result)
        return status;
    status = print(search, result);
    return status ? status : tell_missing(result, names);
}

/* ---- the command line ---- */

static const struct option options[] = {
    {"team", required_argument, NULL, 't'},
    {"user", required_argument, NULL, 'u'},
    {"outcome", required_argument, NULL, 'o'},
    {"code", required_argument, NULL, 'c'},
    {"since", required_argument, NULL, 's'},
    {"until", required_argument, NULL, 'b'},
    {"limit", required_argument, NULL, 'l'},
    {"show-url", no_argument, NULL, 'w'},
    {"json", no_argument, NULL, 'j'},
    {"help", no_argument, NULL, 'h'},
    {0},
};

static int take_option(struct search *search, const char *title, int option) {
    if (search->count > PARAMETERS_MAX - 2)
        return ctl_misused(title, "too many conditions");
    switch (option) {
    case 't':
        return add_id(search, title, "--team", "team_id =");
    case 'u':
        return add_id(search, title, "--user", "user_id =");
    case 'o':
        return add_outcome(search, title);
    case 'c':
        add(search, "code =", optarg);
        return 0;
    case 's':
        return add_time(search, title, "--since", ">=");
    case 'b':
        return add_time(search, title, "--until", "<");
    case 'l':
        return ctl_read_number(title, "--limit", optarg, 1, 1000000, &search->limit);
    case 'w':
        search->show_url = true;
        return 0;
    case 'j':
        search->json = true;
        return 0;
    default:
        return ctl_unknown(title);
    }
}

int ctl_sessions(int argc, char **argv) {
    struct search search = {.limit = LIMIT};
    struct text list = {0};
    int status = 0;
    text_append(&search.where, "");
    for (int option; status == 0 && (option = getopt_long(argc, argv, "h", options, NULL)) >= 0;) {
        if (option == 'h') {
            text_clear(&search.where);
            help(stdout);
            return CTL_DONE;
        }
        status = take_option(&search, argv[0], option);
    }
    status = status ? status : add_requests(&search, argv[0], argv + optind, &list);
    status = status ? status : run(&search, argv + optind);
    text_clear(&search.where);
    text_clear(&list);
    return status;
}
