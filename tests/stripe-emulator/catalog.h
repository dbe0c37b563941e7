/* Customers, products and prices. */
#pragma once

struct emulator;
struct request;

/* The endpoints. 0 or -EINVAL, answered either way. */
int catalog_list_customers(struct emulator *emulator, struct request *request);
int catalog_list_prices(struct emulator *emulator, struct request *request);
int catalog_retrieve_product(struct emulator *emulator, struct request *request);
