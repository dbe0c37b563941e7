/* fuzz_settings.c — the environment, a NAME=VALUE a line: settings_load() takes it, or says what is wrong, and never
 * says a secret. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/settings.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Nothing that would have it read files of this machine. */
static bool may_be_set(const char *line) {
    return !strstr(line, "_FILE") && !strstr(line, "DIRECTORY") &&
           (strncmp(line, "PORTAL_", 7) == 0 || strncmp(line, "STRIPE_", 7) == 0 || strncmp(line, "AMQP_", 5) == 0 ||
            strncmp(line, "DATABASE_URL=", 13) == 0 || strncmp(line, "BASE_URL=", 9) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = strndup((const char *)data, size), *rest = text, *line, *said = NULL;
    size_t length = 0;
    FILE *errors = open_memstream(&said, &length);
    if (!text || !errors)
        abort();
    (void)clearenv();
    while ((line = strsep(&rest, "\n")))
        if (strchr(line, '=') && may_be_set(line))
            (void)putenv(line); /* setenv() would keep a copy, and libFuzzer look for a leak after each input */
    struct settings settings = {0};
    int r = settings_load(&settings, errors);
    if (fflush(errors) != 0 || (r < 0 && length == 0))
        abort();
    if (r == 0)
        settings_free(&settings);
    (void)fclose(errors);
    (void)clearenv();
    free(said);
    free(text);
    return 0;
}
