-- Marten 7 and 8: EventsTable at 051ce40, streams identified by a uuid.
CREATE TABLE mt_events (
  seq_id bigint PRIMARY KEY,
  id uuid NOT NULL UNIQUE,
  stream_id uuid,
  version bigint NOT NULL,
  data jsonb NOT NULL,
  type varchar(500) NOT NULL,
  timestamp timestamptz NOT NULL DEFAULT now(),
  tenant_id varchar DEFAULT '*DEFAULT*',
  mt_dotnet_type varchar,
  is_archived boolean DEFAULT false
);
-- rows
INSERT INTO mt_events VALUES
  (1, '6b0f2d9a-4f44-4a1b-9a55-2f5d9b7d0001', '00000000-0000-0000-0000-000000000042', 1, '{"Total": 12.50}', 'order_placed',
   '2026-11-21 14:30:00.123456+00', '*DEFAULT*', 'Shop.OrderPlaced, Shop', false);
