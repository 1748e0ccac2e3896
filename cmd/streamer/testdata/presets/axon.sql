-- Axon Framework 4: DomainEventEntry by JPA as Spring Boot names its columns, with bytea columns as Axon's
-- documentation advises for PostgreSQL, and events serialised as JSON.
CREATE TABLE domain_event_entry (
  global_index bigserial PRIMARY KEY,
  aggregate_identifier varchar(255) NOT NULL,
  sequence_number bigint NOT NULL,
  type varchar(255),
  event_identifier varchar(255) NOT NULL UNIQUE,
  meta_data bytea,
  payload bytea NOT NULL,
  payload_revision varchar(255),
  payload_type varchar(255) NOT NULL,
  time_stamp varchar(255) NOT NULL,
  UNIQUE (aggregate_identifier, sequence_number)
);
-- rows
INSERT INTO domain_event_entry
  (aggregate_identifier, sequence_number, type, event_identifier, meta_data, payload, payload_revision, payload_type, time_stamp)
VALUES
  ('order-42', 0, 'Order', '6b0f2d9a-4f44-4a1b-9a55-2f5d9b7d0001', '{"traceId":"t"}', '{"total":12.50}', '1.0',
   'com.example.OrderPlaced', '2026-11-21T14:30:00.123Z'),
  ('note-7', 0, NULL, '6b0f2d9a-4f44-4a1b-9a55-2f5d9b7d0002', NULL, '{}', NULL, 'com.example.NoteTaken', '2026-11-21T14:30:01Z');
