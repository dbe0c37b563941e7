-- What is done with rows that have had their time: by workers with each sign of life, by "portalctl purge", or by hand.
--
-- Rows that somebody else has locked are left for the next call: neither function ever waits, so neither can be part of
-- a deadlock with a worker that saves. Rows are found by their place (ctid), which can't change once they are locked: that
-- needs no second look-up, whatever the planner makes of it.

CREATE FUNCTION portal.wipe_expired(at_most bigint DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    moment timestamptz := clock_timestamp();
    wiped bigint;
BEGIN
    UPDATE portal.sessions SET url = NULL
    WHERE ctid = ANY (ARRAY(
        SELECT s.ctid FROM portal.sessions s
        WHERE s.url IS NOT NULL AND s.url_expires_at <= moment
        ORDER BY s.url_expires_at LIMIT at_most FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS wiped = ROW_COUNT;
    RETURN wiped;
END $$;
COMMENT ON FUNCTION portal.wipe_expired IS
    'Removes URLs that have expired, the oldest first, at most so many (null: all); returns how many';

CREATE FUNCTION portal.purge(older_than interval, at_most bigint DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    moment timestamptz := clock_timestamp();
    purged bigint;
BEGIN
    IF older_than IS NULL OR older_than < interval '0' THEN
        RAISE EXCEPTION 'purge wants to know from which age on, for example ''30 days'''
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    DELETE FROM portal.sessions
    WHERE ctid = ANY (ARRAY(
        SELECT s.ctid FROM portal.sessions s
        WHERE s.answered_at <= moment - older_than AND s.stands_until <= moment
        ORDER BY s.answered_at LIMIT at_most FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS purged = ROW_COUNT;
    DELETE FROM portal.suspects WHERE tried_at <= moment - older_than;
    RETURN purged;
END $$;
COMMENT ON FUNCTION portal.purge IS
    'Deletes requests answered that long ago whose answer no longer stands, the oldest first, at most so many (null: all), '
    'and tries left behind by crashes as old; returns how many requests';
