/* purge.c — portalctl purge: wipes URLs that have expired, and deletes old rows. */
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>

#include "ctl-store.h"

enum { BATCH = 5000, OLD_DAYS = 30 };

static void help(FILE *out) {
    fputs("Usage: portalctl purge [OPTION…]\n\n"
          "Wipes portal URLs that have expired from portal.sessions, and deletes requests that were\n"
          "answered long ago. In steps, so that no worker waits; safe at any time.\n\n"
          "  --older-than SPAN  delete what was answered longer ago than that; default 30d\n"
          "  --urls-only        delete nothing\n\n"
          "Examples:\n"
          "  portalctl purge\n"
          "  portalctl purge --older-than 7d\n\n"
          "Needs DATABASE_URL.\n",
          out);
}

/* Calls the function until it has found less than it may take at once. Result: 0 or an exit status. */
static int repeat(PGconn *connection, const char *what, const char *sql, const char *argument, int64_t *total) {
    const char *const values[] = {argument};
    int status = 0;
    int64_t count = BATCH;
    for (*total = 0; count >= BATCH; *total += count) {
        AUTOCLEAR PGresult *result = ctl_query(connection, what, sql, argument ? 1 : 0, values, &status);
        if (!result)
            return status;
        count = ctl_value_number(result, 0, 0);
    }
    return 0;
}

static int run(uint64_t seconds, bool urls_only) {
    char age[24];
    char wipe[64];
    char purge[96];
    int64_t wiped = 0;
    int64_t deleted = 0;
    int status = 0;
    AUTOFINISH PGconn *connection = ctl_database(&status);
    if (!connection)
        return status;
    (void)snprintf(age, sizeof age, "%" PRIu64, seconds);
    (void)snprintf(wipe, sizeof wipe, "SELECT portal.wipe_expired(%d)", BATCH);
    (void)snprintf(purge, sizeof purge, "SELECT portal.purge($1::int8 * interval '1 second', %d)", BATCH);
    status = repeat(connection, "portal.wipe_expired", wipe, NULL, &wiped);
    if (status == 0 && !urls_only)
        status = repeat(connection, "portal.purge", purge, age, &deleted);
    if (status)
        return status;
    printf("wiped %" PRId64 " URL%s", wiped, wiped == 1 ? "" : "s");
    if (!urls_only)
        printf(", deleted %" PRId64 " request%s", deleted, deleted == 1 ? "" : "s");
    putchar('\n');
    return CTL_DONE;
}

int ctl_purge(int argc, char **argv) {
    static const struct option options[] = {
        {"older-than", required_argument, NULL, 'o'},
        {"urls-only", no_argument, NULL, 'u'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    uint64_t seconds = OLD_DAYS * 86400ULL;
    bool urls_only = false;
    int status = 0;
    for (int option; status == 0 && (option = getopt_long(argc, argv, "h", options, NULL)) >= 0;) {
        if (option == 'h') {
            help(stdout);
            return CTL_DONE;
        }
        if (option == 'u')
            urls_only = true;
        else
            status =
                option == 'o' ? ctl_read_duration(argv[0], "--older-than", optarg, &seconds) : ctl_unknown(argv[0]);
    }
    status = status ? status : ctl_no_more(argc, argv);
    return status ? status : run(seconds, urls_only);
}
