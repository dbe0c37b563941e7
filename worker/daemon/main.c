/* main.c — the program: options, settings, then the service. */
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sysexits.h>
#include <syslog.h>
#include <unistd.h>

#include "daemon/log.h"
#include "daemon/messages.h"
#include "daemon/service.h"
#include "daemon/settings.h"
#include "daemon/streams.h"

enum { CHECK_ERROR_MAX = 512 };

static void help(void) {
    (void)printf("portal-worker turns requests on a RabbitMQ queue into Stripe customer-portal sessions.\n\n"
                 "Usage: portal-worker [--check]\n\n"
                 "  --check    check the settings, try each connection, and end\n"
                 "  --help     this text\n"
                 "  --version  the version\n\n"
                 "Settings, from the environment; for the secret ones, the file of that name in\n"
                 "$CREDENTIALS_DIRECTORY (systemd's LoadCredential=) wins:\n\n");
    settings_help(stdout);
    (void)printf("\nExit status: 0 after an orderly end, 1 if it could not go on or a check failed, %d for a wrong\n"
                 "option, %d for wrong settings. Signals: SIGTERM finishes what is in hand and ends, a second one\n"
                 "gives it back; SIGHUP reads STRIPE_SECRET_KEY_FILE and PORTAL_CONFIGURATION_FILE again.\n",
                 EX_USAGE, EX_CONFIG);
}

/* Memory holds keys and URLs: no core file, and no other process of this user may look into it. */
static void close_memory(void) {
    const struct rlimit none = {0, 0};
    (void)setrlimit(RLIMIT_CORE, &none);
    (void)prctl(PR_SET_DUMPABLE, 0);
}

/* One line; what the links say begins with their setting's name, or does not. `fix`: what helps, or NULL. */
static bool tell_check(const char *setting, int result, const char *error, const char *fix) {
    size_t length = strlen(setting);
    if (result >= 0)
        (void)printf("%s: ok\n", setting);
    else {
        if (strncmp(error, setting, length) == 0 && strncmp(error + length, ": ", 2) == 0)
            error += length + 2;
        (void)printf("%s: failed: %s%s%s\n", setting, error[0] ? error : strerror(-result), fix ? " → " : "",
                     fix ? fix : "");
    }
    (void)fflush(stdout);
    return result >= 0;
}

static int check(const struct settings *settings) {
    char error[CHECK_ERROR_MAX] = "";
    int r = broker_check(&settings->broker, error, sizeof error);
    bool good =
        tell_check("AMQP_URL", r, error, "is RabbitMQ running, and are host, user, password and virtual host right?");

    error[0] = '\0';
    r = store_check(&settings->store, error, sizeof error);
    /* Once it is connected, what is missing says itself what helps. */
    good =
        tell_check("DATABASE_URL", r, error,
                   r == -ENOTCONN ? "is PostgreSQL running, and are host, user, password and database right?" : NULL) &&
        good;

    error[0] = '\0';
    r = stripe_check(&settings->stripe, error, sizeof error);
    good = tell_check("STRIPE_SECRET_KEY", r, error,
                      "the key is in Stripe's dashboard, under API keys; STRIPE_API_BASE is for emulators") &&
           good;
    if (!good)
        (void)fputs("\"portalctl check\" looks closer: at queues, rights and what the key may do.\n", stderr);
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* Signals are the loop's: blocked before there is any thread. */
static int block_signals(void) {
    sigset_t signals;
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    if (sigemptyset(&signals) < 0 || sigaddset(&signals, SIGTERM) < 0 || sigaddset(&signals, SIGINT) < 0 ||
        sigaddset(&signals, SIGHUP) < 0 || sigprocmask(SIG_BLOCK, &signals, NULL) < 0 ||
        sigaction(SIGPIPE, &ignore, NULL) < 0)
        return -errno;
    return 0;
}

/* Every error at once, in the journal an entry each. */
static void tell_settings(struct log *log, char *lines) {
    char *rest = NULL;
    for (char *line = strtok_r(lines, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        static const char warning[] = "warning: ";
        bool minor = strncmp(line, warning, sizeof warning - 1) == 0;
        log_message(log, minor ? LOG_WARNING : LOG_ERR, MESSAGE_SETTINGS, "%s",
                    minor ? line + sizeof warning - 1 : line);
    }
}

static int load(struct settings *settings) {
    char *lines = NULL;
    size_t size = 0;
    struct log *log = log_new(LOG_INFO);
    FILE *errors = log ? open_memstream(&lines, &size) : NULL;
    int r = -ENOMEM;
    if (errors) {
        r = settings_load(settings, errors);
        if (fclose(errors) != 0 && r >= 0) {
            settings_free(settings);
            r = -ENOMEM;
        }
    }
    if (lines)
        tell_settings(log, lines);
    if (r < 0 && r != -EINVAL)
        (void)fprintf(stderr, "portal-worker: settings can't be loaded: %s\n", strerror(-r));
    free(lines);
    log_free(log);
    return r;
}

static int run(struct settings *settings) {
    struct log *log = log_new(settings->log_level);
    int r = log ? block_signals() : -ENOMEM;
    if (r >= 0)
        r = service_run(settings, log);
    log_free(log);
    return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* Whether this is the only thread; not where that can't be told. */
static bool is_alone(void) {
    unsigned threads = 0;
    DIR *tasks = opendir("/proc/self/task");
    if (!tasks)
        return false;
    for (const struct dirent *entry = readdir(tasks); entry; entry = readdir(tasks))
        threads += entry->d_name[0] != '.';
    (void)closedir(tasks);
    return threads == 1;
}

/* What was printed is there only once it could be written. And a thread that connects or looks up a name can't be
 * stopped: the libraries' exit handlers would take away what it works with, and it would crash (seen). */
static int leave(int status) {
    if ((fflush(stdout) != 0 || ferror(stdout)) && status == EXIT_SUCCESS)
        status = EXIT_FAILURE;
    if (!is_alone())
        _exit(status);
    return status;
}

int main(int argc, char *argv[]) {
    enum { OPTION_CHECK = 256, OPTION_HELP, OPTION_VERSION };
    static const struct option options[] = {
        {"check", no_argument, NULL, OPTION_CHECK},
        {"help", no_argument, NULL, OPTION_HELP},
        {"version", no_argument, NULL, OPTION_VERSION},
        {NULL, 0, NULL, 0},
    };
    bool only_check = false;
    int option;
    if (!streams_keep())
        return EXIT_FAILURE;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case OPTION_CHECK:
            only_check = true;
            break;
        case OPTION_HELP:
            help();
            return leave(EXIT_SUCCESS);
        case OPTION_VERSION:
            (void)puts("portal-worker " PORTAL_VERSION);
            return leave(EXIT_SUCCESS);
        default:
            (void)fputs("Try \"portal-worker --help\".\n", stderr);
            return EX_USAGE;
        }
    }
    if (optind < argc) {
        (void)fprintf(stderr, "portal-worker: \"%s\" is no option. Try \"portal-worker --help\".\n", argv[optind]);
        return EX_USAGE;
    }

    close_memory();
    struct settings settings;
    int r = load(&settings);
    if (r < 0)
        return r == -EINVAL ? EX_CONFIG : EXIT_FAILURE;
    int status = only_check ? check(&settings) : run(&settings);
    settings_free(&settings);
    return leave(status);
}
