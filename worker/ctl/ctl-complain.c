/* ctl-complain.c — what goes wrong, told to a person: what it is, and what to do next. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "look.h"
#include "portal/text.h"
#include "portalctl.h"

void ctl_write_text(FILE *out, const char *text) {
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        /* C1 controls are two bytes in UTF-8: 0xc2 0x80 … 0x9f */
        bool c1 = c == 0xc2 && (unsigned char)text[1] >= 0x80 && (unsigned char)text[1] <= 0x9f;
        if (c1)
            text++;
        (void)fputc(c < ' ' || c == 0x7f || c1 ? '?' : c, out);
    }
}

/* A bar of progress may stand there. */
static void clear_line(void) {
    const char *terminal = getenv("TERM");
    if (isatty(STDERR_FILENO) && terminal && strcmp(terminal, "dumb") != 0)
        fputs("\r\033[K", stderr);
}

static void complain(const char *who, const char *format, va_list arguments) {
    const struct look look = look_of(stderr);
    AUTOFREE char *line = NULL;
    if (vasprintf(&line, format, arguments) < 0) {
        line = NULL;
        return;
    }
    clear_line();
    fprintf(stderr, "%s%s:%s ", look.red, who, look.plain);
    ctl_write_text(stderr, line);
    fputc('\n', stderr);
}

int ctl_complain(int status, const char *next, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    complain("portalctl", format, arguments);
    va_end(arguments);
    if (next)
        fprintf(stderr, "  %s\n", next);
    return status;
}

int ctl_misused(const char *title, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    complain(title, format, arguments);
    va_end(arguments);
    fprintf(stderr, "  \"%s --help\" shows how it is used.\n", title);
    return CTL_USAGE;
}

int ctl_unknown(const char *title) {
    fprintf(stderr, "  \"%s --help\" shows how it is used.\n", title);
    return CTL_USAGE;
}
