/* test_broker.c — the parts of the broker link that do no I/O: URLs, texts and tables of strangers, deliveries, and the
 * messages that are published. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../worker/links/broker-internal.h"

/* ---- URLs ---- */

static void assert_url(const char *text, bool tls, const char *user, const char *password, const char *host, int port,
                       const char *vhost) {
    struct amqp_url url;
    char error[256];
    assert_int_equal(amqp_url_parse(text, &url, error, sizeof error), 0);
    assert_int_equal(url.tls, tls);
    assert_string_equal(url.user, user);
    assert_string_equal(url.password, password);
    assert_string_equal(url.host, host);
    assert_int_equal(url.port, port);
    assert_string_equal(url.vhost, vhost);
    amqp_url_clear(&url);
    assert_int_equal(broker_url_check(text, error, sizeof error), 0);
}

/* The examples of RabbitMQ's URI specification, but for the one of an empty virtual host. */
static void urls_have_their_parts(void **state) {
    (void)state;
    assert_url("amqp://user:pass@host:10000/vhost", false, "user", "pass", "host", 10000, "vhost");
    assert_url("amqp://user%61:%61pass@ho%61st:10000/v%2fhost", false, "usera", "apass", "ho%61st", 10000, "v/host");
    assert_url("amqp://", false, "guest", "guest", "localhost", 5672, "/");
    assert_url("amqp://:@/", false, "", "", "localhost", 5672, "/");
    assert_url("amqp://user@", false, "user", "guest", "localhost", 5672, "/");
    assert_url("amqp://user:pass@", false, "user", "pass", "localhost", 5672, "/");
    assert_url("amqp://host", false, "guest", "guest", "host", 5672, "/");
    assert_url("amqp://:10000", false, "guest", "guest", "localhost", 10000, "/");
    assert_url("amqp:///vhost", false, "guest", "guest", "localhost", 5672, "vhost");
    assert_url("amqp://host/", false, "guest", "guest", "host", 5672, "/");
    assert_url("amqp://host/%2F", false, "guest", "guest", "host", 5672, "/");
    assert_url("amqp://[::1]", false, "guest", "guest", "::1", 5672, "/");
    assert_url("amqp://u:p@[::1]:5673/x", false, "u", "p", "::1", 5673, "x");
    assert_url("AMQPS://host", true, "guest", "guest", "host", 5671, "/");
    assert_url("amqp://u:p%C3%A4%40ss@h", false, "u", "p\xc3\xa4@ss", "h", 5672, "/");
    assert_url("amqp://u:p@ss@h", false, "u", "p@ss", "h", 5672, "/");
}

static void url_parameters_are_read(void **state) {
    struct amqp_url url;
    char error[256];
    (void)state;
    assert_int_equal(
        amqp_url_parse("amqps://h/v?cacertfile=/etc/%63a.pem&verify=verify_none", &url, error, sizeof error), 0);
    assert_string_equal(url.cacertfile, "/etc/ca.pem");
    assert_false(url.verify);
    amqp_url_clear(&url);
    assert_int_equal(amqp_url_parse("amqps://h", &url, error, sizeof error), 0);
    assert_null(url.cacertfile);
    assert_true(url.verify);
    amqp_url_clear(&url);
}

static void wrong_urls_are_refused_without_telling_the_password(void **state) {
    static const char *const wrong[] = {
        "",
        "http://u:s3cret@h",
        "amqp:/u:s3cret@h",
        "amqp://u:s3cret@h:0",
        "amqp://u:s3cret@h:65536",
        "amqp://u:s3cret@h:5672x",
        "amqp://u:s3cret@h: 5672",
        "amqp://u:s3cret@h/a/b",
        "amqp://u:s3cret@h/%zz",
        "amqp://u:s3cret@h/%0",
        "amqp://u:s3cret%00@h",
        "amqp://u:s3cret%@h",
        "amqp://u:s3cret@[::1",
        "amqp://u:s3cret@[::1]x",
        "amqp://u:s3cret#@h",
        "amqp://u:s3cret @h",
        "amqp://u:s3cret@h\n",
        "amqp://u:s3cret@h?heartbeat=5",
        "amqp://u:s3cret@h?cacertfile=/x",
        "amqps://u:s3cret@h?verify=maybe",
        "amqps://u:s3cret@h?cacertfile",
        "amqps://u:s3cret@h?cacertfile=",
    };
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char error[256] = "";
        assert_int_equal(broker_url_check(wrong[i], error, sizeof error), -EINVAL);
        assert_true(strlen(error) > 0);
        assert_null(strstr(error, "s3cret"));
    }
    char error[256];
    char long_url[400] = "amqp://h/";
    memset(long_url + strlen(long_url), 'v', 256);
    assert_int_equal(broker_url_check(long_url, error, sizeof error), -EINVAL);
    long_url[strlen(long_url) - 1] = '\0';
    assert_int_equal(broker_url_check(long_url, error, sizeof error), 0);
}

/* ---- texts ---- */

#define REPLACED "\xef\xbf\xbd"

static void assert_sanitized(const char *bytes, size_t length, const char *expected) {
    char text[256];
    amqp_bytes_t from = {.len = length, .bytes = (char *)bytes};
    assert_int_equal(text_sanitize(NULL, from), strlen(expected));
    assert_int_equal(text_sanitize(text, from), strlen(expected));
    assert_string_equal(text, expected);
}

#define ASSERT_SANITIZED(literal, expected) assert_sanitized(literal, sizeof(literal) - 1, expected)

static void texts_become_utf8_without_nuls(void **state) {
    (void)state;
    ASSERT_SANITIZED("", "");
    ASSERT_SANITIZED("plain", "plain");
    ASSERT_SANITIZED("a\0b", "a" REPLACED "b");
    ASSERT_SANITIZED("\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80");
    ASSERT_SANITIZED("\xc3", REPLACED);
    ASSERT_SANITIZED("\xc3\x28", REPLACED "(");
    ASSERT_SANITIZED("\xe2\x82", REPLACED REPLACED);
    ASSERT_SANITIZED("\xff\xfe", REPLACED REPLACED);
    ASSERT_SANITIZED("\xc0\xaf", REPLACED REPLACED);                           /* overlong / */
    ASSERT_SANITIZED("\xe0\x80\xaf", REPLACED REPLACED REPLACED);              /* overlong / */
    ASSERT_SANITIZED("\xed\xa0\x80", REPLACED REPLACED REPLACED);              /* a surrogate */
    ASSERT_SANITIZED("\xed\x9f\xbf", "\xed\x9f\xbf");                          /* the last before them */
    ASSERT_SANITIZED("\xf0\x8f\xbf\xbf", REPLACED REPLACED REPLACED REPLACED); /* overlong */
    ASSERT_SANITIZED("\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf");                  /* U+10FFFF */
    ASSERT_SANITIZED("\xf4\x90\x80\x80", REPLACED REPLACED REPLACED REPLACED);
    ASSERT_SANITIZED("\xf5\x80\x80\x80", REPLACED REPLACED REPLACED REPLACED);
}

static void texts_are_cut_between_characters(void **state) {
    (void)state;
    assert_int_equal(text_fit("abc", 3), 3);
    assert_int_equal(text_fit("abc", 2), 2);
    assert_int_equal(text_fit("a\xe2\x82\xac", 4), 4);
    assert_int_equal(text_fit("a\xe2\x82\xac", 3), 1);
    assert_int_equal(text_fit("a\xe2\x82\xac", 1), 1);
    assert_int_equal(text_fit("\xe2\x82\xac", 2), 0);
}

static void integers_of_every_type_are_read(void **state) {
    uint64_t magnitude = 0;
    bool negative = false;
    (void)state;
    const amqp_field_value_t eight[] = {
        {.kind = AMQP_FIELD_KIND_I8, .value.i8 = 7},   {.kind = AMQP_FIELD_KIND_U8, .value.u8 = 7},
        {.kind = AMQP_FIELD_KIND_I16, .value.i16 = 7}, {.kind = AMQP_FIELD_KIND_U16, .value.u16 = 7},
        {.kind = AMQP_FIELD_KIND_I32, .value.i32 = 7}, {.kind = AMQP_FIELD_KIND_U32, .value.u32 = 7},
        {.kind = AMQP_FIELD_KIND_I64, .value.i64 = 7}, {.kind = AMQP_FIELD_KIND_U64, .value.u64 = 7},
    };
    for (size_t i = 0; i < sizeof eight / sizeof eight[0]; i++) {
        assert_true(field_integer(&eight[i], &magnitude, &negative));
        assert_int_equal(magnitude, 7);
        assert_false(negative);
    }
    const amqp_field_value_t least = {.kind = AMQP_FIELD_KIND_I64, .value.i64 = INT64_MIN};
    assert_true(field_integer(&least, &magnitude, &negative));
    assert_true(negative);
    assert_true(magnitude == (uint64_t)1 << 63);
    const amqp_field_value_t flag = {.kind = AMQP_FIELD_KIND_BOOLEAN, .value.boolean = 1};
    assert_false(field_integer(&flag, &magnitude, &negative));
    assert_false(field_integer(NULL, &magnitude, &negative));
}

/* ---- deliveries ---- */

/* Properties as a header frame carries them, encoded and decoded again. */
struct wire {
    amqp_pool_t pool;
    char bytes[64 * 1024];
    amqp_bytes_t raw;
    const amqp_basic_properties_t *properties;
};

static struct wire *wire_new(amqp_basic_properties_t *properties) {
    struct wire *wire = calloc(1, sizeof *wire);
    void *decoded = NULL;
    assert_non_null(wire);
    amqp_bytes_t room = {.len = sizeof wire->bytes, .bytes = wire->bytes};
    int length = amqp_encode_properties(AMQP_BASIC_CLASS, properties, room);
    assert_true(length > 0);
    wire->raw = (amqp_bytes_t){.len = (size_t)length, .bytes = wire->bytes};
    init_amqp_pool(&wire->pool, 4096);
    assert_true(amqp_decode_properties(AMQP_BASIC_CLASS, &wire->pool, wire->raw, &decoded) >= 0);
    wire->properties = decoded;
    return wire;
}

/* The frame's memory is gone once the delivery is made, as it is in the library. */
static void wire_free(struct wire *wire) {
    empty_amqp_pool(&wire->pool);
    memset(wire, 0x5a, sizeof *wire);
    free(wire);
}

static amqp_basic_properties_t full_properties(struct table *headers) {
    table_add_text(headers, "traceparent", "00-1-2-01");
    table_add_text(headers, "tracestate", "a=\xff");
    table_add_integer(headers, "x-portal-generation", 3);
    table_add_text(headers, "x-portal-deadline", "none");
    table_add_integer(headers, "x-delivery-count", 4);
    return (amqp_basic_properties_t){
        ._flags = AMQP_BASIC_MESSAGE_ID_FLAG | AMQP_BASIC_CORRELATION_ID_FLAG | AMQP_BASIC_REPLY_TO_FLAG |
                  AMQP_BASIC_USER_ID_FLAG | AMQP_BASIC_TIMESTAMP_FLAG | AMQP_BASIC_EXPIRATION_FLAG |
                  AMQP_BASIC_TYPE_FLAG | AMQP_BASIC_PRIORITY_FLAG | AMQP_BASIC_HEADERS_FLAG,
        .message_id = amqp_cstring_bytes("m1"),
        .correlation_id = amqp_cstring_bytes("c\xff"),
        .reply_to = amqp_cstring_bytes("q"),
        .user_id = amqp_cstring_bytes("web"),
        .timestamp = 1700000000,
        .expiration = amqp_cstring_bytes("60000"),
        .type = amqp_cstring_bytes("t"),
        .priority = 5,
        .headers = table_view(headers),
    };
}

static struct inbound *full_inbound(const char *body) {
    struct table headers = {.count = 0};
    amqp_basic_properties_t properties = full_properties(&headers);
    struct wire *wire = wire_new(&properties);
    struct inbound *inbound = inbound_new(strlen(body), wire->properties, wire->raw);
    assert_non_null(inbound);
    wire_free(wire);
    inbound_append(inbound, (amqp_bytes_t){.len = strlen(body) / 2, .bytes = (char *)body});
    inbound_append(inbound, amqp_cstring_bytes(body + strlen(body) / 2));
    return inbound;
}

static void a_delivery_has_all_that_was_sent(void **state) {
    (void)state;
    struct inbound *inbound = full_inbound("{\"team_id\":1}");
    const struct delivery *delivery = &inbound->delivery;
    assert_string_equal(delivery->message_id, "m1");
    assert_string_equal(delivery->correlation_id, "c" REPLACED);
    assert_string_equal(delivery->reply_to, "q");
    assert_string_equal(delivery->user_id, "web");
    assert_int_equal(delivery->timestamp, 1700000000);
    assert_string_equal(delivery->traceparent, "00-1-2-01");
    assert_string_equal(delivery->tracestate, "a=" REPLACED);
    assert_string_equal(delivery->generation, "3");
    assert_string_equal(delivery->deadline, "none");
    assert_int_equal(delivery->delivery_count, 4);
    assert_false(delivery->oversized);
    assert_int_equal(delivery->body_size, 13);
    assert_int_equal(delivery->body_length, 13);
    assert_memory_equal(delivery->body, "{\"team_id\":1}", 13);
    free(inbound);
}

static void a_delivery_without_properties_has_none(void **state) {
    amqp_basic_properties_t properties = {0};
    (void)state;
    struct wire *wire = wire_new(&properties);
    struct inbound *inbound = inbound_new(0, wire->properties, wire->raw);
    assert_non_null(inbound);
    wire_free(wire);
    assert_null(inbound->delivery.message_id);
    assert_null(inbound->delivery.correlation_id);
    assert_null(inbound->delivery.reply_to);
    assert_null(inbound->delivery.user_id);
    assert_null(inbound->delivery.traceparent);
    assert_null(inbound->delivery.generation);
    assert_null(inbound->delivery.deadline);
    assert_int_equal(inbound->delivery.timestamp, 0);
    assert_int_equal(inbound->delivery.delivery_count, 0);
    assert_non_null(inbound->delivery.body);
    assert_int_equal(inbound->delivery.body_length, 0);
    free(inbound);
}

static void headers_of_the_wrong_type_are_texts_that_say_so(void **state) {
    struct table headers = {.count = 0};
    (void)state;
    table_add_text(&headers, "x-portal-generation", "2");
    table_add_integer(&headers, "x-portal-deadline", 5);
    table_add_integer(&headers, "x-delivery-count", -1);
    table_add_integer(&headers, "traceparent", 1);
    amqp_basic_properties_t properties = {._flags = AMQP_BASIC_HEADERS_FLAG, .headers = table_view(&headers)};
    struct wire *wire = wire_new(&properties);
    struct inbound *inbound = inbound_new(0, wire->properties, wire->raw);
    assert_non_null(inbound);
    wire_free(wire);
    assert_string_equal(inbound->delivery.generation, "not an integer");
    assert_string_equal(inbound->delivery.deadline, "not a text");
    assert_int_equal(inbound->delivery.delivery_count, 0);
    assert_null(inbound->delivery.traceparent);
    free(inbound);
}

static void a_body_at_the_limit_is_kept_and_one_over_it_is_not(void **state) {
    static char body[DELIVERY_BODY_MAX + 1];
    amqp_basic_properties_t properties = {._flags = AMQP_BASIC_MESSAGE_ID_FLAG, .message_id = amqp_cstring_bytes("m")};
    (void)state;
    for (size_t size = DELIVERY_BODY_MAX; size <= DELIVERY_BODY_MAX + 1; size++) {
        struct wire *wire = wire_new(&properties);
        struct inbound *inbound = inbound_new(size, wire->properties, wire->raw);
        assert_non_null(inbound);
        wire_free(wire);
        inbound_append(inbound, (amqp_bytes_t){.len = size, .bytes = body});
        assert_int_equal(inbound->delivery.oversized, size > DELIVERY_BODY_MAX);
        assert_int_equal(inbound->delivery.body_length, size > DELIVERY_BODY_MAX ? 0 : size);
        assert_int_equal(inbound->delivery.body_size, size);
        assert_string_equal(inbound->delivery.message_id, "m");
        free(inbound);
    }
}

static void properties_over_the_limit_are_not_kept_but_for_the_few(void **state) {
    static char long_text[DELIVERY_PROPERTIES_MAX + 1];
    struct table headers = {.count = 0};
    (void)state;
    memset(long_text, 'x', sizeof long_text - 1);
    table_add_text(&headers, "long", long_text);
    amqp_basic_properties_t properties = full_properties(&headers);
    struct wire *wire = wire_new(&properties);
    struct inbound *inbound = inbound_new(1, wire->properties, wire->raw);
    assert_non_null(inbound);
    wire_free(wire);
    assert_true(inbound->delivery.oversized);
    assert_null(inbound->delivery.body);
    assert_string_equal(inbound->delivery.message_id, "m1");
    assert_string_equal(inbound->delivery.reply_to, "q");
    assert_int_equal(inbound->delivery.delivery_count, 4);
    assert_null(inbound->delivery.traceparent);
    struct publication publication = {.delivery = &inbound->delivery, .body = "{}", .body_length = 2};
    struct reply reply = reply_of(&publication);
    assert_int_equal(reply.correlation_id.len, 2);
    assert_memory_equal(reply.correlation_id.bytes, "c\xff", 2);
    free(inbound);
}

/* ---- messages ---- */

static void assert_bytes(amqp_bytes_t bytes, const char *expected) {
    assert_non_null(bytes.bytes);
    assert_int_equal(bytes.len, strlen(expected));
    assert_memory_equal(bytes.bytes, expected, bytes.len);
}

static int64_t header_integer(const amqp_basic_properties_t *properties, const char *key) {
    uint64_t magnitude = 0;
    bool negative = false;
    assert_true(field_integer(table_find(&properties->headers, key), &magnitude, &negative));
    return negative ? -(int64_t)magnitude : (int64_t)magnitude;
}

static void a_reply_echoes_what_was_sent_byte_by_byte(void **state) {
    struct message message;
    (void)state;
    struct inbound *inbound = full_inbound("{}");
    struct publication publication = {
        .delivery = &inbound->delivery, .body = "{\"a\":1}", .body_length = 7, .expiration_ms = 240000};
    struct reply reply = reply_of(&publication);
    message_from_reply(&message, &reply, 42);
    assert_bytes(message.routing_key, "q");
    assert_true(message.mandatory);
    assert_bytes(message.body, "{\"a\":1}");
    assert_bytes(message.properties.correlation_id, "c\xff");
    assert_bytes(message.properties.content_type, "application/json");
    assert_bytes(message.properties.type, "portal_session.reply");
    assert_bytes(message.properties.app_id, "portal-worker");
    assert_bytes(message.properties.expiration, "240000");
    assert_int_equal(message.properties.delivery_mode, 2);
    assert_bytes(field_bytes(table_find(&message.properties.headers, "traceparent")), "00-1-2-01");
    assert_bytes(field_bytes(table_find(&message.properties.headers, "tracestate")), "a=\xff");
    assert_int_equal(header_integer(&message.properties, HEADER_SEQUENCE), 42);
    assert_false(message.properties._flags & (AMQP_BASIC_USER_ID_FLAG | AMQP_BASIC_REPLY_TO_FLAG));
    message_clear(&message);
    free(inbound);
}

static struct reply reply_to(const char *queue, char *buffer, size_t size) {
    struct inbound inbound = {.delivery.reply_to = queue};
    struct publication publication = {.delivery = &inbound.delivery, .body = "", .body_length = 0};
    struct reply reply = reply_of(&publication);
    assert_true(reply.routing_key.len < size);
    memcpy(buffer, reply.routing_key.bytes, reply.routing_key.len);
    buffer[reply.routing_key.len] = '\0';
    reply.routing_key.bytes = buffer;
    return reply;
}

static void replies_go_to_the_right_queue(void **state) {
    struct message message;
    char long_name[300];
    char buffer[300];
    (void)state;
    memset(long_name, 'q', 256);
    long_name[256] = '\0';

    struct reply reply = reply_to(NULL, buffer, sizeof buffer);
    assert_string_equal(buffer, "portal.replies");
    reply = reply_to(long_name, buffer, sizeof buffer); /* no queue can have it */
    assert_string_equal(buffer, "");
    reply = reply_to(long_name + 1, buffer, sizeof buffer);
    assert_string_equal(buffer, long_name + 1);
    reply = reply_to("amq.rabbitmq.reply-to.x.y", buffer, sizeof buffer);
    message_from_reply(&message, &reply, 1);
    assert_false(message.mandatory);
    reply = reply_to("amq.rabbitmq.reply-to", buffer, sizeof buffer);
    message_from_reply(&message, &reply, 1);
    assert_true(message.mandatory);
}

static void a_dead_letter_carries_the_message_and_keeps_what_would_harm_apart(void **state) {
    struct message message;
    (void)state;
    struct inbound *inbound = full_inbound("not json");
    char error[2000];
    memset(error, 'e', sizeof error - 1);
    error[sizeof error - 1] = '\0';
    struct dead_letter letter = {.reason = "invalid_request",
                                 .error = error,
                                 .attempts = 3,
                                 .first_at = 1700000000123456,
                                 .last_at = 1700000060000000,
                                 .next_generation = 2};
    struct publication publication = {.delivery = &inbound->delivery, .letter = &letter};
    assert_int_equal(message_from_letter(&message, &publication, "host:1:2", 7), 0);
    const amqp_basic_properties_t *properties = &message.properties;
    assert_bytes(message.routing_key, "portal.dead");
    assert_true(message.mandatory);
    assert_bytes(message.body, "not json");
    assert_bytes(properties->message_id, "m1");
    assert_bytes(properties->correlation_id, "c\xff");
    assert_bytes(properties->reply_to, "q");
    assert_int_equal(properties->timestamp, 1700000000);
    assert_false(properties->_flags & (AMQP_BASIC_USER_ID_FLAG | AMQP_BASIC_EXPIRATION_FLAG));
    assert_bytes(field_bytes(table_find(&properties->headers, "x-portal-reason")), "invalid_request");
    assert_int_equal(field_bytes(table_find(&properties->headers, "x-portal-error")).len, 1024);
    assert_bytes(field_bytes(table_find(&properties->headers, "x-portal-first-time")), "2023-11-14T22:13:20.123Z");
    assert_bytes(field_bytes(table_find(&properties->headers, "x-portal-last-time")), "2023-11-14T22:14:20.000Z");
    assert_bytes(field_bytes(table_find(&properties->headers, "x-portal-worker")), "host:1:2");
    assert_int_equal(header_integer(properties, "x-portal-attempts"), 3);
    assert_int_equal(header_integer(properties, "x-portal-next-generation"), 2);
    assert_int_equal(header_integer(properties, HEADER_SEQUENCE), 7);
    assert_null(table_find(&properties->headers, "traceparent"));

    const amqp_field_value_t *original = table_find(&properties->headers, "x-portal-original");
    assert_non_null(original);
    assert_int_equal(original->kind, AMQP_FIELD_KIND_TABLE);
    assert_bytes(field_bytes(table_find(&original->value.table, "user_id")), "web");
    assert_bytes(field_bytes(table_find(&original->value.table, "expiration")), "60000");
    assert_bytes(field_bytes(table_find(&original->value.table, "type")), "t");
    const amqp_field_value_t *headers = table_find(&original->value.table, "headers");
    assert_non_null(headers);
    assert_bytes(field_bytes(table_find(&headers->value.table, "tracestate")), "a=\xff");
    message_clear(&message);
    free(inbound);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(urls_have_their_parts),
        cmocka_unit_test(url_parameters_are_read),
        cmocka_unit_test(wrong_urls_are_refused_without_telling_the_password),
        cmocka_unit_test(texts_become_utf8_without_nuls),
        cmocka_unit_test(texts_are_cut_between_characters),
        cmocka_unit_test(integers_of_every_type_are_read),
        cmocka_unit_test(a_delivery_has_all_that_was_sent),
        cmocka_unit_test(a_delivery_without_properties_has_none),
        cmocka_unit_test(headers_of_the_wrong_type_are_texts_that_say_so),
        cmocka_unit_test(a_body_at_the_limit_is_kept_and_one_over_it_is_not),
        cmocka_unit_test(properties_over_the_limit_are_not_kept_but_for_the_few),
        cmocka_unit_test(a_reply_echoes_what_was_sent_byte_by_byte),
        cmocka_unit_test(replies_go_to_the_right_queue),
        cmocka_unit_test(a_dead_letter_carries_the_message_and_keeps_what_would_harm_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
