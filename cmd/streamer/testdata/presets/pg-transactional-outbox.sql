-- pg-transactional-outbox 0.5: examples/setup/out at 06ba2a6; the same table for its two listeners.
CREATE TABLE outbox (
  id uuid PRIMARY KEY,
  aggregate_type text NOT NULL,
  aggregate_id text NOT NULL,
  message_type text NOT NULL,
  segment text,
  concurrency text NOT NULL DEFAULT 'sequential',
  payload jsonb NOT NULL,
  metadata jsonb,
  locked_until timestamptz NOT NULL DEFAULT to_timestamp(0),
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  processed_at timestamptz,
  abandoned_at timestamptz,
  started_attempts smallint NOT NULL DEFAULT 0,
  finished_attempts smallint NOT NULL DEFAULT 0
);
-- rows
INSERT INTO outbox (id, aggregate_type, aggregate_id, message_type, payload, created_at) VALUES
  ('6b0f2d9a-4f44-4a1b-9a55-2f5d9b7d0001', 'order', '42', 'order_placed', '{"total": 12.50}', '2026-11-21 14:30:00.123456+00');
