-- Eventuate Tram (eventuate-common-flyway at d3bc307): the message table.
CREATE SCHEMA eventuate;
CREATE TABLE eventuate.message (
  id varchar(255) PRIMARY KEY,
  destination text NOT NULL,
  headers text NOT NULL,
  payload text NOT NULL,
  published smallint DEFAULT 0,
  message_partition smallint,
  creation_time bigint
);
-- rows
INSERT INTO eventuate.message (id, destination, headers, payload, creation_time) VALUES
  ('0000019a-0001', 'com.example.Order',
   '{"PARTITION_ID":"42","event-aggregate-type":"com.example.Order","DATE":"Sat, 21 Nov 2026 14:30:00 GMT","event-aggregate-id":"42",'
   '"event-type":"com.example.OrderPlaced","DESTINATION":"com.example.Order","ID":"0000019a-0001"}',
   '{"total":12.50}', 1795271400123),
  ('0000019a-0002', 'order-commands', '{"command_type":"com.example.Ship","DESTINATION":"order-commands","ID":"0000019a-0002"}',
   '{"order":42}', 1795271401000);
