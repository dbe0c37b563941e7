/* ctl-store.h — portalctl's connection to PostgreSQL: opened by the daemon's code, then one statement after the other.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "links/database.h"
#include "portalctl.h"

/* Loads DATABASE_URL and connects. Result: the caller's to PQfinish(); NULL where that fails, with the complaint made
 * and the exit status in `*status`. */
PGconn *ctl_database(int *status);

/* Runs a statement with text parameters. `what` begins the complaint: the file, or "the database". Result: what came
 * back, the caller's to clear; NULL where it failed, with the complaint made and `*status` set. */
PGresult *ctl_query(PGconn *connection, const char *what, const char *sql, int count, const char *const *values,
                    int *status);

/* The same, but each row is handed over as it comes, so that any number of them takes the memory of one: `each` gets a
 * result of that row alone, borrowed, and says whether it wants more. Where it does not, the connection serves no more.
 * Result: 0, or the exit status with the complaint made; then not all rows came. */
int ctl_query_each(PGconn *connection, const char *what, const char *sql, int count, const char *const *values,
                   bool (*each)(const PGresult *row, void *userdata), void *userdata);

/* The complaint about a statement that failed. `text`: the migration that it is of, to tell the line; or NULL. Result:
 * the exit status. */
int ctl_query_complain(PGconn *connection, const PGresult *result, const char *what, const char *text);

/* A value, or NULL. */
const char *ctl_value(const PGresult *result, int row, int column);

/* A number in a text column; 0 where it is null. */
int64_t ctl_value_number(const PGresult *result, int row, int column);
