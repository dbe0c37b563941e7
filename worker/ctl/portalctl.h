/* portalctl.h — what the commands of portalctl share. */
#pragma once

#include <stddef.h>

/* One command: what it is called, what it does in half a line, and the function behind it, which gets its own name and
 * what follows it as main() would, and returns the exit status. */
struct command {
    const char *name;
    const char *summary;
    int (*run)(int argc, char **argv);
};

/* Exit statuses, as sysexits.h has them. */
enum { CTL_DONE = 0, CTL_FAILED = 1, CTL_USAGE = 64, CTL_CONFIGURATION = 78 };

/* Reads a setting: the file of that name in $CREDENTIALS_DIRECTORY (systemd.exec(5), LoadCredential=), without the
 * white space at its end, or else the environment. Result: the caller's to free; NULL where it is not set, and -errno
 * in
 * `*error` where it can't be read (0: it is just not there). */
char *ctl_setting(const char *name, int *error);

int ctl_migrate(int argc, char **argv);
