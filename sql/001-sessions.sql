-- The schema of portal-worker, and its main table: what became of each request.

CREATE SCHEMA portal;
COMMENT ON SCHEMA portal IS 'portal-worker: asynchronous Stripe customer-portal sessions';

CREATE TABLE portal.migrations (
    number integer PRIMARY KEY CHECK (number > 0),
    name text NOT NULL,
    checksum text NOT NULL CHECK (checksum ~ '^[0-9a-f]{64}$'),
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE portal.migrations IS 'What "portalctl migrate" has applied';
COMMENT ON COLUMN portal.migrations.checksum IS 'SHA-256 of the file as it was applied';

CREATE TABLE portal.sessions (
    -- "C": ids are plain ASCII, compare faster so, and are locked in one order by every worker
    request_id text COLLATE "C" PRIMARY KEY CHECK (octet_length(request_id) BETWEEN 1 AND 128 AND request_id !~ '[^A-Za-z0-9._:-]'),
    generation bigint NOT NULL CHECK (generation BETWEEN 1 AND 4294967295),
    ask text NOT NULL,
    answer text NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('created', 'reused', 'redirect', 'failed')),
    code text,
    team_id bigint CHECK (team_id > 0),
    user_id bigint CHECK (user_id > 0),
    fresh boolean NOT NULL,
    session_id text,
    url text,
    customer text,
    configuration text,
    account text NOT NULL,
    livemode boolean NOT NULL,
    session_created timestamptz,
    answered_at timestamptz NOT NULL,
    stands_until timestamptz NOT NULL,
    url_expires_at timestamptz,
    body text NOT NULL,
    properties text NOT NULL,
    written text NOT NULL,
    CONSTRAINT sessions_code_check CHECK ((code IS NULL) = (outcome IN ('created', 'reused'))),
    CONSTRAINT sessions_session_check CHECK (
        CASE WHEN outcome IN ('created', 'reused')
             THEN session_id IS NOT NULL AND customer IS NOT NULL AND session_created IS NOT NULL
             ELSE session_id IS NULL AND customer IS NULL AND session_created IS NULL
                  AND configuration IS NULL AND url IS NULL END),
    CONSTRAINT sessions_url_check CHECK (url IS NULL OR url_expires_at IS NOT NULL)
);

COMMENT ON TABLE portal.sessions IS 'One row a request: its latest answer, from which redeliveries are answered';
COMMENT ON COLUMN portal.sessions.request_id IS 'The sender''s request_id, or else its AMQP message_id';
COMMENT ON COLUMN portal.sessions.generation IS 'Which working of the request this is, from 1; a replay starts the next';
COMMENT ON COLUMN portal.sessions.ask IS 'What the sender asked for, as canonical JSON; another ask under the same id is a conflict';
COMMENT ON COLUMN portal.sessions.answer IS 'The reply as JSON, without the URL';
COMMENT ON COLUMN portal.sessions.outcome IS 'created, reused, redirect or failed';
COMMENT ON COLUMN portal.sessions.code IS 'Why it was a redirect or failed';
COMMENT ON COLUMN portal.sessions.team_id IS 'teams.id; null where no team was found';
COMMENT ON COLUMN portal.sessions.user_id IS 'users.id, where a user asked';
COMMENT ON COLUMN portal.sessions.fresh IS 'The sender wanted a session of its own: no other request gets this one';
COMMENT ON COLUMN portal.sessions.session_id IS 'Stripe''s bps_…';
COMMENT ON COLUMN portal.sessions.url IS 'The portal''s URL: a credential, wiped once it has expired';
COMMENT ON COLUMN portal.sessions.customer IS 'Stripe''s cus_…';
COMMENT ON COLUMN portal.sessions.configuration IS 'Stripe''s bpc_…';
COMMENT ON COLUMN portal.sessions.account IS 'PORTAL_NAMESPACE: which Stripe account';
COMMENT ON COLUMN portal.sessions.livemode IS 'Made with a live key';
COMMENT ON COLUMN portal.sessions.session_created IS 'When the session was made, by Stripe''s clock';
COMMENT ON COLUMN portal.sessions.answered_at IS 'When this answer was saved, by this database''s clock, as all other times';
COMMENT ON COLUMN portal.sessions.stands_until IS 'Until then the request is answered from this row; later it is worked anew';
COMMENT ON COLUMN portal.sessions.url_expires_at IS 'When Stripe stops taking the URL';
COMMENT ON COLUMN portal.sessions.body IS 'The request itself, for a replay';
COMMENT ON COLUMN portal.sessions.properties IS 'Its AMQP properties as JSON, for a replay';
COMMENT ON COLUMN portal.sessions.written IS 'Marks the batch that wrote the row: worker and number';

-- The newest session of the same ask; only those that may be reused. The whole ask is compared as well.
CREATE INDEX sessions_reuse ON portal.sessions (md5(ask), session_created DESC) WHERE url IS NOT NULL AND NOT fresh;
-- URLs to wipe.
CREATE INDEX sessions_url_expiry ON portal.sessions (url_expires_at) WHERE url IS NOT NULL;
-- Rows to purge, and the latest answers.
CREATE INDEX sessions_answered ON portal.sessions (answered_at);
