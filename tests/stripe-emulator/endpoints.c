/* The endpoints of Stripe's API that the emulator has. */
#include "endpoints.h"

#include "catalog.h"
#include "configurations.h"
#include "parameters.h"
#include "sessions.h"

#include <assert.h>
#include <string.h>

static const struct endpoint endpoints[ENDPOINTS] = {
    {0, "POST /v1/billing_portal/sessions", "rak_customer_portal_write", parameters_session_create, sessions_create},
    {1, "GET /v1/billing_portal/configurations", "rak_customer_portal_read", parameters_configuration_list,
     configurations_list},
    {2, "POST /v1/billing_portal/configurations", "rak_customer_portal_write", parameters_configuration_create,
     configurations_create},
    {3, "GET /v1/billing_portal/configurations/{id}", "rak_customer_portal_read", parameters_configuration_retrieve,
     configurations_retrieve},
    {4, "POST /v1/billing_portal/configurations/{id}", "rak_customer_portal_write", parameters_configuration_update,
     configurations_update},
    {5, "GET /v1/prices", "rak_plan_read", parameters_price_list, catalog_list_prices},
    {6, "GET /v1/products/{id}", "rak_product_read", parameters_product_retrieve, catalog_retrieve_product},
    {7, "GET /v1/customers", "rak_customer_read", parameters_customer_list, catalog_list_customers},
};

const struct endpoint *endpoint_find(const char *method, const char *path, const char **id) {
    *id = NULL;
    for (size_t i = 0; i < ENDPOINTS; i++) {
        const char *pattern = strchr(endpoints[i].name, ' ') + 1;
        size_t method_length = strcspn(endpoints[i].name, " ");
        size_t length = strcspn(pattern, "{");

        if (strlen(method) != method_length || strncmp(method, endpoints[i].name, method_length) != 0) {
            continue;
        }
        if (!pattern[length] && strcmp(path, pattern) == 0) {
            return &endpoints[i];
        }
        if (pattern[length] && strncmp(path, pattern, length) == 0 && path[length] && !strchr(path + length, '/')) {
            *id = path + length;
            return &endpoints[i];
        }
    }
    return NULL;
}

const char *endpoint_name(unsigned number) {
    assert(number <= ENDPOINT_OTHER);
    return number < ENDPOINTS ? endpoints[number].name : "other";
}
