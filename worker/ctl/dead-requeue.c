/* dead-requeue.c — portalctl dead requeue: sends letters as requests again. One connection takes them out of
 * portal.dead, another publishes; a letter is acknowledged only once the broker has the request, so none is lost
 * whatever ends. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dead.h"
#include "dialogue.h"
#include "look.h"
#include "progress.h"

enum { RATE = 20, WINDOW = 100, STEP_MS = 50, REASONS = 24 };

struct requeue {
    struct letter_filter filter;
    double rate;
    uint64_t deadline_seconds; /* 0: none */
    bool force, dry_run, json;

    struct wire wire; /* takes them out */
    struct walk walk;
    struct dialogue dialogue; /* publishes */
    struct progress progress;
    unsigned epoch;    /* of the taking connection: tags of another are void */
    uint64_t began_at; /* wall: what died later was sent by us, and failed again */
    uint64_t next_at;  /* monotonic */
    uint64_t sent, done, kept, refused;
    bool ended, lost;
    struct tally {
        char reason[64];
        uint64_t count;
    } refusals[REASONS];
};

/* Of a request under way: the letter it was. */
struct origin {
    unsigned epoch;
    uint64_t tag;
};

static void help(FILE *out) {
    fputs("Usage: portalctl dead requeue OPTION…|LETTER…|REQUEST…\n\n"
          "Sends letters in portal.dead as requests again: as the next generation, so that the worker\n"
          "does not answer with the stored failure, with a new deadline, and with the reply going where\n"
          "the request wanted it. A letter leaves portal.dead once the broker has confirmed its request;\n"
          "whatever ends in between, none is lost. What would fail again stays, unless told --force.\n\n" FILTER_HELP
          "  --all            all of them\n"
          "  --rate N         at most so many a second; default 20, 0: as fast as it goes\n"
          "  --deadline SPAN  how long each is waited for, or \"none\"; default PORTAL_DEADLINE_SECONDS (15m)\n"
          "  --force          also invalid_request, reply_refused, forbidden_sender and poisonous\n"
          "  --dry-run        say what would be done, and do nothing\n"
          "  --json           sum up as a line of JSON\n\n"
          "Examples:\n"
          "  portalctl dead requeue --reason stripe_unavailable\n"
          "  portalctl dead requeue --since 2h --rate 5 --dry-run\n"
          "  portalctl dead requeue r-17 r-18\n\n"
          "Exit status: 0 all that were meant are queued again; 1 some would fail again, or were not\n"
          "found; and those of \"portalctl --help\". Needs AMQP_URL.\n",
          out);
}

/* ---- what has been published ---- */

static void on_done(void *userdata, struct dialogue_request *request, enum dialogue_end end,
                    const struct wire_message *reply) {
    struct requeue *requeue = userdata;
    struct origin *origin = request->mark;
    (void)reply;
    if (end == DIALOGUE_SENT) {
        requeue->done++;
        /* Of a connection that was lost it comes back, and is sent once more: the answer is the same. */
        if (origin->epoch == requeue->epoch && walk_take(&requeue->walk, origin->tag) < 0)
            requeue->lost = true;
    } else
        requeue->refused++;
    free(origin);
    dialogue_request_free(request);
}

/* ---- what is to be published ---- */

static void refuse(struct requeue *requeue, const char *why) {
    size_t i = 0;
    requeue->refused++;
    while (i < REASONS - 1 && *requeue->refusals[i].reason && strcmp(requeue->refusals[i].reason, why) != 0)
        i++;
    (void)snprintf(requeue->refusals[i].reason, sizeof requeue->refusals[i].reason, "%s", why);
    requeue->refusals[i].count++;
}

static int send_letter(struct requeue *requeue, const struct letter *letter) {
    char deadline[TIMESTAMP_SIZE];
    ctl_format_deadline(deadline, requeue->deadline_seconds);
    struct dialogue_request *request = calloc(1, sizeof *request);
    struct origin *origin = malloc(sizeof *origin);
    json_t *properties = revive(letter_original(letter), letter->next_generation, deadline);
    char *body = malloc(letter->message->body.len + 1);
    if (!request || !origin || !properties || !body) {
        free(request);
        free(origin);
        free(body);
        json_decref(properties);
        return ctl_complain(CTL_FAILED, NULL, "out of memory");
    }
    memcpy(body, letter->message->body.bytes, letter->message->body.len);
    *origin = (struct origin){.epoch = requeue->epoch, .tag = letter->message->tag};
    *request = (struct dialogue_request){
        .body = body, .body_length = letter->message->body.len, .properties = properties, .mark = origin};
    dialogue_send(&requeue->dialogue, request);
    requeue->sent++;
    return 0;
}

static int on_letter(struct requeue *requeue, const struct letter *letter) {
    char words[256];
    bool again = requeue->epoch > 0 && letter->died_at >= requeue->began_at;
    if (again || !filter_matches(&requeue->filter, letter)) {
        requeue->kept++;
        return 0;
    }
    const char *verdict = letter_verdict(letter, words, sizeof words);
    bool cut = letter->message->body_size > letter->message->body.len;
    if (verdict && (!requeue->force || cut)) {
        refuse(requeue, verdict);
        return 0;
    }
    if (requeue->dry_run) {
        requeue->done++;
        return 0;
    }
    return send_letter(requeue, letter);
}

static bool take_turn(struct requeue *requeue) {
    uint64_t now = ctl_monotonic();
    if (requeue->rate <= 0)
        return true;
    if (requeue->next_at > now)
        return false;
    requeue->next_at = now + (uint64_t)(1e6 / requeue->rate);
    return true;
}

/* The taking connection is gone: all that is not acknowledged lies in portal.dead again. */
static int recover(struct requeue *requeue) {
    int r;
    do {
        r = wire_reopen(&requeue->wire);
        if (r < 0)
            return r;
        requeue->epoch++;
        r = walk_begin(&requeue->walk, &requeue->wire, QUEUE_DEAD);
    } while (r < 0);
    requeue->lost = false;
    requeue->ended = false;
    requeue->kept = requeue->refused = 0;
    memset(requeue->refusals, 0, sizeof requeue->refusals);
    return 0;
}

/* Takes at most one letter. Result: 0; or a negative errno, or a positive exit status. */
static int take(struct requeue *requeue) {
    struct letter letter;
    int r = requeue->lost ? -EPIPE : walk_next(&requeue->walk, requeue->dialogue.count > 0 ? 0 : STEP_MS);
    if (r == 0)
        requeue->ended = true;
    if (r == -EPIPE)
        return recover(requeue);
    if (r <= 0)
        return r == -EAGAIN ? 0 : r;
    if (letter_read(&letter, &requeue->wire.message) < 0)
        return ctl_complain(CTL_FAILED, NULL, "out of memory");
    uint64_t before = requeue->sent;
    r = on_letter(requeue, &letter);
    if (requeue->sent == before)
        requeue->next_at = 0; /* what is not sent costs no turn */
    letter_clear(&letter);
    return r;
}

static unsigned step_ms(const struct requeue *requeue) {
    uint64_t now = ctl_monotonic();
    if (requeue->ended || requeue->dialogue.count >= WINDOW)
        return STEP_MS;
    if (requeue->next_at <= now)
        return 0;
    uint64_t wait = (requeue->next_at - now + 999) / 1000;
    return wait < STEP_MS ? (unsigned)wait : STEP_MS;
}

static int work(struct requeue *requeue) {
    while (!requeue->ended || requeue->dialogue.count > 0 || requeue->lost) {
        int r = 0;
        if (requeue->lost || (!requeue->ended && requeue->dialogue.count < WINDOW && take_turn(requeue)))
            r = take(requeue);
        if (r == 0 && (requeue->dialogue.count > 0 || !requeue->ended))
            r = dialogue_step(&requeue->dialogue, step_ms(requeue));
        if (r != 0)
            return r;
        progress_show(&requeue->progress, requeue->done);
    }
    return 0;
}

/* ---- the whole ---- */

static void sum_up(const struct requeue *requeue) {
    if (requeue->json) {
        json_t *refusals = json_object();
        for (size_t i = 0; i < REASONS && *requeue->refusals[i].reason; i++)
            (void)json_object_set_new(refusals, requeue->refusals[i].reason,
                                      json_integer((json_int_t)requeue->refusals[i].count));
        json_t *json =
            json_pack("{sb sI sI sI so}", "dry_run", requeue->dry_run, "requeued", (json_int_t)requeue->done, "others",
                      (json_int_t)requeue->kept, "refused", (json_int_t)requeue->refused, "refusals", refusals);
        (void)print_json(stdout, json);
        json_decref(json);
        return;
    }
    printf("%s %" PRIu64 " letter%s; %" PRIu64 " others stay as they are\n",
           requeue->dry_run ? "would requeue" : "requeued", requeue->done, requeue->done == 1 ? "" : "s",
           requeue->kept);
    for (size_t i = 0; i < REASONS && *requeue->refusals[i].reason; i++) {
        printf("  %" PRIu64 " would fail again: ", requeue->refusals[i].count);
        ctl_write_text(stdout, requeue->refusals[i].reason);
        putchar('\n');
    }
    if (requeue->refused > 0 && !requeue->force)
        (void)ctl_complain(
            0, "--force sends them all the same; \"portalctl dead show\" shows one, \"dead drop\" deletes it.",
            "%" PRIu64 " letter%s left in " QUEUE_DEAD, requeue->refused, requeue->refused == 1 ? " was" : "s were");
}

static int explain(struct requeue *requeue, int error) {
    progress_clear(&requeue->progress);
    int status = error > 0                ? error
                 : error == -ECANCELED    ? ctl_complain(CTL_INTERRUPTED, NULL, "interrupted")
                 : error == -EHOSTUNREACH ? CTL_UNAVAILABLE
                 : requeue->wire.amqp     ? wire_complain(&requeue->dialogue.wire)
                                          : wire_complain(&requeue->wire);
    fprintf(stderr, "  %" PRIu64 " letter%s requeued; the others are in " QUEUE_DEAD " still.\n", requeue->done,
            requeue->done == 1 ? " was" : "s were");
    return status;
}

static int converse(struct requeue *requeue, const struct settings *settings, int stop) {
    int status = dead_begin(&requeue->wire, &requeue->walk, settings, stop);
    if (status)
        return status;
    requeue->dialogue.done = on_done;
    requeue->dialogue.userdata = requeue;
    if (dialogue_open(&requeue->dialogue, &settings->broker, stop, false) < 0)
        return wire_complain(&requeue->dialogue.wire);
    progress_begin(&requeue->progress, requeue->filter.all ? requeue->walk.left : 0);
    int r = work(requeue);
    if (r != 0)
        return explain(requeue, r);
    progress_clear(&requeue->progress);
    sum_up(requeue);
    bool found = filter_tell_missing(&requeue->filter);
    return found && requeue->refused == 0 ? CTL_DONE : CTL_FAILED;
}

static int run(struct requeue *requeue, bool deadline_given) {
    static const char *const names[] = {"AMQP_URL", "PORTAL_DEADLINE_SECONDS", NULL};
    AUTOSETTINGS struct settings settings = {0};
    int status = ctl_settings(&settings, names);
    int stop = status ? -1 : ctl_stop_open();
    if (status)
        return status;
    if (!deadline_given)
        requeue->deadline_seconds = settings.portal.deadline_seconds;
    requeue->began_at = ctl_wall();
    status = converse(requeue, &settings, stop);
    for (size_t i = 0; i < requeue->dialogue.count; i++)
        free(requeue->dialogue.open[i]->mark);
    dialogue_close(&requeue->dialogue);
    wire_close(&requeue->wire);
    (void)close(stop);
    return status;
}

static const struct option options[] = {
    FILTER_OPTIONS,
    {"rate", required_argument, NULL, 'R'},
    {"deadline", required_argument, NULL, 'D'},
    {"force", no_argument, NULL, 'f'},
    {"dry-run", no_argument, NULL, 'n'},
    {"json", no_argument, NULL, 'j'},
    {"help", no_argument, NULL, 'h'},
    {0},
};

static int take_option(struct requeue *requeue, const char *title, int option) {
    switch (option) {
    case 'R':
        return ctl_read_rate(title, "--rate", optarg, &requeue->rate);
    case 'D':
        return ctl_read_deadline(title, optarg, &requeue->deadline_seconds);
    case 'f':
        requeue->force = true;
        return 0;
    case 'n':
        requeue->dry_run = true;
        return 0;
    case 'j':
        requeue->json = true;
        return 0;
    default:
        return filter_option(&requeue->filter, title, option);
    }
}

int dead_requeue(int argc, char **argv) {
    struct requeue *requeue = calloc(1, sizeof *requeue);
    bool deadline_given = false;
    int status = 0;
    if (!requeue)
        return ctl_complain(CTL_FAILED, NULL, "out of memory");
    requeue->rate = RATE;
    for (int option; status == 0 && (option = getopt_long(argc, argv, "h", options, NULL)) >= 0;) {
        if (option == 'h') {
            help(stdout);
            free(requeue);
            return CTL_DONE;
        }
        deadline_given |= option == 'D';
        status = take_option(requeue, argv[0], option);
    }
    status = status ? status : filter_names(&requeue->filter, argv + optind);
    if (status == 0 && !filter_is_set(&requeue->filter))
        status = ctl_misused(argv[0], "which ones? name them, or say --reason, --since, --until, --team or --all");
    status = status ? status : run(requeue, deadline_given);
    filter_clear(&requeue->filter);
    free(requeue);
    return status;
}
