/* dead.c — portalctl dead: finds the subcommand; and list and show, which change nothing. */
#include "dead.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "look.h"
#include "portal/text.h"

enum { STEP_MS = 200 };

static const struct command commands[] = {
    {"list", "portalctl dead list", "one line for each letter: when, why, whose", dead_list},
    {"show", "portalctl dead show", "all there is to know of some of them", dead_show},
    {"requeue", "portalctl dead requeue", "send them again, as the next generation", dead_requeue},
    {"drop", "portalctl dead drop", "delete them for good", dead_drop},
};

static void help(FILE *out) {
    fputs("Usage: portalctl dead list|show|requeue|drop [OPTION…] [LETTER|REQUEST…]\n\n"
          "Looks after portal.dead, where requests lie that were malformed, refused or given up. A letter\n"
          "is named by the first column of the list, or by its request_id. Looking changes nothing and\n"
          "takes nothing away; meanwhile nobody else sees the letters.\n\n",
          out);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        fprintf(out, "  %-9s %s\n", commands[i].name, commands[i].summary);
    fputs("\nReasons: stripe_unavailable and internal_error may work when requeued; expired waited in the\n"
          "queue for longer than its sender wanted; invalid_request, reply_refused, forbidden_sender,\n"
          "poisonous and rejected (larger than 16 KiB) would fail again.\n\n"
          "Examples:\n"
          "  portalctl dead list --since 1h\n"
          "  portalctl dead show r-17\n"
          "  portalctl dead requeue --reason stripe_unavailable\n"
          "  portalctl dead drop --reason invalid_request --until 7d\n\n"
          "Needs AMQP_URL.\n",
          out);
}

int ctl_dead(int argc, char **argv) {
    return ctl_run(commands, sizeof commands / sizeof *commands, help, argc, argv);
}

/* ---- going through them ---- */

int dead_begin(struct wire *wire, struct walk *walk, const struct settings *settings, int stop) {
    if (wire_init(wire, &settings->broker, stop) < 0)
        return ctl_complain(CTL_FAILED, NULL, "out of memory");
    int r = wire_open(wire);
    if (r >= 0)
        r = walk_begin(walk, wire, QUEUE_DEAD);
    if (r == -ENOENT)
        return ctl_complain(CTL_UNAVAILABLE,
                            "A worker that starts declares it; \"portalctl check\" looks at every queue.",
                            "there is no queue " QUEUE_DEAD);
    return r < 0 ? wire_complain(wire) : 0;
}

int dead_each(struct walk *walk, struct letter_filter *filter, int (*each)(const struct letter *letter, void *userdata),
              void *userdata) {
    int r;
    int status = 0;
    while (status == 0 && (r = walk_next(walk, STEP_MS)) != 0) {
        struct letter letter;
        if (r == -EAGAIN)
            continue;
        if (r == -ECANCELED)
            return ctl_complain(CTL_INTERRUPTED, NULL, "interrupted");
        if (r < 0)
            return wire_complain(walk->wire);
        if (letter_read(&letter, &walk->wire->message) < 0)
            return ctl_complain(CTL_FAILED, NULL, "out of memory");
        if (filter_matches(filter, &letter))
            status = each(&letter, userdata);
        letter_clear(&letter);
    }
    return status;
}

/* ---- list and show ---- */

struct listing {
    struct letter_filter filter;
    struct grid grid;
    bool json, show;
    uint64_t limit, count;
};

static const char *error_of(const struct letter *letter) {
    if (letter->error)
        return letter->error;
    if (strcmp(letter->reason, "expired") == 0)
        return "waited in the queue for longer than its sender wanted; not answered";
    return strcmp(letter->reason, "rejected") == 0 ? "larger than 16 KiB; answered invalid_request" : NULL;
}

static void format_who(char text[static 48], const struct letter *letter) {
    int length = letter->team_id ? snprintf(text, 48, "%" PRId64, letter->team_id) : 0;
    text[length] = '\0';
    if (letter->user_id)
        (void)snprintf(text + length, 48 - (size_t)length, "%suser %" PRId64, length ? ", " : "", letter->user_id);
}

static void list_one(struct grid *grid, const struct letter *letter) {
    char time[TIMESTAMP_SIZE] = "";
    char who[48];
    if (letter->died_at)
        timestamp_format(time, letter->died_at, false);
    format_who(who, letter);
    grid_add(grid, letter->handle, grid->look.cyan);
    grid_add(grid, time, NULL);
    grid_add(grid, letter->reason, NULL);
    grid_add(grid, who, NULL);
    grid_add(grid, letter->request_id, NULL);
    grid_add(grid, error_of(letter), NULL);
}

static void print_value(const char *label, const json_t *value) {
    char *written = json_is_string(value) ? NULL : json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    const char *text = json_is_string(value) ? json_string_value(value) : written;
    if (text && !json_is_null(value)) {
        printf("  %-16s ", label);
        ctl_write_text(stdout, text);
        putchar('\n');
    }
    free(written);
}

static void print_text(const char *label, const char *text) {
    json_t *value = json_string(text ? text : "");
    if (text)
        print_value(label, value);
    json_decref(value);
}

/* As the line of a replay file would have it: readable, and without URLs. */
static void print_request(const struct letter *letter) {
    AUTOFREE char *line = letter_to_line(letter);
    json_t *json = line ? json_loads(line, 0, NULL) : NULL;
    const char *name;
    json_t *value;
    json_object_foreach(json_object_get(json, "properties"), name, value) {
        print_value(name, value);
    }
    const json_t *body = json_object_get(json, "request");
    print_value("body", body ? body : json_object_get(json, "body"));
    print_value("body in base64", json_object_get(json, "body_base64"));
    json_decref(json);
}

static void show_one(const struct letter *letter, bool first) {
    const struct look look = look_of(stdout);
    char time[TIMESTAMP_SIZE];
    char words[256];
    const char *verdict = letter_verdict(letter, words, sizeof words);
    printf("%s%s%s%s ", first ? "" : "\n", look.cyan, letter->handle, look.plain);
    ctl_write_text(stdout, letter->reason);
    putchar('\n');
    print_text("error", error_of(letter));
    print_text("request", letter->request_id);
    if (letter->team_id)
        printf("  %-16s %" PRId64 "\n", "team", letter->team_id);
    if (letter->user_id)
        printf("  %-16s %" PRId64 "\n", "user", letter->user_id);
    if (letter->died_at) {
        timestamp_format(time, letter->died_at, true);
        printf("  %-16s %s\n", "given up", time);
    }
    print_text("by", letter->by_worker ? letter->worker : "RabbitMQ");
    if (letter->by_worker)
        printf("  %-16s %" PRId64 " calls to Stripe\n", "tried", letter->attempts);
    if (letter->next_generation)
        printf("  %-16s %" PRIu32 "\n", "next generation", letter->next_generation);
    print_text("if requeued", verdict ? verdict : "may work");
    print_request(letter);
}

static int show_json(const struct letter *letter, bool with_request) {
    json_t *json = letter_to_json(letter);
    AUTOFREE char *line = with_request ? letter_to_line(letter) : NULL;
    json_t *request = line ? json_loads(line, 0, NULL) : NULL;
    if (request)
        (void)json_object_set_new(json, "message", request);
    int r = json ? print_json(stdout, json) : -ENOMEM;
    json_decref(json);
    return r < 0 ? ctl_complain(CTL_FAILED, NULL, "out of memory") : 0;
}

static int on_letter(const struct letter *letter, void *userdata) {
    struct listing *listing = userdata;
    int status = 0;
    if (listing->count == listing->limit)
        return 0; /* go on: all of them have to be held, so that they keep their order */
    if (listing->json)
        status = show_json(letter, listing->show);
    else if (listing->show)
        show_one(letter, listing->count == 0);
    else
        list_one(&listing->grid, letter);
    listing->count++;
    return status;
}

static int run(struct listing *listing) {
    static const char *const names[] = {"AMQP_URL", NULL};
    static const char *const titles[] = {"LETTER", "GIVEN UP", "REASON", "TEAM", "REQUEST", "ERROR", NULL};
    AUTOSETTINGS struct settings settings = {0};
    struct wire wire;
    struct walk walk;
    int status = ctl_settings(&settings, names);
    int stop = status ? -1 : ctl_stop_open();
    if (status)
        return status;
    grid_begin(&listing->grid, stdout, titles);
    status = dead_begin(&wire, &walk, &settings, stop);
    if (status == 0)
        status = dead_each(&walk, &listing->filter, on_letter, listing);
    wire_close(&wire);
    (void)close(stop);
    grid_end(&listing->grid);
    if (status == 0 && !listing->json && !listing->show)
        fprintf(stderr, listing->count ? "%" PRIu64 " letter%s\n" : "no letters\n", listing->count,
                listing->count == 1 ? "" : "s");
    if (status == 0 && !filter_tell_missing(&listing->filter))
        status = CTL_FAILED;
    return status;
}

static void help_list(FILE *out) {
    fputs("Usage: portalctl dead list [OPTION…] [LETTER|REQUEST…]\n\n"
          "Lists what lies in portal.dead, oldest first, and leaves it there.\n\n" FILTER_HELP
          "  --limit N        print at most so many\n"
          "  --json           a line of JSON for each\n\n"
          "Examples:\n"
          "  portalctl dead list --since 1h\n"
          "  portalctl dead list --reason stripe_unavailable --team 42\n\n"
          "Needs AMQP_URL.\n",
          out);
}

static void help_show(FILE *out) {
    fputs("Usage: portalctl dead show [OPTION…] [LETTER|REQUEST…]\n\n"
          "Prints all there is to know of letters in portal.dead: reason, error, properties, body, and\n"
          "whether it would fail again. URLs are cut after their host.\n\n" FILTER_HELP
          "  --limit N        print at most so many\n"
          "  --json           a line of JSON for each\n\n"
          "Examples:\n"
          "  portalctl dead show r-17\n"
          "  portalctl dead show 5f0c3a9be214 --json\n\n"
          "Needs AMQP_URL.\n",
          out);
}

static int list_or_show(int argc, char **argv, bool show) {
    static const struct option options[] = {
        FILTER_OPTIONS,
        {"limit", required_argument, NULL, 'l'},
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    struct listing listing = {.show = show, .limit = UINT64_MAX};
    int status = 0;
    for (int option; status == 0 && (option = getopt_long(argc, argv, "h", options, NULL)) >= 0;) {
        if (option == 'h') {
            (show ? help_show : help_list)(stdout);
            return CTL_DONE;
        }
        if (option == 'j')
            listing.json = true;
        else if (option == 'l')
            status = ctl_read_number(argv[0], "--limit", optarg, 1, UINT32_MAX, &listing.limit);
        else
            status = filter_option(&listing.filter, argv[0], option);
    }
    status = status ? status : filter_names(&listing.filter, argv + optind);
    status = status ? status : run(&listing);
    filter_clear(&listing.filter);
    return status;
}

int dead_list(int argc, char **argv) {
    return list_or_show(argc, argv, false);
}

int dead_show(int argc, char **argv) {
    return list_or_show(argc, argv, true);
}
