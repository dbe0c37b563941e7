/* check-database.c — is PostgreSQL as a worker needs it? */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "ctl-store.h"
#include "status.h"

/* What helps, by what the daemon's own check says. */
static const char *fix_of(const char *error) {
    if (strstr(error, "portalctl migrate"))
        return "as the owner of the application's database: portalctl migrate";
    if (strstr(error, "GRANT portal_worker"))
        return "as the owner of the schema: GRANT portal_worker TO the user in DATABASE_URL";
    return "the application's tables are read through the views portal.application_*; sql/004-application.sql shows them";
}

static void check_workers(struct checker *checker, PGconn *connection) {
    char sql[240];
    (void)snprintf(sql, sizeof sql,
                   "SELECT count(*) FROM portal.workers WHERE seen_at > clock_timestamp() - %d * interval '1 second'"
                   " AND state -> 'ended' IS DISTINCT FROM 'true'",
                   STATUS_SILENT_SECONDS);
    AUTOCLEAR PGresult *result = database_query(connection, sql, 10);
    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        return;
    int64_t count = ctl_value_number(result, 0, 0);
    if (count > 0)
        check_tell(checker, CHECK_GOOD, "workers", NULL, "%ld alive", (long)count);
    else
        check_tell(checker, CHECK_DOUBTFUL, "workers", "systemctl start portal-worker", "none is alive");
}

void check_database(struct checker *checker) {
    static const char *const names[] = {"DATABASE_URL", "PORTAL_NAMESPACE", "PORTAL_SESSION_SECONDS",
                                        "PORTAL_SESSION_REUSE_SECONDS", NULL};
    AUTOSETTINGS struct settings settings = {0};
    char error[512] = "";
    if (!check_load(checker, "PostgreSQL", &settings, names))
        return;
    settings.store.worker = "portalctl";
    const struct database_settings how = {
        .url = settings.store.url, .name = "portalctl", .connect_seconds = settings.store.connect_seconds};
    AUTOFINISH PGconn *connection = NULL;
    int r = database_connect(&how, &connection, error, sizeof error);
    if (r < 0) {
        check_tell(checker, CHECK_BAD, "PostgreSQL",
                   r == -EACCES ? "put user, password and database in DATABASE_URL right"
                                : "is it running, and DATABASE_URL right? systemctl status postgresql",
                   "%s", error);
        return;
    }
    int version = PQserverVersion(connection);
    check_tell(checker, CHECK_GOOD, "PostgreSQL", NULL, "version %d, database %s, as %s", version / 10000,
               PQdb(connection), PQuser(connection));
    if (store_check(&settings.store, error, sizeof error) < 0) {
        check_tell(checker, CHECK_BAD, "schema, migrations and rights", fix_of(error), "%s", error);
        return;
    }
    check_tell(checker, CHECK_GOOD, "schema, migrations and rights", NULL, "as they have to be");
    check_workers(checker, connection);
}
