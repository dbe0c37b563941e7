/* messages.h — one MESSAGE_ID for each kind of event worth knowing (systemd.journal-fields(7)). They never change: the
 * message catalog, alerts and people's notes refer to them. */
#pragma once

#define MESSAGE_REQUEST_DONE "2996d77537d74927aa41ce4419fd10a4" /* a request was answered and acknowledged */
#define MESSAGE_REQUEST_DROPPED                                                                                        \
    "941f883d2a904381ac71dbb7ee37941f" /* requests lost their channel; they are delivered again */
#define MESSAGE_REPLY_RETURNED "5b44fa8b1dbd4eca8ba792ca998323c5" /* no queue took a reply */
#define MESSAGE_DEAD_LETTER "01b9cb2de9884235a8d07b3082f0fc27"    /* a request was put into portal.dead */
#define MESSAGE_STRIPE_CALL "5b1c27b2a66042c9b5065006b7e816e3"    /* one call to Stripe ended */
#define MESSAGE_PAUSED "0ba2b30504d24a30b2cd8e39fc8db548"         /* a link does not serve; nothing more is taken in */
#define MESSAGE_RESUMED "13e3dfd6e1de4aef81836bad2714636a"        /* it serves again */
#define MESSAGE_SLOWED "01feec7a6e2646f1998bc0b09d95b24c"         /* Stripe limits the rate: the fleet slows down */
#define MESSAGE_CONFIGURATION                                                                                          \
    "9cf37851c5214214abd42b3f97bd8f53" /* a portal configuration was found, made, changed or forgotten */
#define MESSAGE_STRIPE_MISBEHAVED                                                                                      \
    "a67873f98f6f43249afba4676cca1f59"                        /* an answer of Stripe's is not what its API promises */
#define MESSAGE_SUSPECT "9ff9795815f447289268fdac540dcde7"    /* a request that came back often is worked alone */
#define MESSAGE_GIVEN_BACK "dcc0aeb3a22e4c2b843f7acd23ce02d6" /* requests were given back to the queue */
#define MESSAGE_BATCH "d2c6b7682edc42d09ef7f0378e935868"      /* one load or save of the store came back */
#define MESSAGE_CONNECTED "ad24d3573bf94df1b31ee63059d2b612"  /* connections were opened */
#define MESSAGE_TOKENS "182810cd683f464f9bb9ca2ca40cebdc"     /* send times for Stripe were leased, or became void */
#define MESSAGE_STARTED "c7a199f6a20e459ba3b830b8ac1fc8df"    /* the worker runs */
#define MESSAGE_STOPPING "c934602697c441d3b5e3ce3245de51cc"   /* the worker finishes what is in hand */
#define MESSAGE_STOPPED "1936626638164f369a11f70c99b3a5b7"    /* the worker has ended */
#define MESSAGE_REREAD "37f50f8f40e54566bc5668c9d522384c"     /* settings were read again */
#define MESSAGE_SETTINGS "47cf6cb7c09544439d8d2aa3b44a8045"   /* a setting is wrong, missing or unknown */
#define MESSAGE_FAILED "5cb033b8b54e485ca1f5863c942e583e"     /* the worker can't go on */
