/* ctl-settings.c — the settings that a command needs, by the daemon's own code. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "portal/text.h"
#include "portalctl.h"

#define DIRECTORY "/etc/portal-worker"

enum { PATH_SIZE = 4096, LINE_SIZE = 8192 };

const char ctl_settings_hint[] =
    "They are the worker's settings, from the environment or, where all secrets are unset and as root, from\n"
    "  " DIRECTORY "; \"portal-worker --help\" lists them.";

int ctl_settings_read(struct settings *settings, const char *const *names, char **lines) {
    size_t size = 0;
    *lines = NULL;
    FILE *errors = open_memstream(lines, &size);
    if (!errors)
        return -ENOMEM;
    int r = names ? settings_load_only(settings, names, errors) : settings_load(settings, errors);
    if (fclose(errors) != 0 && r >= 0) {
        settings_free(settings);
        r = -ENOMEM;
    }
    return r;
}

int ctl_settings(struct settings *settings, const char *const *names) {
    AUTOFREE char *lines = NULL;
    int r = ctl_settings_read(settings, names, &lines);
    if (r >= 0)
        return 0;
    if (r != -EINVAL)
        return ctl_complain(CTL_FAILED, NULL, "the settings can't be read: %s", strerror(-r));
    char *rest = NULL;
    char *line = lines ? strtok_r(lines, "\n", &rest) : NULL;
    while (line) {
        char *next = strtok_r(NULL, "\n", &rest);
        (void)ctl_complain(CTL_SETTINGS, next ? NULL : ctl_settings_hint, "%s", line);
        line = next;
    }
    return CTL_SETTINGS;
}

void ctl_settings_free(struct settings *settings) {
    settings_free(settings);
}

/* ---- those of the package's units ---- */

/* A line of systemd.exec(5)'s EnvironmentFile=, as an administrator writes it: NAME=VALUE, perhaps in quotes. */
static void take_line(char *line) {
    char *value = strchr(line, '=');
    size_t length = strcspn(line, "=");
    if (!value || length == 0 || strspn(line, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != length)
        return;
    *value++ = '\0';
    size_t end = strlen(value);
    while (end > 0 && strchr(" \t\r\n", value[end - 1]))
        value[--end] = '\0';
    if (end >= 2 && (*value == '"' || *value == '\'') && value[end - 1] == *value) {
        value[end - 1] = '\0';
        value++;
    }
    (void)setenv(line, value, 0); /* what is set already wins */
}

static void take_file(const char *path) {
    char line[LINE_SIZE];
    FILE *file = fopen(path, "re");
    if (!file)
        return;
    while (fgets(line, sizeof line, file))
        take_line(line);
    (void)fclose(file);
}

void ctl_settings_installed(void) {
    static const char *const secrets[] = {"CREDENTIALS_DIRECTORY", "AMQP_URL", "DATABASE_URL", "STRIPE_SECRET_KEY",
                                          "STRIPE_SECRET_KEY_FILE"};
    const char *directory = getenv("PORTALCTL_SETTINGS");
    char path[PATH_SIZE];
    for (size_t i = 0; i < sizeof secrets / sizeof *secrets; i++) {
        const char *value = getenv(secrets[i]);
        if (value && *value)
            return;
    }
    directory = directory ? directory : DIRECTORY;
    if ((size_t)snprintf(path, sizeof path, "%s/credentials", directory) >= sizeof path ||
        access(path, R_OK | X_OK) < 0)
        return;
    if (setenv("CREDENTIALS_DIRECTORY", path, 1) < 0)
        return;
    (void)snprintf(path, sizeof path, "%s/portal-worker.env", directory);
    take_file(path);
}
