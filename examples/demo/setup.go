package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/outboxstream/streamer/examples/shop"
	"github.com/outboxstream/streamer/internal/testserver"
)

const database = "shop"

// partitions is the number of partitions of each topic of events: enough to see
// that keys are spread.
const partitions = 3

// setUp does everything that comes before the first "streamer run".
func (d *demo) setUp(ctx context.Context) error {
	if err := d.createDatabase(ctx); err != nil {
		return err
	}
	d.nameTopics()
	text, err := d.writeConfiguration()
	if err != nil {
		return err
	}
	d.screen.note("streamer.yaml, all of it:")
	d.screen.quote(text)
	return d.runSetup(ctx)
}

// runSetup lets the streamer create what it needs.
func (d *demo) runSetup(ctx context.Context) error {
	args := []string{"setup", "--topic", strings.Join(d.topics.events(), ",")}
	var output strings.Builder
	cmd := d.command(ctx, args...)
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := testserver.RunProcess(cmd); err != nil {
		return fmt.Errorf("streamer setup: %w\n%s", err, strings.TrimSpace(output.String()))
	}
	d.screen.note("streamer %s", strings.Join(args, " "))
	d.screen.quote(output.String())
	d.screen.done("the tables of the shop, and what the streamer needs")
	return nil
}

// createDatabase creates the database of the shop with its tables.
func (d *demo) createDatabase(ctx context.Context) error {
	d.dsn = d.postgres.DSN(database)
	if err := execute(ctx, d.postgres.DSN("postgres"), "CREATE DATABASE "+database); err != nil {
		return fmt.Errorf("create database %s: %w", database, err)
	}
	if err := execute(ctx, d.dsn, shop.Schema); err != nil {
		return fmt.Errorf("create the tables of the shop: %w", err)
	}
	return nil
}

func execute(ctx context.Context, dsn, statement string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement)
	return errors.Join(err, conn.Close(ctx))
}

// writeConfiguration writes streamer.yaml and returns its text.
func (d *demo) writeConfiguration() (string, error) {
	ports, err := testserver.FreePorts(1)
	if err != nil {
		return "", err
	}
	d.http = fmt.Sprintf("127.0.0.1:%d", ports[0])
	brokers, err := json.Marshal(d.kafka.addresses) // JSON is YAML
	if err != nil {
		return "", err
	}
	var text strings.Builder
	fmt.Fprintf(&text, "postgres:    {dsn: %q}\n", d.dsn)
	fmt.Fprintf(&text, "outbox:      {table: public.outbox, columns: {traceparent: traceparent}}\n")
	fmt.Fprintf(&text, "cloudevents: {source: /shop}\n")
	fmt.Fprintf(
		&text, "kafka:       {brokers: %s, topic: %q, topics: {partitions: %d}}\n", brokers,
		d.topics.prefix+"{aggregate_type}", partitions,
	)
	if d.kafka.given {
		fmt.Fprintf(&text, "checkpoint:  {kafka: {topic: %s}}\n", d.topics.checkpoint)
	}
	fmt.Fprintf(&text, "http:        {listen: %q}\n", d.http)
	fmt.Fprintf(&text, "log:         {format: text}\n")
	if err := os.WriteFile(d.configuration(), []byte(text.String()), 0o600); err != nil {
		return "", fmt.Errorf("write the configuration: %w", err)
	}
	return text.String(), nil
}
