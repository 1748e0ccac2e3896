-- The tables of the shop, and the outbox in the shape that Debezium's Outbox Event Router made common.
-- May be run again: nothing happens to what is there.

CREATE TABLE IF NOT EXISTS customers (
    id      text PRIMARY KEY,
    version bigint NOT NULL  -- number of events published about this customer
);

CREATE TABLE IF NOT EXISTS orders (
    id           text PRIMARY KEY,
    customer_id  text NOT NULL REFERENCES customers,
    status       text NOT NULL,  -- placed, paid, shipped or cancelled
    amount_cents bigint NOT NULL,
    version      bigint NOT NULL  -- number of events published about this order
);

CREATE TABLE IF NOT EXISTS outbox (
    id            uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    aggregatetype text NOT NULL,
    aggregateid   text NOT NULL,
    type          text NOT NULL,
    payload       jsonb,
    created_at    timestamptz NOT NULL DEFAULT now(),
    traceparent   text
);
