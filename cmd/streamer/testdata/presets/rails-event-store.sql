-- Rails Event Store 2: create_event_store_events_template at 2608d4b, with jsonb.
CREATE TABLE event_store_events (
  id bigserial PRIMARY KEY,
  event_id uuid NOT NULL UNIQUE,
  event_type varchar NOT NULL,
  metadata jsonb,
  data jsonb NOT NULL,
  created_at timestamp(6) NOT NULL,
  valid_at timestamp(6)
);
-- rows
INSERT INTO event_store_events (event_id, event_type, metadata, data, created_at) VALUES
  ('6b0f2d9a-4f44-4a1b-9a55-2f5d9b7d0001', 'Ordering::OrderPlaced', '{"correlation_id": "c-1", "types": {}}', '{"total": 12.50}',
   '2026-11-21 14:30:00.123456');
