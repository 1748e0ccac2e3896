-- No framework: what many event stores of one's own look like.
CREATE TABLE events (
  id uuid PRIMARY KEY,
  stream_id text NOT NULL,
  version integer NOT NULL,
  type text NOT NULL,
  data jsonb NOT NULL,
  metadata jsonb,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  UNIQUE (stream_id, version)
);
-- rows
INSERT INTO events VALUES
  ('6b0f2d9a-4f44-4a1b-9a55-2f5d9b7d0001', 'order-42', 1, 'OrderPlaced', '{"total": 12.50}',
   '{"correlation_id": "c-1", "causation_id": 17}', '2026-11-21 14:30:00+00'),
  ('6b0f2d9a-4f44-4a1b-9a55-2f5d9b7d0002', 'order-42', 2, 'OrderPaid', '[]', NULL, '2026-11-21 14:30:01+00');
