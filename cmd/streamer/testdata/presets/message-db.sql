-- Message DB 1: database/tables/messages.sql at 0ca9ca6.
CREATE SCHEMA message_store;
CREATE TABLE message_store.messages (
  global_position bigserial PRIMARY KEY,
  position bigint NOT NULL,
  id uuid NOT NULL DEFAULT gen_random_uuid(),
  time timestamp NOT NULL DEFAULT (now() AT TIME ZONE 'utc'),
  stream_name text NOT NULL,
  type text NOT NULL,
  data jsonb,
  metadata jsonb
);
-- rows
INSERT INTO message_store.messages (position, id, time, stream_name, type, data, metadata) VALUES
  (0, '6b0f2d9a-4f44-4a1b-9a55-2f5d9b7d0001', '2026-11-21 14:30:00.123456', 'order-42', 'OrderPlaced', '{"total": 12.50}',
   '{"correlationStreamName": "checkout-1", "causationMessageGlobalPosition": 9007199254740993}'),
  (1, '6b0f2d9a-4f44-4a1b-9a55-2f5d9b7d0002', '2026-11-21 14:30:01', 'order-42', 'OrderForgotten', NULL, NULL);
