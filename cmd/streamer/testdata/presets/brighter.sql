-- Paramore.Brighter 9: PostgreSqlOutboxBuilder at 9a3d76d.
CREATE TABLE outbox (
  id bigserial PRIMARY KEY,
  messageid uuid UNIQUE NOT NULL,
  topic varchar(255),
  messagetype varchar(32),
  timestamp timestamptz,
  correlationid uuid,
  replyto varchar(255),
  contenttype varchar(128),
  dispatched timestamptz,
  headerbag text,
  body text
);
-- rows
INSERT INTO outbox (messageid, topic, messagetype, timestamp, correlationid, contenttype, headerbag, body) VALUES
  ('6b0f2d9a-4f44-4a1b-9a55-2f5d9b7d0001', 'order.placed', 'MT_EVENT', '2026-11-21T14:30:00.123Z',
   '00000000-0000-0000-0000-0000000000c1', 'application/json', '{}', '{"total":12.50}'),
  ('6b0f2d9a-4f44-4a1b-9a55-2f5d9b7d0002', NULL, 'MT_EVENT', '2026-11-21T14:30:01Z', NULL, NULL, '{}', '"text"');
