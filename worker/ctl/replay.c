/* replay.c — portalctl replay: sends the requests of files, and checks what comes of them. */
#include "replay.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "amqp-json.h"
#include "portal/request.h"
#include "portalctl.h"

enum { CONCURRENCY = 64, NONE_MS = 2000, STEP_MS = 100 };

static void help(FILE *out) {
    fputs("Usage: portalctl replay [OPTION…] FILE…\n\n"
          "Sends the requests of replay files (\"portalctl capture\" makes them; a line can be as short as\n"
          "{\"request\": {\"request_id\": \"r-1\", \"team_id\": 17}}) and waits for the replies. Every line is\n"
          "looked at before anything is sent. \"-\" is standard input. A broker that restarts meanwhile costs\n"
          "only time: what was not answered is sent again.\n\n"
          "  --rate N          at most so many requests a second\n"
          "  --concurrency N   at most so many under way at once; default 64, with --check 1, as a line may\n"
          "                    build on those before it\n"
          "  --check           compare replies with what the lines expect, and print a table\n"
          "  --dry-run         send nothing: say how many there are, and which the worker would refuse\n"
          "  --deadline SPAN   how long each request is waited for, or \"none\"; for old requests\n"
          "  --timeout SPAN    how long to wait for each reply; default 2m\n"
          "  --from N          begin with line N of the first file\n"
          "  --run NAME        what {run} in the lines stands for; default: new for each run\n"
          "  --json            a line of JSON for each reply (or refusal), and one that sums up\n"
          "  --show-url        with --json: do not redact the portal URLs\n\n"
          "A user_id in the properties is sent as the user in AMQP_URL, the only one RabbitMQ takes.\n\n"
          "Examples:\n"
          "  portalctl replay --dry-run today.jsonl\n"
          "  portalctl replay --rate 20 --deadline 15m today.jsonl\n"
          "  portalctl replay --check tests/replay/contract.jsonl\n\n"
          "Exit status: 0 all answered and, with --check, as expected; 1 something was not as expected;\n"
          "65 a line is wrong; 75 some got no reply; 130 interrupted, with a line that says how to go on;\n"
          "and those of \"portalctl --help\". Needs AMQP_URL, but for --dry-run.\n",
          out);
}

/* ---- sending ---- */

/* The line's properties with what the options ask for: the caller's; NULL without memory. */
static json_t *properties_of(const struct replay *replay, const struct replay_line *line) {
    json_t *properties = line->properties ? json_deep_copy(line->properties) : json_object();
    json_t *headers = json_object_get(properties, "headers");
    char deadline[TIMESTAMP_SIZE];
    if (!replay->options.deadline || !properties || json_object_get(headers, "x-portal-deadline"))
        return properties;
    ctl_format_deadline(deadline, replay->options.deadline_seconds);
    if (!headers && json_object_set_new(properties, "headers", headers = json_object()) < 0)
        headers = NULL;
    if (json_object_set_new(headers, "x-portal-deadline", json_string(deadline)) == 0)
        return properties;
    json_decref(properties);
    return NULL;
}

static int send_line(struct replay *replay, struct replay_line *line) {
    struct dialogue_request *request = calloc(1, sizeof *request);
    struct replay_mark *mark = replay_mark_new(replay, line);
    json_t *properties = properties_of(replay, line);
    if (!request || !mark || !properties) {
        free(request);
        replay_mark_free(mark);
        json_decref(properties);
        return -ENOMEM;
    }
    bool none = replay->options.check && json_is_null(json_object_get(line->expect, "reply"));
    bool elsewhere = json_object_get(properties, "reply_to") != NULL;
    *request =
        (struct dialogue_request){.body = line->body,
                                  .body_length = line->body_length,
                                  .properties = properties,
                                  .awaited = !elsewhere,
                                  .patience_ms = none ? NONE_MS : (unsigned)(replay->options.wait_seconds * 1000),
                                  .line = replay->file << 32 | replay->reader.line,
                                  .mark = mark};
    line->body = NULL; /* taken over */
    dialogue_send(&replay->dialogue, request);
    replay->sent++;
    return 0;
}

/* Whether the rate lets one more go now. */
static bool take_turn(struct replay *replay) {
    uint64_t now = ctl_monotonic();
    if (replay->options.rate <= 0)
        return true;
    if (now < replay->next_at)
        return false;
    /* at most a tenth of a second is made up for */
    if (replay->next_at + 100000 < now)
        replay->next_at = now - 100000;
    replay->next_at += (uint64_t)(1e6 / replay->options.rate);
    return true;
}

static size_t concurrency(const struct replay *replay) {
    if (replay->options.concurrency > 0)
        return replay->options.concurrency;
    return replay->options.check ? 1 : CONCURRENCY;
}

/* Sends as many as may be under way. Result: 0, or what replay_read() says. */
static int feed(struct replay *replay) {
    while (!replay->ended && dialogue_has_room(&replay->dialogue, concurrency(replay), REPLAY_LINE_MAX) &&
           take_turn(replay)) {
        struct replay_line line;
        int r = replay_read(replay, replay->dialogue.count == 0, &line);
        if (r > 0)
            r = send_line(replay, &line);
        else if (r == 0)
            replay->ended = true;
        replay_line_clear(&line);
        if (r == -ENOMEM)
            replay->status = ctl_complain(CTL_FAILED, NULL, "out of memory");
        if (r < 0)
            return r == -EAGAIN ? 0 : r;
    }
    return 0;
}

static unsigned step_ms(const struct replay *replay) {
    uint64_t now = ctl_monotonic();
    if (replay->ended || replay->options.rate <= 0 || replay->next_at > now + (uint64_t)STEP_MS * 1000)
        return STEP_MS;
    return replay->next_at > now ? (unsigned)((replay->next_at - now + 999) / 1000) : 1;
}

static int work(struct replay *replay) {
    for (;;) {
        int r = feed(replay);
        if (r == 0 && replay->ended && replay->dialogue.count == 0)
            return 0;
        if (r == 0)
            r = dialogue_step(&replay->dialogue, step_ms(replay));
        if (r < 0)
            return r;
        progress_show(&replay->progress, replay->done);
    }
}

/* Why it ended before its time: the exit status. */
static int explain(struct replay *replay, int error) {
    progress_clear(&replay->progress);
    if (replay->table)
        grid_end(&replay->grid);
    if (error == -ECANCELED)
        replay->status = ctl_complain(CTL_INTERRUPTED, NULL, "interrupted");
    else if (error == -EHOSTUNREACH)
        replay->status = CTL_UNAVAILABLE;
    else if (!replay->status)
        replay->status = wire_complain(&replay->dialogue.wire);
    replay_tell_rest(replay);
    return replay->status;
}

static int converse(struct replay *replay, const struct broker_settings *settings, int stop) {
    static const char *const titles[] = {"RESULT", "LINE", "OUTCOME", "TOOK", "NAME", "DIFFERENCE", NULL};
    replay->table = replay->options.check && !replay->options.json;
    if (replay->table)
        grid_begin(&replay->grid, stdout, titles);
    replay->dialogue.done = replay_done;
    replay->dialogue.userdata = replay;
    int r = dialogue_open(&replay->dialogue, settings, stop, true);
    if (r < 0)
        return wire_complain(&replay->dialogue.wire);
    progress_begin(&replay->progress, replay->total);
    r = work(replay);
    if (r < 0)
        return explain(replay, r);
    replay_sum_up(replay);
    if (replay->wrong > 0)
        return CTL_FAILED;
    if (replay->late == 0)
        return CTL_DONE;
    return ctl_complain(CTL_LATE, "\"portalctl status\" shows what the workers do.",
                        "%" PRIu64 " request%s got no reply in time", replay->late, replay->late == 1 ? "" : "s");
}

static int send_all(struct replay *replay) {
    static const char *const names[] = {"AMQP_URL", NULL};
    AUTOSETTINGS struct settings settings = {0};
    int status = ctl_settings(&settings, names);
    if (status)
        return status;
    if (replay->prepared && replay->options.check)
        (void)ctl_complain(0, NULL, "some lines want a state put right first (\"before\"), which only tests can do");
    int stop = ctl_stop_open();
    if (stop < 0)
        return ctl_complain(CTL_FAILED, NULL, "signals can't be read: %s", strerror(-stop));
    replay->file = 0;
    status = converse(replay, &settings.broker, stop);
    for (size_t i = 0; i < replay->dialogue.count; i++)
        replay_mark_free(replay->dialogue.open[i]->mark);
    dialogue_close(&replay->dialogue);
    (void)close(stop);
    return status;
}

/* ---- sending nothing ---- */

static int judge_line(const struct replay *replay, const struct replay_line *line, struct request_problem *problem) {
    static char *const any[] = {(char *)"*", NULL};
    const struct request_rules rules = {.reply_queues = any};
    struct delivery delivery = {.body = line->body, .body_length = line->body_length, .body_size = line->body_length};
    struct request request;
    char generation[24];
    json_t *properties = properties_of(replay, line);
    delivery_from_json(&delivery, properties, generation);
    delivery.oversized = line->body_length > DELIVERY_BODY_MAX;
    int r = request_read(&delivery, &rules, ctl_wall(), &request, problem);
    request_clear(&request);
    json_decref(properties);
    return r;
}

static void tell_refusal(const struct replay *replay, const struct request_problem *problem) {
    const struct reader *reader = &replay->reader;
    if (replay->options.json) {
        json_t *line = json_pack("{ss sI ss ss}", "file", reader->name, "line", (json_int_t)reader->line, "code",
                                 problem->code, "message", problem->message);
        (void)print_json(stdout, line);
        json_decref(line);
        return;
    }
    printf("%s:%zu: %s: ", reader->name, reader->line, problem->code);
    ctl_write_text(stdout, problem->message);
    putchar('\n');
}

static void tell_dry_run(const struct replay *replay, uint64_t count, uint64_t bad) {
    if (replay->options.json) {
        json_t *whole = json_pack("{s{sb sI sI}}", "summary", "dry_run", true, "requests", (json_int_t)count, "refused",
                                  (json_int_t)bad);
        (void)print_json(stdout, whole);
        json_decref(whole);
        return;
    }
    printf("%" PRIu64 " request%s would be sent", count, count == 1 ? "" : "s");
    if (bad > 0)
        printf("; the worker would refuse %" PRIu64 " of them", bad);
    putchar('\n');
}

static int dry_run(struct replay *replay) {
    struct replay_line line;
    uint64_t count = 0;
    uint64_t bad = 0;
    int r;
    replay->file = 0;
    replay->dialogue.wire.stop = -1;
    while ((r = replay_read(replay, true, &line)) > 0) {
        struct request_problem problem;
        count++;
        if (judge_line(replay, &line, &problem) == -EINVAL) {
            tell_refusal(replay, &problem);
            bad++;
        }
        replay_line_clear(&line);
    }
    replay_line_clear(&line);
    if (r < 0)
        return replay->status;
    tell_dry_run(replay, count, bad);
    return CTL_DONE;
}

/* ---- the command line ---- */

enum { RATE = 256, CONCURRENT, CHECK, DRY_RUN, DEADLINE, TIMEOUT, FROM, RUN, JSON, SHOW_URL };

static const struct option options[] = {
    {"rate", required_argument, NULL, RATE},
    {"concurrency", required_argument, NULL, CONCURRENT},
    {"check", no_argument, NULL, CHECK},
    {"dry-run", no_argument, NULL, DRY_RUN},
    {"deadline", required_argument, NULL, DEADLINE},
    {"timeout", required_argument, NULL, TIMEOUT},
    {"from", required_argument, NULL, FROM},
    {"run", required_argument, NULL, RUN},
    {"json", no_argument, NULL, JSON},
    {"show-url", no_argument, NULL, SHOW_URL},
    {"help", no_argument, NULL, 'h'},
    {0},
};

static int take_run(struct replay_options *to, const char *title) {
    size_t length = strspn(optarg, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");
    if (length == 0 || optarg[length] || length >= sizeof to->run)
        return ctl_misused(title, "--run \"%s\": has to be 1 to 63 of A-Za-z0-9._-", optarg);
    memcpy(to->run, optarg, length + 1);
    return 0;
}

static int take_option(struct replay_options *to, const char *title, int option) {
    switch (option) {
    case RATE:
        return ctl_read_rate(title, "--rate", optarg, &to->rate);
    case CONCURRENT:
        return ctl_read_number(title, "--concurrency", optarg, 1, DIALOGUE_MAX, &to->concurrency);
    case DEADLINE:
        to->deadline = optarg;
        return ctl_read_deadline(title, optarg, &to->deadline_seconds);
    case TIMEOUT:
        return ctl_read_duration(title, "--timeout", optarg, &to->wait_seconds);
    case FROM:
        return ctl_read_number(title, "--from", optarg, 1, UINT32_MAX, &to->from);
    case RUN:
        return take_run(to, title);
    case CHECK:
        to->check = true;
        return 0;
    case DRY_RUN:
        to->dry_run = true;
        return 0;
    case JSON:
        to->json = true;
        return 0;
    case SHOW_URL:
        to->show_url = true;
        return 0;
    default:
        return ctl_unknown(title);
    }
}

static int run(struct replay *replay) {
    int status = CTL_FAILED;
    replay->wanted = json_object();
    replay->replies = json_object();
    if (replay->wanted && replay->replies)
        status = replay_scan(replay);
    if (status == 0)
        status = replay->options.dry_run ? dry_run(replay) : send_all(replay);
    reader_close(&replay->reader);
    json_decref(replay->wanted);
    json_decref(replay->replies);
    return status;
}

int ctl_replay(int argc, char **argv) {
    struct replay *replay = calloc(1, sizeof *replay);
    int status = 0;
    if (!replay)
        return ctl_complain(CTL_FAILED, NULL, "out of memory");
    replay->reader.fd = -1;
    replay->options.wait_seconds = REPLAY_WAIT_SECONDS;
    dialogue_random_name(replay->options.run);
    for (int option; status == 0 && (option = getopt_long(argc, argv, "h", options, NULL)) >= 0;) {
        if (option == 'h') {
            free(replay);
            help(stdout);
            return CTL_DONE;
        }
        status = take_option(&replay->options, argv[0], option);
    }
    if (status == 0 && optind == argc)
        status = ctl_misused(argv[0], "which file? \"-\" is standard input");
    if (status == 0 && replay->options.wait_seconds > 86400)
        status = ctl_misused(argv[0], "--timeout: at most a day");
    replay->files = argv + optind;
    status = status ? status : run(replay);
    free(replay);
    return status;
}
