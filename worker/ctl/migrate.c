/* migrate.c — portalctl migrate: applies the numbered files of SQL that the database does not have yet. */
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <libgen.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctl-store.h"
#include "portal/text.h"
#include "portalctl.h"

/* Where they are installed, seen from the folder above that of the program. */
#define SQL_DIRECTORY "/share/portal-worker/sql"

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

static const char which_folder[] = "--directory names the folder that the migrations of this version are in.";

/* Takes one name of the directory, where it is a migration's. Result: 0 or an exit status, as of all that follow. */
static int migrations_add(struct migrations *migrations, const char *directory, const char *name) {
    size_t length = strlen(name);
    int number = migration_number(name);
    if (number == 0 && length > 4 && strcmp(name + length - 4, ".sql") == 0)
        return ctl_complain(CTL_BAD_FILE, which_folder, "%s/%s: a migration is called like 001-words.sql", directory,
                            name);
    if (number == 0)
        return 0;
    if (length >= MIGRATION_NAME_SIZE)
        return ctl_complain(CTL_BAD_FILE, NULL, "%s/%s: the name is too long", directory, name);
    if (*migrations->names[number])
        return ctl_complain(CTL_BAD_FILE, which_folder, "%s: two files have the number %d: %s and %s", directory,
                            number, migrations->names[number], name);
    memcpy(migrations->names[number], name, length + 1);
    if (number > migrations->count)
        migrations->count = number;
    return 0;
}

static int migrations_list(struct migrations *migrations, const char *directory) {
    DIR *stream = opendir(directory);
    if (!stream)
        return ctl_complain(CTL_NO_FILE, which_folder, "%s: %s", directory, strerror(errno));
    int status = 0;
    for (struct dirent *entry; status == 0 && (entry = readdir(stream));)
        status = migrations_add(migrations, directory, entry->d_name);
    (void)closedir(stream);
    if (status)
        return status;
    if (migrations->count == 0)
        return ctl_complain(CTL_NO_FILE, which_folder, "%s: no migrations there (001-words.sql, …)", directory);
    for (int i = 1; i <= migrations->count; i++)
        if (!*migrations->names[i])
            return ctl_complain(CTL_BAD_FILE, which_folder, "%s: there is no migration %03d, but later ones", directory,
                                i);
    return 0;
}

/* Reads a whole file into a text, the caller's. */
static int read_file(const char *path, char **ret) {
    FILE *file = fopen(path, "re");
    if (!file)
        return ctl_complain(CTL_NO_FILE, NULL, "%s: %s", path, strerror(errno));
    char *text = malloc(MIGRATION_SIZE_MAX + 1);
    size_t size = text ? fread(text, 1, MIGRATION_SIZE_MAX + 1, file) : 0;
    const char *wrong = !text                       ? "out of memory"
                        : ferror(file)              ? "can't be read"
                        : size > MIGRATION_SIZE_MAX ? "is larger than 1 MiB"
                        : memchr(text, '\0', size)  ? "has a NUL in it"
                                                    : NULL;
    (void)fclose(file);
    if (wrong) {
        free(text);
        return ctl_complain(CTL_BAD_FILE, NULL, "%s: %s", path, wrong);
    }
    text[size] = '\0';
    *ret = text;
    return 0;
}

/* ---- the database ---- */

static int execute(PGconn *connection, const char *what, const char *sql) {
    int status = 0;
    AUTOCLEAR PGresult *result = ctl_query(connection, what, sql, 0, NULL, &status);
    return status;
}

/* SHA-256 of a text, by the server. Result: the caller's to clear; the checksum is its only value. */
static PGresult *checksum(PGconn *connection, const char *path, const char *text, int *status) {
    return ctl_query(connection, path, "SELECT encode(sha256(convert_to($1::text, 'UTF8')), 'hex')", 1, &text, status);
}

/* What a file says. */
static int run_file(PGconn *connection, const char *path, const char *text) {
    AUTOCLEAR PGresult *result = PQexec(connection, text);
    ExecStatusType kind = PQresultStatus(result);
    if (kind != PGRES_COMMAND_OK && kind != PGRES_TUPLES_OK && kind != PGRES_EMPTY_QUERY)
        return ctl_query_complain(connection, result, path, text);
    if (PQtransactionStatus(connection) != PQTRANS_INTRANS)
        return ctl_complain(CTL_BAD_FILE, NULL, "%s: ended the transaction it runs in; a migration must not", path);
    return 0;
}

/* One transaction: the file, and the row that says so. */
static int apply(PGconn *connection, int number, const char *name, const char *path, const char *text) {
    static const char keep[] = "INSERT INTO portal.migrations (number, name, checksum) VALUES ($1::int, $2, $3)";
    char digits[16];
    int status = 0;
    AUTOCLEAR PGresult *sum = checksum(connection, path, text, &status);
    status = status ? status : execute(connection, path, "BEGIN");
    status = status ? status : run_file(connection, path, text);
    if (status)
        return status;
    snprintf(digits, sizeof digits, "%d", number);
    const char *const values[] = {digits, name, PQgetvalue(sum, 0, 0)};
    AUTOCLEAR PGresult *kept = ctl_query(connection, path, keep, 3, values, &status);
    status = status ? status : execute(connection, path, "COMMIT");
    if (status)
        return status;
    printf("applied %s\n", name);
    (void)fflush(stdout);
    return 0;
}

/* What the database has: rows of number, checksum and name, in order; none where there is no schema yet. */
static PGresult *applied_migrations(PGconn *connection, int *status) {
    static const char there_sql[] = "SELECT to_regclass('portal.migrations') IS NOT NULL";
    AUTOCLEAR PGresult *there = ctl_query(connection, "the database", there_sql, 0, NULL, status);
    if (!there)
        return NULL;
    bool exists = strcmp(PQgetvalue(there, 0, 0), "t") == 0;
    return ctl_query(connection, "the database",
                     exists ? "SELECT number, checksum, name FROM portal.migrations ORDER BY number"
                            : "SELECT 0, '', '' WHERE false",
                     0, NULL, status);
}

/* Warns where a file is not what was applied. */
static int compare(PGconn *connection, const char *path, const char *text, const char *applied) {
    int status = 0;
    AUTOCLEAR PGresult *sum = checksum(connection, path, text, &status);
    if (sum && strcmp(PQgetvalue(sum, 0, 0), applied) != 0)
        (void)ctl_complain(0, "Changes belong in a new migration.", "warning: %s has changed since it was applied",
                           path);
    return status;
}

/* The checksum with which a migration was applied; NULL where it was not. */
static const char *applied_checksum(const PGresult *applied, int number) {
    for (int i = 0; i < PQntuples(applied); i++)
        if (strtol(PQgetvalue(applied, i, 0), NULL, 10) == number)
            return PQgetvalue(applied, i, 1);
    return NULL;
}

static int migrate_one(PGconn *connection, const char *directory, int number, const char *name, const char *applied) {
    char path[PATH_MAX];
    AUTOFREE char *text = NULL;
    if ((size_t)snprintf(path, sizeof path, "%s/%s", directory, name) >= sizeof path)
        return ctl_complain(CTL_NO_FILE, NULL, "%s: the name is too long", directory);
    int status = read_file(path, &text);
    if (status)
        return status;
    return applied ? compare(connection, path, text, applied) : apply(connection, number, name, path, text);
}

static int check_encoding(PGconn *connection) {
    static const char sql[] = "SELECT current_database(), current_setting('server_encoding')";
    int status = 0;
    AUTOCLEAR PGresult *result = ctl_query(connection, "the database", sql, 0, NULL, &status);
    if (!result || strcmp(PQgetvalue(result, 0, 1), "UTF8") == 0)
        return status;
    return ctl_complain(CTL_FAILED, "portal-worker needs one that was made with ENCODING 'UTF8'.",
                        "the database \"%s\" has the encoding %s", PQgetvalue(result, 0, 0), PQgetvalue(result, 0, 1));
}

/* Two that come at once take turns: the lock is the session's, and goes with it. */
static int migrate(PGconn *connection, const struct migrations *migrations, const char *directory) {
    char lock[64];
    snprintf(lock, sizeof lock, "SELECT pg_advisory_lock(%d)", MIGRATION_LOCK);
    int status = check_encoding(connection);
    status = status ? status : execute(connection, "the database", lock);
    AUTOCLEAR PGresult *applied = status ? NULL : applied_migrations(connection, &status);
    if (status)
        return status;
    int rows = PQntuples(applied);
    if (rows > 0 && strtol(PQgetvalue(applied, rows - 1, 0), NULL, 10) > migrations->count)
        return ctl_complain(CTL_FAILED, "This portalctl is too old for it: use that of the newest version installed.",
                            "the database has the migration %s, and %s ends with %s", PQgetvalue(applied, rows - 1, 2),
                            directory, migrations->names[migrations->count]);
    for (int i = 1; status == 0 && i <= migrations->count; i++)
        status = migrate_one(connection, directory, i, migrations->names[i], applied_checksum(applied, i));
    if (status == 0)
        puts("up to date");
    return status;
}

/* ---- the command ---- */

static void help(FILE *out) {
    fputs("Usage: portalctl migrate [--directory DIR]\n\n"
          "Applies the migrations that the database in DATABASE_URL does not have yet, each in a transaction\n"
          "of its own. Safe when run twice, or by two at once. The user in DATABASE_URL has to be allowed to\n"
          "create a schema, to read the application's tables and, the first time in a cluster, to create\n"
          "the role portal_worker.\n\n"
          "  --directory DIR  where they are; default .." SQL_DIRECTORY " from portalctl's folder\n\n"
          "Example:\n  DATABASE_URL=postgresql://owner:secret@db.example.com/app portalctl migrate\n\n"
          "Exit status: 0 up to date; 1 a migration failed, and the database is as before it; 65, 66 it is\n"
          "not the folder of the migrations; and those of \"portalctl --help\". Needs DATABASE_URL.\n",
          out);
}

/* PREFIX/share/portal-worker/sql of PREFIX/bin/portalctl, wherever PREFIX is; where there is no /proc, as the Debian
 * package has it, and never what the working directory has. */
static void installed_directory(char directory[static PATH_MAX]) {
    char program[PATH_MAX - sizeof SQL_DIRECTORY] = "";
    if (readlink("/proc/self/exe", program, sizeof program - 1) < 0)
        (void)snprintf(program, sizeof program, "/usr/bin/portalctl");
    (void)snprintf(directory, PATH_MAX, "%s" SQL_DIRECTORY, dirname(dirname(program)));
}

static int run(const char *directory) {
    struct migrations migrations = {0};
    int status = migrations_list(&migrations, directory);
    if (status)
        return status;
    AUTOFINISH PGconn *connection = ctl_database(&status);
    return connection ? migrate(connection, &migrations, directory) : status;
}

int ctl_migrate(int argc, char **argv) {
    static const struct option options[] = {
        {"directory", required_argument, NULL, 'd'}, {"help", no_argument, NULL, 'h'}, {0}};
    char installed[PATH_MAX];
    const char *directory = installed;
    installed_directory(installed);
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
