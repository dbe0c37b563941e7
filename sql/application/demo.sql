-- A small data set with a team and a user for every row of the contract. tests/bed/demo-stripe.json is Stripe's side of
-- it. Safe to load twice.

INSERT INTO teams (id, name, stripe_customer_id, stripe_subscription_id, stripe_product_id, plan_name, subscription_status)
VALUES
    (1, 'Acme',           'cus_demo_1', 'sub_demo_1', 'prod_demo_1',         'Base',  'active'),
    (2, 'Globex',         'cus_demo_2', 'sub_demo_2', 'prod_demo_2',         'Plus',  'trialing'),
    (3, 'No customer',    NULL,         NULL,         NULL,                  NULL,    NULL),
    (4, 'No product',     'cus_demo_4', NULL,         NULL,                  NULL,    NULL),
    (5, 'Canceled',       'cus_demo_5', 'sub_demo_5', 'prod_demo_1',         'Base',  'canceled'),
    (6, 'Unpaid',         'cus_demo_6', 'sub_demo_6', 'prod_demo_1',         'Base',  'unpaid'),
    (7, 'Product gone',   'cus_demo_7', 'sub_demo_7', 'prod_demo_inactive',  'Old',   'active'),
    (8, 'No prices',      'cus_demo_8', 'sub_demo_8', 'prod_demo_no_prices', 'Draft', 'active'),
    (9, 'Unknown abroad', 'cus_demo_missing', 'sub_demo_9', 'prod_demo_1',   'Base',  'active') -- Stripe has no such customer
ON CONFLICT (id) DO NOTHING;

-- Nobody can sign in: the hash is none.
INSERT INTO users (id, name, email, password_hash, role, deleted_at)
VALUES
    (1, 'Ada',     'ada@example.com',     '!', 'owner',  NULL),
    (2, 'Grace',   'grace@example.com',   '!', 'member', NULL),         -- in two teams: Globex joined first
    (3, 'Deleted', 'deleted@example.com', '!', 'member', '2025-06-01'),
    (4, 'Alone',   'alone@example.com',   '!', 'member', NULL),         -- in no team
    (5, 'Carl',    'carl@example.com',    '!', 'owner',  NULL),         -- of the canceled team
    (6, 'Uma',     'uma@example.com',     '!', 'owner',  NULL),         -- of the unpaid team
    (7, 'Nora',    'nora@example.com',    '!', 'owner',  NULL),         -- of the team without a customer
    (8, 'Paul',    'paul@example.com',    '!', 'owner',  NULL)          -- of the team without a product
ON CONFLICT (id) DO NOTHING;

INSERT INTO team_members (id, user_id, team_id, role, joined_at)
VALUES
    (1, 1, 1, 'owner',  '2025-01-01'),
    (2, 2, 1, 'member', '2025-03-01'),
    (3, 2, 2, 'owner',  '2025-02-01'),
    (4, 3, 1, 'member', '2025-01-02'),
    (5, 5, 5, 'owner',  '2025-01-05'),
    (6, 6, 6, 'owner',  '2025-01-06'),
    (7, 7, 3, 'owner',  '2025-01-07'),
    (8, 8, 4, 'owner',  '2025-01-08')
ON CONFLICT (id) DO NOTHING;

-- What is inserted later comes after these.
SELECT setval('teams_id_seq', greatest((SELECT max(id) FROM teams), 100));
SELECT setval('users_id_seq', greatest((SELECT max(id) FROM users), 100));
SELECT setval('team_members_id_seq', greatest((SELECT max(id) FROM team_members), 100));
