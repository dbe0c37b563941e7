/* store-url.c — whether DATABASE_URL makes sense, without asking anybody. */
#include <assert.h>
#include <errno.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "links/store.h"

static const char *find(const PQconninfoOption *options, const char *word) {
    for (; options->keyword; options++)
        if (strcmp(options->keyword, word) == 0)
            return options->val;
    return NULL;
}

/* Ports are numbers from 1 to 65535 or nothing, with commas between. */
static bool ports_are_good(const char *ports) {
    for (const char *at = ports; at; at = strchr(at, ','), at = at ? at + 1 : NULL) {
        size_t length = strcspn(at, ",");
        if (strspn(at, "0123456789") < length || length > 5)
            return false;
        long port = strtol(at, NULL, 10);
        if (length > 0 && (port < 1 || port > 65535))
            return false;
    }
    return true;
}

int store_url_check(const char *url, char *error, size_t error_size) {
    assert(url && error && error_size > 0);
    /* libpq's own words are not passed on: they quote what they can't make sense of, and that may be the password. */
    PQconninfoOption *options = PQconninfoParse(url, NULL);
    const char *host = options ? find(options, "host") : NULL;
    const char *port = options ? find(options, "port") : NULL;
    int r = -EINVAL;

    if (!options || !*url)
        snprintf(error, error_size,
                 "expected postgresql://user:password@host:5432/database, with special characters in the password "
                 "percent-encoded, or words of libpq such as host=… dbname=…");
    else if (host && strchr(host, '@'))
        snprintf(error, error_size, "every @ in the password has to be written as %%40");
    else if (!ports_are_good(port))
        snprintf(error, error_size, "ports go from 1 to 65535");
    else
        r = 0;
    PQconninfoFree(options);
    return r;
}
