package site

import (
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/pipeline"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
	"github.com/outboxstream/streamer/router/kafka"
)

// metadataInterval is how often topics are checked for new partitions.
const metadataInterval = time.Minute

// PipelineConfig fills the configuration of each stage from the configuration
// file. It is the only place where the two meet.
func PipelineConfig(c config.Config, log *slog.Logger, m pipeline.Metrics) pipeline.Config {
	return pipeline.Config{
		DSN:         c.Postgres.DSN.Reveal,
		Replication: locking(ReplicationConfig(c)),
		Mapping:     Mapping(c.Outbox),
		Rules:       Rules(c),
		Client:      ClientConfig(c),
		Producer: router.ProducerConfig{
			Compression: c.Kafka.Compression, CompressionLevel: c.Kafka.CompressionLevel,
			MaxBatchBytes: int(c.Kafka.MaxBatchBytes), MaxInFlightBytes: int(c.Kafka.MaxInFlightBytes),
			Linger: c.Kafka.Linger, RequestTimeout: c.Kafka.RequestTimeout, UnknownGrace: c.Kafka.UnknownTopicGrace,
			StopOnGrowth: c.Kafka.OnPartitionChange == config.PartitionChangeStop,
			RetryInitial: c.Retry.Initial, RetryMax: c.Retry.Max, MetadataInterval: metadataInterval, Log: log,
			Traces: c.OTLP.Endpoint != "" && c.OTLP.Traces,
		},
		Reading: pipeline.Reading(c.Replication.Reader), CatchUpFrom: int64(c.Replication.CatchUpFrom),
		Rewind:   pipeline.Rewind{Keep: c.Rewind.Keep, MaxBytes: int64(c.Rewind.MaxBytes)},
		Snapshot: pipeline.Snapshot{Initial: c.Snapshot.Mode == config.SnapshotInitial, Query: SnapshotQuery(c), Rate: c.Snapshot.Rate},
		Cleanup: pipeline.Cleanup{
			Mode: pipeline.CleanupMode(c.Outbox.Cleanup.Mode), Retention: c.Outbox.Cleanup.Retention, Column: c.Outbox.CleanupColumn(),
			Batch: c.Outbox.Cleanup.BatchRows, Pause: c.Outbox.Cleanup.Pause, Interval: c.Outbox.Cleanup.Interval,
		},
		Resume: pipeline.Resume(c.Kafka.Resume), TransactionalIDPrefix: c.Kafka.TransactionalID,
		Checkpoint:     checkpointConfig(c),
		StatusInterval: c.Postgres.StatusInterval, BlockedTimeout: c.Postgres.BlockedTimeout,
		DrainTimeout: c.Shutdown.DrainTimeout, RetryInitial: c.Retry.Initial, RetryMax: c.Retry.Max,
		Log: log, Metrics: m,
	}
}

// SnapshotQuery selects the rows from before the slot.
func SnapshotQuery(c config.Config) replication.SnapshotQuery {
	return replication.SnapshotQuery{
		OrderBy: c.Snapshot.OrderBy, ID: c.Outbox.Columns.ID, Where: c.Snapshot.Where, ChunkRows: c.Snapshot.ChunkRows,
	}
}

func checkpointConfig(c config.Config) pipeline.CheckpointConfig {
	return pipeline.CheckpointConfig{
		Store: c.Checkpoint.Store, Interval: c.Checkpoint.Interval,
		Topic: c.Checkpoint.Kafka.Topic, ReplicationFactor: c.Checkpoint.Kafka.ReplicationFactor,
		DSN: c.CheckpointDSN().Reveal, Login: login(c, c.CheckpointAuth()), Table: c.Checkpoint.Postgres.Table, Path: c.Checkpoint.File.Path,
	}
}

// ReplicationConfig returns the configuration of the stream, without its DSN,
// which may be a secret.
func ReplicationConfig(c config.Config) replication.Config {
	return replication.Config{
		Slot: c.Postgres.Slot, Publication: c.Postgres.Publication, Table: c.Outbox.Table, Columns: Mapping(c.Outbox).ColumnNames(),
		ConnectTimeout: c.Postgres.ConnectTimeout, SenderTimeout: c.Postgres.WALSenderTimeout,
		Shard:      replication.Shard{Index: c.Shard.Index, Count: c.Shard.Count, Column: c.Outbox.Columns.AggregateID},
		TimeColumn: c.Outbox.Columns.Time,
		MaxRow:     int(c.Outbox.MaxRowBytes), Binary: c.Postgres.Binary,
		BulkReads: c.Replication.BulkReads, Login: login(c, c.Postgres.Auth),
	}
}

// lockTimeout is how long the server keeps the lock of an instance that sends
// nothing because it is frozen or cut off.
const lockTimeout = 15 * time.Second

func locking(c replication.Config) replication.Config {
	c.LockTimeout = lockTimeout
	return c
}

// Mapping says what the columns of the outbox table mean.
func Mapping(o config.Outbox) decoder.Mapping {
	schema, table := config.SplitTable(o.Table)
	columns := map[decoder.Attribute]string{
		decoder.ID: o.Columns.ID, decoder.AggregateType: o.Columns.AggregateType, decoder.AggregateID: o.Columns.AggregateID,
		decoder.Type: o.Columns.Type, decoder.Payload: o.Columns.Payload, decoder.Time: o.Columns.Time,
		decoder.Subject: o.Columns.Subject, decoder.Source: o.Columns.Source, decoder.DataSchema: o.Columns.DataSchema,
		decoder.DataContentType: o.Columns.DataContentType, decoder.TraceParent: o.Columns.TraceParent, decoder.TraceState: o.Columns.TraceState,
		decoder.CorrelationID: o.Columns.CorrelationID, decoder.CausationID: o.Columns.CausationID,
		decoder.PartitionKey: o.Columns.PartitionKey, decoder.Topic: o.Columns.Topic,
	}
	maps.DeleteFunc(columns, func(_ decoder.Attribute, column string) bool { return column == "" })
	return decoder.Mapping{Schema: schema, Table: table, Columns: columns, Extensions: o.Extensions}
}

// StreamedMapping returns the mapping that accepts the same rows as a stream:
// those of the given relation.
func StreamedMapping(o config.Outbox, t replication.Table) decoder.Mapping {
	m := Mapping(o)
	m.RelationID, m.RelationSince, m.Charset = t.OID, t.Since(), t.Charset()
	return m
}

// Rules returns the rules that say where events go, and in which form.
func Rules(c config.Config) router.Rules {
	m := Mapping(c.Outbox)
	r := router.Rules{
		Source: c.CloudEvents.Source, Type: c.CloudEvents.Type, DataSchema: c.CloudEvents.DataSchema,
		DataContentType: c.CloudEvents.DataContentType, Mode: router.Mode(c.CloudEvents.Mode),
		Topic: c.Kafka.Topic, Key: c.Kafka.Key, Partitioner: c.Kafka.Partitioner,
		NullPayload: router.NullPayload(c.Outbox.NullPayload), MaxRecordBytes: int(c.Kafka.MaxRecordBytes),
		Columns: m.Columns, Extensions: slices.Sorted(maps.Keys(m.Extensions)), Schema: m.Schema, Table: m.Table,
	}
	r.Poison = router.Policy(c.Poison.Policy)
	if c.HasDeadLetters() {
		r.DeadLetterTopic = c.Poison.Topic
	}
	r.Reserved = []router.Reserved{
		{Topic: c.Checkpoint.Kafka.Topic, Keeps: "the streamer's checkpoints"}, {Topic: c.Poison.Topic, Keeps: "the dead letters"},
	}
	for _, route := range c.Routes {
		r.Routes = append(r.Routes, router.Rule{
			AggregateType: route.AggregateType, Topic: route.Topic, Key: route.Key,
			Mode: router.Mode(route.Mode), NullPayload: router.NullPayload(route.NullPayload), Poison: router.Policy(route.Poison),
		})
	}
	return r
}

// ClientConfig returns the configuration of a Kafka client.
func ClientConfig(c config.Config) kafka.ClientConfig {
	k := c.Kafka
	client := kafka.ClientConfig{
		Brokers: k.Brokers, ClientID: k.ClientID, Version: k.Version, RequestTimeout: k.RequestTimeout,
		TLS: kafka.TLSConfig{
			Enabled: k.TLS.Enabled, CAFile: k.TLS.CAFile, CertFile: k.TLS.CertFile, KeyFile: k.TLS.KeyFile,
			ServerName: k.TLS.ServerName, InsecureSkipVerify: k.TLS.InsecureSkipVerify,
		},
		SASL: kafka.SASLConfig{
			Username: k.SASL.Username, Password: k.SASL.Password.Reveal,
			TokenURL: k.SASL.TokenURL, ClientID: k.SASL.ClientID, ClientSecret: k.SASL.ClientSecret.Reveal, Scopes: k.SASL.Scopes,
			Extensions: k.SASL.Extensions,
		},
		Topics: kafka.TopicConfig{
			Create: k.Topics.Create, Partitions: k.Topics.Partitions,
			ReplicationFactor: k.Topics.ReplicationFactor, Configs: k.Topics.Configs,
		},
		TopicSettings: map[string]map[string]string{c.Poison.Topic: DeadLetterSettings(c)},
	}
	client.SASL.Mechanism, client.SASL.Token = bearer(c)
	if k.SASL.Mechanism == config.MechanismAWS {
		client.SASL.Advice = "allow the AWS identity kafka-cluster:Connect on the cluster; `streamer doctor` shows the identity and the clock"
	}
	return client
}
