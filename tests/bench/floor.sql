-- Where the floor and the Node.js worker keep what they made.
CREATE TABLE floor_sessions (
    request_id text PRIMARY KEY,
    team_id integer NOT NULL,
    session_id text NOT NULL,
    url text NOT NULL,
    configuration text NOT NULL
);
