/* look.h — how things look: colours where there is a terminal to show them, and tables. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

/* Escape sequences, or "" where the stream is no terminal or NO_COLOR is set (https://no-color.org). */
struct look {
    const char *bold, *dim, *red, *green, *yellow, *cyan, *plain;
};

struct look look_of(FILE *stream);

/* Of an outcome ("created", …, "failed"): green, yellow or red. */
const char *look_of_outcome(const struct look *look, const char *outcome);

/* ---- tables ---- */

enum { GRID_COLUMNS_MAX = 12, GRID_ROWS_KEPT = 200 };

/* A table that is printed as it grows: widths are those of the first GRID_ROWS_KEPT rows, or more where a later one
 * needs it. */
struct grid {
    FILE *out;
    unsigned columns;
    unsigned widths[GRID_COLUMNS_MAX]; /* in characters */
    const char *titles[GRID_COLUMNS_MAX];
    struct grid_cell {
        char *text;
        const char *colour;
    } cells[GRID_ROWS_KEPT * GRID_COLUMNS_MAX];
    unsigned count; /* cells kept */
    bool printed_titles;
    unsigned padding; /* owed before the row's next cell */
    struct look look;
};

/* `titles`: borrowed, NULL at the end. */
void grid_begin(struct grid *grid, FILE *out, const char *const *titles);

/* The next cell, row by row. `text` is copied, NULL or "" shows as "-", " " as nothing; `colour` is one of the look's,
 * or NULL. */
void grid_add(struct grid *grid, const char *text, const char *colour);
void grid_addf(struct grid *grid, const char *colour, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Prints what is left. Nothing at all where there was no row. */
void grid_end(struct grid *grid);

/* ---- JSON ---- */

/* One value, compact, in a line of its own. Result: 0, or -ENOMEM. */
int print_json(FILE *out, const json_t *value);
