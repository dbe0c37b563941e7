/* store-requests.c — the two statements that every request goes through: many are looked up, and many answers kept, in
 * one statement each. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "portal/text.h"
#include "store-internal.h"

/* Microseconds since 1970; date_part() is a double, exact to the microsecond until the year 2255. */
#define MICROSECONDS(moment) "(date_part('epoch', " moment ") * 1e6)::int8"

/* ---- load ---- */

/*
 * Each row is looked up by itself (LATERAL … LIMIT 1), so that the plan is a few index look-ups a row, whatever the
 * planner believes the tables to hold. Members are joined instead: the application's team_members may have no index on
 * user_id, and then one pass over it serves the whole batch; $6 spares that where nobody asks by user.
 *
 * A user in several teams gets the one joined first. The columns of the application are cast, so that the statement
 * stays valid when a view is replaced by one of other types.
 */
static const char load_sql[] =
    "WITH wanted AS ("
    " SELECT DISTINCT ON (w.n) w.n, w.request_id, w.ask, w.want_reuse,"
    "  u.id IS NOT NULL AS user_found, CASE WHEN w.user_id = 0 THEN w.team_id ELSE m.team_id END AS team_id"
    " FROM unnest($1::text[], $2::text[], $3::int8[], $4::int8[], $5::bool[]) WITH ORDINALITY"
    "  AS w (request_id, ask, team_id, user_id, want_reuse, n)"
    " LEFT JOIN LATERAL (SELECT x.id FROM portal.application_users x"
    "  WHERE x.id = w.user_id AND x.deleted_at IS NULL LIMIT 1) u ON true"
    " LEFT JOIN (SELECT * FROM portal.application_members WHERE $6::bool) m"
    "  ON m.user_id = u.id AND (w.team_id = 0 OR m.team_id = w.team_id)"
    " ORDER BY w.n, m.joined_at, m.id"
    "), moment AS MATERIALIZED (SELECT clock_timestamp() AS now) "
    "SELECT " MICROSECONDS(
        "moment.now") ","
                      " s.request_id IS NOT NULL, s.same_ask, s.stands, s.generation, s.answer, s.url,"
                      " w.user_found, t.id IS NOT NULL, t.id::int8, t.customer, t.product, t.subscription, t.subscription_status,"
                      " r.answer, r.url "
                      "FROM wanted w CROSS JOIN moment "
                      "LEFT JOIN LATERAL ("
                      " SELECT x.request_id, x.generation, x.ask = w.ask AS same_ask,"
                      "  x.stands_until > moment.now AND (x.session_id IS NULL OR x.url IS NOT NULL) AS stands,"
                      "  CASE WHEN x.ask = w.ask THEN x.answer END AS answer, CASE WHEN x.ask = w.ask THEN x.url END AS url"
                      " FROM portal.sessions x WHERE x.request_id = w.request_id LIMIT 1) s ON true "
                      "LEFT JOIN LATERAL ("
                      " SELECT x.id, nullif(x.stripe_customer_id::text, '') AS customer, nullif(x.stripe_product_id::text, '') AS product,"
                      "  nullif(x.stripe_subscription_id::text, '') AS subscription,"
                      "  nullif(x.subscription_status::text, '') AS subscription_status"
                      " FROM portal.application_teams x WHERE x.id = w.team_id LIMIT 1) t ON true "
                      "LEFT JOIN LATERAL ("
                      " SELECT x.answer, x.url FROM portal.sessions x"
                      " WHERE w.want_reuse AND md5(x.ask) = md5(w.ask) AND x.ask = w.ask AND x.url IS NOT NULL AND NOT x.fresh"
                      "  AND x.session_created > moment.now - $7::int8 * interval '1 second' AND x.stands_until > moment.now"
                      "  AND x.customer = t.customer AND x.account = $8::text AND x.livemode = $9::bool"
                      " ORDER BY x.session_created DESC LIMIT 1) r ON true "
                      "ORDER BY w.n";

enum load_column {
    LOAD_NOW,
    LOAD_FOUND,
    LOAD_SAME_ASK,
    LOAD_STANDS,
    LOAD_GENERATION,
    LOAD_ANSWER,
    LOAD_URL,
    LOAD_USER_FOUND,
    LOAD_TEAM_FOUND,
    LOAD_TEAM_ID,
    LOAD_CUSTOMER,
    LOAD_PRODUCT,
    LOAD_SUBSCRIPTION,
    LOAD_SUBSCRIPTION_STATUS,
    LOAD_REUSABLE_ANSWER,
    LOAD_REUSABLE_URL,
    LOAD_COLUMNS,
};

/* A member of load_row or save_row that goes out as one array over all rows. */
struct member {
    enum { MEMBER_TEXT, MEMBER_INT64, MEMBER_UINT32, MEMBER_BOOL } kind;
    size_t offset;
};

static void bind_element(struct parameters *parameters, const struct member *member, const char *row) {
    const char *at = row + member->offset;
    if (member->kind == MEMBER_TEXT)
        element_text(parameters, *(const char *const *)(const void *)at);
    else if (member->kind == MEMBER_INT64)
        element_int8(parameters, *(const int64_t *)(const void *)at);
    else if (member->kind == MEMBER_UINT32)
        element_int8(parameters, *(const uint32_t *)(const void *)at);
    else
        element_bool(parameters, *(const bool *)at);
}

/* `rows` points to the first of `count` pointers to rows. */
static void bind_members(struct parameters *parameters, const struct member *members, size_t member_count,
                         const void *rows, size_t count) {
    static const enum parameter_type types[] = {[MEMBER_TEXT] = PARAMETER_TEXT,
                                                [MEMBER_INT64] = PARAMETER_INT8,
                                                [MEMBER_UINT32] = PARAMETER_INT8,
                                                [MEMBER_BOOL] = PARAMETER_BOOL};
    for (size_t m = 0; m < member_count; m++) {
        parameter_array(parameters, types[members[m].kind], count);
        for (size_t i = 0; i < count; i++) {
            const char *row = NULL; /* copied, as these are pointers to one of two types */
            memcpy(&row, (const char *)rows + i * sizeof row, sizeof row);
            bind_element(parameters, &members[m], row);
        }
    }
}

static const struct member load_members[] = {
    {MEMBER_TEXT, offsetof(struct load_row, request_id)}, {MEMBER_TEXT, offsetof(struct load_row, ask)},
    {MEMBER_INT64, offsetof(struct load_row, team_id)},   {MEMBER_INT64, offsetof(struct load_row, user_id)},
    {MEMBER_BOOL, offsetof(struct load_row, want_reuse)},
};

static void load_bind(struct statement_context *context, struct parameters *parameters, const struct store_task *task) {
    const struct store_settings *settings = context->settings;
    struct load_row *const *rows = task->load.rows;
    size_t count = task->load.count;
    bool users = false;
    for (size_t i = 0; i < count; i++)
        users |= rows[i]->user_id != 0;

    bind_members(parameters, load_members, sizeof load_members / sizeof *load_members, rows, count);
    parameter_bool(parameters, users);
    parameter_int8(parameters, settings->session_reuse_seconds);
    parameter_text(parameters, settings->account);
    parameter_bool(parameters, settings->livemode);
}

static int load_read_row(struct load_row *row, const PGresult *result, int i) {
    row->stored.found = result_bool(result, i, LOAD_FOUND);
    row->stored.same_ask = result_bool(result, i, LOAD_SAME_ASK);
    row->stored.stands = row->stored.same_ask && result_bool(result, i, LOAD_STANDS);
    row->stored.generation = (uint32_t)result_int8(result, i, LOAD_GENERATION);
    row->user_found = result_bool(result, i, LOAD_USER_FOUND);
    row->team.found = result_bool(result, i, LOAD_TEAM_FOUND);
    row->team.id = result_int8(result, i, LOAD_TEAM_ID);

    int r = result_text(result, i, LOAD_ANSWER, &row->stored.answer);
    r = r < 0 ? r : result_text(result, i, LOAD_URL, &row->stored.url);
    r = r < 0 ? r : result_text(result, i, LOAD_CUSTOMER, &row->team.customer);
    r = r < 0 ? r : result_text(result, i, LOAD_PRODUCT, &row->team.product);
    r = r < 0 ? r : result_text(result, i, LOAD_SUBSCRIPTION, &row->team.subscription);
    r = r < 0 ? r : result_text(result, i, LOAD_SUBSCRIPTION_STATUS, &row->team.subscription_status);
    r = r < 0 ? r : result_text(result, i, LOAD_REUSABLE_ANSWER, &row->reusable.answer);
    return r < 0 ? r : result_text(result, i, LOAD_REUSABLE_URL, &row->reusable.url);
}

/* What came out is taken back, and what came in stays: the owner may ask again. */
static void load_undo(struct load_row *row) {
    free(row->stored.answer);
    free(row->stored.url);
    free(row->team.customer);
    free(row->team.product);
    free(row->team.subscription);
    free(row->team.subscription_status);
    free(row->reusable.answer);
    free(row->reusable.url);
    memset(&row->stored, 0, sizeof row->stored);
    memset(&row->team, 0, sizeof row->team);
    memset(&row->reusable, 0, sizeof row->reusable);
    row->user_found = false;
}

static int load_read(struct store_task *task, const PGresult *result) {
    if ((size_t)PQntuples(result) != task->load.count)
        return -EPROTO;
    for (size_t i = 0; i < task->load.count; i++) {
        int r = load_read_row(task->load.rows[i], result, (int)i);
        if (r < 0) {
            for (size_t j = 0; j <= i; j++)
                load_undo(task->load.rows[j]);
            return r;
        }
        task->database_now = (uint64_t)result_int8(result, (int)i, LOAD_NOW);
    }
    return 0;
}

const struct statement statement_load = {
    .name = "load", .sql = load_sql, .columns = LOAD_COLUMNS, .bind = load_bind, .read = load_read};

/* ---- save ---- */

/* The row that stands gives way only to a later working of the same ask. */
#define NEWER "excluded.generation > s.generation AND excluded.ask = s.ask"
#define REPLACE(column) column " = CASE WHEN " NEWER " THEN excluded." column " ELSE s." column " END"

/*
 * Rows are locked in the order of their ids, so that two workers that save the same ones never wait for each other in a
 * ring. A row that is there already is always updated, if only to what it was: RETURNING then tells what stands. Whose
 * that is tells the batch's mark; the text of a row of ours need not come back.
 */
static const char
    save_sql[] = "INSERT INTO portal.sessions AS s (request_id, generation, ask, answer, outcome, code, team_id, user_id, fresh,"
                 " session_id, url, customer, configuration, account, livemode, session_created, answered_at, stands_until,"
                 " url_expires_at, body, properties, written) "
                 "SELECT w.request_id, w.generation, w.ask, w.answer, w.outcome, w.code, nullif(w.team_id, 0), nullif(w.user_id, 0),"
                 " w.fresh, w.session_id, w.url, w.customer, w.configuration, $19::text, $20::bool, c.created, moment.now,"
                 " coalesce(c.created, moment.now) + w.stands_seconds * interval '1 second',"
                 " CASE WHEN w.url IS NOT NULL THEN c.created + $21::int8 * interval '1 second' END, w.body, w.properties, $18::text "
                 "FROM unnest($1::text[], $2::int8[], $3::text[], $4::text[], $5::text[], $6::text[], $7::int8[], $8::int8[],"
                 " $9::bool[], $10::text[], $11::text[], $12::text[], $13::text[], $14::int8[], $15::int8[], $16::text[], $17::text[])"
                 " AS w (request_id, generation, ask, answer, outcome, code, team_id, user_id, fresh, session_id, url, customer,"
                 " configuration, session_created, stands_seconds, body, properties) "
                 "CROSS JOIN (SELECT clock_timestamp() AS now OFFSET 0) AS moment "
                 "CROSS JOIN LATERAL (SELECT CASE WHEN w.session_created <> 0 THEN to_timestamp(w.session_created) END AS created) c "
                 "ORDER BY w.request_id COLLATE \"C\" "
                 "ON CONFLICT (request_id) DO UPDATE SET " REPLACE("generation") ", " REPLACE("answer") ", " REPLACE("outcome") ", " REPLACE("code") ", " REPLACE(
                     "team_id") ", " REPLACE("user_id") ", " REPLACE("fresh") ", " REPLACE("session_id") ", " REPLACE("url") ", " REPLACE("customer") ", " REPLACE("configuration") ", " REPLACE("account") ", " REPLACE("livemode") ", " REPLACE("session_created") ", " REPLACE("answered_at") ", " REPLACE("stands_until") ", " REPLACE("url_expires_at") ", " REPLACE("body") ", " REPLACE("properties") ", " REPLACE("written") " "
                                                                                                                                                                                                                                                                                                                                                                                                                                     "RETURNING " MICROSECONDS("clock_timestamp()") ", s.request_id, s.written = $18::text,"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                    " s.stands_until > clock_timestamp() AND (s.session_id IS NULL OR s.url IS NOT NULL), s.generation,"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                    " CASE WHEN s.written <> $18::text THEN s.ask END, CASE WHEN s.written <> $18::text THEN s.answer END,"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                    " CASE WHEN s.written <> $18::text THEN s.url END";

enum save_column {
    SAVE_NOW,
    SAVE_REQUEST_ID,
    SAVE_WRITTEN,
    SAVE_STANDS,
    SAVE_GENERATION,
    SAVE_ASK,
    SAVE_ANSWER,
    SAVE_URL,
    SAVE_COLUMNS,
};

static const struct member save_members[] = {
    {MEMBER_TEXT, offsetof(struct save_row, request_id)},
    {MEMBER_UINT32, offsetof(struct save_row, generation)},
    {MEMBER_TEXT, offsetof(struct save_row, ask)},
    {MEMBER_TEXT, offsetof(struct save_row, answer)},
    {MEMBER_TEXT, offsetof(struct save_row, outcome)},
    {MEMBER_TEXT, offsetof(struct save_row, code)},
    {MEMBER_INT64, offsetof(struct save_row, team_id)},
    {MEMBER_INT64, offsetof(struct save_row, user_id)},
    {MEMBER_BOOL, offsetof(struct save_row, fresh)},
    {MEMBER_TEXT, offsetof(struct save_row, session_id)},
    {MEMBER_TEXT, offsetof(struct save_row, url)},
    {MEMBER_TEXT, offsetof(struct save_row, customer)},
    {MEMBER_TEXT, offsetof(struct save_row, configuration)},
    {MEMBER_INT64, offsetof(struct save_row, session_created)},
    {MEMBER_UINT32, offsetof(struct save_row, stands_seconds)},
    {MEMBER_TEXT, offsetof(struct save_row, body)},
    {MEMBER_TEXT, offsetof(struct save_row, properties)},
};

static void save_bind(struct statement_context *context, struct parameters *parameters, const struct store_task *task) {
    const struct store_settings *settings = context->settings;
    bind_members(parameters, save_members, sizeof save_members / sizeof *save_members, task->save.rows,
                 task->save.count);
    parameter_text(parameters, context->mark);
    parameter_text(parameters, settings->account);
    parameter_bool(parameters, settings->livemode);
    parameter_int8(parameters, settings->session_seconds);
}

static int save_compare(const void *a, const void *b) {
    return strcmp((*(struct save_row *const *)a)->request_id, (*(struct save_row *const *)b)->request_id);
}

static int save_find(const void *key, const void *member) {
    return strcmp(key, (*(struct save_row *const *)member)->request_id);
}

static int save_read_row(struct save_row *row, const PGresult *result, int i) {
    row->standing.written = result_bool(result, i, SAVE_WRITTEN);
    row->standing.stands = result_bool(result, i, SAVE_STANDS);
    if (row->standing.written)
        return 0;
    row->standing.generation = (uint32_t)result_int8(result, i, SAVE_GENERATION);
    row->standing.same_ask = strcmp(PQgetvalue(result, i, SAVE_ASK), row->ask) == 0;
    row->standing.stands &= row->standing.same_ask;
    if (!row->standing.same_ask)
        return 0;
    int r = result_text(result, i, SAVE_ANSWER, &row->standing.answer);
    return r < 0 ? r : result_text(result, i, SAVE_URL, &row->standing.url);
}

static void save_undo(struct save_row *row) {
    free(row->standing.answer);
    free(row->standing.url);
    memset(&row->standing, 0, sizeof row->standing);
}

static int save_read(struct store_task *task, const PGresult *result) {
    size_t count = task->save.count;
    if ((size_t)PQntuples(result) != count)
        return -EPROTO;
    AUTOFREE struct save_row **sorted = malloc((count > 0 ? count : 1) * sizeof *sorted);
    if (!sorted)
        return -ENOMEM;
    memcpy(sorted, task->save.rows, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, save_compare);

    int r = 0;
    for (size_t i = 0; r == 0 && i < count; i++) {
        struct save_row **row =
            bsearch(PQgetvalue(result, (int)i, SAVE_REQUEST_ID), sorted, count, sizeof *sorted, save_find);
        r = row ? save_read_row(*row, result, (int)i) : -EPROTO;
        task->database_now = (uint64_t)result_int8(result, (int)i, SAVE_NOW);
    }
    if (r < 0)
        for (size_t i = 0; i < count; i++)
            save_undo(task->save.rows[i]);
    return r;
}

const struct statement statement_save = {
    .name = "save", .sql = save_sql, .columns = SAVE_COLUMNS, .bind = save_bind, .read = save_read};
