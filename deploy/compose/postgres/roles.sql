-- Two roles besides the superuser: one for the application, one for the streamer.
-- Runs once, after examples/shop/schema.sql, when the volume is new. The
-- passwords come from the environment of the container.

\getenv shop_password SHOP_PASSWORD
\getenv streamer_password STREAMER_PASSWORD

CREATE ROLE shop LOGIN PASSWORD :'shop_password';
GRANT SELECT, INSERT, UPDATE ON customers, orders TO shop;
GRANT SELECT, INSERT ON outbox TO shop;

-- REPLICATION can read the changes of every table: treat its password like that
-- of a superuser. SELECT is for looking at the outbox, not for streaming it.
CREATE ROLE streamer LOGIN REPLICATION PASSWORD :'streamer_password';
GRANT SELECT ON outbox TO streamer;
