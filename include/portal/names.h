/* names.h — what the contract calls the exchange, its routing key and the queues. */
#pragma once

#define EXCHANGE "portal"
#define ROUTING_KEY "request"
#define QUEUE_REQUESTS "portal.requests"
#define QUEUE_DEAD "portal.dead"
#define QUEUE_REPLIES "portal.replies"
