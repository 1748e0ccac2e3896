-- sbmt-outbox 6 for Rails: the migration of its generator at 5750cbe, for a model OrderOutboxItem.
CREATE TABLE order_outbox_items (
  id bigserial PRIMARY KEY,
  uuid uuid NOT NULL UNIQUE,
  event_key varchar NOT NULL,
  bucket integer NOT NULL,
  status integer NOT NULL DEFAULT 0,
  options jsonb,
  payload bytea NOT NULL,
  errors_count integer NOT NULL DEFAULT 0,
  error_log text,
  processed_at timestamp,
  created_at timestamp(6) NOT NULL,
  updated_at timestamp(6) NOT NULL
);
-- rows
INSERT INTO order_outbox_items (uuid, event_key, bucket, options, payload, created_at, updated_at) VALUES
  ('6b0f2d9a-4f44-4a1b-9a55-2f5d9b7d0001', 'order-42', 1, '{"headers": {}}', '\x08fa01', '2026-11-21 14:30:00.123456', '2026-11-21 14:30:00');
