/* look.c — colours, tables, lines of JSON. */
#include "look.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "portalctl.h"

struct look look_of(FILE *stream) {
    static const struct look none = {"", "", "", "", "", "", ""};
    static const struct look colours = {"\033[1m",  "\033[2m",  "\033[31m", "\033[32m",
                                        "\033[33m", "\033[36m", "\033[0m"};
    const char *refused = getenv("NO_COLOR");
    const char *terminal = getenv("TERM");
    bool wanted = isatty(fileno(stream)) && !(refused && *refused) && terminal && strcmp(terminal, "dumb") != 0;
    return wanted ? colours : none;
}

const char *look_of_outcome(const struct look *look, const char *outcome) {
    if (strcmp(outcome, "created") == 0 || strcmp(outcome, "reused") == 0)
        return look->green;
    return strcmp(outcome, "redirect") == 0 ? look->yellow : look->red;
}

/* ---- tables ---- */

/* Characters, which is near enough to columns for what is shown here. */
static unsigned width_of(const char *text) {
    unsigned width = 0;
    for (; text && *text; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

void grid_begin(struct grid *grid, FILE *out, const char *const *titles) {
    grid->out = out;
    grid->columns = grid->count = grid->padding = 0;
    grid->printed_titles = false;
    grid->look = look_of(out);
    for (; titles[grid->columns]; grid->columns++) {
        assert(grid->columns < GRID_COLUMNS_MAX);
        grid->titles[grid->columns] = titles[grid->columns];
        grid->widths[grid->columns] = width_of(titles[grid->columns]);
    }
}

static void print_cell(struct grid *grid, unsigned column, const char *text, const char *colour) {
    text = text ? text : "-";
    bool blank = strcmp(text, " ") == 0;
    if (!blank) {
        fprintf(grid->out, "%*s%s", (int)grid->padding, "", colour ? colour : "");
        ctl_write_text(grid->out, text);
        fputs(colour && *colour ? grid->look.plain : "", grid->out);
        grid->padding = 0;
    }
    grid->padding += grid->widths[column] + 2 - (blank ? 0 : width_of(text));
    if (column + 1 < grid->columns)
        return;
    fputc('\n', grid->out);
    grid->padding = 0;
}

static void grid_flush(struct grid *grid) {
    for (unsigned i = 0; i < grid->count; i++) {
        unsigned width = width_of(grid->cells[i].text);
        if (width > grid->widths[i % grid->columns])
            grid->widths[i % grid->columns] = width;
    }
    if (!grid->printed_titles && grid->count > 0) {
        for (unsigned i = 0; i < grid->columns; i++)
            print_cell(grid, i, grid->titles[i], grid->look.bold);
        grid->printed_titles = true;
    }
    for (unsigned i = 0; i < grid->count; i++) {
        print_cell(grid, i % grid->columns, grid->cells[i].text, grid->cells[i].colour);
        free(grid->cells[i].text);
    }
    grid->count = 0;
}

void grid_add(struct grid *grid, const char *text, const char *colour) {
    if (grid->count == GRID_ROWS_KEPT * grid->columns)
        grid_flush(grid);
    grid->cells[grid->count++] = (struct grid_cell){.text = text && *text ? strdup(text) : NULL, .colour = colour};
}

void grid_addf(struct grid *grid, const char *colour, const char *format, ...) {
    char buffer[512];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(buffer, sizeof buffer, format, arguments);
    va_end(arguments);
    grid_add(grid, buffer, colour);
}

void grid_end(struct grid *grid) {
    grid_flush(grid);
    (void)fflush(grid->out);
}

/* ---- JSON ---- */

/* As many as a double has for sure: 0.1 stays 0.1. */
enum { REAL_DIGITS = 15 };

int print_json(FILE *out, const json_t *value) {
    char *text = json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(REAL_DIGITS));
    if (!text)
        return -ENOMEM;
    fprintf(out, "%s\n", text);
    free(text);
    return 0;
}
