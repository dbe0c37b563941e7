/* log.c — writes log entries: native ones with fields to the journal, or a line each to standard error. */
#include "daemon/log.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#define SD_JOURNAL_SUPPRESS_LOCATION
#include <systemd/sd-journal.h>

#include "daemon/messages.h"
#include "portal/text.h"

enum {
    ESCAPED_MAX = 4 * LOG_LINE_MAX, /* every byte as \xNN */
    FIELD_MAX = 320,
    FIELDS_MAX = 20,
};

struct log {
    int level;
    bool journal;
    bool terminal;
    bool coloured;
};

/* systemd.exec(5): JOURNAL_STREAM is device and inode of the stream to the journal; where they are those of standard
 * error, nobody has redirected it. */
static bool is_journal(void) {
    const char *stream = getenv("JOURNAL_STREAM");
    struct stat status;
    char own[64];
    if (!stream || fstat(STDERR_FILENO, &status) < 0)
        return false;
    (void)snprintf(own, sizeof own, "%ju:%ju", (uintmax_t)status.st_dev, (uintmax_t)status.st_ino);
    return strcmp(stream, own) == 0;
}

struct log *log_new(int level) {
    struct log *log = calloc(1, sizeof *log);
    if (!log)
        return NULL;
    const char *no_color = getenv("NO_COLOR"); /* no-color.org: set to anything but nothing */
    log->level = level;
    log->journal = is_journal();
    log->terminal = !log->journal && isatty(STDERR_FILENO);
    log->coloured = log->terminal && !(no_color && no_color[0]);
    return log;
}

void log_free(struct log *log) {
    free(log);
}

/* Copies with control characters as \xNN, at most LOG_LINE_MAX bytes of the text. */
static void escape(const char *text, char escaped[static ESCAPED_MAX + 1]) {
    size_t length = strnlen(text, LOG_LINE_MAX);
    size_t out = 0;
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        /* C0, DEL, and C1, which is 0xc2 0x80 … 0xc2 0x9f in UTF-8 */
        bool control = c < ' ' || c == 0x7f || (i > 0 && (unsigned char)text[i - 1] == 0xc2 && c >= 0x80 && c <= 0x9f);
        if (control)
            out += (size_t)snprintf(escaped + out, ESCAPED_MAX + 1 - out, "\\x%02x", c);
        else
            escaped[out++] = (char)c;
    }
    escaped[out] = '\0';
}

/* ---- standard error ---- */

static void write_line(const struct log *log, int level, const char *escaped) {
    static const char *const colours[] = {
        [LOG_ERR] = "\033[1;31m", [LOG_WARNING] = "\033[33m", [LOG_DEBUG] = "\033[2m"};
    static const char *const words[] = {[LOG_ERR] = "error: ", [LOG_WARNING] = "warning: ", [LOG_DEBUG] = "debug: "};
    const char *colour = log->coloured && colours[level] ? colours[level] : "";
    const char *word = !log->terminal && words[level] ? words[level] : "";
    char clock[16] = "";
    if (log->terminal) {
        time_t now = time(NULL);
        struct tm parts;
        if (localtime_r(&now, &parts))
            (void)strftime(clock, sizeof clock, "%H:%M:%S ", &parts);
    }
    char line[ESCAPED_MAX + 64];
    int length = snprintf(line, sizeof line, "%s%s%s%s%s\n", clock, colour, word, escaped, colour[0] ? "\033[0m" : "");
    if (length < 0)
        return;
    /* One write, so that lines of several processes do not mix. What can't be written has nowhere to be told. */
    ssize_t written = write(STDERR_FILENO, line, (size_t)length);
    (void)written;
}

/* ---- the journal ---- */

struct fields {
    struct iovec vectors[FIELDS_MAX];
    char texts[FIELDS_MAX][FIELD_MAX];
    int count;
};

__attribute__((format(printf, 2, 3))) static void field(struct fields *fields, const char *format, ...) {
    assert(fields->count < FIELDS_MAX);
    char *text = fields->texts[fields->count];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, FIELD_MAX, format, arguments);
    va_end(arguments);
    if (length < 0)
        return;
    fields->vectors[fields->count++] =
        (struct iovec){.iov_base = text, .iov_len = length < FIELD_MAX ? (size_t)length : FIELD_MAX - 1};
}

static void field_text(struct fields *fields, const char *name, const char *value) {
    if (value && value[0])
        field(fields, "%s=%s", name, value);
}

static void field_number(struct fields *fields, const char *name, int64_t value) {
    if (value)
        field(fields, "%s=%" PRId64, name, value);
}

static void event_fields(struct fields *fields, const struct event *event) {
    field_text(fields, "REQUEST_ID", event->request_id);
    field_number(fields, "TEAM_ID", event->team_id);
    field_number(fields, "USER_ID", event->user_id);
    field_text(fields, "OUTCOME", event->outcome);
    field_text(fields, "CODE", event->code);
    field_number(fields, "STATUS", event->status);
    field_text(fields, "LINK", event->link);
    field_text(fields, "STRIPE_REQUEST_ID", event->stripe_request_id);
    field_text(fields, "CONFIGURATION", event->configuration);
    field_number(fields, "GENERATION", event->generation);
    field_number(fields, "COUNT", event->count);
    if (event->duration_us)
        field(fields, "DURATION_MS=%.3f", (double)event->duration_us / 1000);
    if (event->queued_us)
        field(fields, "QUEUED_MS=%.3f", (double)event->queued_us / 1000);
}

static void send_entry(int level, const char *message_id, const char *escaped, const struct event *event) {
    struct fields fields;
    fields.count = 0;
    char message[ESCAPED_MAX + 16];
    int length = snprintf(message, sizeof message, "MESSAGE=%s", escaped);
    fields.vectors[fields.count++] = (struct iovec){.iov_base = message, .iov_len = (size_t)length};
    field(&fields, "PRIORITY=%d", level);
    field(&fields, "MESSAGE_ID=%s", message_id);
    field(&fields, "SYSLOG_IDENTIFIER=portal-worker");
    if (event)
        event_fields(&fields, event);
    (void)sd_journal_sendv(fields.vectors, fields.count);
}

/* ---- entries ---- */

/* `text` may have been cut within a character: journalctl would show it as "blob data". */
static void entry(const struct log *log, int level, const char *message_id, char *text, const struct event *event) {
    char escaped[ESCAPED_MAX + 1];
    text_make_utf8(text);
    escape(text, escaped);
    if (log->journal)
        send_entry(level, message_id, escaped, event);
    else
        write_line(log, level, escaped);
}

static const char *event_id(enum event_kind kind) {
    static const char *const ids[] = {
        [EVENT_REQUEST_DONE] = MESSAGE_REQUEST_DONE,
        [EVENT_REQUEST_DROPPED] = MESSAGE_REQUEST_DROPPED,
        [EVENT_REPLY_RETURNED] = MESSAGE_REPLY_RETURNED,
        [EVENT_DEAD_LETTER] = MESSAGE_DEAD_LETTER,
        [EVENT_STRIPE_CALL] = MESSAGE_STRIPE_CALL,
        [EVENT_PAUSED] = MESSAGE_PAUSED,
        [EVENT_RESUMED] = MESSAGE_RESUMED,
        [EVENT_SLOWED] = MESSAGE_SLOWED,
        [EVENT_CONFIGURATION] = MESSAGE_CONFIGURATION,
        [EVENT_STRIPE_MISBEHAVED] = MESSAGE_STRIPE_MISBEHAVED,
        [EVENT_SUSPECT] = MESSAGE_SUSPECT,
        [EVENT_GIVEN_BACK] = MESSAGE_GIVEN_BACK,
        [EVENT_BATCH] = MESSAGE_BATCH,
        [EVENT_CONNECTED] = MESSAGE_CONNECTED,
        [EVENT_TOKENS] = MESSAGE_TOKENS,
    };
    static_assert(sizeof ids / sizeof ids[0] == EVENTS, "each event has an id");
    assert((size_t)kind < EVENTS && ids[kind]);
    return ids[kind];
}

void log_event(struct log *log, const struct event *event) {
    assert(log);
    assert(event);

    /* Those that are many and seldom wanted are not even put into words. */
    bool many = event->kind == EVENT_STRIPE_CALL || event->kind == EVENT_BATCH || event->kind == EVENT_TOKENS;
    if (many && log->level < LOG_DEBUG)
        return;
    char text[LOG_LINE_MAX + 1];
    int level = log_describe(event, text, sizeof text);
    if (level <= log->level)
        entry(log, level, event_id(event->kind), text, event);
}

void log_message(struct log *log, int level, const char *message_id, const char *format, ...) {
    assert(log);
    assert(message_id);

    if (level > log->level)
        return;
    char text[LOG_LINE_MAX + 1];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (length >= 0)
        entry(log, level, message_id, text, NULL);
}
