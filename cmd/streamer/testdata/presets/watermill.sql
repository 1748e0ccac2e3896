-- watermill-sql 4: DefaultPostgreSQLSchema at 03810ec, topic "events".
CREATE TABLE "watermill_events" (
  "offset" bigserial,
  uuid varchar(36) NOT NULL,
  created_at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP,
  payload json DEFAULT NULL,
  metadata json DEFAULT NULL,
  transaction_id xid8 NOT NULL,
  PRIMARY KEY (transaction_id, "offset")
);
-- rows
INSERT INTO "watermill_events" (uuid, payload, metadata, transaction_id) VALUES
  ('6b0f2d9a-4f44-4a1b-9a55-2f5d9b7d0001', '{"total":12.50}', '{"name":"orders.OrderPlaced","correlation_id":"c-1"}', pg_current_xact_id()),
  ('6b0f2d9a-4f44-4a1b-9a55-2f5d9b7d0002', '{"note":1}', '{}', pg_current_xact_id());
