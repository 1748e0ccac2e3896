// Makes the table of pg-transactional-outbox and lets it write to it.
const { randomUUID } = require("node:crypto");
const { Client } = require("pg");
const { DatabaseSetup, getDisabledLogger, initializeMessageStorage } = require("pg-transactional-outbox");

const [dsn, step] = process.argv.slice(2);
const settings = { dbSchema: "public", dbTable: "outbox" };

async function main() {
  const client = new Client({ connectionString: dsn });
  await client.connect();
  if (step === "table") {
    await client.query(DatabaseSetup.dropAndCreateTable({ outboxOrInbox: "outbox", schema: settings.dbSchema, table: settings.dbTable }));
  } else {
    const store = initializeMessageStorage({ outboxOrInbox: "outbox", settings }, getDisabledLogger());
    await client.query("BEGIN");
    await store(
      {
        id: randomUUID(),
        aggregateType: "order",
        aggregateId: "42",
        messageType: "order_placed",
        payload: { total: 12.5 },
        metadata: {},
        createdAt: new Date().toISOString(),
      },
      client,
    );
    await client.query("COMMIT");
  }
  await client.end();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
