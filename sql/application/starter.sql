-- The tables of the application that the worker reads, as the Next.js SaaS starter has them. Only for the demo, for
-- development and for tests: in earnest the application brings its own.

CREATE TABLE users (
    id serial PRIMARY KEY,
    name varchar(100),
    email varchar(255) NOT NULL UNIQUE,
    password_hash text NOT NULL,
    role varchar(20) NOT NULL DEFAULT 'member',
    created_at timestamp NOT NULL DEFAULT now(),
    updated_at timestamp NOT NULL DEFAULT now(),
    deleted_at timestamp
);

CREATE TABLE teams (
    id serial PRIMARY KEY,
    name varchar(100) NOT NULL,
    created_at timestamp NOT NULL DEFAULT now(),
    updated_at timestamp NOT NULL DEFAULT now(),
    stripe_customer_id text UNIQUE,
    stripe_subscription_id text UNIQUE,
    stripe_product_id text,
    plan_name varchar(50),
    subscription_status varchar(20)
);

CREATE TABLE team_members (
    id serial PRIMARY KEY,
    user_id integer NOT NULL REFERENCES users (id),
    team_id integer NOT NULL REFERENCES teams (id),
    role varchar(50) NOT NULL,
    joined_at timestamp NOT NULL DEFAULT now()
);
