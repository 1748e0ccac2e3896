-- DotNetCore.CAP 6 to 10: PostgreSqlStorageInitializer at 3c30059.
CREATE SCHEMA cap;
CREATE TABLE cap.published (
  "Id" bigint PRIMARY KEY,
  "Version" varchar(20) NOT NULL,
  "Name" varchar(200) NOT NULL,
  "Content" text,
  "Retries" int NOT NULL,
  "Added" timestamp NOT NULL,
  "ExpiresAt" timestamp,
  "StatusName" varchar(50) NOT NULL
);
-- rows
INSERT INTO cap.published VALUES
  (1234567890123456789, 'v1', 'order.placed',
   '{"Headers":{"cap-msg-id":"1234567890123456789","cap-corr-id":"c-1","cap-msg-name":"order.placed","traceparent":'
   '"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},"Value":{"total":12.50,"id":12345678901234567890}}',
   0, '2026-11-21 15:30:00', NULL, 'Scheduled'),
  (1234567890123456790, 'v1', 'order.noted', '{"Headers":{"cap-msg-id":"1234567890123456790"},"Value":"a \"text\""}',
   0, '2026-11-21 15:30:01', NULL, 'Scheduled'),
  (1234567890123456791, 'v1', 'order.emptied', '{"Headers":{},"Value":null}', 0, '2026-11-21 15:30:02', NULL, 'Scheduled');
