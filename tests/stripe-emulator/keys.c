/* Which API keys are accepted. */
#include "keys.h"

#include "endpoints.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

void keys_begin(struct keys *keys, const json_t *accepted) {
    *keys = (struct keys){.first = json_deep_copy(accepted)};
    keys_reset(keys);
}

void keys_done(struct keys *keys) {
    json_decref(keys->accepted);
    json_decref(keys->restricted);
    json_decref(keys->first);
    *keys = (struct keys){0};
}

void keys_reset(struct keys *keys) {
    json_decref(keys->accepted);
    json_decref(keys->restricted);
    keys->accepted = json_deep_copy(keys->first);
    keys->restricted = json_array();
}

static bool keys_is_list(const json_t *list) {
    size_t index;
    json_t *key;

    json_array_foreach((json_t *)list, index, key) {
        if (!json_is_string(key)) {
            return false;
        }
    }
    return json_is_array(list);
}

int keys_set(struct keys *keys, const json_t *lists) {
    const json_t *accept = json_object_get(lists, "accept");
    const json_t *restricted = json_object_get(lists, "restricted");

    if ((!accept && !restricted) || (accept && !keys_is_list(accept)) || (restricted && !keys_is_list(restricted))) {
        return -EINVAL;
    }
    if (accept) {
        json_decref(keys->accepted);
        keys->accepted = json_deep_copy(accept);
    }
    if (restricted) {
        json_decref(keys->restricted);
        keys->restricted = json_deep_copy(restricted);
    }
    return 0;
}

static int keys_sextet(char character) {
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = character ? strchr(alphabet, character) : NULL;

    return at ? (int)(at - alphabet) : -1;
}

/* The user of a Basic header (RFC 7617), which is what `curl -u sk_test_x:` sends. */
static char *keys_from_basic(const char *encoded) {
    char *decoded = memory_get(strlen(encoded) + 1);
    size_t length = 0;
    unsigned bits = 0;
    unsigned have = 0;

    for (; keys_sextet(*encoded) >= 0; encoded++) {
        bits = bits << 6 | (unsigned)keys_sextet(*encoded);
        have += 6;
        if (have >= 8) {
            have -= 8;
            decoded[length++] = (char)(bits >> have & 0xFF);
        }
    }
    decoded[strcspn(decoded, ":")] = '\0';
    return decoded;
}

char *keys_from_header(const char *authorization) {
    char *key = NULL;

    if (authorization && strncasecmp(authorization, "Bearer ", 7) == 0) {
        key = memory_copy(authorization + 7 + strspn(authorization + 7, " "));
    } else if (authorization && strncasecmp(authorization, "Basic ", 6) == 0) {
        key = keys_from_basic(authorization + 6 + strspn(authorization + 6, " "));
    }
    if (key && !*key) {
        free(key);
        key = NULL;
    }
    return key;
}

static bool keys_has(const json_t *list, const char *key) {
    size_t index;
    json_t *known;

    json_array_foreach((json_t *)list, index, known) {
        if (strcmp(json_string_value(known), key) == 0) {
            return true;
        }
    }
    return false;
}

static bool keys_is_shaped(const char *key) {
    return (strncmp(key, "sk_", 3) == 0 || strncmp(key, "rk_", 3) == 0) &&
           (strncmp(key + 3, "test_", 5) == 0 || strncmp(key + 3, "live_", 5) == 0) && key[8];
}

/* Stripe shows the beginning and the last four characters. */
static char *keys_masked(const char *key) {
    size_t length = strlen(key);
    size_t shown = length > 16 ? 8 : 0;
    char *masked = memory_copy(key);

    for (size_t i = shown; i + 4 < length; i++) {
        masked[i] = '*';
    }
    return masked;
}

int keys_check(const struct keys *keys, const char *key, const struct endpoint *endpoint, struct answer *answer) {
    if (!key) {
        answer_error(answer, 401, "invalid_request_error", NULL, NULL,
                     "You did not provide an API key. You need to provide your API key in the Authorization header, "
                     "using Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY'). See "
                     "https://stripe.com/docs/api#authentication for details, or we can help at "
                     "https://support.stripe.com/.");
        return -EACCES;
    }
    _cleanup_free_ char *masked = keys_masked(key);

    if (keys_has(keys->restricted, key)) {
        const char *permission = endpoint ? endpoint->permission : "rak_unknown";

        answer_error(answer, 403, "invalid_request_error", NULL, NULL,
                     "The provided key '%s' does not have the required permissions for this endpoint on account "
                     "'acct_1EmulatedAccount00'. Having the '%s' permission would allow this request to continue.",
                     masked, permission);
        return -EACCES;
    }
    if (keys->accepted ? !keys_has(keys->accepted, key) : !keys_is_shaped(key)) {
        answer_error(answer, 401, "invalid_request_error", NULL, NULL, "Invalid API Key provided: %s", masked);
        return -EACCES;
    }
    return 0;
}
