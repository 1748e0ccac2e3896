-- Wolverine 3 to 6: OutgoingEnvelopeTable at 7f31c53.
CREATE SCHEMA wolverine;
CREATE TABLE wolverine.wolverine_outgoing_envelopes (
  id uuid PRIMARY KEY,
  owner_id integer NOT NULL,
  destination varchar NOT NULL,
  deliver_by timestamptz,
  body bytea NOT NULL,
  attempts integer DEFAULT 0,
  message_type varchar NOT NULL
);
-- rows
INSERT INTO wolverine.wolverine_outgoing_envelopes VALUES
  ('6b0f2d9a-4f44-4a1b-9a55-2f5d9b7d0001', 1, 'rabbitmq://queue/orders', NULL, '\x00ff10', 0, 'Shop.OrderPlaced');
