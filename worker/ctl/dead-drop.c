/* dead-drop.c — portalctl dead drop: deletes letters for good, once a person has said so. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dead.h"

struct drop {
    struct letter_filter filter;
    bool yes;
    uint64_t *tags;
    size_t count, size;
};

static void help(FILE *out) {
    fputs("Usage: portalctl dead drop OPTION…|LETTER…|REQUEST…\n\n"
          "Deletes letters from portal.dead for good. Asks first, unless told --yes.\n\n" FILTER_HELP
          "  --all            all of them\n"
          "  --yes            do not ask\n\n"
          "Examples:\n"
          "  portalctl dead drop r-17\n"
          "  portalctl dead drop --reason invalid_request --until 7d --yes\n\n"
          "Needs AMQP_URL.\n",
          out);
}

static int on_letter(const struct letter *letter, void *userdata) {
    struct drop *drop = userdata;
    if (drop->count == drop->size) {
        size_t size = drop->size > 0 ? drop->size * 2 : 1024;
        uint64_t *larger = reallocarray(drop->tags, size, sizeof *larger);
        if (!larger)
            return ctl_complain(CTL_FAILED, NULL, "out of memory");
        drop->tags = larger;
        drop->size = size;
    }
    drop->tags[drop->count++] = letter->message->tag;
    return 0;
}

static bool ask(const struct drop *drop, int stop) {
    struct pollfd pollers[] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = stop, .events = POLLIN}};
    char answer[16] = "";
    if (drop->yes)
        return true;
    fprintf(stderr, "Delete %zu letter%s for good? [y/N] ", drop->count, drop->count == 1 ? "" : "s");
    if (poll(pollers, 2, -1) < 0 || pollers[1].revents)
        return false;
    ssize_t length = read(STDIN_FILENO, answer, sizeof answer - 1);
    return length > 0 && (answer[0] == 'y' || answer[0] == 'Y');
}

static int work(struct drop *drop, struct walk *walk, int stop) {
    int status = dead_each(walk, &drop->filter, on_letter, drop);
    if (status)
        return status;
    bool found = filter_tell_missing(&drop->filter);
    if (drop->count > 0 && !ask(drop, stop))
        return ctl_complain(ctl_stop_wanted(stop) ? CTL_INTERRUPTED : CTL_FAILED, NULL, "nothing was deleted");
    for (size_t i = 0; i < drop->count; i++)
        if (walk_take(walk, drop->tags[i]) < 0)
            return wire_complain(walk->wire);
    printf("deleted %zu letter%s\n", drop->count, drop->count == 1 ? "" : "s");
    return found ? CTL_DONE : CTL_FAILED;
}

static int run(struct drop *drop) {
    static const char *const names[] = {"AMQP_URL", NULL};
    AUTOSETTINGS struct settings settings = {0};
    struct wire wire;
    struct walk walk;
    int status = ctl_settings(&settings, names);
    int stop = status ? -1 : ctl_stop_open();
    if (status)
        return status;
    status = dead_begin(&wire, &walk, &settings, stop);
    if (status == 0)
        status = work(drop, &walk, stop);
    wire_close(&wire);
    (void)close(stop);
    return status;
}

int dead_drop(int argc, char **argv) {
    static const struct option options[] = {
        FILTER_OPTIONS,
        {"yes", no_argument, NULL, 'y'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    struct drop drop = {0};
    int status = 0;
    for (int option; status == 0 && (option = getopt_long(argc, argv, "hy", options, NULL)) >= 0;) {
        if (option == 'h') {
            help(stdout);
            return CTL_DONE;
        }
        if (option == 'y')
            drop.yes = true;
        else
            status = filter_option(&drop.filter, argv[0], option);
    }
    status = status ? status : filter_names(&drop.filter, argv + optind);
    if (status == 0 && !filter_is_set(&drop.filter))
        status = ctl_misused(argv[0], "which ones? name them, or say --reason, --since, --until, --team or --all");
    if (status == 0 && !drop.yes && !isatty(STDIN_FILENO))
        status = ctl_misused(argv[0], "there is no terminal to ask at: say --yes");
    status = status ? status : run(&drop);
    filter_clear(&drop.filter);
    free(drop.tags);
    return status;
}
