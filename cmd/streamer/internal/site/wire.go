package site

import (
	"log/slog"
	"maps"
	"slices"
	"strings"
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
		Mappings:    Mappings(c),
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
		Cleanups: cleanups(c),
		Resume:   pipeline.Resume(c.Kafka.Resume), TransactionalIDPrefix: c.Kafka.TransactionalID,
		Checkpoint:     checkpointConfig(c),
		StatusInterval: c.Postgres.StatusInterval, BlockedTimeout: c.Postgres.BlockedTimeout,
		DrainTimeout: c.Shutdown.DrainTimeout, RetryInitial: c.Retry.Initial, RetryMax: c.Retry.Max,
		Log: log, Metrics: m,
	}
}

func cleanups(c config.Config) (list []pipeline.Cleanup) {
	for _, o := range c.Tables() {
		list = append(list, pipeline.Cleanup{
			Mode: pipeline.CleanupMode(o.Cleanup.Mode), Retention: o.Cleanup.Retention, Column: o.CleanupColumn(),
			Batch: o.Cleanup.BatchRows, Pause: o.Cleanup.Pause, Interval: o.Cleanup.Interval,
		})
	}
	return list
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
	r := replication.Config{
		Slot: c.Postgres.Slot, Publication: c.Postgres.Publication,
		ConnectTimeout: c.Postgres.ConnectTimeout, SenderTimeout: c.Postgres.WALSenderTimeout,
		Shard:  replication.Shard{Index: c.Shard.Index, Count: c.Shard.Count},
		Binary: c.Postgres.Binary, BulkReads: c.Replication.BulkReads, Login: login(c, c.Postgres.Auth),
	}
	for _, o := range c.Tables() {
		outbox := Outbox(o)
		outbox.Compatible = compatible(c, o)
		r.Outboxes = append(r.Outboxes, outbox)
		r.MaxRow = max(r.MaxRow, int(o.MaxRowBytes))
	}
	return r
}

// Outbox returns what the stream, and queries of the table, need to know about it.
func Outbox(o config.Outbox) replication.Outbox {
	if o.Messages != "" {
		return replication.Outbox{Messages: o.Messages}
	}
	return replication.Outbox{
		Table: o.Table, Columns: Mapping(o).ColumnNames(), Documents: Mapping(o).Documents(),
		TimeColumn: o.TimeColumn(), TimeUnit: timeUnits[o.TimeUnit],
		AggregateID: o.Columns.AggregateID, // with shards, validation keeps pointers out
		ID:          o.IDColumn(), Source: sourceOf(o),
	}
}

// sourceOf is the source of a table's events, as far as it is the same for all.
// That of a pattern keeps the placeholders for the names.
func sourceOf(o config.Outbox) string {
	switch {
	case o.Columns.Source != "":
		return o.Table // its rows say it
	case o.IsPattern():
		return o.Source
	}
	schema, name := config.SplitTable(o.Table)
	return strings.NewReplacer("{table}", schema+"."+name, "{schema}", schema).Replace(o.Source)
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
	if o.Messages != "" {
		return decoder.Mapping{Messages: o.Messages, Columns: decoder.MessageColumns(), Defaults: defaults(o.Defaults)}
	}
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
	return decoder.Mapping{
		Schema: schema, Table: table, Columns: columns, Extensions: o.Extensions, Defaults: defaults(o.Defaults), TimeUnit: timeUnits[o.TimeUnit],
		Headers: headerColumns(o),
	}
}

// timeUnits are the values of outbox.time_unit in microseconds.
var timeUnits = map[string]int64{"seconds": 1_000_000, "milliseconds": 1000, "microseconds": 1}

func defaults(d config.Defaults) map[decoder.Attribute]string {
	constants := map[decoder.Attribute]string{
		decoder.AggregateType: d.AggregateType, decoder.AggregateID: d.AggregateID, decoder.Type: d.Type,
		decoder.DataContentType: d.DataContentType,
	}
	maps.DeleteFunc(constants, func(_ decoder.Attribute, constant string) bool { return constant == "" })
	return constants
}

// Mappings are those of all outbox tables.
func Mappings(c config.Config) (list []decoder.Mapping) {
	for _, o := range c.Tables() {
		list = append(list, compatibleMapping(c, o))
	}
	return list
}

// LocatedMappings are those for a stream from a server with these tables.
func LocatedMappings(c config.Config, tables []replication.Table, server replication.Server) []decoder.Mapping {
	return decoder.Located(Mappings(c), tables, server.Encoding)
}

// Rules returns the rules that say where events go, and in which form.
func Rules(c config.Config) router.Rules {
	r := router.Rules{Partitioner: c.Kafka.Partitioner, MaxRecordBytes: int(c.Kafka.MaxRecordBytes)}
	r.Compatibility = router.Compatibility(c.CloudEvents.Compatibility)
	if c.HasDeadLetters() {
		r.DeadLetterTopic = c.Poison.Topic
	}
	r.Reserved = []router.Reserved{
		{Topic: c.Checkpoint.Kafka.Topic, Keeps: "the streamer's checkpoints"}, {Topic: c.Poison.Topic, Keeps: "the dead letters"},
	}
	for i, o := range c.Tables() {
		r.Tables = append(r.Tables, tableRules(c, o, c.Entry(i)))
	}
	return r
}

func tableRules(c config.Config, o config.Outbox, entry string) router.TableRules {
	m := Mapping(o)
	t := router.TableRules{
		Entry: entry, Name: o.Name(), Schema: m.Schema, Table: m.Table, Messages: m.Messages, Columns: m.Columns, Defaults: m.Defaults,
		Extensions: slices.Sorted(maps.Keys(m.Extensions)), Headers: headerNames(c, o), Source: o.Source,
		Type: c.CloudEvents.Type, DataSchema: c.CloudEvents.DataSchema,
		DataContentType: c.CloudEvents.DataContentType, Mode: router.Mode(c.CloudEvents.Mode),
		Topic: o.Topic, Key: o.Key, NullPayload: router.NullPayload(o.NullPayload), Poison: router.Policy(o.Poison),
	}
	for _, route := range o.Routes {
		t.Routes = append(t.Routes, router.Rule{
			AggregateType: route.AggregateType, Topic: route.Topic, Key: route.Key,
			Mode: router.Mode(route.Mode), NullPayload: router.NullPayload(route.NullPayload), Poison: router.Policy(route.Poison),
		})
	}
	return t
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
