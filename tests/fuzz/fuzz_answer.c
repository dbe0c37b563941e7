/* fuzz_answer.c — a row of portal.sessions that somebody else may have written into: answer_read() and what is made of
 * it. */
#include <stdlib.h>
#include <string.h>

#include "portal/answer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *json = strndup((const char *)data, size);
    struct answer answer;
    if (json && answer_read(&answer, json, size % 2 ? "https://billing.example.com/p" : NULL) == 0) {
        struct session session;
        char *reply = answer_reply(&answer, "r-1", 1);
        if (!reply || (answer.code == CODE_NONE && code_name(answer.code)))
            abort();
        if (answer_get_session(&answer, &session) == 0)
            session_clear(&session);
        free(reply);
        answer_clear(&answer);
    }
    free(json);
    return 0;
}
