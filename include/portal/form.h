/* form.h — application/x-www-form-urlencoded with Stripe's brackets: features[subscription_update][enabled]=true. */
#pragma once

#include <jansson.h>

#include "portal/text.h"

/* Appends `name`=`value`, both percent-encoded but for the brackets of the name; nothing where the value is NULL. */
void form_add(struct text *form, const char *name, const char *value);

/* Appends a JSON value under `name`: an object as name[key]…, a list as name[0]…, an empty list as name=, a boolean as
 * true or false. */
void form_add_json(struct text *form, const char *name, const json_t *value);
