/* store-values.c — values on their way to and from PostgreSQL, in its binary form
 * (postgresql.org/docs/15/protocol-message-types.html, and src/backend/utils/adt/arrayfuncs.c, array_recv(), for
 * arrays). */
#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "store-internal.h"

/* src/include/catalog/pg_type.dat; these never change. */
enum { OID_BOOL = 16, OID_INT8 = 20, OID_TEXT = 25 };

/* What one value may be long at most: what PostgreSQL takes in one message, less some room for the rest of it. */
enum { PARAMETER_MAX = 256 * 1024 * 1024 };

void parameters_reset(struct parameters *parameters) {
    parameters->length = 0;
    parameters->count = 0;
    parameters->failed = false;
}

void parameters_free(struct parameters *parameters) {
    free(parameters->data);
    *parameters = (struct parameters){0};
}

static void append(struct parameters *parameters, const void *bytes, size_t length) {
    if (parameters->failed || length == 0)
        return;
    if (length > PARAMETER_MAX || parameters->length > PARAMETER_MAX - length) {
        parameters->failed = true;
        return;
    }
    if (parameters->length + length > parameters->size) {
        size_t size = parameters->size > 0 ? parameters->size : 4096;
        while (size < parameters->length + length)
            size *= 2;
        char *data = realloc(parameters->data, size);
        if (!data) {
            parameters->failed = true;
            return;
        }
        parameters->data = data;
        parameters->size = size;
    }
    memcpy(parameters->data + parameters->length, bytes, length);
    parameters->length += length;
}

static void append_int4(struct parameters *parameters, int32_t value) {
    uint32_t bytes = htobe32((uint32_t)value);
    append(parameters, &bytes, sizeof bytes);
}

static void append_int8(struct parameters *parameters, int64_t value) {
    uint64_t bytes = htobe64((uint64_t)value);
    append(parameters, &bytes, sizeof bytes);
}

static void begin(struct parameters *parameters) {
    assert(parameters->count < PARAMETERS_MAX);
    parameters->begins[parameters->count] = parameters->length;
    parameters->nulls[parameters->count] = false;
    parameters->count++;
}

void parameter_bool(struct parameters *parameters, bool value) {
    begin(parameters);
    append(parameters, &(char){(char)value}, 1);
}

void parameter_int8(struct parameters *parameters, int64_t value) {
    begin(parameters);
    append_int8(parameters, value);
}

void parameter_bytes(struct parameters *parameters, const void *value, size_t length) {
    begin(parameters);
    if (value)
        append(parameters, value, length);
    else
        parameters->nulls[parameters->count - 1] = true;
}

void parameter_text(struct parameters *parameters, const char *value) {
    parameter_bytes(parameters, value, value ? strlen(value) : 0);
}

void parameter_array(struct parameters *parameters, enum parameter_type type, size_t count) {
    static const int32_t oids[] = {
        [PARAMETER_BOOL] = OID_BOOL, [PARAMETER_INT8] = OID_INT8, [PARAMETER_TEXT] = OID_TEXT};
    assert(count <= INT_MAX);
    begin(parameters);
    append_int4(parameters, count > 0 ? 1 : 0);      /* dimensions */
    append_int4(parameters, type == PARAMETER_TEXT); /* whether there may be NULLs */
    append_int4(parameters, oids[type]);
    if (count > 0) {
        append_int4(parameters, (int32_t)count);
        append_int4(parameters, 1); /* the first element's number */
    }
}

void element_bool(struct parameters *parameters, bool value) {
    append_int4(parameters, 1);
    append(parameters, &(char){(char)value}, 1);
}

void element_int8(struct parameters *parameters, int64_t value) {
    append_int4(parameters, sizeof value);
    append_int8(parameters, value);
}

void element_text(struct parameters *parameters, const char *value) {
    size_t length = value ? strlen(value) : 0;
    if (length > PARAMETER_MAX) {
        parameters->failed = true;
        return;
    }
    append_int4(parameters, value ? (int32_t)length : -1);
    append(parameters, value, length);
}

int parameters_send(const struct parameters *parameters, PGconn *connection, const char *statement) {
    const char *values[PARAMETERS_MAX];
    int lengths[PARAMETERS_MAX];
    int formats[PARAMETERS_MAX];

    assert(!parameters->failed);
    for (int i = 0; i < parameters->count; i++) {
        size_t end = i + 1 < parameters->count ? parameters->begins[i + 1] : parameters->length;
        lengths[i] = (int)(end - parameters->begins[i]);
        formats[i] = 1;
        /* libpq takes a pointer for "not NULL" also where there is nothing to point to. */
        values[i] = parameters->nulls[i] ? NULL : lengths[i] > 0 ? parameters->data + parameters->begins[i] : "";
    }
    return PQsendQueryPrepared(connection, statement, parameters->count, values, lengths, formats, 1) ? 0 : -EIO;
}

bool result_bool(const PGresult *result, int row, int column) {
    return PQgetlength(result, row, column) == 1 && *PQgetvalue(result, row, column) != 0;
}

int64_t result_int8(const PGresult *result, int row, int column) {
    uint64_t bytes;
    if (PQgetlength(result, row, column) != sizeof bytes) /* NULL has none */
        return 0;
    memcpy(&bytes, PQgetvalue(result, row, column), sizeof bytes);
    return (int64_t)be64toh(bytes);
}

int result_text(const PGresult *result, int row, int column, char **ret) {
    *ret = NULL;
    if (PQgetisnull(result, row, column))
        return 0;
    size_t length = (size_t)PQgetlength(result, row, column);
    char *copy = malloc(length + 1);
    if (!copy)
        return -ENOMEM;
    memcpy(copy, PQgetvalue(result, row, column), length);
    copy[length] = '\0';
    *ret = copy;
    return 0;
}
