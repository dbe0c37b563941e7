-- Through these views the worker reads the application's tables, and nothing else of it. The application has them
-- elsewhere, or under other names? Replace the views with ones of the same columns (CREATE OR REPLACE VIEW); they read
-- with the rights of their owner, so the worker's role needs none on the tables.
--
-- They are asked by teams.id, users.id and team_members.user_id. Where team_members is large and has no index on
-- user_id, give it one: CREATE INDEX CONCURRENTLY ON team_members (user_id).

CREATE VIEW portal.application_teams AS
    SELECT id, stripe_customer_id, stripe_product_id, stripe_subscription_id, subscription_status FROM public.teams;
COMMENT ON VIEW portal.application_teams IS 'The application''s teams, as the worker reads them';

CREATE VIEW portal.application_users AS
    SELECT id, deleted_at FROM public.users;
COMMENT ON VIEW portal.application_users IS 'The application''s users, as the worker reads them; deleted_at is null for one who may ask';

CREATE VIEW portal.application_members AS
    SELECT id, user_id, team_id, joined_at FROM public.team_members;
COMMENT ON VIEW portal.application_members IS 'Who is in which team; without a team in the request, the one joined first counts';
