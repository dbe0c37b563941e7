-- What the workers of a fleet share beside the answers: configurations, rate limits, suspects, and signs of life.

CREATE TABLE portal.configurations (
    key text PRIMARY KEY,
    id text,
    product text,
    fingerprint text,
    managed boolean NOT NULL DEFAULT false,
    forgotten integer NOT NULL DEFAULT 0 CHECK (forgotten >= 0),
    checked_at timestamptz,
    leased_by text,
    leased_until timestamptz,
    CONSTRAINT configurations_lease_check CHECK ((leased_by IS NULL) = (leased_until IS NULL)),
    CONSTRAINT configurations_id_check CHECK (
        CASE WHEN id IS NULL THEN product IS NULL AND fingerprint IS NULL AND NOT managed AND checked_at IS NULL
             ELSE checked_at IS NOT NULL END)
);
COMMENT ON TABLE portal.configurations IS 'Stripe portal configurations in use, one for each account, mode and policy';
COMMENT ON COLUMN portal.configurations.key IS 'Account, mode and policy (with the product, where each has its own)';
COMMENT ON COLUMN portal.configurations.id IS 'Stripe''s bpc_…; null: none known';
COMMENT ON COLUMN portal.configurations.product IS 'The product whose prices it offers, where a worker made it';
COMMENT ON COLUMN portal.configurations.fingerprint IS 'Of the features and prices it was last given by a worker';
COMMENT ON COLUMN portal.configurations.managed IS 'Made by a worker, which keeps it up to date; others are never touched';
COMMENT ON COLUMN portal.configurations.forgotten IS 'How often one was found gone; part of the key under which the next is made';
COMMENT ON COLUMN portal.configurations.checked_at IS 'When it was last seen to be right';
COMMENT ON COLUMN portal.configurations.leased_by IS 'The worker that is looking it up or making it just now';
COMMENT ON COLUMN portal.configurations.leased_until IS 'When that lease ends by itself';

CREATE TABLE portal.workers (
    name text PRIMARY KEY,
    state jsonb NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE portal.workers IS 'Signs of life; a row not renewed for a day is removed';
COMMENT ON COLUMN portal.workers.name IS 'host:pid:start';
COMMENT ON COLUMN portal.workers.state IS 'What it last said of itself, for portalctl status';
COMMENT ON COLUMN portal.workers.started_at IS 'When it was first heard of';
COMMENT ON COLUMN portal.workers.seen_at IS 'When it was last heard of';

CREATE TABLE portal.tokens (
    account text NOT NULL,
    livemode boolean NOT NULL,
    endpoint text NOT NULL,
    next_at timestamptz NOT NULL,
    spacing_us bigint NOT NULL CHECK (spacing_us >= 0),
    slowed_until timestamptz NOT NULL DEFAULT '-infinity',
    PRIMARY KEY (account, livemode, endpoint)
) WITH (fillfactor = 50); -- few rows, updated all the time: leaves room for that on their page
COMMENT ON TABLE portal.tokens IS 'Send times to Stripe that workers lease, so that the fleet keeps the rate limit';
COMMENT ON COLUMN portal.tokens.next_at IS 'The first send time nobody has leased';
COMMENT ON COLUMN portal.tokens.spacing_us IS 'Microseconds between the send times of the last lease';
COMMENT ON COLUMN portal.tokens.slowed_until IS 'Until then send times are twice as far apart, as Stripe answered 429';

CREATE TABLE portal.suspects (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest bytea NOT NULL CHECK (octet_length(digest) = 32),
    message_id text,
    worker text NOT NULL,
    tried_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX suspects_digest ON portal.suspects (digest);
COMMENT ON TABLE portal.suspects IS 'Tries of requests that came back often; one that outlives its worker means a crash';
COMMENT ON COLUMN portal.suspects.digest IS 'SHA-256 of message id and body: what tells one message from another';
COMMENT ON COLUMN portal.suspects.message_id IS 'The AMQP message_id, for people';
COMMENT ON COLUMN portal.suspects.worker IS 'Which worker tried';
