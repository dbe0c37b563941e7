/* check.h — what the files of "portalctl check" share. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "look.h"
#include "portalctl.h"

struct checker {
    bool json;
    struct look look;
    unsigned failed;
};

enum check_result { CHECK_GOOD, CHECK_DOUBTFUL, CHECK_BAD };

/* One line: what was looked at, how it is, and, where it is not good, what to do (or NULL). */
void check_tell(struct checker *checker, enum check_result result, const char *what, const char *fix,
                const char *format, ...) __attribute__((format(printf, 5, 6)));

void check_broker(struct checker *checker);
void check_database(struct checker *checker);
void check_stripe(struct checker *checker);

/* Loads a group of settings. Where one is wrong, which the line about the settings says, tells that `what` can't be
 * looked at. Result: whether they are there. */
bool check_load(struct checker *checker, const char *what, struct settings *settings, const char *const *names);
