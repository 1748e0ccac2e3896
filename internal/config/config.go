package config

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/outboxstream/streamer/internal/pgname"
)

// Config is everything that the operator can set. The tags of each field carry
// its key (koanf), its meaning (doc), the values it accepts (enum; an empty
// first item means "may be empty") and its bounds (min, max). Loading,
// validation, the reference document and the JSON Schema are all derived from
// these tags, so each key is described in one place only.
type Config struct {
	Postgres    Postgres    `koanf:"postgres" doc:"The PostgreSQL server, the replication slot and the publication to read."`
	Shard       Shard       `koanf:"shard" doc:"The part of the outbox table that this streamer reads when several share the work. PostgreSQL 15 or later."`
	Replication Replication `koanf:"replication" doc:"How the WAL is read."`
	Rewind      Rewind      `koanf:"rewind" doc:"How much WAL is kept so that past events can be published again: see streamer replay."`
	Snapshot    Snapshot    `koanf:"snapshot" doc:"What the first start of a slot does about rows that were in the outbox table before the slot: see docs/how-to/first-start.md."`
	Outbox      Outbox      `koanf:"outbox" doc:"The outbox table and what its columns mean."`
	Outboxes    []Outbox    `koanf:"outboxes" like:"outbox" required:"table|messages" example:"[{table: sales.outbox}, {table: stock.outbox, source: /stock}]" doc:"Several outbox tables, or prefixes of messages, instead of outbox. Their events are published in one order, that of the commits."`
	CloudEvents CloudEvents `koanf:"cloudevents" doc:"How an outbox row becomes a CloudEvent."`
	Routes      []Route     `koanf:"routes" required:"aggregate_type" example:"[{aggregate_type: order, topic: orders}]" doc:"Exceptions by aggregate type. The first route that matches wins; keys that it leaves empty fall back to the general ones."`
	Poison      Poison      `koanf:"poison" doc:"Rows that can never be published."`
	Kafka       Kafka       `koanf:"kafka" doc:"The Kafka brokers, the topics and how records are sent."`
	AWS         AWS         `koanf:"aws" doc:"The AWS identity for kafka.sasl.mechanism AWS_MSK_IAM and for postgres.auth aws-rds-iam. It comes from AWS's default chain: environment variables, IRSA, a profile, Pod Identity or the instance role."`
	Checkpoint  Checkpoint  `koanf:"checkpoint" doc:"Where the streamer keeps the position up to which everything is published."`
	HTTP        HTTP        `koanf:"http" doc:"The endpoint for health, readiness, metrics and the status page."`
	OTLP        OTLP        `koanf:"otlp" doc:"Traces and metrics for an OpenTelemetry collector."`
	Log         Log         `koanf:"log" doc:"What is logged, and how."`
	Shutdown    Shutdown    `koanf:"shutdown" doc:"How the process ends."`
	Retry       Retry       `koanf:"retry" doc:"How long to wait between two sessions after a transient error."`
}

// Postgres describes the server to read, and the slot and the publication on it
// that belong to the streamer.
type Postgres struct {
	DSN              DSN           `koanf:"dsn" doc:"Connection URL or key=value string, or a file: or exec: reference. What it leaves out comes from the PG* variables. application_name has no effect: it is always streamer: and the name of the slot."`
	Auth             string        `koanf:"auth" enum:",aws-rds-iam" doc:"How to log in; empty: as postgres.dsn says; aws-rds-iam: with a token of the AWS identity, a new one for each connection, by TLS only."`
	Slot             string        `koanf:"slot" doc:"Logical replication slot."`
	Publication      string        `koanf:"publication" doc:"Publication that contains the outbox table."`
	ConnectTimeout   time.Duration `koanf:"connect_timeout" min:"1ms" doc:"Time limit for opening a connection."`
	StatusInterval   time.Duration `koanf:"status_interval" min:"1ms" doc:"Interval of the status updates that confirm the position to the server."`
	WALSenderTimeout time.Duration `koanf:"wal_sender_timeout" min:"1s" doc:"The server's wal_sender_timeout, set for the streamer's own connection. After a longer silence from the server, the streamer reconnects."`
	BlockedTimeout   time.Duration `koanf:"blocked_timeout" min:"1s" doc:"How long a replication connection may stay unread because Kafka holds the streamer up. It is then closed, because an unread connection holds back the server."`
	Binary           bool          `koanf:"binary" doc:"Ask the server for column values in binary form."`
}

// Shard is one of several parts of the outbox table, by a hash of the aggregate
// ID.
type Shard struct {
	Index int `koanf:"index" min:"0" max:"999" doc:"Which part, counted from 0. In a StatefulSet, the ordinal of the pod."`
	Count int `koanf:"count" min:"1" max:"1000" doc:"How many parts there are; 1: the whole table. With more, the part is appended to postgres.slot and postgres.publication, as in streamer_0_of_4. Changing it takes a procedure: see docs/how-to/shards.md."`
}

// Replication configures how the WAL is read.
type Replication struct {
	Reader      string `koanf:"reader" enum:"auto,stream,catch-up" doc:"How the WAL is read: auto streams, but catches up by SQL, through temporary copies of the slot, while far behind; stream only streams; catch-up only reads by SQL."`
	CatchUpFrom Size   `koanf:"catch_up_from" min:"1KiB" doc:"The lag, in bytes of WAL, from which auto catches up by SQL. At an eighth of that, it streams again."`
	BulkReads   bool   `koanf:"bulk_reads" doc:"Read in bulk while the server sends much, instead of waking up for every message; on Linux only."`
}

// Rewind configures how much of the past is kept.
type Rewind struct {
	Keep     time.Duration `koanf:"keep" min:"0s" doc:"How long the server keeps WAL for replays, by a second slot that stays behind on purpose, named after postgres.slot with the suffix _rewind; 0s: not at all."`
	MaxBytes Size          `koanf:"max_bytes" min:"1MiB" doc:"How much of the server's disk this WAL may take. At this limit, less of the past is kept."`
}

// Snapshot configures what becomes of the rows from before the slot.
type Snapshot struct {
	Mode      string `koanf:"mode" enum:"none,initial" doc:"none publishes only what is committed after the slot was created; initial publishes the rows from before first, in the order of snapshot.order_by, and then the stream. It applies to a slot that has not been streamed yet."`
	OrderBy   string `koanf:"order_by" doc:"Column that says in which order the rows from before the slot are published; rows with the same value follow in the order of outbox.columns.id. A uuid, which has no order, is refused, and so is a column that may be NULL. Required with initial."`
	Where     string `koanf:"where" doc:"Condition in SQL for the rows from before the slot that are published, as in the WHERE of a SELECT; empty: all of them. It must not change while the snapshot is under way, and neither must the rows that it selects."`
	ChunkRows int    `koanf:"chunk_rows" min:"100" max:"1000000" doc:"How many rows are read as of one moment. Reading ends after 10 s in any case, because the server keeps dead rows for it meanwhile."`
	Rate      int    `koanf:"rate" min:"0" max:"10000000" doc:"Largest number of rows published per second; 0: as fast as they can be read."`
}

// Outbox describes the outbox table.
type Outbox struct {
	Preset      string            `koanf:"preset" enum:",axon,brighter,cap,debezium,django,event-store,eventuate-tram,marten,masstransit,message-db,nservicebus,pg-transactional-outbox,quarkus,rails,rails-event-store,spring-modulith,watermill,wolverine" doc:"The framework that writes the table. It fills table, columns, defaults, extensions, time_unit and null_payload; keys that you set take precedence. See docs/presets.md for each."`
	Table       string            `koanf:"table" doc:"Outbox table as schema.table, spelled as in the catalog. A bare name is in schema public. A name with a dot or a quote is written in double quotes, as in SQL. In outboxes, a * stands for any text: tenant_*.outbox is every such table, also one that appears later."`
	Messages    string            `koanf:"messages" doc:"Prefix of messages, instead of a table: what transactions write with pg_logical_emit_message(true, prefix, content), where the content is a CloudEvent in JSON. It says everything that columns and extensions say of a table, so these cannot be set. See docs/how-to/messages.md."`
	Columns     Columns           `koanf:"columns" doc:"Which column holds what. An optional column whose key is empty is not read. column#/json/pointer is a value inside JSON that a json, jsonb, text or bytea column holds, by a JSON pointer (RFC 6901); a member that is missing or null is as a NULL. The payload at a pointer is JSON, as it stands there."`
	Defaults    Defaults          `koanf:"defaults" doc:"Constants for what the table has no column for, and for rows that have NULL or nothing in it. To have no column at all, leave its key under outbox.columns empty."`
	Extensions  map[string]string `koanf:"extensions" doc:"Additional CloudEvents extensions: the name of the extension and the column, or column#/json/pointer, that holds its value."`
	Headers     map[string]string `koanf:"headers" doc:"Record headers besides those of CloudEvents: the name of the header and the column, or column#/json/pointer, that holds its value. The names are case-sensitive, also in the environment. A header is left out where its column is NULL or empty, unless cloudevents.compatibility says otherwise."`
	TimeUnit    string            `koanf:"time_unit" enum:"seconds,milliseconds,microseconds" doc:"What a time counts that is a number since 1970: outbox.columns.time and outbox.cleanup.time_column."`
	NullPayload string            `koanf:"null_payload" enum:"reject,json_null,empty_object,tombstone,tombstone_if_blank" doc:"What a NULL payload becomes: an error, the JSON text null, the JSON text {}, or a record without a value. With tombstone_if_blank, a text that is empty or blank becomes one, too."`
	Cleanup     Cleanup           `koanf:"cleanup" doc:"What happens to rows that have been published."`
	MaxRowBytes Size              `koanf:"max_row_bytes" min:"1KiB" max:"1GiB" doc:"Largest outbox row that is accepted."`
	Source      string            `koanf:"source" doc:"Template of the attribute source; empty: cloudevents.source."`
	Topic       string            `koanf:"topic" doc:"Template of the topic; empty: kafka.topic."`
	Key         string            `koanf:"key" doc:"Template of the partition key; empty: kafka.key."`
	Poison      string            `koanf:"poison" enum:",stop,dead-letter" doc:"What happens to rows that can never be published; empty: poison.policy."`
	Routes      []Route           `koanf:"routes" required:"aggregate_type" example:"[{aggregate_type: order, topic: orders}]" doc:"Exceptions by aggregate type for this table, instead of the general routes."`
}

// Cleanup configures how published rows are removed.
type Cleanup struct {
	Mode       string        `koanf:"mode" enum:"none,delete,drop-partitions" doc:"none leaves the clean-up to you; delete deletes rows in small transactions; drop-partitions drops partitions of a table that is partitioned by range on the time column."`
	Retention  time.Duration `koanf:"retention" min:"1s" doc:"How long rows are kept, by their time column. Rows that are not yet published are always kept."`
	TimeColumn string        `koanf:"time_column" doc:"Column that says when a row was written: timestamptz, timestamp in UTC, or bigint in outbox.time_unit; empty: outbox.columns.time."`
	BatchRows  int           `koanf:"batch_rows" min:"1" max:"100000" doc:"Rows deleted in one transaction."`
	Pause      time.Duration `koanf:"pause" min:"0s" doc:"Pause between two transactions that delete."`
	Interval   time.Duration `koanf:"interval" min:"100ms" doc:"How often to look for rows to remove when there were none."`
}

// Columns maps what the streamer needs to know about an outbox row to column
// names.
type Columns struct {
	ID              string `koanf:"id" doc:"Event ID; unique within its source."`
	AggregateType   string `koanf:"aggregate_type" doc:"Aggregate type, which selects the topic and the route."`
	AggregateID     string `koanf:"aggregate_id" doc:"Aggregate ID, the partition key and subject of the event."`
	Type            string `koanf:"type" doc:"Event type."`
	Payload         string `koanf:"payload" doc:"Payload."`
	Time            string `koanf:"time" doc:"Optional: time of the event; without it, the commit time. A timestamptz, a timestamp in UTC, a number in outbox.time_unit, or text in RFC 3339."`
	Subject         string `koanf:"subject" doc:"Optional: subject; without it, the aggregate ID."`
	Source          string `koanf:"source" doc:"Optional: source; without it, cloudevents.source."`
	DataSchema      string `koanf:"dataschema" doc:"Optional: URI of the schema of the payload."`
	DataContentType string `koanf:"datacontenttype" doc:"Optional: media type of the payload."`
	TraceParent     string `koanf:"traceparent" doc:"Optional: W3C traceparent."`
	TraceState      string `koanf:"tracestate" doc:"Optional: W3C tracestate."`
	CorrelationID   string `koanf:"correlationid" doc:"Optional: correlation ID."`
	CausationID     string `koanf:"causationid" doc:"Optional: ID of the event that caused this one."`
	PartitionKey    string `koanf:"partition_key" doc:"Optional: partition key; without it, kafka.key."`
	Topic           string `koanf:"topic" doc:"Optional: topic; without it, kafka.topic."`
}

// Defaults are constants that stand in for columns.
type Defaults struct {
	AggregateType   string `koanf:"aggregate_type" doc:"Aggregate type. All such events go to one topic, as long as kafka.topic has {aggregate_type}, and share one route."`
	AggregateID     string `koanf:"aggregate_id" doc:"Aggregate ID. All such events have one key: they are in one partition and in commit order. To spread them over all partitions, in no order, map the column of the event ID as outbox.columns.aggregate_id instead."`
	Type            string `koanf:"type" doc:"Event type."`
	DataContentType string `koanf:"datacontenttype" doc:"Media type of the payload, such as application/json for a text column with JSON. It takes precedence over cloudevents.datacontenttype."`
}

// CloudEvents describes the attributes and the content mode of the events.
type CloudEvents struct {
	Source          string `koanf:"source" doc:"Template of the attribute source, a URI-reference; {table} is schema.table."`
	Type            string `koanf:"type" doc:"Template of the attribute type."`
	Mode            string `koanf:"mode" enum:"binary,structured" doc:"Kafka content mode of CloudEvents."`
	DataContentType string `koanf:"datacontenttype" doc:"Media type of the payload; empty: depends on the type of its column."`
	DataSchema      string `koanf:"dataschema" doc:"Template of the attribute dataschema, an absolute URI; empty: no such attribute."`
	Compatibility   string `koanf:"compatibility" enum:",debezium-connect,debezium-server" doc:"Also write the header id, and those of outbox.headers, as Debezium's outbox event router does, so that its consumers can be moved one by one: as Kafka Connect writes them with SimpleHeaderConverter, or as JSON without schemas, as Debezium Server does. What cannot be exact is refused at the start. See docs/wire-format.md#for-consumers-of-debezium."`
}

// Route is an exception to the general rules for some aggregate types.
type Route struct {
	AggregateType string `koanf:"aggregate_type" doc:"Pattern of aggregate types (* any text, ? one character, [a-z] one of a set); required."`
	Topic         string `koanf:"topic" doc:"Template of the topic; empty: kafka.topic."`
	Key           string `koanf:"key" doc:"Template of the partition key; empty: kafka.key."`
	Mode          string `koanf:"mode" enum:",binary,structured" doc:"Content mode; empty: cloudevents.mode."`
	NullPayload   string `koanf:"null_payload" enum:",reject,json_null,empty_object,tombstone,tombstone_if_blank" doc:"What a NULL payload becomes; empty: outbox.null_payload."`
	Poison        string `koanf:"poison" enum:",stop,dead-letter" doc:"What happens to rows that can never be published; empty: poison.policy."`
}

// Poison configures what happens to rows that can never be published.
type Poison struct {
	Policy string `koanf:"policy" enum:"stop,dead-letter" doc:"stop ends the process with exit code 3 and names the row; dead-letter writes the row unchanged to poison.topic, and goes on once that is acknowledged."`
	Topic  string `koanf:"topic" doc:"Dead letter topic. No row can choose it."`
}

// Kafka describes the brokers and the producer.
type Kafka struct {
	Brokers           []string      `koanf:"brokers" doc:"Bootstrap brokers, each as host:port."`
	Topic             string        `koanf:"topic" doc:"Template of the topic."`
	Key               string        `koanf:"key" doc:"Template of the partition key."`
	ClientID          string        `koanf:"client_id" doc:"Client ID that the brokers log and apply quotas to."`
	Version           string        `koanf:"version" doc:"Highest Kafka protocol version to use, for example 3.6.0; empty: the highest that both sides know."`
	Compression       string        `koanf:"compression" enum:"none,gzip,snappy,lz4,zstd" doc:"Compression of record batches. As installed, kafkajs, kafka-python and aiokafka read only none and gzip (docs/wire-format.md)."`
	CompressionLevel  int           `koanf:"compression_level" min:"0" max:"22" doc:"Level of gzip (1 to 9) or zstd (1 to 22); 0: the default of the codec."`
	Partitioner       string        `koanf:"partitioner" enum:"murmur2,crc32,fnv1a" doc:"Hash of the partition key: murmur2 as in Java clients, crc32 as in librdkafka, fnv1a as in Go's sarama."`
	MaxBatchBytes     Size          `koanf:"max_batch_bytes" min:"1KiB" max:"100MiB" doc:"Largest record batch, before compression; the brokers' message.max.bytes must not be smaller."`
	MaxRecordBytes    Size          `koanf:"max_record_bytes" min:"0" max:"1GiB" doc:"Largest record; 0: what the topic accepts."`
	MaxInFlightBytes  Size          `koanf:"max_in_flight_bytes" min:"1KiB" doc:"Bytes that may await acknowledgement before reading pauses."`
	Linger            time.Duration `koanf:"linger" min:"0s" max:"1m" doc:"Longest wait for a batch to fill while the broker is idle; 0s sends at once, and batches still fill under load."`
	RequestTimeout    time.Duration `koanf:"request_timeout" min:"100ms" doc:"Time limit for one request to a broker."`
	UnknownTopicGrace time.Duration `koanf:"unknown_topic_grace" min:"0s" doc:"How long a topic may be unknown before that is an error."`
	OnPartitionChange string        `koanf:"on_partition_change" enum:"continue,stop" doc:"What to do when a topic has gained partitions, or was created again with fewer, which moves keys to other partitions."`
	Resume            string        `koanf:"resume" enum:"auto,exactly_once,at_least_once" doc:"What a start does about events published after its checkpoint: exactly_once keeps other instances out, reads back what is there and repeats nothing; at_least_once repeats them; auto is exactly_once where Kafka allows it, else at_least_once with a warning."`
	TransactionalID   string        `koanf:"transactional_id_prefix" doc:"Prefix of the transactional ID that keeps other instances out. Slot, database and system identifier follow it."`
	Topics            Topics        `koanf:"topics" doc:"How missing topics are created."`
	TLS               TLS           `koanf:"tls" doc:"Encryption of the connections to the brokers."`
	SASL              SASL          `koanf:"sasl" doc:"Authentication to the brokers."`
}

// Topics configures whether and how output topics are created.
type Topics struct {
	Create            bool              `koanf:"create" doc:"Create missing output topics."`
	Partitions        int               `koanf:"partitions" min:"0" max:"100000" doc:"Number of partitions; 0: the brokers' default."`
	ReplicationFactor int               `koanf:"replication_factor" min:"0" max:"32767" doc:"Number of replicas; 0: the brokers' default."`
	Configs           map[string]string `koanf:"configs" doc:"Topic configuration, for example retention.ms."`
}

// TLS describes the encryption of Kafka connections.
type TLS struct {
	Enabled            bool   `koanf:"enabled" doc:"Use TLS."`
	CAFile             string `koanf:"ca_file" doc:"PEM file of the certificate authorities to trust; empty: those of the system."`
	CertFile           string `koanf:"cert_file" doc:"PEM file of the client certificate."`
	KeyFile            string `koanf:"key_file" doc:"PEM file of the client's private key."`
	ServerName         string `koanf:"server_name" doc:"Name to expect in the brokers' certificates; empty: the host connected to."`
	InsecureSkipVerify bool   `koanf:"insecure_skip_verify" doc:"Accept any certificate. For tests only: anyone on the network path can then read and alter events."`
}

// SASL describes how the streamer authenticates to the brokers.
type SASL struct {
	Mechanism      string            `koanf:"mechanism" enum:",PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER,AWS_MSK_IAM" doc:"SASL mechanism; empty: no authentication; AWS_MSK_IAM: a token of the AWS identity, a new one for each connection and re-authentication."`
	Username       string            `koanf:"username" doc:"User, for PLAIN and SCRAM."`
	Password       Secret            `koanf:"password" doc:"Password, for PLAIN and SCRAM, or a file: or exec: reference."`
	Token          Secret            `koanf:"token" doc:"Bearer token for OAUTHBEARER, as a file: that something keeps up to date, or an exec: that prints one. It is read again at each connection and re-authentication."`
	TokenURL       string            `koanf:"token_url" doc:"OAuth 2.0 token endpoint, for OAUTHBEARER without kafka.sasl.token."`
	ClientID       string            `koanf:"client_id" doc:"OAuth 2.0 client ID, for OAUTHBEARER."`
	ClientSecret   Secret            `koanf:"client_secret" doc:"OAuth 2.0 client secret, for OAUTHBEARER, or a file: or exec: reference."`
	Scopes         []string          `koanf:"scopes" doc:"OAuth 2.0 scopes to ask for."`
	Extensions     map[string]string `koanf:"extensions" doc:"SASL extensions sent with the token, for OAUTHBEARER, for example logicalCluster and identityPoolId of Confluent Cloud. The names are case-sensitive, also in the environment. Not for secrets."`
	AllowPlaintext bool              `koanf:"allow_plaintext" doc:"Allow PLAIN, OAUTHBEARER and AWS_MSK_IAM without TLS. Anyone on the network path can then read the password or token."`
}

// AWS describes the AWS identity.
type AWS struct {
	Region string `koanf:"region" doc:"Region of MSK and RDS; empty: as in the names of the servers, else AWS_REGION or the profile's."`
	Role   string `koanf:"role" doc:"ARN of a role to assume, for servers in another account; empty: the identity itself. A profile can name one too."`
}

// Checkpoint describes the checkpoint store.
type Checkpoint struct {
	Store    string             `koanf:"store" enum:"kafka,postgres,file" doc:"Kind of store."`
	Interval time.Duration      `koanf:"interval" min:"10ms" doc:"Shortest time between two saves while events flow."`
	Kafka    CheckpointKafka    `koanf:"kafka" doc:"Store kafka."`
	Postgres CheckpointPostgres `koanf:"postgres" doc:"Store postgres."`
	File     CheckpointFile     `koanf:"file" doc:"Store file."`
}

// CheckpointKafka keeps checkpoints in a compacted topic.
type CheckpointKafka struct {
	Topic             string `koanf:"topic" doc:"Compacted topic, created when missing. Many streamers may share it. Its name must not look like that of an output topic."`
	ReplicationFactor int    `koanf:"replication_factor" min:"0" max:"32767" doc:"Number of replicas of that topic; 0: the brokers' default."`
}

// CheckpointPostgres keeps checkpoints in a table.
type CheckpointPostgres struct {
	DSN   DSN    `koanf:"dsn" doc:"Connection URL or key=value string, or a file: or exec: reference; empty: postgres.dsn and postgres.auth."`
	Auth  string `koanf:"auth" enum:",aws-rds-iam" doc:"How to log in with this DSN, as postgres.auth."`
	Table string `koanf:"table" doc:"Table as schema.table; a bare name is in schema public, and names are written as in outbox.table."`
}

// CheckpointFile keeps the checkpoint of one streamer in a file.
type CheckpointFile struct {
	Path string `koanf:"path" doc:"File; its folder must be writable and survive a restart."`
}

// HTTP describes the operations endpoint.
type HTTP struct {
	Listen string `koanf:"listen" doc:"Address as host:port for /healthz, /readyz, /metrics and the status page at /; empty: no endpoint."`
	Page   bool   `koanf:"page" doc:"Serve the status page at /. It shows names of topics and tables, addresses and error messages, but no payloads and no keys."`
	Pprof  bool   `koanf:"pprof" doc:"Serve /debug/pprof there too. Anyone who reaches the address can then inspect and slow down the process."`
}

// OTLP describes what is sent to an OpenTelemetry collector.
type OTLP struct {
	Endpoint string        `koanf:"endpoint" doc:"Base URL of the collector's OTLP over HTTP, for example http://127.0.0.1:4318; empty: nothing is sent."`
	Traces   bool          `koanf:"traces" doc:"Send a span for each batch that holds events with a sampled traceparent, linked to them."`
	Metrics  bool          `koanf:"metrics" doc:"Send the metrics that /metrics serves."`
	Interval time.Duration `koanf:"interval" min:"100ms" doc:"Time between two exports of metrics."`
	Headers  Secret        `koanf:"headers" doc:"Headers of each request, as key=value pairs separated by commas, or a file: or exec: reference."`
}

// Log describes the log.
type Log struct {
	Level  string `koanf:"level" enum:"debug,info,warn,error" doc:"Lowest level that is written."`
	Format string `koanf:"format" enum:"auto,text,json" doc:"Format; auto is text on a terminal and json elsewhere."`
}

// Shutdown describes how the process ends.
type Shutdown struct {
	DrainTimeout time.Duration `koanf:"drain_timeout" min:"0s" doc:"How long to wait for outstanding acknowledgements after a signal to stop."`
}

// CleanupColumn returns the column by which rows are old enough to be removed.
// A time inside JSON is none.
func (o Outbox) CleanupColumn() string {
	return cmp.Or(o.Cleanup.TimeColumn, o.TimeColumn())
}

// TimeColumn returns the column that holds the time of an event, or an empty
// name if that time is inside JSON, or not mapped.
func (o Outbox) TimeColumn() string { return wholeColumn(o.Columns.Time) }

// IDColumn returns the column that holds the event ID, or an empty name if that
// ID is inside JSON.
func (o Outbox) IDColumn() string { return wholeColumn(o.Columns.ID) }

// wholeColumn returns the column, or an empty name if a JSON pointer follows it.
func wholeColumn(reference string) string {
	if c, ok := pgname.ParseColumn(reference); ok && c.Pointer == nil {
		return c.Name
	}
	return ""
}

// Tables returns the outbox tables. What an entry leaves to the general keys has
// their values.
func (c Config) Tables() []Outbox {
	tables := slices.Clone(c.Outboxes)
	if len(tables) == 0 {
		tables = []Outbox{c.Outbox}
	}
	for i := range tables {
		o := &tables[i]
		o.Source, o.Topic, o.Key = cmp.Or(o.Source, c.CloudEvents.Source), cmp.Or(o.Topic, c.Kafka.Topic), cmp.Or(o.Key, c.Kafka.Key)
		o.Poison = cmp.Or(o.Poison, c.Poison.Policy)
		if len(o.Routes) == 0 {
			o.Routes = c.Routes
		}
	}
	return tables
}

// IsPattern reports whether the entry is about all tables whose names match.
func (o Outbox) IsPattern() bool {
	t, _ := pgname.Parse(o.Table)
	return t.IsPattern()
}

// Only returns the configuration with one of its tables.
func (c Config) Only(table int) Config {
	if len(c.Outboxes) > 0 {
		c.Outboxes = slices.Clone(c.Outboxes[table : table+1])
	}
	return c
}

// Entry is the path of the i-th of several tables, and empty for a single one.
func (c Config) Entry(i int) string {
	if len(c.Outboxes) == 0 {
		return ""
	}
	return fmt.Sprintf("outboxes[%d]", i)
}

// HasDeadLetters reports whether any row can become a dead letter.
func (c Config) HasDeadLetters() bool {
	return slices.ContainsFunc(c.Tables(), func(o Outbox) bool {
		return o.Poison == PoisonDeadLetter || slices.ContainsFunc(o.Routes, func(r Route) bool { return r.Poison == PoisonDeadLetter })
	})
}

// Retry describes the back-off between sessions.
type Retry struct {
	Initial time.Duration `koanf:"initial" min:"1ms" doc:"First wait; each further one is longer."`
	Max     time.Duration `koanf:"max" min:"1ms" doc:"Longest wait."`
}

// Values of keys that the rest of the program branches on.
const (
	NullPayloadReject      = "reject"
	NullPayloadJSONNull    = "json_null"
	NullPayloadEmptyObject = "empty_object"
	NullPayloadTombstone   = "tombstone"
	NullPayloadBlank       = "tombstone_if_blank"

	DebeziumConnect = "debezium-connect"
	DebeziumServer  = "debezium-server"

	ModeBinary     = "binary"
	ModeStructured = "structured"

	PartitionChangeContinue = "continue"
	PartitionChangeStop     = "stop"

	PoisonStop       = "stop"
	PoisonDeadLetter = "dead-letter"

	StoreKafka    = "kafka"
	StorePostgres = "postgres"
	StoreFile     = "file"

	SnapshotNone    = "none"
	SnapshotInitial = "initial"

	CleanupNone           = "none"
	CleanupDelete         = "delete"
	CleanupDropPartitions = "drop-partitions"

	MechanismPlain       = "PLAIN"
	MechanismSCRAMSHA256 = "SCRAM-SHA-256"
	MechanismSCRAMSHA512 = "SCRAM-SHA-512"
	MechanismOAuthBearer = "OAUTHBEARER"
	MechanismAWS         = "AWS_MSK_IAM"

	AuthAWS = "aws-rds-iam"

	LogFormatAuto = "auto"
	LogFormatText = "text"
	LogFormatJSON = "json"
)

// SplitTable returns the schema and the name of a table that Load has
// qualified, such as outbox.table.
func SplitTable(table string) (schema, name string) {
	t, _ := pgname.Parse(table) // validation has accepted it
	return t.Schema, t.Name
}

// CheckpointAuth returns how to log in with CheckpointDSN.
func (c Config) CheckpointAuth() string {
	if c.Checkpoint.Postgres.DSN.IsZero() {
		return c.Postgres.Auth
	}
	return c.Checkpoint.Postgres.Auth
}

// UsesAWS reports whether anything logs in with the AWS identity.
func (c Config) UsesAWS() bool {
	checkpoints := c.Checkpoint.Store == StorePostgres && c.CheckpointAuth() == AuthAWS
	return c.Kafka.SASL.Mechanism == MechanismAWS || c.Postgres.Auth == AuthAWS || checkpoints
}

// CheckpointDSN returns the DSN to which the postgres checkpoint store
// connects.
func (c Config) CheckpointDSN() DSN {
	if c.Checkpoint.Postgres.DSN.IsZero() {
		return c.Postgres.DSN
	}
	return c.Checkpoint.Postgres.DSN
}
