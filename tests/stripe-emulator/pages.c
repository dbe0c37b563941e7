/* The pages that a browser sees behind the URLs that the emulator hands out. */
#include "pages.h"

#include "emulator.h"
#include "request.h"

#include <stdio.h>
#include <string.h>

static char *pages_escape(const char *text) {
    char *escaped = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&escaped, &size);

    if (!out) {
        return memory_copy("");
    }
    for (; *text; text++) {
        switch (*text) {
        case '<':
            (void)fputs("&lt;", out);
            break;
        case '>':
            (void)fputs("&gt;", out);
            break;
        case '&':
            (void)fputs("&amp;", out);
            break;
        case '"':
            (void)fputs("&quot;", out);
            break;
        default:
            (void)fputc(*text, out);
        }
    }
    if (fclose(out) != 0) {
        free(escaped);
        return memory_copy("");
    }
    return escaped;
}

static void pages_show(struct answer *answer, unsigned status, const char *title, const char *content) {
    free(answer->body);
    answer->body = memory_format("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>%s</title>\n"
                                 "<style>body{font-family:sans-serif;max-width:40em;margin:4em auto}</style></head>\n"
                                 "<body><h1>%s</h1>\n%s</body></html>\n",
                                 title, title, content);
    answer->content_type = "text/html; charset=utf-8";
    answer->status = status;
}

/* What the configuration lets the customer do, as items of a list. */
static char *pages_features(const json_t *configuration) {
    static const struct {
        const char *name;
        const char *words;
    } features[] = {
        {"subscription_update", "Change your plan"},     {"subscription_cancel", "Cancel your plan"},
        {"payment_method_update", "Update how you pay"}, {"customer_update", "Update your details"},
        {"invoice_history", "See your invoices"},
    };
    const json_t *all = json_object_get(configuration, "features");
    char *list = memory_copy("");

    for (size_t i = 0; i < sizeof features / sizeof *features; i++) {
        if (json_is_true(json_object_get(json_object_get(all, features[i].name), "enabled"))) {
            char *longer = memory_format("%s<li>%s</li>\n", list, features[i].words);

            free(list);
            list = longer;
        }
    }
    return list;
}

static void pages_show_session(struct emulator *emulator, const json_t *session, struct answer *answer) {
    const char *id = json_string_value(json_object_get(session, "configuration"));
    const json_t *configuration = json_object_get(emulator->objects.configuration_index, id);
    const char *given =
        json_string_value(json_object_get(json_object_get(configuration, "business_profile"), "headline"));
    const char *back = json_string_value(json_object_get(session, "return_url"));
    _cleanup_free_ char *headline = pages_escape(given ? given : "Billing portal");
    _cleanup_free_ char *customer = pages_escape(json_string_value(json_object_get(session, "customer")));
    _cleanup_free_ char *url = pages_escape(back ? back : "");
    _cleanup_free_ char *features = pages_features(configuration);
    _cleanup_free_ char *link = back ? memory_format("<p><a href=\"%s\">Return</a></p>\n", url) : memory_copy("");
    _cleanup_free_ char *content = memory_format("<p>Customer %s</p>\n<ul>\n%s</ul>\n%s"
                                                 "<p><small>This is an emulator: nothing can be bought or cancelled "
                                                 "here.</small></p>\n",
                                                 customer, features, link);

    pages_show(answer, 200, headline, content);
}

static void pages_session(struct emulator *emulator, const char *token, struct answer *answer) {
    const struct session *session = sessions_find(&emulator->sessions, token);

    if (!session || session->created + (double)emulator->session_seconds <= request_now()) {
        pages_show(answer, session ? 410 : 404, "This link is no longer valid",
                   "<p>Your session has expired, or never was. Please go back and open the portal anew.</p>\n");
        return;
    }
    _cleanup_json_ json_t *object = json_loads(session->object, 0, NULL);

    pages_show_session(emulator, object, answer);
}

void pages_answer(struct emulator *emulator, struct request *request) {
    static const char session[] = "/p/session/";
    static const char login[] = "/p/login/";

    (void)pthread_mutex_lock(&emulator->lock);
    if (strncmp(request->path, session, sizeof session - 1) == 0) {
        pages_session(emulator, request->path + sizeof session - 1, &request->answer);
    } else if (strncmp(request->path, login, sizeof login - 1) == 0 &&
               json_object_get(emulator->objects.configuration_index, request->path + sizeof login - 1)) {
        pages_show(&request->answer, 200, "Billing portal", "<p>Customers log in here with their email address.</p>\n");
    } else {
        pages_show(&request->answer, 404, "There is no such page", "");
    }
    (void)pthread_mutex_unlock(&emulator->lock);
    request->phase = REQUEST_ANSWERED;
}
