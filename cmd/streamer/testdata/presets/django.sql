-- django-outbox-pattern 2 and 3: the model Published at 118612e, with headers.
CREATE TABLE published (
  id uuid PRIMARY KEY,
  version varchar(100),
  destination varchar(255) NOT NULL,
  body jsonb NOT NULL,
  added timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  retry integer NOT NULL,
  status integer NOT NULL,
  headers jsonb NOT NULL
);
-- rows
INSERT INTO published VALUES
  ('6b0f2d9a-4f44-4a1b-9a55-2f5d9b7d0001', NULL, '/topic/order.placed', '{"total": 12.50}', '2026-11-21 14:30:00.123456+00',
   '2026-11-22 14:30:00+00', 0, 1, '{"dop-correlation-id": "c-1", "dop-msg-id": "6b0f2d9a-4f44-4a1b-9a55-2f5d9b7d0001"}');
