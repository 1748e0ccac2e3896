-- NServiceBus.Persistence.Sql 7 and 8: Create_PostgreSql.sql at 88b0f51, of an endpoint named Shop.
CREATE TABLE shop_outboxdata (
  "MessageId" varchar(200) PRIMARY KEY,
  "Dispatched" boolean NOT NULL DEFAULT false,
  "DispatchedAt" timestamp,
  "PersistenceVersion" varchar(23),
  "Operations" jsonb NOT NULL
);
-- rows
INSERT INTO shop_outboxdata ("MessageId", "PersistenceVersion", "Operations") VALUES
  ('6b0f2d9a-4f44-4a1b-9a55-2f5d9b7d0001', '8.0.0.0',
   '[{"MessageId": "m-1", "Headers": {"NServiceBus.EnclosedMessageTypes": "Shop.OrderPlaced"}, "Body": "eyJ0b3RhbCI6MTIuNTB9"}]');
