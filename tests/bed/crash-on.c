/* crash-on.c — makes a program die of a message, as a bug in a parser would: preloaded (LD_PRELOAD) it takes the place
 * of jansson's json_loadb(), and aborts where the text holds what CRASH_ON says. */
#include <dlfcn.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

json_t *json_loadb(const char *buffer, size_t length, size_t flags, json_error_t *error) {
    const char *marker = getenv("CRASH_ON");
    if (marker && memmem(buffer, length, marker, strlen(marker)))
        abort();
    json_t *(*real)(const char *, size_t, size_t, json_error_t *);
    *(void **)&real = dlsym(RTLD_NEXT, "json_loadb"); /* as POSIX says of dlsym() */
    return real(buffer, length, flags, error);
}
