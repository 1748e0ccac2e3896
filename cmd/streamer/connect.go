package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
)

// askTimeout bounds the questions that a command asks one server.
const askTimeout = 15 * time.Second

// connectPostgres opens the SQL connection of the commands that ask the
// server, and returns the configuration it was opened with.
func connectPostgres(ctx context.Context, cfg config.Config) (*replication.Control, replication.Config, error) {
	return connectDatabase(ctx, cfg, cfg.Postgres.DSN, "postgres.dsn")
}

func connectDatabase(ctx context.Context, cfg config.Config, dsn config.DSN, key string) (*replication.Control, replication.Config, error) {
	c := replicationConfig(cfg)
	text, err := dsn.Reveal()
	if err != nil {
		return nil, c, failure.Misconfigure(fmt.Errorf("%s: %w", key, err))
	}
	c.DSN = text
	ctx, cancel := context.WithTimeout(ctx, 2*cfg.Postgres.ConnectTimeout)
	defer cancel()
	control, err := replication.Connect(ctx, c)
	return control, c, err
}

// asShard asks with another shard's configuration, over the same connection.
func asShard(control *replication.Control, cfg config.Config) *replication.Control {
	c := replicationConfig(cfg)
	c.DSN = control.Config().DSN
	return control.With(c)
}

// connectKafka makes sure that Kafka can be talked to. A broker that takes
// connections and answers nothing is not waited for as long as by a streamer.
func connectKafka(ctx context.Context, cfg config.Config) (*router.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	type outcome struct {
		client *router.Client
		err    error
	}
	connected := make(chan outcome, 1)
	go func() {
		client, err := router.Connect(clientConfig(cfg))
		connected <- outcome{client, err}
	}()
	select {
	case o := <-connected:
		return o.client, o.err
	case <-ctx.Done(): // the process ends before it would be closed
		return nil, fmt.Errorf("connect to Kafka at %v: %w", cfg.Kafka.Brokers, context.Cause(ctx))
	}
}

// newRouter makes the routes for what needs no stream.
func newRouter(cfg config.Config, database string) (*router.Router, error) {
	r := rules(cfg)
	r.Database = database
	return router.NewRouter(r)
}

// unknownDatabase stands for the name of the database where there is no
// connection to ask.
const unknownDatabase = "unknown-database"

// knownTopics are the topics that the rules can lead to: names, and what other
// names begin with. Without a database, names with {database} in them are known
// up to there.
func knownTopics(cfg config.Config, database string) (known, prefixes []string, err error) {
	if database == "" {
		database = unknownDatabase
	}
	routes, err := newRouter(cfg, database)
	if err != nil {
		return nil, nil, err
	}
	names, beginnings := routes.Topics()
	for _, name := range names {
		if before, _, found := strings.Cut(name, unknownDatabase); found {
			beginnings = append(beginnings, before)
		} else {
			known = append(known, name)
		}
	}
	for _, beginning := range beginnings {
		before, _, _ := strings.Cut(beginning, unknownDatabase)
		prefixes = append(prefixes, before)
	}
	return known, prefixes, nil
}

// identityOf is whose checkpoint the configured slot has.
func identityOf(server replication.Server, cfg config.Config) checkpoint.Identity {
	return checkpoint.Identity{SystemID: server.SystemID, Database: server.Database, Slot: cfg.Postgres.Slot}
}

// loadCheckpoint reads the stored record from whatever store and changes
// nothing: a store that does not exist is not created, a lock is not taken.
func loadCheckpoint(ctx context.Context, cfg config.Config, id checkpoint.Identity) (checkpoint.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if cfg.Checkpoint.Store == config.StoreFile {
		return loadFile(cfg.Checkpoint.File.Path, id)
	}
	store, done, err := sharedStore(ctx, cfg)
	if err != nil {
		return checkpoint.Record{}, err
	}
	defer done()
	return store.Load(ctx, id)
}

// sharedStore opens a store that streamers share, without creating it.
func sharedStore(ctx context.Context, cfg config.Config) (store checkpoint.Store, done func(), err error) {
	if cfg.Checkpoint.Store == config.StorePostgres {
		found, err := checkpointTableExists(ctx, cfg)
		if err != nil || !found {
			return nil, nil, missing(err, "table", cfg.Checkpoint.Postgres.Table)
		}
		table, err := openCheckpointTable(ctx, cfg)
		if err != nil {
			return nil, nil, err
		}
		return table, func() { _ = table.Close() }, nil
	}
	client, err := connectKafka(ctx, cfg)
	if err != nil {
		return nil, nil, err
	}
	topic := router.NewCompactedTopic(client, cfg.Checkpoint.Kafka.Topic)
	if existing, err := client.Exist(topic.Name()); err != nil || len(existing) == 0 {
		client.Close()
		return nil, nil, missing(err, "topic", topic.Name())
	}
	return checkpoint.NewKafka(topic), client.Close, nil
}

func missing(err error, what, name string) error {
	if err != nil {
		return fmt.Errorf("checkpoint %s %q: %w", what, name, err)
	}
	return fmt.Errorf("%s %q does not exist: %w", what, name, checkpoint.ErrNone)
}

func loadFile(path string, id checkpoint.Identity) (checkpoint.Record, error) {
	stored, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return checkpoint.Record{}, missing(nil, "file", path)
	}
	if err != nil {
		return checkpoint.Record{}, fmt.Errorf("load checkpoint: %w", err)
	}
	return checkpoint.Decode(stored, id, fmt.Sprintf("file %q", path))
}

// openCheckpointTable creates the table if it is missing.
func openCheckpointTable(ctx context.Context, cfg config.Config) (*checkpoint.PostgresStore, error) {
	dsn, err := cfg.CheckpointDSN().Reveal()
	if err != nil {
		return nil, failure.Misconfigure(fmt.Errorf("checkpoint.postgres.dsn: %w", err))
	}
	return checkpoint.OpenPostgres(ctx, dsn, cfg.Checkpoint.Postgres.Table)
}

func checkpointTableExists(ctx context.Context, cfg config.Config) (bool, error) {
	control, _, err := connectDatabase(ctx, cfg, cfg.CheckpointDSN(), "checkpoint.postgres.dsn")
	if err != nil {
		return false, err
	}
	defer control.Close()
	return control.TableExists(ctx, cfg.Checkpoint.Postgres.Table)
}

// checkpointPlace says where the record is kept.
func checkpointPlace(cfg config.Config) string {
	c := cfg.Checkpoint
	switch c.Store {
	case config.StoreFile:
		return "file " + c.File.Path
	case config.StorePostgres:
		return "table " + c.Postgres.Table
	}
	return "topic " + c.Kafka.Topic
}

// writeJSON writes a value in a form that people can read as well.
func (std streams) writeJSON(value any) error {
	encoder := json.NewEncoder(std.Out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

// writeLine writes a value as one line of JSON.
func (std streams) writeLine(value any) error {
	encoder := json.NewEncoder(std.Out)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}
