/* status-look.c — asks the database and the broker how things are. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "portal/names.h"
#include "portal/text.h"
#include "status.h"

enum { CONNECT_SECONDS = 5, ANSWER_SECONDS = 10 };

/* ---- connections ---- */

/* One of the two settings: 0, or -EINVAL with what is wrong in `error`. */
static int load(struct settings *settings, const char *name, char *error, size_t error_size) {
    const char *const names[] = {name, NULL};
    AUTOFREE char *lines = NULL;
    int r = ctl_settings_read(settings, names, &lines);
    if (r < 0)
        (void)snprintf(error, error_size, "%.*s", lines ? (int)strcspn(lines, "\n") : 0, lines ? lines : "");
    return r;
}

int status_open(struct status_source *source, int stop) {
    int broker = load(&source->broker, "AMQP_URL", source->broker_error, sizeof source->broker_error);
    int store = load(&source->store, "DATABASE_URL", source->store_error, sizeof source->store_error);
    if (broker < 0 && store < 0) {
        (void)ctl_complain(0, NULL, "%s", source->broker_error);
        return ctl_complain(CTL_SETTINGS, ctl_settings_hint, "%s", source->store_error);
    }
    if (broker == 0 && wire_init(&source->wire, &source->broker.broker, stop) < 0)
        return ctl_complain(CTL_FAILED, NULL, "out of memory");
    return 0;
}

void status_close(struct status_source *source) {
    wire_close(&source->wire);
    PQfinish(source->connection);
    settings_free(&source->broker);
    settings_free(&source->store);
}

static bool have_store(struct status_source *source) {
    const struct database_settings how = {.url = source->store.store.url,
                                          .name = "portalctl",
                                          .connect_seconds = CONNECT_SECONDS,
                                          .answer_seconds = ANSWER_SECONDS};
    if (!source->store.owner)
        return false;
    if (source->connection && PQstatus(source->connection) != CONNECTION_OK) {
        PQfinish(source->connection);
        source->connection = NULL;
    }
    if (!source->connection)
        (void)database_connect(&how, &source->connection, source->store_error, sizeof source->store_error);
    return source->connection != NULL;
}

/* ---- the database ---- */

/* A query that yields one JSON value: the caller's; NULL with source->store_error. */
static json_t *ask(struct status_source *source, const char *sql) {
    AUTOCLEAR PGresult *result = database_query(source->connection, sql, ANSWER_SECONDS);
    if (PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1) {
        *source->store_error = '\0';
        return json_loads(PQgetvalue(result, 0, 0), JSON_DECODE_ANY, NULL);
    }
    const char *primary = result ? PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY) : NULL;
    database_message(primary ? primary : PQerrorMessage(source->connection), source->store_error,
                     sizeof source->store_error);
    if (!*source->store_error)
        (void)snprintf(source->store_error, sizeof source->store_error, "PostgreSQL does not answer");
    return NULL;
}

static const char workers_sql[] =
    "SELECT coalesce(json_agg(json_build_object('name', name, 'seen_seconds',"
    " floor(extract(epoch FROM clock_timestamp() - seen_at))::int8, 'state', state) ORDER BY name), '[]')"
    " FROM portal.workers WHERE seen_at > clock_timestamp() - interval '15 minutes'"
    " AND state -> 'ended' IS DISTINCT FROM 'true'";

static const char limits_sql[] =
    "SELECT coalesce(json_agg(json_build_object('account', account, 'livemode', livemode, 'endpoint', endpoint,"
    " 'per_second', CASE WHEN spacing_us > 0 THEN round(1e6 / spacing_us, 2) END,"
    " 'booked_ms', greatest(0, floor(extract(epoch FROM next_at - clock_timestamp()) * 1000))::int8,"
    " 'slowed_seconds', CASE WHEN slowed_until > clock_timestamp()"
    "  THEN ceil(extract(epoch FROM slowed_until - clock_timestamp()))::int8 ELSE 0 END)"
    " ORDER BY account, livemode, endpoint), '[]') FROM portal.tokens";

static json_t *ask_outcomes(struct status_source *source) {
    char sql[512];
    (void)snprintf(
        sql, sizeof sql,
        "SELECT coalesce(json_agg(o ORDER BY o.count DESC), '[]') FROM (SELECT outcome, code, count(*) AS count"
        " FROM portal.sessions WHERE answered_at > clock_timestamp() - %d * interval '1 minute'"
        " GROUP BY outcome, code) o",
        STATUS_MINUTES);
    return ask(source, sql);
}

/* ---- the broker ---- */

static json_t *look_at_queues(struct status_source *source) {
    static const char *const names[] = {QUEUE_REQUESTS, QUEUE_DEAD, QUEUE_REPLIES};
    json_t *queues = json_object();
    if (!source->broker.owner || !queues)
        return queues;
    if (!source->wire.amqp && wire_open(&source->wire) < 0) {
        memcpy(source->broker_error, source->wire.cause, sizeof source->broker_error);
        return queues;
    }
    *source->broker_error = '\0';
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        uint32_t messages = 0;
        uint32_t consumers = 0;
        int r = wire_count(&source->wire, names[i], &messages, &consumers);
        if (r == -ENOENT)
            (void)json_object_set_new(queues, names[i], json_null());
        else if (r == 0)
            (void)json_object_set_new(
                queues, names[i],
                json_pack("{sI sI}", "waiting", (json_int_t)messages, "consumers", (json_int_t)consumers));
        else {
            memcpy(source->broker_error, source->wire.cause, sizeof source->broker_error);
            break;
        }
    }
    return queues;
}

json_t *status_look(struct status_source *source) {
    char now[TIMESTAMP_SIZE];
    json_t *workers = NULL;
    json_t *limits = NULL;
    json_t *outcomes = NULL;
    bool store = have_store(source);
    timestamp_format(now, ctl_wall(), false);
    if (store)
        workers = ask(source, workers_sql);
    if (workers)
        limits = ask(source, limits_sql);
    if (limits)
        outcomes = ask_outcomes(source);
    json_t *queues = look_at_queues(source);
    return json_pack("{ss s{ss* so} s{ss* so? so? si so?}}", "at", now, "broker", "error",
                     *source->broker_error ? source->broker_error : NULL, "queues", queues, "database", "error",
                     *source->store_error ? source->store_error : NULL, "workers", workers, "limits", limits,
                     "outcomes_minutes", STATUS_MINUTES, "outcomes", outcomes);
}
