/* The command line, and the life of the process. */
#include "emulator.h"
#include "server.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

static const char help[] =
    "Usage: stripe-emulator [OPTION]...\n"
    "Behaves like Stripe for customer-portal sessions, so that tests need no account.\n"
    "\n"
    "  --listen HOST:PORT        serve HTTP there (default 127.0.0.1:12111; port 0: a free one)\n"
    "  --tls-listen HOST:PORT    serve HTTPS there, with\n"
    "  --tls-certificate FILE      this certificate (PEM) and\n"
    "  --tls-key FILE              this key (PEM)\n"
    "  --data FILE               customers, products, prices, configurations to begin with (JSON)\n"
    "  --api-key KEY             accept this key; may be given again (default: all that look like one)\n"
    "  --session-seconds N       how long a portal URL works (default 300)\n"
    "  --threads N               threads for each listener, 2 to 64 (default 2)\n"
    "  --help                    this text\n"
    "\n"
    "Prints a line `listening URL` for each listener once it serves. SIGTERM ends it.\n"
    "Tests arrange and look under /_emulator/; tests/stripe-emulator/README.md describes that.\n";

struct arguments {
    const char *listen;
    const char *tls_listen;
    const char *tls_certificate;
    const char *tls_key;
    const char *data;
    json_t *keys; /* owned, NULL: none given */
    long session_seconds;
    long threads;
    bool help;
};

static int main_number(const char *option, const char *text, long least, long most, long *number) {
    char *end;

    errno = 0;
    *number = strtol(text, &end, 10);
    if (errno != 0 || end == text || *end || *number < least || *number > most) {
        (void)fprintf(stderr, "stripe-emulator: --%s: a number from %ld to %ld\n", option, least, most);
        return -EINVAL;
    }
    return 0;
}

static int main_option(struct arguments *arguments, const char *name, const char *value) {
    const struct {
        const char *name;
        const char **value;
    } texts[] = {
        {"listen", &arguments->listen},
        {"tls-listen", &arguments->tls_listen},
        {"tls-certificate", &arguments->tls_certificate},
        {"tls-key", &arguments->tls_key},
        {"data", &arguments->data},
    };

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (strcmp(name, texts[i].name) == 0) {
            *texts[i].value = value;
            return 0;
        }
    }
    if (strcmp(name, "help") == 0) {
        arguments->help = true;
        return 0;
    }
    if (strcmp(name, "session-seconds") == 0) {
        return main_number(name, value, 0, 1000000, &arguments->session_seconds);
    }
    if (strcmp(name, "threads") == 0) {
        return main_number(name, value, 2, 64, &arguments->threads);
    }
    json_t *key = json_string(value);

    if (!key) {
        (void)fputs("stripe-emulator: --api-key: not UTF-8\n", stderr);
        return -EINVAL;
    }
    arguments->keys = arguments->keys ? arguments->keys : json_array();
    json_array_append_new(arguments->keys, key);
    return 0;
}

static int main_arguments(int argc, char **argv, struct arguments *arguments) {
    static const struct option options[] = {
        {"listen", required_argument, NULL, 'o'},
        {"tls-listen", required_argument, NULL, 'o'},
        {"tls-certificate", required_argument, NULL, 'o'},
        {"tls-key", required_argument, NULL, 'o'},
        {"data", required_argument, NULL, 'o'},
        {"api-key", required_argument, NULL, 'o'},
        {"session-seconds", required_argument, NULL, 'o'},
        {"threads", required_argument, NULL, 'o'},
        {"help", no_argument, NULL, 'o'},
        {NULL, 0, NULL, 0},
    };
    int index = 0;
    int c;

    *arguments = (struct arguments){.session_seconds = 300, .threads = 2};
    while ((c = getopt_long(argc, argv, "", options, &index)) != -1) {
        if (c != 'o' || main_option(arguments, options[index].name, optarg) < 0) {
            return -EINVAL;
        }
    }
    if (optind < argc) {
        (void)fprintf(stderr, "stripe-emulator: what is %s? See --help.\n", argv[optind]);
        return -EINVAL;
    }
    if ((arguments->tls_listen != NULL) != (arguments->tls_certificate != NULL) ||
        (arguments->tls_listen != NULL) != (arguments->tls_key != NULL)) {
        (void)fputs("stripe-emulator: --tls-listen, --tls-certificate and --tls-key go together\n", stderr);
        return -EINVAL;
    }
    if (!arguments->listen && !arguments->tls_listen) {
        arguments->listen = "127.0.0.1:12111";
    }
    return 0;
}

static int main_load(struct emulator *emulator, const char *file) {
    json_error_t error;
    _cleanup_json_ json_t *data = json_load_file(file, 0, &error);
    _cleanup_free_ char *wrong = NULL;

    if (!data) {
        (void)fprintf(stderr, "stripe-emulator: %s:%d: %s\n", file, error.line, error.text);
        return -EINVAL;
    }
    if (objects_merge(&emulator->objects, data, &wrong) < 0) {
        (void)fprintf(stderr, "stripe-emulator: %s: %s\n", file, wrong);
        return -EINVAL;
    }
    return 0;
}

enum { PEM_MAX = 65536 /* bytes of a certificate or key */ };

/* A whole small file, or NULL. The caller frees it. */
static char *main_read(const char *file) {
    FILE *in = fopen(file, "re");
    char *text = memory_get(PEM_MAX + 1);
    size_t length = in ? fread(text, 1, PEM_MAX, in) : 0;

    if (!in || ferror(in) || length == 0) {
        (void)fprintf(stderr, "stripe-emulator: %s: cannot be read\n", file);
        free(text);
        text = NULL;
    }
    if (in) {
        (void)fclose(in);
    }
    return text;
}

static struct server *main_start(struct emulator *emulator, const struct server_options *options) {
    _cleanup_free_ char *error = NULL;
    struct server *server = server_start(emulator, options, &error);

    if (!server) {
        (void)fprintf(stderr, "stripe-emulator: %s\n", error);
    }
    return server;
}

/* Starts what is asked for. 0, or -EINVAL, with what did start in `servers`. */
static int main_serve(struct emulator *emulator, const struct arguments *arguments, struct server *servers[2]) {
    struct server_options plain = {.address = arguments->listen, .threads = (unsigned)arguments->threads};

    if (arguments->listen && !(servers[0] = main_start(emulator, &plain))) {
        return -EINVAL;
    }
    if (arguments->tls_listen) {
        _cleanup_free_ char *certificate = main_read(arguments->tls_certificate);
        _cleanup_free_ char *key = main_read(arguments->tls_key);
        struct server_options tls = {.address = arguments->tls_listen,
                                     .threads = (unsigned)arguments->threads,
                                     .certificate = certificate,
                                     .key = key};

        if (!certificate || !key || !(servers[1] = main_start(emulator, &tls))) {
            return -EINVAL;
        }
    }
    return 0;
}

static void main_wait(struct server *servers[2], const sigset_t *ends) {
    int signal;

    for (size_t i = 0; i < 2; i++) {
        if (servers[i]) {
            (void)printf("listening %s\n", server_url(servers[i]));
        }
    }
    (void)fflush(stdout);
    (void)sigwait(ends, &signal);
}

/* As many files as the system lets us have: each connection is one. */
static void main_raise_limits(void) {
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
}

/* The signals that end it are waited for, so no thread may take them; a lost client is no reason to end. */
static void main_block_signals(sigset_t *ends) {
    (void)sigemptyset(ends);
    (void)sigaddset(ends, SIGTERM);
    (void)sigaddset(ends, SIGINT);
    (void)pthread_sigmask(SIG_BLOCK, ends, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
}

int main(int argc, char **argv) {
    struct arguments arguments;
    struct server *servers[2] = {NULL, NULL};
    sigset_t ends;

    memory_serve_jansson();
    if (main_arguments(argc, argv, &arguments) < 0) {
        json_decref(arguments.keys);
        return 2;
    }
    if (arguments.help) {
        json_decref(arguments.keys);
        return fputs(help, stdout) < 0;
    }
    struct emulator *emulator = memory_get(sizeof *emulator);

    main_raise_limits();
    main_block_signals(&ends);
    emulator_begin(emulator, arguments.keys, arguments.session_seconds);
    int r = arguments.data ? main_load(emulator, arguments.data) : 0;

    if (r == 0) {
        r = main_serve(emulator, &arguments, servers);
    }
    if (r == 0) {
        main_wait(servers, &ends);
    }
    timers_end(&emulator->timers);
    server_stop(servers[0]);
    server_stop(servers[1]);
    emulator_done(emulator);
    free(emulator);
    json_decref(arguments.keys);
    return r < 0 ? 1 : 0;
}
