/* test_stripe.c — the Stripe link: what it reads from answers, and whole exchanges with a server of canned answers. */
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../worker/links/stripe-private.h"

enum { NOW = 1700000000 };

/* ---- headers --------------------------------------------------------------------------------------------------------
 */

static void header(struct stripe_answer *answer, const char *line) {
    stripe_answer_header(answer, line, strlen(line), NOW);
}

static void headers_are_read_whatever_their_case(void **state) {
    (void)state;
    struct stripe_answer answer = {0};
    stripe_answer_reset(&answer);
    header(&answer, "HTTP/1.1 429 Too Many Requests\r\n");
    header(&answer, "REQUEST-ID:   req_abc \r\n");
    header(&answer, "idempotent-replayed: True\r\n");
    header(&answer, "Stripe-should-RETRY: false\r\n");
    header(&answer, "retry-after: 7\r\n");
    header(&answer, "\r\n");
    assert_string_equal(answer.request_id, "req_abc");
    assert_true(answer.replayed);
    assert_int_equal(answer.should_retry, 0);
    assert_int_equal(answer.retry_after_ms, 7000);
}

static void a_new_status_line_begins_a_new_answer(void **state) {
    (void)state;
    struct stripe_answer answer = {0};
    stripe_answer_reset(&answer);
    header(&answer, "HTTP/1.1 103 Early Hints\r\n");
    header(&answer, "Request-Id: req_early\r\n");
    header(&answer, "Retry-After: 3\r\n");
    header(&answer, "HTTP/1.1 200 OK\r\n");
    assert_string_equal(answer.request_id, "");
    assert_int_equal(answer.retry_after_ms, -1);
    assert_int_equal(answer.should_retry, -1);
    assert_false(answer.replayed);
}

static void strange_headers_are_ignored(void **state) {
    (void)state;
    static const char *const lines[] = {"Request-Id\r\n",
                                        "Request-Identity: x\r\n",
                                        "X-Request-Id: x\r\n",
                                        "Request-Id: a\x01z\r\n",
                                        "Request-Id: \xff\r\n",
                                        "Stripe-Should-Retry: maybe\r\n",
                                        "Idempotent-Replayed: 1\n",
                                        ": x\r\n",
                                        "",
                                        "Retry-After: soon\r\n"};
    struct stripe_answer answer = {0};
    stripe_answer_reset(&answer);
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        header(&answer, lines[i]);
    char longer[400];
    (void)snprintf(longer, sizeof longer, "Request-Id: %0350d", 1);
    header(&answer, longer);
    assert_string_equal(answer.request_id, "");
    assert_int_equal(answer.should_retry, -1);
    assert_int_equal(answer.retry_after_ms, -1);
    assert_false(answer.replayed);
}

static void the_longest_request_id_fits(void **state) {
    (void)state;
    char line[200];
    (void)snprintf(line, sizeof line, "Request-Id: %0127d", 1);
    struct stripe_answer answer = {0};
    stripe_answer_reset(&answer);
    header(&answer, line);
    assert_int_equal(strlen(answer.request_id), 127);
}

static void retry_after_is_seconds_or_a_date(void **state) {
    (void)state;
    static const struct {
        const char *value;
        int64_t ms;
    } cases[] = {
        {"0", 0},
        {"1", 1000},
        {"3600", 3600000},
        {"3601", 3600000},
        {"99999999999999999999999999", 3600000},
        {"-1", -1},
        {"1.5", -1},
        {"1s", -1},
        {"", -1},
        {"now", -1},
        {"2023", 2023000},
        /* RFC 9110 §5.6.7: the three forms of 1700000005 */
        {"Tue, 14 Nov 2023 22:13:25 GMT", 5000},
        {"Tuesday, 14-Nov-23 22:13:25 GMT", 5000},
        {"Tue Nov 14 22:13:25 2023", 5000},
        {"Tue, 14 Nov 2023 22:13:00 GMT", 0},       /* past */
        {"Thu, 14 Nov 2999 22:13:25 GMT", 3600000}, /* far */
        {"Tue, 99 Nov 2023 22:13:25 GMT", -1},
        {"Tue", -1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (stripe_retry_after(cases[i].value, NOW) != cases[i].ms)
            fail_msg("Retry-After: %s gives %lld, not %lld", cases[i].value,
                     (long long)stripe_retry_after(cases[i].value, NOW), (long long)cases[i].ms);
}

static void a_body_grows_up_to_its_bound(void **state) {
    (void)state;
    struct stripe_answer answer = {0};
    static char piece[100 * 1000];
    memset(piece, 'y', sizeof piece);
    stripe_answer_reset(&answer);
    size_t taken = 0;
    while (taken + sizeof piece <= STRIPE_ANSWER_MAX) {
        assert_true(stripe_answer_body(&answer, piece, sizeof piece));
        taken += sizeof piece;
    }
    assert_true(stripe_answer_body(&answer, piece, STRIPE_ANSWER_MAX - taken));
    assert_int_equal(answer.length, STRIPE_ANSWER_MAX);
    assert_int_equal(answer.body[STRIPE_ANSWER_MAX], '\0');
    assert_false(stripe_answer_body(&answer, piece, 1));
    assert_int_equal(answer.failure, -EMSGSIZE);

    stripe_answer_reset(&answer);
    assert_null(answer.body); /* what grew is not kept */
    assert_true(stripe_answer_body(&answer, "abc", 3));
    assert_string_equal(answer.body, "abc");
    stripe_answer_clear(&answer);
}

static void failures_are_told_in_words(void **state) {
    (void)state;
    char text[256];
    assert_int_equal(stripe_failure(CURLE_OPERATION_TIMEDOUT, "Connection timed out", 0, text, sizeof text),
                     -ETIMEDOUT);
    assert_string_equal(text, "Connection timed out");
    assert_int_equal(stripe_failure(CURLE_COULDNT_CONNECT, "", ENETUNREACH, text, sizeof text), -ENETUNREACH);
    assert_int_equal(stripe_failure(CURLE_PEER_FAILED_VERIFICATION, "self-signed", 0, text, sizeof text),
                     -EKEYREJECTED);
    assert_non_null(strstr(text, "STRIPE_CA_FILE"));
    assert_int_equal(stripe_failure(CURLE_FTP_ACCEPT_FAILED, NULL, 0, text, sizeof text), -EIO);
    assert_true(text[0] != '\0');
}

/* ---- exchanges ---- */

enum { REQUEST_MAX = 8192, ANSWER_MS = 300, TOTAL_MS = 2000 };

/* A server on a thread of its own: answers every connection's first request with the same bytes, then closes. */
struct server {
    int listener;
    pthread_t thread;
    char base[64];
    const char *answer; /* NULL: never answers */
    size_t answer_length;
    char request[REQUEST_MAX]; /* the last; read only after server_stop() */
};

static void serve(struct server *server, int connection) {
    size_t length = 0;
    const char *end = NULL;
    size_t wanted = 0;
    while (length < REQUEST_MAX - 1 && (!end || length < wanted)) {
        ssize_t n = read(connection, server->request + length, REQUEST_MAX - 1 - length);
        if (n <= 0)
            return;
        length += (size_t)n;
        server->request[length] = '\0';
        end = strstr(server->request, "\r\n\r\n");
        const char *announced = strcasestr(server->request, "Content-Length: ");
        wanted = end ? (size_t)(end + 4 - server->request) + (announced ? strtoul(announced + 16, NULL, 10) : 0) : 0;
    }
    size_t sent = 0;
    while (server->answer && sent < server->answer_length) {
        ssize_t n = send(connection, server->answer + sent, server->answer_length - sent, MSG_NOSIGNAL);
        if (n <= 0)
            return;
        sent += (size_t)n;
    }
    char rest;
    while (!server->answer && read(connection, &rest, 1) > 0) /* until the other side gives up */
        ;
}

static void *server_main(void *argument) {
    struct server *server = argument;
    int connection;
    while ((connection = accept(server->listener, NULL, NULL)) >= 0) {
        serve(server, connection);
        close(connection);
    }
    return NULL;
}

static void server_start(struct server *server, const char *answer, size_t length) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    *server = (struct server){.answer = answer, .answer_length = length, .listener = socket(AF_INET, SOCK_STREAM, 0)};
    assert_true(server->listener >= 0);
    assert_int_equal(bind(server->listener, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(server->listener, 16), 0);
    assert_int_equal(getsockname(server->listener, (struct sockaddr *)&address, &size), 0);
    (void)snprintf(server->base, sizeof server->base, "http://127.0.0.1:%d", ntohs(address.sin_port));
    assert_int_equal(pthread_create(&server->thread, NULL, server_main, server), 0);
}

static void server_stop(struct server *server) {
    (void)shutdown(server->listener, SHUT_RDWR);
    assert_int_equal(pthread_join(server->thread, NULL), 0);
    close(server->listener);
}

struct bench {
    sd_event *event;
    struct stripe *stripe;
    struct stripe_link link;
};

static struct stripe_settings settings_for(const char *base) {
    return (struct stripe_settings){.secret_key = "sk_test_first",
                                    .api_base = base,
                                    .api_version = "2025-04-30.basil",
                                    .user_agent = "portal-worker/test",
                                    .connect_ms = 1000,
                                    .answer_ms = ANSWER_MS,
                                    .total_ms = TOTAL_MS,
                                    .concurrency = 4};
}

static void bench_start(struct bench *bench, const char *base) {
    struct stripe_settings settings = settings_for(base);
    assert_true(sd_event_new(&bench->event) >= 0);
    assert_int_equal(stripe_new(&settings, bench->event, &bench->stripe), 0);
    bench->link = stripe_link(bench->stripe);
}

static void bench_stop(struct bench *bench) {
    stripe_free(bench->stripe);
    (void)sd_event_unref(bench->event);
}

struct case_exchange {
    struct stripe_exchange exchange;
    bool inside_start;
    unsigned times_done;
    char body[256];
};

static void on_done(struct stripe_exchange *exchange) {
    struct case_exchange *own = (struct case_exchange *)exchange;
    assert_false(own->inside_start);
    own->times_done++;
    if (exchange->body)
        (void)snprintf(own->body, sizeof own->body, "%s", exchange->body);
}

static void start(struct bench *bench, struct case_exchange *own, bool post) {
    own->exchange = (struct stripe_exchange){.post = post, .path = "/v1/things?limit=1", .done = on_done};
    if (post) {
        own->exchange.form = "a=b&c[0]=d";
        own->exchange.idempotency_key = "portal:default:r1:1:0";
    }
    own->inside_start = true;
    bench->link.start(bench->link.self, &own->exchange);
    own->inside_start = false;
}

static void wait_done(struct bench *bench, const struct case_exchange *own) {
    for (int turns = 0; own->times_done == 0 && turns < 1000; turns++)
        assert_true(sd_event_run(bench->event, 20000) >= 0);
    assert_int_equal(own->times_done, 1);
}

/* One exchange with a server that answers so. */
static void exchange_with(const char *answer, size_t length, struct case_exchange *own, struct server *server) {
    struct bench bench;
    server_start(server, answer, length);
    bench_start(&bench, server->base);
    start(&bench, own, true);
    wait_done(&bench, own);
    bench_stop(&bench);
    server_stop(server);
}

static void a_post_says_all_that_stripe_wants(void **state) {
    (void)state;
    static const char answer[] = "HTTP/1.1 200 OK\r\nRequest-Id: req_1\r\nContent-Length: 9\r\n\r\n{\"a\": 12}";
    struct server server;
    struct case_exchange own = {0};
    exchange_with(answer, sizeof answer - 1, &own, &server);
    assert_int_equal(own.exchange.error, 0);
    assert_int_equal(own.exchange.status, 200);
    assert_string_equal(own.body, "{\"a\": 12}");
    assert_int_equal(own.exchange.body_length, 9);
    assert_string_equal(own.exchange.request_id, "req_1");
    static const char *const lines[] = {"POST /v1/things?limit=1 HTTP/1.1\r\n",
                                        "\r\nAuthorization: Bearer sk_test_first\r\n",
                                        "\r\nStripe-Version: 2025-04-30.basil\r\n",
                                        "\r\nUser-Agent: portal-worker/test\r\n",
                                        "\r\nIdempotency-Key: portal:default:r1:1:0\r\n",
                                        "\r\nContent-Type: application/x-www-form-urlencoded\r\n",
                                        "\r\n\r\na=b&c[0]=d"};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        if (!strstr(server.request, lines[i]))
            fail_msg("no %s in:\n%s", lines[i], server.request);
    assert_null(strcasestr(server.request, "\r\nExpect:"));
}

static void a_get_has_neither_form_nor_key(void **state) {
    (void)state;
    static const char answer[] = "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}";
    struct server server;
    struct bench bench;
    struct case_exchange own = {0};
    server_start(&server, answer, sizeof answer - 1);
    bench_start(&bench, server.base);
    assert_int_equal(stripe_set_key(bench.stripe, "sk_test_second"), 0);
    start(&bench, &own, false);
    wait_done(&bench, &own);
    bench_stop(&bench);
    server_stop(&server);
    assert_int_equal(own.exchange.status, 404);
    assert_true(strncmp(server.request, "GET /v1/things?limit=1 HTTP/1.1\r\n", 33) == 0);
    assert_non_null(strstr(server.request, "Authorization: Bearer sk_test_second\r\n"));
    assert_null(strcasestr(server.request, "Idempotency-Key"));
    assert_null(strcasestr(server.request, "Content-Type"));
}

static void the_server_is_told_no_answer(const char *answer, size_t length, int error) {
    struct server server;
    struct case_exchange own = {0};
    exchange_with(answer, length, &own, &server);
    assert_int_equal(own.exchange.error, error);
    assert_int_equal(own.exchange.status, 0);
    assert_true(own.exchange.explanation[0] != '\0');
    assert_null(strstr(own.exchange.explanation, "sk_test"));
}

static void what_is_no_answer_has_an_error(void **state) {
    (void)state;
    static const char half[] = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{";
    the_server_is_told_no_answer(half, sizeof half - 1, -ECONNRESET);
    the_server_is_told_no_answer("", 0, -ECONNRESET);
    the_server_is_told_no_answer("hello\r\n", 7, -EPROTO);
    the_server_is_told_no_answer(NULL, 0, -ETIMEDOUT);
}

static void an_answer_too_long_is_refused(void **state) {
    (void)state;
    static const char head[] = "HTTP/1.1 200 OK\r\nContent-Length: 2097153\r\n\r\n";
    size_t length = sizeof head - 1 + STRIPE_ANSWER_MAX + 1;
    char *answer = malloc(length);
    assert_non_null(answer);
    memset(answer, 'x', length);
    memcpy(answer, head, sizeof head - 1);
    the_server_is_told_no_answer(answer, length, -EMSGSIZE);
    free(answer);
}

static void what_fails_at_once_is_told_by_the_loop(void **state) {
    (void)state;
    struct bench bench;
    struct case_exchange first = {0}, second = {0};
    char path[9000];
    memset(path, 'p', sizeof path);
    path[0] = '/';
    path[sizeof path - 1] = '\0';
    bench_start(&bench, "http://127.0.0.1:1");
    first.exchange = (struct stripe_exchange){.path = path, .done = on_done};
    second.exchange = first.exchange;
    first.inside_start = second.inside_start = true;
    bench.link.start(bench.link.self, &first.exchange);
    bench.link.start(bench.link.self, &second.exchange);
    first.inside_start = second.inside_start = false;
    bench.link.cancel(bench.link.self, &first.exchange);
    wait_done(&bench, &second);
    assert_int_equal(second.exchange.error, -ENAMETOOLONG);
    assert_int_equal(first.times_done, 0);
    bench_stop(&bench);
}

static void a_refused_connection_is_an_error(void **state) {
    (void)state;
    struct bench bench;
    struct case_exchange own = {0};
    bench_start(&bench, "http://127.0.0.1:1");
    start(&bench, &own, true);
    wait_done(&bench, &own);
    assert_int_equal(own.exchange.error, -ECONNREFUSED);
    bench_stop(&bench);
}

static void what_is_cancelled_is_not_done(void **state) {
    (void)state;
    struct server server;
    struct bench bench;
    struct case_exchange dropped = {0}, kept = {0};
    server_start(&server, NULL, 0);
    bench_start(&bench, server.base);
    start(&bench, &dropped, true);
    for (unsigned turn = 0; turn < 8; turn++) /* it has a connection by then, and is not late yet */
        assert_true(sd_event_run(bench.event, 20000) >= 0);
    bench.link.cancel(bench.link.self, &dropped.exchange);
    start(&bench, &kept, true);
    wait_done(&bench, &kept); /* times out, as the other would have before it */
    assert_int_equal(kept.exchange.error, -ETIMEDOUT);
    assert_int_equal(dropped.times_done, 0);
    assert_int_equal(dropped.exchange.connections, 1);
    assert_int_equal(kept.exchange.connections, 1);
    bench_stop(&bench);
    server_stop(&server);
}

static void the_check_tells_what_to_do(void **state) {
    (void)state;
    static const struct {
        const char *answer;
        int result;
        const char *words;
    } cases[] = {
        {"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"object\": \"list\", \"data\": [] }", 0, ""},
        {"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello", -EPROTO, "STRIPE_API_BASE"},
        {"HTTP/1.1 401 No\r\nConnection: close\r\n\r\n{\"error\": \"sk_test_****st\"}", -EACCES, "STRIPE_SECRET_KEY"},
        {"HTTP/1.1 403 No\r\nConnection: close\r\n\r\n{}", -EPERM, "STRIPE_SECRET_KEY"},
        {"HTTP/1.1 503 No\r\nRequest-Id: req_5\r\nConnection: close\r\n\r\n{}", -EAGAIN, "req_5"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct server server;
        char error[256] = "";
        server_start(&server, cases[i].answer, strlen(cases[i].answer));
        struct stripe_settings settings = settings_for(server.base);
        assert_int_equal(stripe_check(&settings, error, sizeof error), cases[i].result);
        server_stop(&server);
        if (cases[i].result < 0) {
            assert_non_null(strstr(error, cases[i].words));
            assert_null(strstr(error, "sk_test"));
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headers_are_read_whatever_their_case),
        cmocka_unit_test(a_new_status_line_begins_a_new_answer),
        cmocka_unit_test(strange_headers_are_ignored),
        cmocka_unit_test(the_longest_request_id_fits),
        cmocka_unit_test(retry_after_is_seconds_or_a_date),
        cmocka_unit_test(a_body_grows_up_to_its_bound),
        cmocka_unit_test(failures_are_told_in_words),
        cmocka_unit_test(a_post_says_all_that_stripe_wants),
        cmocka_unit_test(a_get_has_neither_form_nor_key),
        cmocka_unit_test(what_is_no_answer_has_an_error),
        cmocka_unit_test(an_answer_too_long_is_refused),
        cmocka_unit_test(what_fails_at_once_is_told_by_the_loop),
        cmocka_unit_test(a_refused_connection_is_an_error),
        cmocka_unit_test(what_is_cancelled_is_not_done),
        cmocka_unit_test(the_check_tells_what_to_do),
    };
    return cmocka_run_group_tests_name("stripe", tests, NULL, NULL);
}
