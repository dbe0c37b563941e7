/* check.c — portalctl check: looks at everything that a worker needs, a line each. */
#include "check.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "portal/text.h"

static void help(FILE *out) {
    fputs("Usage: portalctl check [--json]\n\n"
          "Looks at everything that a worker needs, with the settings that it would have, and says in a\n"
          "line each whether it is right, and what to do where it is not: settings, RabbitMQ, each queue,\n"
          "rights, PostgreSQL, migrations, Stripe's key, what it may do, the portal configuration, workers.\n"
          "It changes nothing, and makes nothing at Stripe.\n\n"
          "  --json           a line of JSON for each\n\n"
          "Examples:\n"
          "  portalctl check\n"
          "  portalctl check --json | jq 'select(.result != \"ok\")'\n\n"
          "Exit status: 0 all is right; 1 something is not; and those of \"portalctl --help\".\n",
          out);
}

void check_tell(struct checker *checker, enum check_result result, const char *what, const char *fix,
                const char *format, ...) {
    static const char *const words[] = {[CHECK_GOOD] = "ok", [CHECK_DOUBTFUL] = "note", [CHECK_BAD] = "FAIL"};
    const char *const colours[] = {
        [CHECK_GOOD] = checker->look.green, [CHECK_DOUBTFUL] = checker->look.yellow, [CHECK_BAD] = checker->look.red};
    AUTOFREE char *text = NULL;
    va_list arguments;
    va_start(arguments, format);
    if (vasprintf(&text, format, arguments) < 0)
        text = NULL;
    va_end(arguments);
    checker->failed += result == CHECK_BAD;
    if (checker->json) {
        json_t *line = json_pack("{ss ss ss* ss*}", "what", what, "result", words[result], "detail", text, "fix",
                                 result == CHECK_GOOD ? NULL : fix);
        (void)print_json(stdout, line);
        json_decref(line);
        return;
    }
    printf("%s%-4s%s  %s%s", colours[result], words[result], checker->look.plain, what, text && *text ? ": " : "");
    ctl_write_text(stdout, text ? text : "");
    if (fix && result != CHECK_GOOD) {
        fputs(" → ", stdout);
        ctl_write_text(stdout, fix);
    }
    putchar('\n');
    (void)fflush(stdout);
}

bool check_load(struct checker *checker, const char *what, struct settings *settings, const char *const *names) {
    AUTOFREE char *lines = NULL;
    int r = ctl_settings_read(settings, names, &lines);
    if (r < 0)
        check_tell(checker, CHECK_BAD, what, "put the settings right first", "not looked at");
    return r >= 0;
}

/* Takes the secrets out of the environment, so it comes last. */
static void check_settings(struct checker *checker) {
    static const char warning[] = "warning: ";
    AUTOSETTINGS struct settings settings = {0};
    AUTOFREE char *lines = NULL;
    char *rest = NULL;
    int r = ctl_settings_read(&settings, NULL, &lines);
    for (char *line = lines ? strtok_r(lines, "\n", &rest) : NULL; line; line = strtok_r(NULL, "\n", &rest)) {
        bool minor = strncmp(line, warning, sizeof warning - 1) == 0;
        check_tell(checker, minor ? CHECK_DOUBTFUL : CHECK_BAD, "settings",
                   minor ? NULL : "\"portal-worker --help\" lists them all", "%s",
                   minor ? line + sizeof warning - 1 : line);
    }
    if (r == 0)
        check_tell(checker, CHECK_GOOD, "settings", NULL, "all there, none wrong");
    else if (r != -EINVAL)
        check_tell(checker, CHECK_BAD, "settings", NULL, "%s", strerror(-r));
}

int ctl_check(int argc, char **argv) {
    static const struct option options[] = {
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    struct checker checker = {.look = look_of(stdout)};
    for (int option; (option = getopt_long(argc, argv, "h", options, NULL)) >= 0;) {
        if (option == 'h') {
            help(stdout);
            return CTL_DONE;
        }
        if (option != 'j')
            return ctl_unknown(argv[0]);
        checker.json = true;
    }
    int status = ctl_no_more(argc, argv);
    if (status)
        return status;
    check_broker(&checker);
    check_database(&checker);
    check_stripe(&checker);
    check_settings(&checker);
    if (checker.failed > 0 && !checker.json)
        fprintf(stderr, "%u thing%s not right\n", checker.failed, checker.failed == 1 ? " is" : "s are");
    return checker.failed > 0 ? CTL_FAILED : CTL_DONE;
}
