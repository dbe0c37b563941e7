/* log.h — what the worker tells: to the journal as structured entries, else to standard error as short lines. Nothing
 * that is given to it may hold a secret or a portal URL. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "portal/event.h"

struct log;

/* Bytes of a line at most; what is longer is cut. */
enum { LOG_LINE_MAX = 1024 };

/* `level` is the least urgent that is written, LOG_ERR … LOG_DEBUG of syslog.h. Goes to the journal where standard
 * error does (JOURNAL_STREAM, systemd.exec(5)). NULL without memory; freed with log_free(). */
struct log *log_new(int level);
void log_free(struct log *log);

/* One entry of an event of the core's. */
void log_event(struct log *log, const struct event *event);

/* One entry in plain words; `message_id` is one of messages.h. Control characters are escaped. */
void log_message(struct log *log, int level, const char *message_id, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* What an event is to a person, in one line without a line end: its level, and the text in `line`. */
int log_describe(const struct event *event, char *line, size_t size);
