/* fuzz_features.c — PORTAL_CONFIGURATION_FILE: taken, or refused with a line for each error; what is taken makes a
 * form. */
#include <stdlib.h>
#include <string.h>

#include "portal/features.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    json_t *file = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, NULL);
    char *said = NULL;
    size_t length = 0;
    FILE *errors = open_memstream(&said, &length);
    struct features *features = NULL;
    if (!file || !errors)
        goto out;
    int r = features_new(file, "file", &features, errors);
    if (fflush(errors) != 0 || (r < 0 && length == 0) || (r == 0 && length > 0))
        abort();
    if (r == 0) {
        json_t *prices = json_pack("[s]", "price_1");
        for (int update = 0; update < 2; update++) {
            char *form = features_form(features, update, "prod_1", prices, "product/prod_1");
            if (!form || strchr(form, ' ') || strchr(form, '\n'))
                abort();
            free(form);
        }
        json_decref(prices);
        features_free(features);
    }
out:
    if (errors)
        (void)fclose(errors);
    free(said);
    json_decref(file);
    return 0;
}
