/* store-fleet.c — the statements for what the workers of a fleet share: configurations, send times to Stripe, suspects,
 * signs of life. */
#include <errno.h>
#include <stdlib.h>

#include "store-internal.h"

/* Commits without waiting for the disk (or a standby): what is lost with a crash of the database is made anew in
 * seconds, and rows that the whole fleet takes turns on are not locked for that long. The function is called for its
 * effect, and lasts until the end of the transaction. */
#define NO_WAIT "set_config('synchronous_commit', 'off', true) IS NOT NULL"

/* ---- configurations ---- */

#define CONFIGURATION_COLUMNS                                                                                          \
    "c.id, c.product, c.fingerprint, c.managed, c.forgotten::int8,"                                                    \
    " coalesce(date_part('epoch', clock_timestamp() - c.checked_at), 0)::int8,"                                        \
    " greatest(ceil(date_part('epoch', c.leased_until - clock_timestamp()) * 1e3), 0)::int8"

enum configuration_column {
    CONFIGURATION_ID,
    CONFIGURATION_PRODUCT,
    CONFIGURATION_FINGERPRINT,
    CONFIGURATION_MANAGED,
    CONFIGURATION_FORGOTTEN,
    CONFIGURATION_CHECKED_AGO,
    CONFIGURATION_LEASE_LEFT,
    CONFIGURATION_COLUMNS_FOUND,
    CONFIGURATION_LEASED = CONFIGURATION_COLUMNS_FOUND,
    CONFIGURATION_COLUMNS_LEASED,
};

static void configuration_empty(struct configuration_row *row) {
    row->id = row->product = row->fingerprint = NULL;
    row->managed = row->leased = false;
    row->retry_ms = row->forgotten = 0;
    row->checked_ago = 0;
}

static uint64_t at_least_zero(int64_t value) {
    return value > 0 ? (uint64_t)value : 0;
}

static int configuration_read(struct configuration_row *row, const PGresult *result) {
    configuration_empty(row);
    if (PQntuples(result) == 0)
        return 0;
    row->managed = result_bool(result, 0, CONFIGURATION_MANAGED);
    row->forgotten = (uint32_t)result_int8(result, 0, CONFIGURATION_FORGOTTEN);
    row->checked_ago = at_least_zero(result_int8(result, 0, CONFIGURATION_CHECKED_AGO));
    int r = result_text(result, 0, CONFIGURATION_ID, &row->id);
    r = r < 0 ? r : result_text(result, 0, CONFIGURATION_PRODUCT, &row->product);
    r = r < 0 ? r : result_text(result, 0, CONFIGURATION_FINGERPRINT, &row->fingerprint);
    if (r < 0) {
        free(row->id);
        free(row->product);
        free(row->fingerprint);
        configuration_empty(row);
    }
    return r;
}

static void find_bind(struct statement_context *context, struct parameters *parameters, const struct store_task *task) {
    (void)context;
    parameter_text(parameters, task->configuration.key);
}

static int find_read(struct store_task *task, const PGresult *result) {
    return configuration_read(&task->configuration, result);
}

const struct statement statement_configuration_find = {
    .name = "configuration_find",
    .sql = "SELECT " CONFIGURATION_COLUMNS " FROM portal.configurations c WHERE c.key = $1::text",
    .columns = CONFIGURATION_COLUMNS_FOUND,
    .bind = find_bind,
    .read = find_read,
};

static void lease_bind(struct statement_context *context, struct parameters *parameters,
                       const struct store_task *task) {
    (void)context;
    parameter_text(parameters, task->configuration.key);
    parameter_text(parameters, task->configuration.holder);
    parameter_int8(parameters, task->configuration.lease_seconds);
}

static int lease_read(struct store_task *task, const PGresult *result) {
    if (PQntuples(result) != 1)
        return -EPROTO;
    int r = configuration_read(&task->configuration, result);
    if (r < 0)
        return r;
    task->configuration.leased = result_bool(result, 0, CONFIGURATION_LEASED);
    if (!task->configuration.leased)
        task->configuration.retry_ms = (uint32_t)result_int8(result, 0, CONFIGURATION_LEASE_LEFT);
    return 0;
}

/* Both columns are decided by one reading of the clock, that of the row that was to be inserted. */
#define LEASE_FREE                                                                                                     \
    "(c.leased_until IS NULL OR c.leased_by = excluded.leased_by"                                                      \
    " OR c.leased_until <= excluded.leased_until - $3::int8 * interval '1 second')"

const struct statement statement_configuration_lease = {
    .name = "configuration_lease",
    .sql = "INSERT INTO portal.configurations AS c (key, leased_by, leased_until)"
           " VALUES ($1::text, $2::text, clock_timestamp() + $3::int8 * interval '1 second')"
           " ON CONFLICT (key) DO UPDATE SET"
           " leased_by = CASE WHEN " LEASE_FREE " THEN excluded.leased_by ELSE c.leased_by END,"
           " leased_until = CASE WHEN " LEASE_FREE " THEN excluded.leased_until ELSE c.leased_until END"
           " RETURNING " CONFIGURATION_COLUMNS ", c.leased_by = $2::text",
    .columns = CONFIGURATION_COLUMNS_LEASED,
    .bind = lease_bind,
    .read = lease_read,
};

static void keep_bind(struct statement_context *context, struct parameters *parameters, const struct store_task *task) {
    (void)context;
    parameter_text(parameters, task->configuration.key);
    parameter_text(parameters, task->configuration.holder);
    parameter_text(parameters, task->configuration.id);
    parameter_text(parameters, task->configuration.product);
    parameter_text(parameters, task->configuration.fingerprint);
    parameter_bool(parameters, task->configuration.managed);
    parameter_int8(parameters, task->configuration.forgotten);
}

/* Kept or not: a row comes back or none. */
static int keep_read(struct store_task *task, const PGresult *result) {
    task->configuration.leased = PQntuples(result) == 1;
    return 0;
}

const struct statement statement_configuration_keep = {
    .name = "configuration_keep",
    .sql = "INSERT INTO portal.configurations AS c (key, id, product, fingerprint, managed, checked_at)"
           " VALUES ($1::text, $3::text, $4::text, $5::text, $6::bool, clock_timestamp())"
           " ON CONFLICT (key) DO UPDATE SET id = excluded.id, product = excluded.product,"
           " fingerprint = excluded.fingerprint, managed = excluded.managed, checked_at = excluded.checked_at,"
           " leased_by = NULL, leased_until = NULL"
           " WHERE (c.leased_until IS NULL OR c.leased_by = $2::text OR c.leased_until <= clock_timestamp())"
           " AND c.forgotten = $7::int8"
           " RETURNING true",
    .columns = 1,
    .bind = keep_bind,
    .read = keep_read,
};

static void release_bind(struct statement_context *context, struct parameters *parameters,
                         const struct store_task *task) {
    (void)context;
    parameter_text(parameters, task->configuration.key);
    parameter_text(parameters, task->configuration.holder);
}

const struct statement statement_configuration_release = {
    .name = "configuration_release",
    .sql = "UPDATE portal.configurations SET leased_by = NULL, leased_until = NULL"
           " WHERE key = $1::text AND leased_by = $2::text",
    .bind = release_bind,
};

static void forget_bind(struct statement_context *context, struct parameters *parameters,
                        const struct store_task *task) {
    (void)context;
    parameter_text(parameters, task->configuration.key);
    parameter_text(parameters, task->configuration.id);
}

const struct statement statement_configuration_forget = {
    .name = "configuration_forget",
    .sql = "UPDATE portal.configurations SET id = NULL, product = NULL, fingerprint = NULL, managed = false,"
           " checked_at = NULL, forgotten = forgotten + 1 WHERE key = $1::text AND id = $2::text",
    .bind = forget_bind,
};

/* ---- send times ---- */

static void tokens_bind(struct statement_context *context, struct parameters *parameters,
                        const struct store_task *task) {
    parameter_text(parameters, context->settings->account);
    parameter_bool(parameters, context->settings->livemode);
    parameter_text(parameters, task->tokens.endpoint);
    parameter_int8(parameters, task->tokens.wanted);
    parameter_int8(parameters, (int64_t)task->tokens.interval_us);
}

static int tokens_read(struct store_task *task, const PGresult *result) {
    if (PQntuples(result) != 1)
        return -EPROTO;
    task->tokens.first_us = at_least_zero(result_int8(result, 0, 0));
    task->tokens.spacing_us = (uint64_t)result_int8(result, 0, 1);
    return 0;
}

/* The clock is read once the row is locked, and once for all columns: a subquery of a volatile function is not merged
 * into what asks it. */
const struct statement statement_tokens = {
    .name = "tokens",
    .sql = "INSERT INTO portal.tokens AS t (account, livemode, endpoint, next_at, spacing_us)"
           " SELECT $1::text, $2::bool, $3::text, clock_timestamp() + $4::int8 * $5::int8 * interval '1 microsecond',"
           " $5::int8 WHERE " NO_WAIT " ON CONFLICT (account, livemode, endpoint) DO UPDATE SET (next_at, spacing_us) ="
           " (SELECT greatest(t.next_at, m.now) + $4::int8 * m.spacing * interval '1 microsecond', m.spacing"
           " FROM (SELECT n.now, CASE WHEN t.slowed_until > n.now THEN 2 ELSE 1 END * $5::int8 AS spacing"
           " FROM (SELECT clock_timestamp() AS now OFFSET 0) AS n OFFSET 0) AS m)"
           " RETURNING (date_part('epoch', t.next_at - $4::int8 * t.spacing_us * interval '1 microsecond'"
           " - clock_timestamp()) * 1e6)::int8, t.spacing_us",
    .columns = 2,
    .bind = tokens_bind,
    .read = tokens_read,
};

static void slow_down_bind(struct statement_context *context, struct parameters *parameters,
                           const struct store_task *task) {
    parameter_text(parameters, context->settings->account);
    parameter_bool(parameters, context->settings->livemode);
    parameter_text(parameters, task->tokens.endpoint);
    parameter_int8(parameters, (int64_t)task->tokens.wait_us);
    parameter_int8(parameters, (int64_t)task->tokens.slow_us);
}

const struct statement statement_slow_down = {
    .name = "slow_down",
    .sql = "INSERT INTO portal.tokens AS t (account, livemode, endpoint, next_at, spacing_us, slowed_until)"
           " SELECT $1::text, $2::bool, $3::text, m.now + $4::int8 * interval '1 microsecond', 0,"
           " m.now + ($4::int8 + $5::int8) * interval '1 microsecond'"
           " FROM (SELECT clock_timestamp() AS now OFFSET 0) AS m"
           " ON CONFLICT (account, livemode, endpoint) DO UPDATE SET"
           " next_at = greatest(t.next_at, excluded.next_at),"
           " slowed_until = greatest(t.slowed_until, excluded.slowed_until)",
    .bind = slow_down_bind,
};

/* ---- suspects ---- */

/* A NUL, which no text holds, between the two: neither can be taken for a part of the other. */
#define DIGEST "sha256(convert_to(coalesce($1::text, ''), 'UTF8') || '\\x00'::bytea || $2::bytea)"

static void message_bind(struct parameters *parameters, const struct suspect *suspect) {
    parameter_text(parameters, suspect->message_id);
    parameter_bytes(parameters, suspect->body ? suspect->body : "", suspect->body ? suspect->body_length : 0);
}

static void suspect_add_bind(struct statement_context *context, struct parameters *parameters,
                             const struct store_task *task) {
    (void)context;
    message_bind(parameters, &task->suspect);
    parameter_text(parameters, task->suspect.worker);
}

static int suspect_add_read(struct store_task *task, const PGresult *result) {
    if (PQntuples(result) != 1)
        return -EPROTO;
    task->suspect.tries = (uint32_t)result_int8(result, 0, 0);
    return 0;
}

/* The count is of the rows before this statement. One of this worker's own is of an attempt whose answer was lost: no
 * crash, for it lives. */
const struct statement statement_suspect_add = {
    .name = "suspect_add",
    .sql =
        "WITH message AS (SELECT " DIGEST " AS digest),"
        " added AS (INSERT INTO portal.suspects (digest, message_id, worker)"
        " SELECT digest, $1::text, $3::text FROM message)"
        " SELECT 1 + (SELECT count(*) FROM portal.suspects s WHERE s.digest = message.digest AND s.worker <> $3::text)"
        " FROM message",
    .columns = 1,
    .bind = suspect_add_bind,
    .read = suspect_add_read,
};

static void suspect_remove_bind(struct statement_context *context, struct parameters *parameters,
                                const struct store_task *task) {
    (void)context;
    message_bind(parameters, &task->suspect);
    parameter_text(parameters, task->suspect.worker);
}

const struct statement statement_suspect_remove = {
    .name = "suspect_remove",
    .sql = "DELETE FROM portal.suspects WHERE digest = " DIGEST " AND worker = $3::text",
    .bind = suspect_remove_bind,
};

static void suspect_remove_all_bind(struct statement_context *context, struct parameters *parameters,
                                    const struct store_task *task) {
    (void)context;
    message_bind(parameters, &task->suspect);
}

const struct statement statement_suspect_remove_all = {
    .name = "suspect_remove_all",
    .sql = "DELETE FROM portal.suspects WHERE digest = " DIGEST,
    .bind = suspect_remove_all_bind,
};

/* ---- signs of life ---- */

static void heartbeat_bind(struct statement_context *context, struct parameters *parameters,
                           const struct store_task *task) {
    (void)context;
    parameter_text(parameters, task->heartbeat.worker);
    parameter_text(parameters, task->heartbeat.state);
    parameter_int8(parameters, STORE_WIPE_ROWS);
}

/* The workers long gone are removed by whoever comes first, the others pass by. */
const struct statement statement_heartbeat = {
    .name = "heartbeat",
    .sql = "WITH seen AS (INSERT INTO portal.workers AS w (name, state) SELECT $1::text, $2::text::jsonb WHERE " NO_WAIT
           " ON CONFLICT (name) DO UPDATE SET state = excluded.state, seen_at = excluded.seen_at),"
           " gone AS (DELETE FROM portal.workers WHERE name IN (SELECT o.name FROM portal.workers o"
           " WHERE o.seen_at < clock_timestamp() - interval '1 day' AND o.name <> $1::text FOR UPDATE SKIP LOCKED))"
           " SELECT portal.wipe_expired($3::int8)",
    .columns = 1,
    .bind = heartbeat_bind,
};

static void wipe_bind(struct statement_context *context, struct parameters *parameters, const struct store_task *task) {
    (void)context;
    (void)task;
    parameter_int8(parameters, STORE_WIPE_ROWS);
}

const struct statement statement_wipe = {
    .name = "wipe",
    .sql = "SELECT portal.wipe_expired($1::int8) WHERE " NO_WAIT,
    .columns = 1,
    .bind = wipe_bind,
};

bool statement_wiped_full(const PGresult *result) {
    return PQntuples(result) == 1 && result_int8(result, 0, 0) >= STORE_WIPE_ROWS;
}
