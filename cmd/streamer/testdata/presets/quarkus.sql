-- debezium-quarkus-outbox 3 with its defaults, as Hibernate 6 maps it on PostgreSQL.
CREATE TABLE outboxevent (
  id uuid PRIMARY KEY,
  aggregatetype varchar(255) NOT NULL,
  aggregateid varchar(255) NOT NULL,
  type varchar(255) NOT NULL,
  timestamp timestamp(6) with time zone NOT NULL,
  payload varchar(8000),
  tracingspancontext varchar(256)
);
-- rows
INSERT INTO outboxevent VALUES
  ('6b0f2d9a-4f44-4a1b-9a55-2f5d9b7d0001', 'order', 'order-42', 'OrderPlaced', '2026-11-21 14:30:00.123456+00', '{"total":12.50}', NULL);
DELETE FROM outboxevent; -- as the extension does in the same transaction
