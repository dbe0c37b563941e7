/* portalctl.h — what the commands of portalctl share: exit statuses, settings, arguments, complaints. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "daemon/settings.h"
#include "portal/timestamp.h"

/* One command: what it is called, what it does in half a line, and the function behind it, which gets its name and what
 * follows it as main() would, and returns the exit status. */
struct command {
    const char *name;
    const char *title; /* the name as it was typed, "portalctl dead list" */
    const char *summary;
    int (*run)(int argc, char **argv);
};

/* Exit statuses; from 64 on as sysexits.h has them. 2 to 4 are "portalctl request"'s. */
enum {
    CTL_DONE = 0,
    CTL_FAILED = 1,
    CTL_REDIRECT = 2,
    CTL_REFUSED = 3,   /* failed for good */
    CTL_RETRYABLE = 4, /* failed, and may work when asked again */
    CTL_USAGE = 64,
    CTL_BAD_FILE = 65,
    CTL_NO_FILE = 66,
    CTL_UNAVAILABLE = 69, /* RabbitMQ or PostgreSQL can't be reached, or went away for too long */
    CTL_LATE = 75,        /* no reply in time */
    CTL_DENIED = 77,      /* RabbitMQ or PostgreSQL refuses the user something */
    CTL_SETTINGS = 78,
    CTL_INTERRUPTED = 130, /* by Ctrl-C, as a shell reports it */
};

int ctl_request(int argc, char **argv);
int ctl_replay(int argc, char **argv);
int ctl_capture(int argc, char **argv);
int ctl_dead(int argc, char **argv);
int ctl_sessions(int argc, char **argv);
int ctl_retry(int argc, char **argv);
int ctl_status(int argc, char **argv);
int ctl_check(int argc, char **argv);
int ctl_migrate(int argc, char **argv);
int ctl_purge(int argc, char **argv);

/* Runs the one of the list that argv[1] names. The help is printed for --help, and where nothing is named. */
int ctl_run(const struct command *list, size_t count, void (*print_help)(FILE *), int argc, char **argv);

/* ---- ctl-complain.c ---- */

/* Says on standard error what is wrong and, where `next` is not NULL, in a line of its own what to do. Control
 * characters are shown as "?". Result: `status`. */
int ctl_complain(int status, const char *next, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* The same for a wrong argument of the command whose title is argv[0]; always CTL_USAGE. */
int ctl_misused(const char *title, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Likewise where getopt_long() has complained already. */
int ctl_unknown(const char *title);

/* Writes a stranger's text: control characters as "?", so that it can't play with the terminal. */
void ctl_write_text(FILE *out, const char *text);

/* ---- ctl-arguments.c: each complains and returns CTL_USAGE where the text is none of its kind, else 0 ---- */

int ctl_read_number(const char *title, const char *option, const char *text, uint64_t least, uint64_t most,
                    uint64_t *ret);

/* "90", "90s", "15m", "2h", "7d": seconds. */
int ctl_read_duration(const char *title, const char *option, const char *text, uint64_t *ret);

/* A duration, or "none": 0. */
int ctl_read_deadline(const char *title, const char *text, uint64_t *ret);

/* An RFC 3339 time, or a duration: that long ago. Microseconds since 1970. */
int ctl_read_time(const char *title, const char *option, const char *text, uint64_t *ret);

/* A decimal number of at least 0. */
int ctl_read_rate(const char *title, const char *option, const char *text, double *ret);

/* Whether nothing is left of the arguments; else CTL_USAGE. */
int ctl_no_more(int argc, char **argv);

/* ---- ctl-settings.c ---- */

/* Loads the settings that are named (settings_load_only()), or all (`names` NULL). Result: 0 and the settings are the
 * caller's; or a negative errno, -EINVAL where one is wrong. `*lines`, the caller's to free, says what is wrong, a line
 * each; it is never NULL but without memory. */
int ctl_settings_read(struct settings *settings, const char *const *names, char **lines);

/* The same, and complains about each that is wrong. Result: 0 or an exit status. */
int ctl_settings(struct settings *settings, const char *const *names);

/* Where settings come from, as what to do next. */
extern const char ctl_settings_hint[];

/* Where the environment has none of the secrets, takes those that the package's units have, and their settings, as far
 * as this user may read them: $PORTALCTL_SETTINGS/credentials and …/portal-worker.env, by default in
 * /etc/portal-worker.
 */
void ctl_settings_installed(void);

/* For __attribute__((cleanup)). */
void ctl_settings_free(struct settings *settings);
#define AUTOSETTINGS __attribute__((cleanup(ctl_settings_free)))

/* ---- ctl-time.c ---- */

uint64_t ctl_monotonic(void); /* microseconds, as the next */
uint64_t ctl_wall(void);      /* since 1970 */

enum { CTL_SPAN_SIZE = 32 };

/* When a request that is sent now is waited for no more, as x-portal-deadline has it; "none" where `seconds` is 0. */
void ctl_format_deadline(char text[static TIMESTAMP_SIZE], uint64_t seconds);

/* "3 s", "5 min", "2 h", "4 d". */
void ctl_format_span(char text[static CTL_SPAN_SIZE], uint64_t seconds);

/* ---- ctl-stop.c ---- */

/* From here on SIGINT and SIGTERM no longer end the program: the descriptor becomes readable instead, and stays so.
 * Result: the caller's to close, or -errno. */
int ctl_stop_open(void);
bool ctl_stop_wanted(int stop);

/* Lets them end the program again, for a while in which it blocks and nothing is to be put back; or no more. */
void ctl_stop_ends(bool ends);

/* Waits so many milliseconds, or until stopped; result: whether to go on. */
bool ctl_stop_sleep(int stop, unsigned milliseconds);
