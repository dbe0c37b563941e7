/* portalctl.c — the operator's tool: finds the command and hands over. */
#include "portalctl.h"

#include <errno.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "daemon/streams.h"

static const struct command commands[] = {
    {"status", "portalctl status", "what the workers do, what is queued, what is paused and why", ctl_status},
    {"check", "portalctl check", "is everything set up as it has to be? with a fix where not", ctl_check},
    {"sessions", "portalctl sessions", "find stored answers by request, team, time, outcome", ctl_sessions},
    {"retry", "portalctl retry", "work a stored failure again", ctl_retry},
    {"dead", "portalctl dead", "look into portal.dead; send from there again, or drop", ctl_dead},
    {"request", "portalctl request", "ask for one session, as a service would", ctl_request},
    {"replay", "portalctl replay", "send the requests of a file, and check what comes of them", ctl_replay},
    {"capture", "portalctl capture", "record requests into such a file, without taking them", ctl_capture},
    {"migrate", "portalctl migrate", "bring the schema \"portal\" of the database up to date", ctl_migrate},
    {"purge", "portalctl purge", "wipe expired URLs, and delete old rows", ctl_purge},
};

enum { COMMANDS = sizeof commands / sizeof *commands };

static void help(FILE *out) {
    fputs("portalctl looks after portal-worker.\n\nUsage: portalctl COMMAND [OPTION…] [ARGUMENT…]\n\nCommands:\n", out);
    for (size_t i = 0; i < COMMANDS; i++)
        fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].summary);
    fputs("\n\"portalctl COMMAND --help\" tells more, with examples. --version prints the version.\n\n"
          "A failed request:\n"
          "  portalctl sessions --outcome failed --since 1h     which requests failed, and why\n"
          "  portalctl retry r-17                               work one of them again\n"
          "  portalctl dead list                                what was given up, with reasons\n"
          "  portalctl dead requeue --reason stripe_unavailable send those again\n\n"
          "Settings are the worker's own, from the environment: AMQP_URL for what has to do with\n"
          "requests and queues, DATABASE_URL for answers and workers. Secrets may also be files in\n"
          "$CREDENTIALS_DIRECTORY. With none of them set, root has those in /etc/portal-worker.\n"
          "Colours are for terminals only; NO_COLOR=1 turns them off.\n\n"
          "Exit status: 0 done; 1 not all of it worked; 64 wrong use; 65, 66 a file is wrong or can't\n"
          "be read; 69 RabbitMQ or PostgreSQL can't be reached; 75 no reply in time; 77 they refuse the\n"
          "user something; 78 a setting is missing or wrong; 130 interrupted. \"request\" has more.\n",
          out);
}

int ctl_run(const struct command *list, size_t count, void (*print_help)(FILE *), int argc, char **argv) {
    if (argc < 2) {
        print_help(stderr);
        return CTL_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_help(stdout);
        return CTL_DONE;
    }
    for (size_t i = 0; i < count; i++)
        if (strcmp(argv[1], list[i].name) == 0) {
            argv[1] = (char *)list[i].title; /* getopt_long() complains in this name */
            return list[i].run(argc - 1, argv + 1);
        }
    return ctl_misused(argv[0], "there is no command \"%s\"", argv[1]);
}

/* What was printed is there only once it could be written. Where nobody reads on, as after "| head", that needs no
 * word.
 */
static int finish(int status) {
    struct pollfd reader = {.fd = STDOUT_FILENO, .events = POLLOUT};
    bool gone = poll(&reader, 1, 0) > 0 && (reader.revents & POLLERR);
    bool lost = ferror(stdout) != 0;
    errno = 0;
    lost = fclose(stdout) != 0 || lost;
    if (!lost || status != CTL_DONE)
        return status;
    if (gone || errno == EPIPE)
        return CTL_FAILED;
    return ctl_complain(CTL_FAILED, NULL, "standard output: %s", errno ? strerror(errno) : "not all could be written");
}

int main(int argc, char **argv) {
    static char name[] = "portalctl";
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    if (!streams_keep())
        return CTL_FAILED;
    (void)sigaction(SIGPIPE, &ignore, NULL);
    (void)setlocale(LC_CTYPE, "C.UTF-8");
    if (argc >= 2 && strcmp(argv[1], "--version") == 0) {
        puts("portalctl " PORTAL_VERSION);
        return finish(CTL_DONE);
    }
    if (argc > 0)
        argv[0] = name;
    ctl_settings_installed();
    return finish(ctl_run(commands, COMMANDS, help, argc, argv));
}
