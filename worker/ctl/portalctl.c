/* portalctl.c — the operator's tool: finds the command and hands over. */
#include "portalctl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "portal/text.h"

enum { SETTING_SIZE_MAX = 16 * 1024 };

static const struct command commands[] = {
    {"migrate", "bring the schema \"portal\" of the database up to date", ctl_migrate},
};

enum { COMMANDS = sizeof commands / sizeof *commands };

static void help(FILE *out) {
    fprintf(out, "portalctl: looks after portal-worker.\n\nUsage: portalctl COMMAND [OPTION…]\n\nCommands:\n");
    for (size_t i = 0; i < COMMANDS; i++)
        fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].summary);
    fprintf(out, "\n\"portalctl COMMAND --help\" tells more. --version prints the version.\n");
}

static char *read_credential(const char *directory, const char *name, int *error) {
    char path[4096];
    char content[SETTING_SIZE_MAX + 1];
    int length = snprintf(path, sizeof path, "%s/%s", directory, name);
    if (length < 0 || (size_t)length >= sizeof path) {
        *error = -ENAMETOOLONG;
        return NULL;
    }
    FILE *file = fopen(path, "re");
    if (!file) {
        *error = errno == ENOENT ? 0 : -errno;
        return NULL;
    }
    size_t size = fread(content, 1, sizeof content, file);
    *error = ferror(file) ? -EIO : size == sizeof content ? -EFBIG : 0;
    (void)fclose(file);
    if (*error < 0)
        return NULL;
    while (size > 0 && strchr(" \t\r\n", content[size - 1]))
        size--;
    char *value = strndup(content, size);
    if (!value)
        *error = -ENOMEM;
    return value;
}

char *ctl_setting(const char *name, int *error) {
    const char *directory = getenv("CREDENTIALS_DIRECTORY");
    *error = 0;
    if (directory) {
        char *value = read_credential(directory, name, error);
        if (value || *error < 0)
            return value;
    }
    const char *value = getenv(name);
    if (!value || !*value)
        return NULL;
    char *copy = strdup(value);
    if (!copy)
        *error = -ENOMEM;
    return copy;
}

int main(int argc, char **argv) {
    if (argc < 2) {
        help(stderr);
        return CTL_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        help(stdout);
        return CTL_DONE;
    }
    if (strcmp(argv[1], "--version") == 0) {
        puts("portalctl " PORTAL_VERSION);
        return CTL_DONE;
    }
    for (size_t i = 0; i < COMMANDS; i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    fprintf(stderr, "portalctl: there is no command \"%s\"; \"portalctl --help\" lists them\n", argv[1]);
    return CTL_USAGE;
}
