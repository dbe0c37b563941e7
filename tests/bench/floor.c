/* floor.c — what the machine allows: the worker's hot path alone, with nothing that makes it safe.
 *
 * It takes requests from portal.requests, looks many teams up at once, POSTs a session for each, inserts many at once,
 * publishes replies with confirms and acknowledges. Any trouble ends it. Its settings are the worker's: AMQP_URL,
 * DATABASE_URL, STRIPE_API_BASE, STRIPE_SECRET_KEY, BASE_URL, PORTAL_CONCURRENCY, PORTAL_CONFIGURATION (a bpc_…). It
 * wants a table floor_sessions (request_id, team_id, session_id, url, configuration). */
#include <amqp.h>
#include <amqp_tcp_socket.h>
#include <curl/curl.h>
#include <jansson.h>
#include <libpq-fe.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { JOBS_MAX = 4096, TEXT_MAX = 256, ANSWER_MAX = 8192, CHANNEL = 1, COLUMNS = 5 };

struct job {
    uint64_t tag;
    long team;
    char id[TEXT_MAX], correlation_id[TEXT_MAX], reply_to[TEXT_MAX];
    char customer[TEXT_MAX], session[TEXT_MAX], url[TEXT_MAX];
    char key[TEXT_MAX];
    struct curl_slist key_line;
    CURL *easy;
    char answer[ANSWER_MAX];
    size_t length;
    struct job *next; /* free */
};

/* A text that grows; its room is kept. */
struct text {
    char *at;
    size_t length, size;
};

struct pile {
    struct job *jobs[JOBS_MAX];
    size_t count;
};

static struct {
    amqp_connection_state_t amqp;
    CURLM *multi;
    PGconn *database;
    struct curl_slist *headers;
    char url[TEXT_MAX];
    const char *configuration;
    char *return_url; /* escaped */
    struct job *free;
    struct pile to_look_up, to_save;
    struct job *published[JOBS_MAX]; /* by sequence number */
    uint64_t sequence, confirmed;
} worker;

static void must(bool right, const char *what) {
    if (right)
        return;
    (void)fprintf(stderr, "floor: %s failed: %s\n", what, worker.database ? PQerrorMessage(worker.database) : "");
    exit(1);
}

static char *setting(const char *name) {
    char *value = getenv(name);
    must(value != NULL, name);
    return value;
}

static void put(struct text *text, const char *format, ...) {
    va_list arguments;
    const size_t most = (size_t)2 * TEXT_MAX; /* that one call appends */
    if (text->size - text->length < most) {
        text->size = 2 * (text->size + most);
        text->at = realloc(text->at, text->size);
        must(text->at != NULL, "memory");
    }
    va_start(arguments, format);
    text->length += (size_t)vsnprintf(text->at + text->length, text->size - text->length, format, arguments);
    va_end(arguments);
}

static void copy(char to[static TEXT_MAX], const char *from, size_t length) {
    must(from && length < TEXT_MAX, "reading a text");
    memcpy(to, from, length);
    to[length] = '\0';
}

static void copy_member(char to[static TEXT_MAX], const json_t *object, const char *name) {
    const json_t *value = json_object_get(object, name);
    copy(to, json_string_value(value), json_string_length(value));
}

/* ---- the broker ---- */

static struct job *job_take(void) {
    struct job *job = worker.free;
    if (!job) {
        job = calloc(1, sizeof *job);
        must(job && (job->easy = curl_easy_init()), "memory");
        return job;
    }
    worker.free = job->next;
    return job;
}

static void deliver(uint64_t tag) {
    amqp_message_t message;
    must(amqp_read_message(worker.amqp, CHANNEL, &message, 0).reply_type == AMQP_RESPONSE_NORMAL, "reading");
    struct job *job = job_take();
    job->tag = tag;
    json_t *request = json_loadb(message.body.bytes, message.body.len, 0, NULL);
    copy_member(job->id, request, "request_id");
    job->team = (long)json_integer_value(json_object_get(request, "team_id"));
    json_decref(request);
    copy(job->reply_to, message.properties.reply_to.bytes, message.properties.reply_to.len);
    copy(job->correlation_id, message.properties.correlation_id.bytes, message.properties.correlation_id.len);
    amqp_destroy_message(&message);
    worker.to_look_up.jobs[worker.to_look_up.count++] = job;
}

static void publish(struct job *job) {
    char body[4 * TEXT_MAX];
    int length = snprintf(body, sizeof body, "{\"request_id\": \"%s\", \"url\": \"%s\", \"id\": \"%s\"}", job->id,
                          job->url, job->session);
    amqp_basic_properties_t properties = {
        ._flags = AMQP_BASIC_CORRELATION_ID_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG,
        .correlation_id = amqp_cstring_bytes(job->correlation_id),
        .delivery_mode = AMQP_DELIVERY_PERSISTENT,
    };
    must(amqp_basic_publish(worker.amqp, CHANNEL, amqp_empty_bytes, amqp_cstring_bytes(job->reply_to), true, false,
                            &properties, (amqp_bytes_t){(size_t)length, body}) == AMQP_STATUS_OK,
         "publishing");
    worker.published[++worker.sequence % JOBS_MAX] = job;
}

static void confirm(uint64_t sequence) {
    struct job **place = &worker.published[sequence % JOBS_MAX];
    struct job *job = *place;
    if (!job)
        return;
    must(amqp_basic_ack(worker.amqp, CHANNEL, job->tag, false) == AMQP_STATUS_OK, "acknowledging");
    *place = NULL;
    job->next = worker.free;
    worker.free = job;
}

static void read_broker(void) {
    while (worker.to_look_up.count < JOBS_MAX) {
        amqp_frame_t frame;
        struct timeval none = {0};
        int status = amqp_simple_wait_frame_noblock(worker.amqp, &frame, &none);
        if (status == AMQP_STATUS_TIMEOUT)
            return;
        must(status == AMQP_STATUS_OK && frame.frame_type == AMQP_FRAME_METHOD, "reading from the broker");
        if (frame.payload.method.id == AMQP_BASIC_ACK_METHOD) {
            const amqp_basic_ack_t *ack = frame.payload.method.decoded;
            for (uint64_t i = ack->multiple ? worker.confirmed + 1 : ack->delivery_tag; i <= ack->delivery_tag; i++)
                confirm(i);
            if (ack->multiple)
                worker.confirmed = ack->delivery_tag;
        } else {
            must(frame.payload.method.id == AMQP_BASIC_DELIVER_METHOD, "a delivery or a confirm");
            deliver(((const amqp_basic_deliver_t *)frame.payload.method.decoded)->delivery_tag);
        }
        amqp_maybe_release_buffers(worker.amqp);
    }
}

/* ---- Stripe ---- */

static size_t on_answer(char *data, size_t size, size_t count, void *userdata) {
    struct job *job = userdata;
    must(job->length + size * count < ANSWER_MAX, "room for an answer");
    memcpy(job->answer + job->length, data, size * count);
    job->length += size * count;
    return size * count;
}

static void post(struct job *job) {
    char form[4 * TEXT_MAX];
    (void)snprintf(form, sizeof form, "customer=%s&configuration=%s&return_url=%s", job->customer, worker.configuration,
                   worker.return_url);
    (void)snprintf(job->key, sizeof job->key, "Idempotency-Key: %.200s", job->id);
    job->key_line = (struct curl_slist){job->key, worker.headers};
    job->length = 0;
    CURL *easy = job->easy;
    must(curl_easy_setopt(easy, CURLOPT_URL, worker.url) == CURLE_OK &&
             curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
             curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_answer) == CURLE_OK &&
             curl_easy_setopt(easy, CURLOPT_WRITEDATA, job) == CURLE_OK &&
             curl_easy_setopt(easy, CURLOPT_PRIVATE, job) == CURLE_OK &&
             curl_easy_setopt(easy, CURLOPT_HTTPHEADER, &job->key_line) == CURLE_OK &&
             curl_easy_setopt(easy, CURLOPT_COPYPOSTFIELDS, form) == CURLE_OK &&
             curl_multi_add_handle(worker.multi, easy) == CURLM_OK,
         "calling Stripe");
}

static void read_stripe(void) {
    int running = 0;
    int left = 0;
    const CURLMsg *message = NULL;
    must(curl_multi_perform(worker.multi, &running) == CURLM_OK, "calling Stripe");
    while ((message = curl_multi_info_read(worker.multi, &left))) {
        struct job *job = NULL;
        must(message->data.result == CURLE_OK &&
                 curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&job) == CURLE_OK &&
                 curl_multi_remove_handle(worker.multi, message->easy_handle) == CURLM_OK,
             "a call to Stripe");
        json_t *session = json_loadb(job->answer, job->length, 0, NULL);
        copy_member(job->session, session, "id");
        copy_member(job->url, session, "url");
        json_decref(session);
        worker.to_save.jobs[worker.to_save.count++] = job;
    }
}

/* ---- PostgreSQL ---- */

static void look_up(void) {
    static struct text teams;
    struct pile *pile = &worker.to_look_up;
    if (pile->count == 0)
        return;
    teams.length = 0;
    for (size_t i = 0; i < pile->count; i++)
        put(&teams, "%c%ld", i ? ',' : '{', pile->jobs[i]->team);
    put(&teams, "}");
    const char *values[] = {teams.at};
    PGresult *result = PQexecPrepared(worker.database, "look up", 1, values, NULL, NULL, 0);
    must(PQntuples(result) == (int)pile->count, "looking teams up");
    for (size_t i = 0; i < pile->count; i++) {
        const char *customer = PQgetvalue(result, (int)i, 0);
        copy(pile->jobs[i]->customer, customer, strlen(customer));
        post(pile->jobs[i]);
    }
    PQclear(result);
    pile->count = 0;
}

static void save(void) {
    static struct text texts[COLUMNS];
    struct pile *pile = &worker.to_save;
    const char *values[COLUMNS];
    if (pile->count == 0)
        return;
    for (int column = 0; column < COLUMNS; column++)
        texts[column].length = 0;
    for (size_t i = 0; i < pile->count; i++) {
        const struct job *job = pile->jobs[i];
        char before = i ? ',' : '{';
        put(&texts[0], "%c%s", before, job->id);
        put(&texts[1], "%c%ld", before, job->team);
        put(&texts[2], "%c%s", before, job->session);
        put(&texts[3], "%c\"%s\"", before, job->url);
        put(&texts[4], "%c%s", before, worker.configuration);
    }
    for (int column = 0; column < COLUMNS; column++) {
        put(&texts[column], "}");
        values[column] = texts[column].at;
    }
    PGresult *result = PQexecPrepared(worker.database, "save", COLUMNS, values, NULL, NULL, 0);
    must(PQresultStatus(result) == PGRES_COMMAND_OK, "saving");
    PQclear(result);
    for (size_t i = 0; i < pile->count; i++)
        publish(pile->jobs[i]);
    pile->count = 0;
}

/* ---- its life ---- */

static void open_broker(int prefetch) {
    struct amqp_connection_info info;
    must(amqp_parse_url(setting("AMQP_URL"), &info) == AMQP_STATUS_OK, "reading AMQP_URL");
    worker.amqp = amqp_new_connection();
    amqp_socket_t *socket = amqp_tcp_socket_new(worker.amqp);
    must(socket && amqp_socket_open(socket, info.host, info.port) == AMQP_STATUS_OK, "connecting to the broker");
    must(amqp_login(worker.amqp, info.vhost, 0, AMQP_DEFAULT_FRAME_SIZE, 0, AMQP_SASL_METHOD_PLAIN, info.user,
                    info.password)
                 .reply_type == AMQP_RESPONSE_NORMAL,
         "logging in");
    must(amqp_channel_open(worker.amqp, CHANNEL) && amqp_confirm_select(worker.amqp, CHANNEL) &&
             amqp_basic_qos(worker.amqp, CHANNEL, 0, (uint16_t)prefetch, false) &&
             amqp_basic_consume(worker.amqp, CHANNEL, amqp_cstring_bytes("portal.requests"), amqp_empty_bytes, false,
                                false, false, amqp_empty_table),
         "consuming");
}

static void open_stripe(long most) {
    char line[TEXT_MAX];
    must(curl_global_init(CURL_GLOBAL_ALL) == CURLE_OK && (worker.multi = curl_multi_init()) &&
             curl_multi_setopt(worker.multi, CURLMOPT_MAXCONNECTS, most) == CURLM_OK,
         "libcurl");
    (void)snprintf(line, sizeof line, "Authorization: Bearer %s", setting("STRIPE_SECRET_KEY"));
    worker.headers = curl_slist_append(NULL, line);
    (void)snprintf(worker.url, sizeof worker.url, "%s/v1/billing_portal/sessions", setting("STRIPE_API_BASE"));
    (void)snprintf(line, sizeof line, "%s/dashboard", setting("BASE_URL"));
    worker.return_url = curl_easy_escape(NULL, line, 0);
    worker.configuration = setting("PORTAL_CONFIGURATION");
    must(worker.headers && worker.return_url, "memory");
}

static void prepare(const char *name, const char *sql) {
    PGresult *result = PQprepare(worker.database, name, sql, 0, NULL);
    must(PQresultStatus(result) == PGRES_COMMAND_OK, "preparing");
    PQclear(result);
}

static void open_database(void) {
    worker.database = PQconnectdb(setting("DATABASE_URL"));
    prepare("look up", "SELECT t.stripe_customer_id FROM unnest($1::int[]) WITH ORDINALITY AS u (id, position)"
                       " JOIN teams AS t ON t.id = u.id ORDER BY u.position");
    prepare("save", "INSERT INTO floor_sessions (request_id, team_id, session_id, url, configuration)"
                    " SELECT * FROM unnest($1::text[], $2::int[], $3::text[], $4::text[], $5::text[])"
                    " ON CONFLICT DO NOTHING");
}

int main(void) {
    int in_flight = (int)strtol(setting("PORTAL_CONCURRENCY"), NULL, 10);
    must(in_flight > 0 && in_flight < JOBS_MAX, "reading PORTAL_CONCURRENCY");
    open_database();
    open_stripe(in_flight);
    open_broker(in_flight);
    struct curl_waitfd broker = {.fd = amqp_get_sockfd(worker.amqp), .events = CURL_WAIT_POLLIN};
    for (;;) {
        read_broker();
        look_up();
        read_stripe();
        save();
        if (!amqp_frames_enqueued(worker.amqp) && !amqp_data_in_buffer(worker.amqp))
            must(curl_multi_poll(worker.multi, &broker, 1, 1000, NULL) == CURLM_OK, "waiting");
    }
}
