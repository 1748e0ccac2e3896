package site

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/ops"
	"github.com/outboxstream/streamer/internal/pipeline"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
	"github.com/outboxstream/streamer/router/kafka"
)

// everything sets all keys that reach a stage, each to a value of its own, so
// that two fields that were exchanged differ from what is expected.
var everything = []string{
	"postgres.dsn=postgres://main", "postgres.slot=slot", "postgres.publication=publication", "postgres.connect_timeout=1s",
	"postgres.status_interval=2s", "postgres.wal_sender_timeout=5s", "postgres.blocked_timeout=4s", "postgres.binary=true",
	"replication.reader=catch-up", "replication.catch_up_from=5KiB", "replication.bulk_reads=true",
	"rewind.keep=6s", "rewind.max_bytes=7MiB",
	"snapshot.mode=initial", "snapshot.order_by=c_order", "snapshot.where=true", "snapshot.chunk_rows=130", "snapshot.rate=31",
	"outbox.table=events.letters", "outbox.null_payload=reject", "outbox.max_row_bytes=8KiB", "outbox.extensions.tenant=c_tenant",
	"outbox.columns.id=c_id", "outbox.columns.aggregate_type=c_aggregate_type", "outbox.columns.aggregate_id=c_aggregate_id",
	"outbox.columns.type=c_type", "outbox.columns.payload=c_payload", "outbox.columns.time=c_time",
	"outbox.columns.subject=c_document#/subject", "outbox.columns.source=c_source", "outbox.columns.dataschema=c_dataschema",
	"outbox.columns.datacontenttype=c_datacontenttype", "outbox.columns.traceparent=c_traceparent",
	"outbox.columns.tracestate=c_tracestate", "outbox.columns.correlationid=c_correlationid",
	"outbox.columns.causationid=c_causationid", "outbox.columns.partition_key=c_partition_key", "outbox.columns.topic=c_topic",
	"outbox.defaults.aggregate_type=d_aggregate_type", "outbox.defaults.aggregate_id=d_aggregate_id", "outbox.defaults.type=d_type",
	"outbox.defaults.datacontenttype=d/content", "outbox.time_unit=seconds",
	"outbox.cleanup.mode=delete", "outbox.cleanup.retention=9s", "outbox.cleanup.time_column=c_written",
	"outbox.cleanup.batch_rows=10", "outbox.cleanup.pause=11s", "outbox.cleanup.interval=12s",
	"cloudevents.source=/source", "cloudevents.type=type", "cloudevents.mode=structured",
	"cloudevents.datacontenttype=text/plain", "cloudevents.dataschema=urn:schema",
	`routes=[{"aggregate_type": "r_*", "topic": "r.topic", "key": "r_key", "mode": "binary", "null_payload": "tombstone", "poison": "stop"}]`,
	"poison.policy=dead-letter", "poison.topic=dead.letters",
	"kafka.brokers=broker:1", "kafka.topic=topic", "kafka.key=key", "kafka.client_id=client", "kafka.version=3.6.0",
	"kafka.compression=zstd", "kafka.compression_level=13", "kafka.partitioner=crc32", "kafka.max_batch_bytes=14KiB",
	"kafka.max_record_bytes=15KiB", "kafka.max_in_flight_bytes=16KiB", "kafka.linger=17s", "kafka.request_timeout=18s",
	"kafka.unknown_topic_grace=19s", "kafka.on_partition_change=stop", "kafka.resume=exactly_once",
	"kafka.transactional_id_prefix=prefix-",
	"kafka.topics.create=true", "kafka.topics.partitions=20", "kafka.topics.replication_factor=21",
	"kafka.topics.configs.segment.ms=22",
	"kafka.tls.enabled=true", "kafka.tls.server_name=server",
	"kafka.sasl.mechanism=PLAIN", "kafka.sasl.username=user", "kafka.sasl.password=password",
	"checkpoint.store=kafka", "checkpoint.interval=23s", "checkpoint.kafka.topic=checkpoints", "checkpoint.kafka.replication_factor=24",
	"checkpoint.postgres.dsn=postgres://other", "checkpoint.postgres.table=kept.positions", "checkpoint.file.path=position",
	"shutdown.drain_timeout=25s", "retry.initial=26s", "retry.max=27s", "otlp.endpoint=http://collector:4318",
}

// whole is the pipeline's configuration with everything set. Keys that the
// validation does not allow beside the others are set afterwards.
func whole(t *testing.T) pipeline.Config {
	t.Helper()
	c := configured(t, everything...)
	c.Shard.Index, c.Shard.Count = 28, 29
	c.Kafka.TLS.CAFile, c.Kafka.TLS.CertFile, c.Kafka.TLS.KeyFile = "ca", "cert", "key"
	c.Kafka.TLS.InsecureSkipVerify = true
	c.Kafka.SASL.TokenURL, c.Kafka.SASL.ClientID, c.Kafka.SASL.Scopes = "token", "oauth", []string{"scope"}
	c.Kafka.SASL.ClientSecret = c.Kafka.SASL.Password
	c.Kafka.SASL.Extensions = map[string]string{"logicalCluster": "lkc-1"}
	c.CloudEvents.Compatibility, c.Outbox.Headers = config.DebeziumConnect, map[string]string{"zTenant": "h_tenant", "aType": "h_type"}
	return PipelineConfig(c, slog.New(slog.DiscardHandler), ops.NewMetrics("test"))
}

func TestEveryKeyReachesItsField(t *testing.T) {
	t.Parallel()
	got := whole(t)
	for name, c := range map[string]struct {
		reveal func(context.Context) (string, error)
		want   string
	}{
		"postgres.dsn": {got.DSN, "postgres://main"}, "checkpoint.postgres.dsn": {got.Checkpoint.DSN, "postgres://other"},
		"kafka.sasl.password": {got.Client.SASL.Password, "password"},
	} {
		text, err := c.reveal(t.Context())
		require.NoError(t, err, name)
		assert.Equal(t, c.want, text, name)
	}
	assert.NotNil(t, got.Log)
	assert.NotNil(t, got.Producer.Log)
	assert.NotNil(t, got.Metrics)
	// Functions and what is handed through cannot be compared.
	got.DSN, got.Checkpoint.DSN, got.Client.SASL.Password, got.Client.SASL.ClientSecret = nil, nil, nil, nil
	got.Log, got.Producer.Log, got.Metrics = nil, nil, nil
	assert.Equal(t, pipeline.Config{
		Replication: wantReplication(), Mappings: []decoder.Mapping{wantMapping()}, Rules: wantRules(),
		Client: wantClient(), Producer: wantProducer(),
		Checkpoint: pipeline.CheckpointConfig{
			Store: "kafka", Interval: 23 * time.Second, Topic: "checkpoints", ReplicationFactor: 24, Table: "kept.positions", Path: "position",
		},
		Resume: pipeline.ResumeExactlyOnce, Reading: "catch-up", CatchUpFrom: 5 << 10,
		Rewind: pipeline.Rewind{Keep: 6 * time.Second, MaxBytes: 7 << 20},
		Snapshot: pipeline.Snapshot{
			Initial: true, Query: replication.SnapshotQuery{OrderBy: "c_order", ID: "c_id", Where: "true", ChunkRows: 130}, Rate: 31,
		},
		Cleanups: []pipeline.Cleanup{{
			Mode: "delete", Retention: 9 * time.Second, Column: "c_written", Batch: 10, Pause: 11 * time.Second, Interval: 12 * time.Second,
		}},
		TransactionalIDPrefix: "prefix-", StatusInterval: 2 * time.Second, BlockedTimeout: 4 * time.Second,
		DrainTimeout: 25 * time.Second, RetryInitial: 26 * time.Second, RetryMax: 27 * time.Second,
	}, got)
}

func TestTokenReachesItsField(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "token")
	c := ClientConfig(configured(t, "kafka.sasl.mechanism=OAUTHBEARER", "kafka.sasl.allow_plaintext=true", "kafka.sasl.token=file:"+file))
	_, err := c.SASL.Token(t.Context())
	require.ErrorContains(t, err, "kafka.sasl.token")
	assert.Equal(t, failure.Misconfigured, failure.ClassOf(err))
	require.NoError(t, os.WriteFile(file, []byte("token\n"), 0o600))
	token, err := c.SASL.Token(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "token", token)
}

func wantReplication() replication.Config {
	return replication.Config{
		Slot: "slot", Publication: "publication", Shard: replication.Shard{Index: 28, Count: 29},
		Outboxes: []replication.Outbox{{
			Table: "events.letters", Columns: wantMapping().ColumnNames(), Documents: []string{"c_document"},
			TimeColumn: "c_time", TimeUnit: 1_000_000, AggregateID: "c_aggregate_id",
			ID: "c_id", Source: "events.letters",
			Compatible: replication.Compatible{
				Keys: []string{"c_id", "c_aggregate_id", "c_partition_key"}, Payload: "c_payload", Headers: []string{"h_type", "h_tenant"},
			},
		}},
		ConnectTimeout: time.Second, LockTimeout: 15 * time.Second, SenderTimeout: 5 * time.Second,
		MaxRow: 8 << 10, BulkReads: true, Binary: true,
	}
}

func wantMapping() decoder.Mapping {
	return decoder.Mapping{
		Schema: "events", Table: "letters", Extensions: map[string]string{"tenant": "c_tenant"}, TimeUnit: 1_000_000,
		Headers: []string{"c_id", "h_type", "h_tenant"}, AsDebezium: true,
		Defaults: map[decoder.Attribute]string{
			decoder.AggregateType: "d_aggregate_type", decoder.AggregateID: "d_aggregate_id", decoder.Type: "d_type",
			decoder.DataContentType: "d/content",
		},
		Columns: map[decoder.Attribute]string{
			decoder.ID: "c_id", decoder.AggregateType: "c_aggregate_type", decoder.AggregateID: "c_aggregate_id",
			decoder.Type: "c_type", decoder.Payload: "c_payload", decoder.Time: "c_time", decoder.Subject: "c_document#/subject",
			decoder.Source: "c_source", decoder.DataSchema: "c_dataschema", decoder.DataContentType: "c_datacontenttype",
			decoder.TraceParent: "c_traceparent", decoder.TraceState: "c_tracestate", decoder.CorrelationID: "c_correlationid",
			decoder.CausationID: "c_causationid", decoder.PartitionKey: "c_partition_key", decoder.Topic: "c_topic",
		},
	}
}

func wantRules() router.Rules {
	return router.Rules{
		Partitioner: "crc32", MaxRecordBytes: 15 << 10, DeadLetterTopic: "dead.letters", Compatibility: router.DebeziumConnect,
		Reserved: []router.Reserved{
			{Topic: "checkpoints", Keeps: "the streamer's checkpoints"}, {Topic: "dead.letters", Keeps: "the dead letters"},
		},
		Tables: []router.TableRules{{
			Name: "events.letters", Schema: "events", Table: "letters", Columns: wantMapping().Columns, Defaults: wantMapping().Defaults,
			Extensions: []string{"tenant"}, Headers: []string{"id", "aType", "zTenant"},
			Source: "/source", Type: "type", DataSchema: "urn:schema", DataContentType: "text/plain", Topic: "topic", Key: "key",
			Mode: "structured", NullPayload: "reject", Poison: "dead-letter",
			Routes: []router.Rule{{
				AggregateType: "r_*", Topic: "r.topic", Key: "r_key", Mode: "binary", NullPayload: "tombstone", Poison: "stop",
			}},
		}},
	}
}

func wantClient() kafka.ClientConfig {
	return kafka.ClientConfig{
		Brokers: []string{"broker:1"}, ClientID: "client", Version: "3.6.0", RequestTimeout: 18 * time.Second,
		TLS: kafka.TLSConfig{
			Enabled: true, CAFile: "ca", CertFile: "cert", KeyFile: "key", ServerName: "server", InsecureSkipVerify: true,
		},
		SASL: kafka.SASLConfig{
			Mechanism: "PLAIN", Username: "user", TokenURL: "token", ClientID: "oauth", Scopes: []string{"scope"},
			Extensions: map[string]string{"logicalCluster": "lkc-1"},
		},
		Topics: kafka.TopicConfig{Create: true, Partitions: 20, ReplicationFactor: 21, Configs: map[string]string{"segment.ms": "22"}},
		TopicSettings: map[string]map[string]string{"dead.letters": {
			"segment.ms": "22", "cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1", "max.message.bytes": "1056768",
		}},
	}
}

func wantProducer() router.ProducerConfig {
	return router.ProducerConfig{
		Compression: "zstd", CompressionLevel: 13, MaxBatchBytes: 14 << 10, MaxInFlightBytes: 16 << 10,
		Linger: 17 * time.Second, RequestTimeout: 18 * time.Second, UnknownGrace: 19 * time.Second, StopOnGrowth: true,
		RetryInitial: 26 * time.Second, RetryMax: 27 * time.Second, MetadataInterval: time.Minute, Traces: true,
	}
}

// A field that is added to a stage, and is not filled, is noticed here. The
// others are filled while streaming.
func TestNoFieldIsForgotten(t *testing.T) {
	t.Parallel()
	empty := emptyFields("", reflect.ValueOf(whole(t)))
	assert.Equal(t, []string{
		"Checkpoint.Login", "Client.SASL.Advice", "Client.SASL.Token", // for identities that issue tokens
		"Mappings[0].Charset", "Mappings[0].Messages", "Mappings[0].RelationID", "Mappings[0].RelationSince", // of a table, not of messages
		"Producer.Foreign", "Producer.Found", "Producer.Held", "Producer.Passage", "Replay", "Replication.DSN", "Replication.Login",
		"Replication.Outboxes[0].Entry", "Replication.Outboxes[0].Messages", "Replication.Outboxes[0].Pattern",
		"Rules.Database", "Rules.Replay", "Rules.Snapshot", "Rules.StreamID", "Rules.Tables[0].Entry", "Rules.Tables[0].Messages",
		"Rules.Unsequenced", "Until",
	}, empty)
}

// emptyFields names the fields that have their zero value, sorted.
func emptyFields(path string, value reflect.Value) (empty []string) {
	if value.IsZero() {
		return []string{path}
	}
	switch value.Kind() {
	case reflect.Struct:
		for i := range value.NumField() {
			name := value.Type().Field(i).Name
			if path != "" {
				name = path + "." + name
			}
			empty = append(empty, emptyFields(name, value.Field(i))...)
		}
	case reflect.Slice:
		for i := range value.Len() {
			empty = append(empty, emptyFields(fmt.Sprintf("%s[%d]", path, i), value.Index(i))...)
		}
	default:
	}
	slices.Sort(empty)
	return empty
}

func TestMappingLeavesOutWhatIsNotMapped(t *testing.T) {
	t.Parallel()
	m := Mapping(configured(t, "outbox.columns.subject=about").Outbox)
	assert.NotContains(t, m.Columns, decoder.Time)
	assert.Equal(t, "about", m.Columns[decoder.Subject])
	assert.Equal(t, []string{"about", "aggregateid", "aggregatetype", "id", "payload", "type"}, m.ColumnNames())
}

// Whatever is kept where, and whatever happens to bad rows, no row may choose
// the topic of the dead letters or that of the checkpoints.
func TestRulesOfTopicsThatNoRowMayChoose(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		settings []string
		letters  string
	}{
		"defaults":    {nil, ""},
		"file":        {[]string{"checkpoint.store=file"}, ""},
		"all letters": {[]string{"checkpoint.store=file", "poison.policy=dead-letter"}, "l"},
		"letters of one": {
			[]string{"checkpoint.store=file", `routes=[{"aggregate_type": "a", "poison": "dead-letter"}]`}, "l",
		},
	} {
		r := Rules(configured(t, append(c.settings, "checkpoint.kafka.topic=c", "poison.topic=l")...))
		assert.Equal(t, c.letters, r.DeadLetterTopic, name)
		assert.Equal(t, []string{"c", "l"}, []string{r.Reserved[0].Topic, r.Reserved[1].Topic}, name)
		r.StreamID, r.Database = "stream", "shop"
		routes, err := router.NewRouter(r)
		require.NoError(t, err, name)
		for _, topic := range []string{"c", "l"} {
			e := decoder.Event{}
			e.SetAttribute(decoder.Topic, []byte(topic))
			_, err = routes.Route(&e)
			assert.ErrorContains(t, err, "takes no events", name)
		}
	}
}

// Spans are for a collector that is named and asks for them.
func TestTracesAreForACollector(t *testing.T) {
	t.Parallel()
	for want, settings := range map[bool][]string{
		true: {"otlp.endpoint=http://collector:4318"}, false: {"otlp.endpoint=http://collector:4318", "otlp.traces=false"},
	} {
		c := PipelineConfig(configured(t, settings...), nil, nil)
		assert.Equal(t, want, c.Producer.Traces)
	}
	assert.False(t, PipelineConfig(configured(t), nil, nil).Producer.Traces, "no collector")
}

// The configuration and the decoder say the same about the content of messages.
func TestColumnsOfMessages(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "streamer.yaml")
	require.NoError(t, os.WriteFile(file, []byte("outbox: {messages: orders}"), 0o600))
	loaded, err := config.Load(config.Options{File: file, FileExplicit: true})
	require.NoError(t, err)
	o := loaded.Config.Outbox
	m := Mapping(o)
	assert.Equal(t, decoder.MessageColumns(), m.Columns)
	o.Messages = ""
	assert.Equal(t, m.Columns, Mapping(o).Columns)
}
