-- Debezium 3: the columns that the outbox event router expects by default.
CREATE TABLE outbox (
  id uuid PRIMARY KEY,
  aggregatetype varchar(255) NOT NULL,
  aggregateid varchar(255) NOT NULL,
  type varchar(255) NOT NULL,
  payload jsonb
);
-- rows
INSERT INTO outbox VALUES
  ('6b0f2d9a-4f44-4a1b-9a55-2f5d9b7d0001', 'order', 'order-42', 'OrderPlaced', '{"total": 12.50}'),
  ('6b0f2d9a-4f44-4a1b-9a55-2f5d9b7d0002', 'order', 'order-42', 'OrderForgotten', NULL);
