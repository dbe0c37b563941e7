/* dead.h — what the subcommands of "portalctl dead" share. */
#pragma once

#include <stdio.h>

#include "letter.h"
#include "portal/names.h"
#include "portalctl.h"
#include "walk.h"

int dead_list(int argc, char **argv);
int dead_show(int argc, char **argv);
int dead_requeue(int argc, char **argv);
int dead_drop(int argc, char **argv);

/* Opens the wire and begins to go through portal.dead. Result: 0 or an exit status; the wire is to be closed in any
 * case. */
int dead_begin(struct wire *wire, struct walk *walk, const struct settings *settings, int stop);

/* Calls `each` with every letter that the filter matches, and with `userdata`, until it returns an exit status other
 * than 0. Result: that, or the exit status of a walk that failed. */
int dead_each(struct walk *walk, struct letter_filter *filter, int (*each)(const struct letter *letter, void *userdata),
              void *userdata);
