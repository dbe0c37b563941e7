/* rows.c — freeing what the store put into rows. */
#include <stdlib.h>
#include <string.h>

#include "portal/links.h"

/* A portal URL is a credential: none stays behind in freed memory. */
static void free_secret(char *text) {
    if (text)
        explicit_bzero(text, strlen(text));
    free(text);
}

void load_row_clear(struct load_row *row) {
    free(row->stored.answer);
    free_secret(row->stored.url);
    free(row->team.customer);
    free(row->team.product);
    free(row->team.subscription);
    free(row->team.subscription_status);
    free(row->reusable.answer);
    free_secret(row->reusable.url);
    *row = (struct load_row){0};
}

void save_row_clear(struct save_row *row) {
    free(row->standing.answer);
    free_secret(row->standing.url);
    *row = (struct save_row){0};
}

void configuration_row_clear(struct configuration_row *row) {
    free(row->id);
    free(row->product);
    free(row->fingerprint);
    row->id = row->product = row->fingerprint = NULL;
}
