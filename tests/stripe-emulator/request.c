/* One request in hand. */
#include "request.h"

char *request_base(const struct request *request) {
    return memory_format("%s://%s", request->secure ? "https" : "http", request->host);
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
