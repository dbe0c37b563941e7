/* What parameters each of Stripe's endpoints takes. */
#pragma once

#include "schema.h"

/* Sources: Stripe's OpenAPI description of about 2023 and, where they know more, the types of the official SDK for
 * Node.js (package `stripe`, version 18: flow types, schedule_at_period_end, adjustable_quantity, name, retention). */
extern const struct parameter parameters_configuration_list[];
extern const struct parameter parameters_configuration_create[];
extern const struct parameter parameters_configuration_retrieve[];
extern const struct parameter parameters_configuration_update[];
extern const struct parameter parameters_session_create[];
extern const struct parameter parameters_customer_list[];
extern const struct parameter parameters_price_list[];
extern const struct parameter parameters_product_retrieve[];
