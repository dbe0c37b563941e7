/* capture.c — portalctl capture: records requests as lines of a replay file, without taking them. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "amqp-json.h"
#include "dead.h"
#include "portal/text.h"
#include "replay-line.h"

enum { QUEUE_MAX = 100000, PREFETCH = 500, STEP_MS = 200 };

struct capture {
    struct letter_filter filter;
    const char *output; /* NULL: standard output */
    uint64_t count;     /* as many; 0: until stopped */
    uint64_t seconds;   /* as long; 0: until stopped */
    bool dead;
    FILE *out;
    uint64_t written;
};

static void help(FILE *out) {
    fputs("Usage: portalctl capture [OPTION…]\n"
          "       portalctl capture --dead [OPTION…] [LETTER|REQUEST…]\n\n"
          "Records requests as lines of a replay file: a copy of each that is published from now on,\n"
          "until Ctrl-C; or, with --dead, what lies in portal.dead. Nothing is taken away from anybody.\n"
          "What could be a credential is left out: URLs are cut after their host. Where the answers went\n"
          "and when each was sent stays as a remark, so that a replay's answers come to whoever replays.\n\n"
          "  --output FILE    a new file, for its owner only; default: standard output\n"
          "  --count N        so many, and then end\n"
          "  --for SPAN       for so long, and then end: 90s, 15m\n"
          "  --dead           from portal.dead, chosen by:\n" FILTER_HELP "\n"
          "Examples:\n"
          "  portalctl capture --for 10m --output today.jsonl\n"
          "  portalctl capture --dead --reason stripe_unavailable > unavailable.jsonl\n"
          "  portalctl replay --dry-run today.jsonl\n\n"
          "Exit status: 0, also after Ctrl-C; 65 the file is there already; and those of\n"
          "\"portalctl --help\". Needs AMQP_URL.\n",
          out);
}

/* One line. Result: 0 or an exit status. */
static int write_line(struct capture *capture, const struct wire_message *message, char *line) {
    if (!line)
        return ctl_complain(CTL_FAILED, NULL, "out of memory");
    if (message->body_size > message->body.len)
        fprintf(capture->out, "# a message of %" PRIu64 " bytes is left out\n", message->body_size);
    else
        fprintf(capture->out, "%s\n", line);
    capture->written++;
    if (fflush(capture->out) != 0)
        return ctl_complain(CTL_FAILED, NULL, "%s: %s", capture->output ? capture->output : "standard output",
                            strerror(errno));
    return 0;
}

/* Once there is something to record from: a file that is there already is an error, also for the next try. */
static int open_output(struct capture *capture) {
    capture->out = stdout;
    if (!capture->output)
        return 0;
    int fd = open(capture->output, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    capture->out = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (capture->out)
        return 0;
    int error = errno;
    if (fd >= 0)
        (void)close(fd);
    return ctl_complain(CTL_BAD_FILE,
                        error == EEXIST ? "It is not overwritten: choose another name, or delete it." : NULL, "%s: %s",
                        capture->output, strerror(error));
}

/* ---- from portal.dead ---- */

static int on_letter(const struct letter *letter, void *userdata) {
    struct capture *capture = userdata;
    if (capture->count > 0 && capture->written == capture->count)
        return 0; /* go on: all of them have to be held, so that they keep their order */
    AUTOFREE char *line = letter_to_line(letter);
    return write_line(capture, letter->message, line);
}

static int capture_dead(struct capture *capture, const struct settings *settings, int stop) {
    struct wire wire;
    struct walk walk;
    int status = dead_begin(&wire, &walk, settings, stop);
    status = status ? status : open_output(capture);
    if (status == 0)
        status = dead_each(&walk, &capture->filter, on_letter, capture);
    wire_close(&wire);
    if (status == 0 && !filter_tell_missing(&capture->filter))
        status = CTL_FAILED;
    return status;
}

/* ---- as they are published ---- */

static int on_request(struct capture *capture, struct wire *wire) {
    const struct wire_message *message = &wire->message;
    json_t *properties = amqp_to_json(&message->properties);
    if (properties)
        replay_tidy(properties);
    AUTOFREE char *line = replay_line_write(message->body.bytes, message->body.len, properties, NULL);
    int status = write_line(capture, message, line);
    if (status == 0)
        (void)wire_acknowledge(wire, message->tag); /* where that fails the connection is lost: below */
    return status;
}

/* The queue went with the connection. */
static int recover(struct wire *wire) {
    int r;
    do {
        r = wire_reopen(wire);
        if (r < 0)
            return r;
        r = wire_capture_queue(wire, QUEUE_MAX, PREFETCH);
    } while (r < 0);
    (void)ctl_complain(0, NULL, "what was published meanwhile is not recorded");
    return 0;
}

static int record(struct capture *capture, struct wire *wire) {
    uint64_t end = capture->seconds > 0 ? ctl_monotonic() + capture->seconds * 1000000 : UINT64_MAX;
    int status = 0;
    while (status == 0 && ctl_monotonic() < end && (capture->count == 0 || capture->written < capture->count)) {
        int r = 0;
        switch (wire_wait(wire, STEP_MS)) {
        case WIRE_MESSAGE:
            status = on_request(capture, wire);
            break;
        case WIRE_STOPPED:
            return 0;
        case WIRE_LOST:
            r = recover(wire);
            break;
        default:
            break;
        }
        if (r < 0)
            return r == -ECANCELED ? 0 : wire_complain(wire);
    }
    return status;
}

static int capture_live(struct capture *capture, const struct settings *settings, int stop) {
    struct wire wire;
    if (wire_init(&wire, &settings->broker, stop) < 0)
        return ctl_complain(CTL_FAILED, NULL, "out of memory");
    int r = wire_open(&wire);
    if (r >= 0)
        r = wire_capture_queue(&wire, QUEUE_MAX, PREFETCH);
    int status = r < 0 ? wire_complain(&wire) : open_output(capture);
    if (status == 0) {
        fprintf(stderr, "portalctl: recording; Ctrl-C ends it\n");
        status = record(capture, &wire);
    }
    wire_close(&wire);
    return status;
}

/* ---- the command ---- */

static int run(struct capture *capture) {
    static const char *const names[] = {"AMQP_URL", NULL};
    AUTOSETTINGS struct settings settings = {0};
    int status = ctl_settings(&settings, names);
    if (status)
        return status;
    int stop = ctl_stop_open();
    status = capture->dead ? capture_dead(capture, &settings, stop) : capture_live(capture, &settings, stop);
    (void)close(stop);
    if (!capture->out)
        return status;
    fprintf(stderr, "recorded %" PRIu64 " request%s\n", capture->written, capture->written == 1 ? "" : "s");
    if (capture->output && fclose(capture->out) != 0 && status == 0)
        status = ctl_complain(CTL_FAILED, NULL, "%s: %s", capture->output, strerror(errno));
    return status;
}

static const struct option options[] = {
    FILTER_OPTIONS,
    {"output", required_argument, NULL, 'o'},
    {"count", required_argument, NULL, 'c'},
    {"for", required_argument, NULL, 'f'},
    {"dead", no_argument, NULL, 'd'},
    {"help", no_argument, NULL, 'h'},
    {0},
};

static int take_option(struct capture *capture, const char *title, int option) {
    int status;
    switch (option) {
    case 'o':
        capture->output = optarg;
        return 0;
    case 'c':
        return ctl_read_number(title, "--count", optarg, 1, UINT32_MAX, &capture->count);
    case 'f':
        status = ctl_read_duration(title, "--for", optarg, &capture->seconds);
        return status == 0 && capture->seconds == 0 ? ctl_misused(title, "--for: at least 1s") : status;
    case 'd':
        capture->dead = true;
        return 0;
    default:
        return filter_option(&capture->filter, title, option);
    }
}

int ctl_capture(int argc, char **argv) {
    struct capture capture = {0};
    int status = 0;
    for (int option; status == 0 && (option = getopt_long(argc, argv, "h", options, NULL)) >= 0;) {
        if (option == 'h') {
            help(stdout);
            return CTL_DONE;
        }
        status = take_option(&capture, argv[0], option);
    }
    status = status ? status : filter_names(&capture.filter, argv + optind);
    if (status == 0 && !capture.dead && filter_is_set(&capture.filter))
        status = ctl_misused(argv[0], "only with --dead can letters be chosen");
    if (status == 0 && capture.dead && capture.seconds > 0)
        status = ctl_misused(argv[0], "--for does not go with --dead");
    status = status ? status : run(&capture);
    filter_clear(&capture.filter);
    return status;
}
