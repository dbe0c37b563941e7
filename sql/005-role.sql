-- The role whose rights a worker has: GRANT portal_worker TO the role in its DATABASE_URL. It can do what the worker's
-- statements and "portalctl purge" do, and nothing to the application's tables.

-- Roles belong to the whole cluster; another of its databases may be making it at this moment.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'portal_worker') THEN
        CREATE ROLE portal_worker NOLOGIN;
    END IF;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN
        NULL;
    WHEN insufficient_privilege THEN
        RAISE EXCEPTION 'the role portal_worker is missing, and % may not create it', current_user
            USING ERRCODE = 'insufficient_privilege',
                  HINT = 'Let a superuser say: CREATE ROLE portal_worker NOLOGIN; then run this again.';
END $$;

GRANT USAGE ON SCHEMA portal TO portal_worker;
GRANT SELECT ON portal.migrations TO portal_worker;
GRANT SELECT ON portal.application_teams, portal.application_users, portal.application_members TO portal_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON portal.sessions, portal.workers TO portal_worker;
GRANT SELECT, INSERT, UPDATE ON portal.configurations, portal.tokens TO portal_worker;
GRANT SELECT, INSERT, DELETE ON portal.suspects TO portal_worker;

REVOKE EXECUTE ON FUNCTION portal.wipe_expired, portal.purge FROM PUBLIC;
GRANT EXECUTE ON FUNCTION portal.wipe_expired, portal.purge TO portal_worker;
