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

/* A statement under construction, with its values as texts, and what came of it. */
struct search {
    struct text where;
    const char *values[PARAMETERS_MAX];
    char numbers[PARAMETERS_MAX][24];
    int count;
    char **names;   /* the requests that are looked for, NULL at the end; none: any */
    bool *found;    /* of each name: there was an answer */
    uint64_t limit; /* 0: the default */
    bool json, show_url;

    struct grid grid;
    uint64_t rows;
    bool more;  /* there are more than the limit */
    int status; /* of showing them */
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
          "  --limit N        at most so many; default 50, or all that are named\n"
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
static int add_requests(struct search *search, const char *title, struct text *list) {
    char **names = search->names;
    size_t count = 0;
    if (!names[0])
        return 0;
    text_append(list, "{");
    for (size_t i = 0; names[i]; i++, count++) {
        size_t length = strspn(names[i], "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-");
        if (length == 0 || names[i][length])
            return ctl_misused(title, "\"%s\" is no request_id: 1 to 128 of A-Za-z0-9._:-", names[i]);
        text_appendf(list, "%s\"%s\"", i > 0 ? "," : "", names[i]);
    }
    text_append(list, "}");
    search->found = calloc(count + 1, sizeof *search->found);
    if (list->failed || !search->found)
        return ctl_complain(CTL_FAILED, NULL, "out of memory");
    if (search->limit == 0)
        search->limit = count;
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

static json_t *text_json(const PGresult *row, int column) {
    const char *value = ctl_value(row, 0, column);
    return value ? json_string(value) : NULL;
}

static json_t *number_json(const PGresult *row, int column) {
    return ctl_value(row, 0, column) ? json_integer(ctl_value_number(row, 0, column)) : NULL;
}

static bool is_true(const PGresult *row, int column) {
    const char *value = ctl_value(row, 0, column);
    return value && *value == 't';
}

static int print_row_json(const struct search *search, const PGresult *row) {
    json_t *json =
        json_pack("{so so so so? so? so? so so? so? so? so? sb sb so?}", "request_id", text_json(row, ID), "generation",
                  number_json(row, GENERATION), "outcome", text_json(row, OUTCOME), "code", text_json(row, CODE),
                  "team_id", number_json(row, TEAM), "user_id", number_json(row, USER), "answered_at",
                  text_json(row, ANSWERED), "session_id", text_json(row, SESSION), "customer", text_json(row, CUSTOMER),
                  "configuration", text_json(row, CONFIGURATION), "url_expires_at", text_json(row, EXPIRES), "stands",
                  is_true(row, STANDS), "fresh", is_true(row, FRESH), "message", text_json(row, MESSAGE));
    if (json && search->show_url)
        (void)json_object_set_new(json, "url", ctl_value(row, 0, URL) ? text_json(row, URL) : json_null());
    int r = json ? print_json(stdout, json) : -ENOMEM;
    json_decref(json);
    return r;
}

static void print_row(struct search *search, const PGresult *row) {
    struct grid *grid = &search->grid;
    const char *outcome = ctl_value(row, 0, OUTCOME);
    const char *code = ctl_value(row, 0, CODE);
    const char *url = ctl_value(row, 0, URL);
    int64_t left = ctl_value_number(row, 0, LEFT);
    char who[64] = "";
    char span[CTL_SPAN_SIZE];
    ctl_format_span(span, (uint64_t)left);
    if (ctl_value(row, 0, TEAM))
        (void)snprintf(who, sizeof who, "%s", ctl_value(row, 0, TEAM));
    if (ctl_value(row, 0, USER))
        (void)snprintf(who + strlen(who), sizeof who - strlen(who), "%suser %s", *who ? ", " : "",
                       ctl_value(row, 0, USER));
    grid_add(grid, ctl_value(row, 0, ANSWERED), NULL);
    grid_add(grid, ctl_value(row, 0, ID), grid->look.cyan);
    grid_add(grid, ctl_value(row, 0, GENERATION), NULL);
    grid_addf(grid, look_of_outcome(&grid->look, outcome), "%s%s%s", outcome, code ? " " : "", code ? code : "");
    grid_add(grid, who, NULL);
    grid_add(grid, url ? span : NULL, NULL);
    if (search->show_url)
        grid_add(grid, url, NULL);
    else
        grid_add(grid, ctl_value(row, 0, MESSAGE) ? ctl_value(row, 0, MESSAGE) : ctl_value(row, 0, SESSION), NULL);
}

/* One more was asked for than the limit, to know whether there are more. */
static bool on_row(const PGresult *row, void *userdata) {
    struct search *search = userdata;
    search->more = search->rows == search->limit;
    if (search->more)
        return false;
    search->rows++;
    for (size_t i = 0; search->names[i]; i++)
        search->found[i] |= strcmp(PQgetvalue(row, 0, ID), search->names[i]) == 0;
    if (!search->json)
        print_row(search, row);
    else if (print_row_json(search, row) < 0)
        search->status = ctl_complain(CTL_FAILED, NULL, "out of memory");
    return search->status == 0 && !ferror(stdout);
}

static void tell_count(const struct search *search) {
    if (!search->json && search->rows == 0)
        fputs("no answers\n", stderr);
    if (!search->json && search->more)
        fprintf(stderr, "the newest %" PRIu64 "; --limit shows more\n", search->limit);
}

/* Names each request that is not there. */
static int tell_missing(const struct search *search) {
    int status = CTL_DONE;
    for (size_t i = 0; search->names[i] && !search->more; i++)
        if (!search->found[i])
            status = ctl_complain(CTL_FAILED, NULL, "%s: there is no answer to such a request", search->names[i]);
    return status;
}

static int run(struct search *search) {
    const char *const titles[] = {
        "ANSWERED", "REQUEST", "GEN", "OUTCOME", "TEAM", "URL LEFT", search->show_url ? "URL" : "SESSION OR MESSAGE",
        NULL};
    int status = 0;
    if (search->limit == 0)
        search->limit = LIMIT;
    text_appendf(&search->where, " ORDER BY answered_at DESC, request_id LIMIT %" PRIu64, search->limit + 1);
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
    grid_begin(&search->grid, stdout, titles);
    status = ctl_query_each(connection, "portal.sessions", statement, search->count, search->values, on_row, search);
    grid_end(&search->grid);
    status = status ? status : search->status;
    if (status)
        return status;
    tell_count(search);
    return ferror(stdout) ? CTL_DONE : tell_missing(search);
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
    struct search search = {0};
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
    search.names = argv + optind;
    status = status ? status : add_requests(&search, argv[0], &list);
    status = status ? status : run(&search);
    text_clear(&search.where);
    text_clear(&list);
    free(search.found);
    return status;
}
