-- Spring Modulith 2: schemas/v2/schema-postgresql.sql at 68e783e; version 1 lacks the last three columns.
CREATE TABLE event_publication (
  id uuid PRIMARY KEY,
  listener_id text NOT NULL,
  event_type text NOT NULL,
  serialized_event text NOT NULL,
  publication_date timestamptz NOT NULL,
  completion_date timestamptz,
  status text,
  completion_attempts int,
  last_resubmission_date timestamptz
);
-- rows
INSERT INTO event_publication (id, listener_id, event_type, serialized_event, publication_date, status) VALUES
  ('6b0f2d9a-4f44-4a1b-9a55-2f5d9b7d0001', 'com.example.Mailer.on(com.example.OrderPlaced)', 'com.example.OrderPlaced',
   '{"total":12.50}', '2026-11-21 14:30:00.123456+00', 'PUBLISHED');
