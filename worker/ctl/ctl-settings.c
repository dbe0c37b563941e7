/* ctl-settings.c — the settings that a command needs, by the daemon's own code. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "portal/text.h"
#include "portalctl.h"

static const char hint[] =
    "portalctl takes the worker's settings from the environment; \"portal-worker --help\" lists them.";

int ctl_settings(struct settings *settings, const char *const *names) {
    AUTOFREE char *lines = NULL;
    size_t size = 0;
    FILE *errors = open_memstream(&lines, &size);
    if (!errors)
        return ctl_complain(CTL_FAILED, NULL, "out of memory");
    int r = settings_load_only(settings, names, errors);
    if (fclose(errors) != 0 && r >= 0) {
        settings_free(settings);
        r = -ENOMEM;
    }
    if (r >= 0)
        return 0;
    if (r != -EINVAL)
        return ctl_complain(CTL_FAILED, NULL, "the settings can't be read: %s", strerror(-r));
    char *rest = NULL;
    char *line = lines ? strtok_r(lines, "\n", &rest) : NULL;
    while (line) {
        char *next = strtok_r(NULL, "\n", &rest);
        (void)ctl_complain(CTL_SETTINGS, next ? NULL : hint, "%s", line);
        line = next;
    }
    return CTL_SETTINGS;
}

void ctl_settings_free(struct settings *settings) {
    settings_free(settings);
}
