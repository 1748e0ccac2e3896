package config

import "time"

// Default returns the configuration that applies where nothing is set. It is
// complete: a server and a broker on this machine and a table with Debezium's
// column names need no configuration at all.
func Default() Config {
	return Config{
		Postgres: Postgres{
			Slot:             "streamer",
			Publication:      "streamer",
			ConnectTimeout:   10 * time.Second,
			StatusInterval:   time.Second,      // an acknowledged event is confirmed within 10 s; this leaves a wide margin
			WALSenderTimeout: 30 * time.Second, // half of PostgreSQL's default, so that a dead peer is noticed sooner
			BlockedTimeout:   30 * time.Second, // any longer, and an unread walsender begins to hurt the server
		},
		Shard: Shard{Count: 1},
		Replication: Replication{
			Reader:      "auto",
			CatchUpFrom: 64 << 20, // half a second's work: less is not worth changing the reader
			BulkReads:   true,
		},
		Rewind:   Rewind{MaxBytes: 10 << 30},                      // the disk space is the server's: nothing is kept unless configured
		Snapshot: Snapshot{Mode: SnapshotNone, ChunkRows: 50_000}, // old events are a surprise to consumers unless they were asked for
		Outbox: Outbox{
			Table: "public.outbox",
			// The names Debezium's outbox event router expects, so that existing tables
			// fit.
			Columns: Columns{
				ID:            "id",
				AggregateType: "aggregatetype",
				AggregateID:   "aggregateid",
				Type:          "type",
				Payload:       "payload",
			},
			TimeUnit:    "milliseconds",      // as Debezium writes bigint times
			NullPayload: NullPayloadJSONNull, // an event without data is legal; a tombstone must be configured
			Cleanup:     Cleanup{Mode: CleanupNone, Retention: 24 * time.Hour, BatchRows: 500, Pause: 50 * time.Millisecond, Interval: time.Minute},
			MaxRowBytes: 16 << 20, // bounds the memory one row can take; far above what a broker accepts by default
		},
		CloudEvents: CloudEvents{
			Source: "/outbox/{database}/{table}", // unique within one cluster without knowing its public name
			Type:   "{type}",
			Mode:   ModeBinary, // keeps the payload bytes as they are
		},
		Kafka: Kafka{
			Brokers:           []string{"127.0.0.1:9092"},
			Topic:             "outbox.event.{aggregate_type}",
			Key:               "{aggregate_id}",
			ClientID:          "streamer",
			Compression:       "lz4",            // the best ratio of size to processor time for JSON
			Partitioner:       "murmur2",        // Java producers choose the same partition
			MaxBatchBytes:     900 << 10,        // leaves room for headers below the brokers' default limit of 1048588 bytes
			MaxInFlightBytes:  8 << 20,          // several full batches for each of a few brokers
			RequestTimeout:    30 * time.Second, // the default of the Java producer
			UnknownTopicGrace: 10 * time.Second, // metadata of a new topic needs a moment to reach every broker
			OnPartitionChange: PartitionChangeContinue,
			Resume:            "auto",
			TransactionalID:   "streamer-", // one ACL on a prefix serves all
		},
		Poison: Poison{Policy: PoisonStop, Topic: "outbox.dead-letters"}, // the operator decides, unless configured otherwise
		Checkpoint: Checkpoint{
			Store:    StoreKafka, // needs no disk and no write access to the database
			Interval: time.Second,
			Kafka:    CheckpointKafka{Topic: "streamer-checkpoints"},
			Postgres: CheckpointPostgres{Table: "public.streamer_checkpoint"},
			File:     CheckpointFile{Path: "streamer.checkpoint"},
		},
		HTTP:     HTTP{Listen: "127.0.0.1:9180", Page: true}, // reachable from outside only when configured
		OTLP:     OTLP{Traces: true, Interval: time.Minute},  // metrics are scraped
		Log:      Log{Level: "info", Format: LogFormatAuto},
		Shutdown: Shutdown{DrainTimeout: 8 * time.Second}, // with the rest of a stop this stays within 10 s
		Retry:    Retry{Initial: 250 * time.Millisecond, Max: 10 * time.Second},
	}
}
