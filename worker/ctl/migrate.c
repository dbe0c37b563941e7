/* migrate.c — portalctl migrate: applies the numbered files of SQL that the database does not have yet. */
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl-store.h"
#include "portal/text.h"
#include "portalctl.h"

#ifndef SQL_DIRECTORY
#define SQL_DIRECTORY "sql"
#endif

enum {
    MIGRATION_NAME_SIZE = 64,         /* with the NUL */
    MIGRATIONS_MAX = 999,             /* three digits */
    MIGRATION_SIZE_MAX = 1024 * 1024, /* bytes of one file */
    MIGRATION_LOCK = 0x706f7274,      /* "port": the advisory lock that migrations of one database take turns by */
};

/* The files, by number; [0] is not used, "" is none. */
struct migrations {
    char names[MIGRATIONS_MAX + 1][MIGRATION_NAME_SIZE];
    int count;
};

/* "007-some-words.sql" is 7; 0 for another name. */
static int migration_number(const char *name) {
    size_t length = strlen(name);
    if (strspn(name, "0123456789") != 3 || name[3] != '-' || length < strlen("001-a.sql") ||
        strcmp(name + length - 4, ".sql") != 0)
        return 0;
    return (name[0] - '0') * 100 + (name[1] - '0') * 10 + (name[2] - '0');
}

/* Takes one name of the directory, where it is a migration's. */
static int migrations_add(struct migrations *migrations, const char *directory, const char *name) {
    size_t length = strlen(name);
    int number = migration_number(name);
    if (number == 0 && length > 4 && strcmp(name + length - 4, ".sql") == 0) {
        fprintf(stderr, "portalctl: %s/%s: a migration is called like 001-words.sql\n", directory, name);
        return -EINVAL;
    }
    if (number == 0)
        return 0;
    if (length >= MIGRATION_NAME_SIZE) {
        fprintf(stderr, "portalctl: %s/%s: the name is too long\n", directory, name);
        return -ENAMETOOLONG;
    }
    if (*migrations->names[number]) {
        fprintf(stderr, "portalctl: %s: two files have the number %d: %s and %s\n", directory, number,
                migrations->names[number], name);
        return -EINVAL;
    }
    memcpy(migrations->names[number], name, length + 1);
    if (number > migrations->count)
        migrations->count = number;
    return 0;
}

static int migrations_list(struct migrations *migrations, const char *directory) {
    DIR *stream = opendir(directory);
    if (!stream) {
        fprintf(stderr, "portalctl: %s: %s\n", directory, strerror(errno));
        return -errno;
    }
    int r = 0;
    for (struct dirent *entry; r == 0 && (entry = readdir(stream));)
        r = migrations_add(migrations, directory, entry->d_name);
    (void)closedir(stream);
    if (r < 0)
        return r;
    if (migrations->count == 0) {
        fprintf(stderr, "portalctl: %s: no migrations there (001-words.sql, …)\n", directory);
        return -ENOENT;
    }
    for (int i = 1; i <= migrations->count; i++)
        if (!*migrations->names[i]) {
            fprintf(stderr, "portalctl: %s: there is no migration %03d, but later ones\n", directory, i);
            return -ENOENT;
        }
    return 0;
}

/* Reads a whole file. Result: its text, the caller's; NULL where that fails, which is said. */
static char *read_file(const char *path) {
    FILE *file = fopen(path, "re");
    if (!file) {
        fprintf(stderr, "portalctl: %s: %s\n", path, strerror(errno));
        return NULL;
    }
    char *text = malloc(MIGRATION_SIZE_MAX + 1);
    size_t size = text ? fread(text, 1, MIGRATION_SIZE_MAX + 1, file) : 0;
    const char *wrong = !text                       ? "out of memory"
                        : ferror(file)              ? "can't be read"
                        : size > MIGRATION_SIZE_MAX ? "is larger than 1 MiB"
                        : memchr(text, '\0', size)  ? "has a NUL in it"
                                                    : NULL;
    (void)fclose(file);
    if (wrong) {
        fprintf(stderr, "portalctl: %s: %s\n", path, wrong);
        free(text);
        return NULL;
    }
    text[size] = '\0';
    return text;
}

/* ---- the database ---- */

/* Runs a statement with text parameters. Result: what came back, the caller's; NULL where it failed, which is said. */
static PGresult *query(PGconn *connection, const char *what, const char *sql, int count, const char *const *values) {
    int status = 0;
    return ctl_query(connection, what, sql, count, values, &status);
}

static int execute(PGconn *connection, const char *what, const char *sql) {
    AUTOCLEAR PGresult *result = query(connection, what, sql, 0, NULL);
    return result ? 0 : -EIO;
}

/* SHA-256 of a text, by the server. Result: the caller's to clear; the checksum is its only value. */
static PGresult *checksum(PGconn *connection, const char *path, const char *text) {
    return query(connection, path, "SELECT encode(sha256(convert_to($1::text, 'UTF8')), 'hex')", 1, &text);
}

/* One transaction: the file, and the row that says so. */
static int apply(PGconn *connection, int number, const char *name, const char *path, const char *text) {
    char digits[16];
    AUTOCLEAR PGresult *sum = checksum(connection, path, text);
    if (!sum || execute(connection, path, "BEGIN") < 0)
        return -EIO;
    AUTOCLEAR PGresult *result = PQexec(connection, text);
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK && status != PGRES_EMPTY_QUERY) {
        (void)ctl_query_complain(connection, result, path, text);
        return -EIO;
    }
    if (PQtransactionStatus(connection) != PQTRANS_INTRANS) {
        fprintf(stderr, "portalctl: %s: ended the transaction it runs in; a migration must not\n", path);
        return -EINVAL;
    }
    snprintf(digits, sizeof digits, "%d", number);
    const char *const values[] = {digits, name, PQgetvalue(sum, 0, 0)};
    AUTOCLEAR PGresult *kept = query(
        connection, path, "INSERT INTO portal.migrations (number, name, checksum) VALUES ($1::int, $2, $3)", 3, values);
    if (!kept || execute(connection, path, "COMMIT") < 0)
        return -EIO;
    printf("applied %s\n", name);
    return fflush(stdout) == 0 ? 0 : -EIO;
}

/* What the database has: rows of number and checksum, in order; none where there is no schema yet. */
static PGresult *applied_migrations(PGconn *connection) {
    AUTOCLEAR PGresult *there =
        query(connection, "the database", "SELECT to_regclass('portal.migrations') IS NOT NULL", 0, NULL);
    if (!there)
        return NULL;
    bool exists = strcmp(PQgetvalue(there, 0, 0), "t") == 0;
    return query(connection, "the database",
                 exists ? "SELECT number, checksum, name FROM portal.migrations ORDER BY number"
                        : "SELECT 0, '', '' WHERE false",
                 0, NULL);
}

/* Warns where a file is not what was applied. */
static int compare(PGconn *connection, const char *path, const char *text, const char *applied) {
    AUTOCLEAR PGresult *sum = checksum(connection, path, text);
    if (!sum)
        return -EIO;
    if (strcmp(PQgetvalue(sum, 0, 0), applied) != 0)
        fprintf(stderr, "portalctl: warning: %s has changed since it was applied; changes belong in a new migration\n",
                path);
    return 0;
}

/* The checksum with which a migration was applied; NULL where it was not. */
static const char *applied_checksum(const PGresult *applied, int number) {
    for (int i = 0; i < PQntuples(applied); i++)
        if (strtol(PQgetvalue(applied, i, 0), NULL, 10) == number)
            return PQgetvalue(applied, i, 1);
    return NULL;
}

static int migrate_one(PGconn *connection, const char *directory, int number, const char *name, const char *applied) {
    char path[4096];
    if ((size_t)snprintf(path, sizeof path, "%s/%s", directory, name) >= sizeof path)
        return -ENAMETOOLONG;
    AUTOFREE char *text = read_file(path);
    if (!text)
        return -EIO;
    return applied ? compare(connection, path, text, applied) : apply(connection, number, name, path, text);
}

static int check_encoding(PGconn *connection) {
    AUTOCLEAR PGresult *result =
        query(connection, "the database", "SELECT current_database(), current_setting('server_encoding')", 0, NULL);
    if (!result)
        return -EIO;
    if (strcmp(PQgetvalue(result, 0, 1), "UTF8") == 0)
        return 0;
    fprintf(stderr,
            "portalctl: the database \"%s\" has the encoding %s; portal-worker needs one made with ENCODING 'UTF8'\n",
            PQgetvalue(result, 0, 0), PQgetvalue(result, 0, 1));
    return -EINVAL;
}

/* Two that come at once take turns: the lock is the session's, and goes with it. */
static int migrate(PGconn *connection, const struct migrations *migrations, const char *directory) {
    char lock[64];
    snprintf(lock, sizeof lock, "SELECT pg_advisory_lock(%d)", MIGRATION_LOCK);
    if (check_encoding(connection) < 0 || execute(connection, "the database", lock) < 0)
        return -EIO;
    AUTOCLEAR PGresult *applied = applied_migrations(connection);
    if (!applied)
        return -EIO;
    int rows = PQntuples(applied);
    if (rows > 0 && strtol(PQgetvalue(applied, rows - 1, 0), NULL, 10) > migrations->count) {
        fprintf(stderr,
                "portalctl: the database has the migration %s, and %s ends with %s: this portalctl is too old for it\n",
                PQgetvalue(applied, rows - 1, 2), directory, migrations->names[migrations->count]);
        return -EINVAL;
    }
    for (int i = 1; i <= migrations->count; i++) {
        int r = migrate_one(connection, directory, i, migrations->names[i], applied_checksum(applied, i));
        if (r < 0)
            return r;
    }
    puts("up to date");
    return fflush(stdout) == 0 ? 0 : -EIO;
}

/* ---- the command ---- */

static void help(FILE *out) {
    fprintf(out,
            "Usage: portalctl migrate [--directory DIR]\n\n"
            "Applies the migrations in DIR (default %s) that the database in DATABASE_URL does not have\n"
            "yet, each in a transaction of its own. Safe when run twice, or by two at once. The user in\n"
            "DATABASE_URL has to be allowed to create a schema, to read the application's tables and, the\n"
            "first time in a cluster, to create the role portal_worker.\n\n"
            "Example:\n  DATABASE_URL=postgresql://owner:secret@db.example.com/app portalctl migrate\n",
            SQL_DIRECTORY);
}

static int run(const char *directory) {
    struct migrations migrations = {0};
    int status = 0;
    if (migrations_list(&migrations, directory) < 0)
        return CTL_FAILED;
    AUTOFINISH PGconn *connection = ctl_database(&status);
    if (!connection)
        return status;
    return migrate(connection, &migrations, directory) < 0 ? CTL_FAILED : CTL_DONE;
}

int ctl_migrate(int argc, char **argv) {
    static const struct option options[] = {
        {"directory", required_argument, NULL, 'd'}, {"help", no_argument, NULL, 'h'}, {0}};
    const char *directory = SQL_DIRECTORY;
    for (int option; (option = getopt_long(argc, argv, "h", options, NULL)) >= 0;) {
        if (option == 'h') {
            help(stdout);
            return CTL_DONE;
        }
        if (option != 'd')
            return ctl_unknown(argv[0]);
        directory = optarg;
    }
    int status = ctl_no_more(argc, argv);
    return status ? status : run(directory);
}
