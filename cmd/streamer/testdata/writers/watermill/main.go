// Command watermill makes Watermill's table and lets Watermill write to it.
package main

import (
	"context"
	"database/sql"
	"log"
	"os"

	"github.com/ThreeDotsLabs/watermill"
	watermillsql "github.com/ThreeDotsLabs/watermill-sql/v4/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/message"
	_ "github.com/jackc/pgx/v5/stdlib"
)

const topic = "events"

func main() {
	if err := run(context.Background(), os.Args[1], os.Args[2]); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, dsn, step string) error {
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	schema := watermillsql.DefaultPostgreSQLSchema{}
	if step == "table" {
		queries, err := schema.SchemaInitializingQueries(watermillsql.SchemaInitializingQueriesParams{Topic: topic})
		if err != nil {
			return err
		}
		for _, q := range queries {
			if _, err := db.ExecContext(ctx, q.Query, q.Args...); err != nil {
				return err
			}
		}
		return nil
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	publisher, err := watermillsql.NewPublisher(
		watermillsql.TxFromStdSQL(tx), watermillsql.PublisherConfig{SchemaAdapter: schema}, watermill.NopLogger{},
	)
	if err != nil {
		return err
	}
	m := message.NewMessage(watermill.NewUUID(), []byte(`{"total":12.50}`))
	m.Metadata.Set("name", "orders.OrderPlaced")
	m.Metadata.Set("correlation_id", "c-1")
	if err := publisher.Publish(topic, m); err != nil {
		return err
	}
	return tx.Commit()
}
