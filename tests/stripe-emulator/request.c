/* One request in hand. */
#include "request.h"

#include <time.h>

char *request_base(const struct request *request) {
    return memory_format("%s://%s", request->secure ? "https" : "http", request->host);
}

double request_now(void) {
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

void request_free(struct request *request) {
    if (!request) {
        return;
    }
    fault_effect_done(&request->fault);
    json_decref(request->parameters);
    answer_clear(&request->answer);
    free(request->fingerprint);
    free(request->path);
    free(request->query);
    free(request->body);
    free(request);
}
