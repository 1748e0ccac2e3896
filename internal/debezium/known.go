package debezium

import (
	"strings"
)

// known is what becomes of options that have no key of ours and are not
// translated one by one.
type known struct {
	verdict verdict
	says    string
	next    string // for whom it matters, or what to do
	names   string // separated by white space; one that ends with * is a prefix
}

// knownOptions are those of Debezium 3.4 and its predecessors, Kafka Connect 4.1
// and its producer.
var knownOptions = []known{
	{same, "the streamer reads PostgreSQL", "", "connector.class"},
	{same, "the streamer has one task", "", "tasks.max tasks.max.enforce"},
	{same, "the router publishes nothing for a deleted row, and neither does the streamer", "", "tombstones.on.delete"},
	{same, "the router sets the key", "", "message.key.columns"},
	{same, "no effect on keys and values of the router", "", "schema.name.adjustment.mode field.name.adjustment.mode sanitize.field.names"},
	{same, "keepalives of TCP are on", "", "database.tcpKeepAlive"},
	{
		noEquivalent, "the log names a row that cannot be published by its ID, and never shows its content", nothingToDo,
		"errors.log.enable errors.log.include.messages",
	},
	{same, "internal tables of PostgreSQL are never read", "", "table.ignore.builtin"},
	{
		different, "nothing is needed for an idle database: the server's keepalives move the slot. No such topic is written, and the query " +
			"is not run", "monitoring of the heartbeat topic or of the table that the query writes: use streamer_lag_seconds instead",
		"heartbeat.interval.ms heartbeat.topics.prefix heartbeat.action.query",
	},
	{
		different, "times in attributes are in RFC 3339 and UTC, whatever the type of the column; in the payload, they are as PostgreSQL " +
			"writes them", "consumers that read a placed column of time, which Debezium writes as a number",
		"time.precision.mode interval.handling.mode",
	},
	{
		different, "numbers in attributes are written as PostgreSQL writes them", "consumers that read a placed column with a number that " +
			"Debezium writes as bytes", "decimal.handling.mode money.fraction.digits",
	},
	{
		different, "a bytea payload is published as its bytes; in attributes, bytes are base64",
		"consumers of a bytea payload that the connector writes as text", "binary.handling.mode",
	},
	{
		different, "values in attributes are written as PostgreSQL writes them", "consumers that read a placed column of such a type",
		"hstore.handling.mode include.unknown.datatypes unavailable.value.placeholder",
	},
	{
		different, "transient errors are retried for ever, with growing pauses; others stop the streamer",
		"alerts on failed tasks: alert on the process and on streamer_lag_seconds",
		"errors.max.retries retriable.restart.connector.wait.ms slot.max.retries slot.retry.delay.ms errors.retry.timeout " +
			"errors.retry.delay.max.ms",
	},
	{
		different, "records are sent again until they are acknowledged, for as long as it takes", "alerts on failed tasks: alert on " +
			"streamer_lag_seconds",
		"producer.override.delivery.timeout.ms producer.override.retries producer.override.max.block.ms producer.override.retry.backoff.ms " +
			"producer.override.retry.backoff.max.ms sink.kafka.wait.message.delivery.timeout.ms",
	},
	{
		different, "the slot moves when events are acknowledged and the checkpoint is saved",
		"tools that move the slot in another way", "lsn.flush.mode flush.lsn.source lsn.flush.timeout.ms lsn.flush.timeout.action",
	},
	{
		noEquivalent, "it names the connector; a streamer is known by its slot", nothingToDo, "name",
	},
	{
		noEquivalent, "it names topics of the connector that the streamer does not have", nothingToDo,
		"topic.prefix database.server.name topic.naming.strategy topic.delimiter topic.cache.size topic.transaction topic.heartbeat.prefix",
	},
	{
		noEquivalent, "the streamer has no queue between reading and sending", nothingToDo,
		"max.batch.size max.queue.size max.queue.size.in.bytes poll.interval.ms query.fetch.size snapshot.fetch.size " +
			"executor.shutdown.timeout.ms",
	},
	{
		noEquivalent, "batches fill by themselves while a broker is busy", nothingToDo,
		"producer.override.batch.size producer.override.buffer.memory producer.override.max.in.flight.requests.per.connection",
	},
	{
		noEquivalent, "Debezium's own snapshot", "for a first start on a table with rows that were never published, set snapshot.mode: initial " +
			"and the other keys of snapshot", "snapshot.* streaming.delay.ms",
	},
	{
		noEquivalent, "the streamer takes no signals and sends no notifications", "publish rows again with streamer replay",
		"signal.* notification.* incremental.snapshot.* read.only",
	},
	{
		noEquivalent, "values of columns are published as they are", "do not write to the outbox what has to be masked or left out",
		"column.mask.* column.truncate.* column.include.list column.exclude.list column.whitelist column.blacklist",
	},
	{
		noEquivalent, "the streamer adds no schema, no source block and no topic of transactions", "let consumers do without it",
		"column.propagate.source.type datatype.propagate.source.type include.schema.comments include.schema.changes " +
			"provide.transaction.metadata transaction.metadata.factory sourceinfo.struct.maker tombstone.*",
	},
	{
		noEquivalent, "it applies a class of Java to values", "write the value as consumers expect it", "converters post.processors",
	},
	{
		noEquivalent, "logical messages are read in another way", "see docs/how-to/messages.md", "message.prefix.*",
	},
	{
		noEquivalent, "the plugin pgoutput needs no parameters of yours", nothingToDo, "slot.stream.params",
	},
	{
		different, "the slot that exists stays what it is; setup --failover creates a new one so that standbys keep a copy of it",
		"the deployment, when the slot is created again: see docs/how-to/failover.md", "slot.failover",
	},
	{
		noEquivalent, "the streamer changes no replica identity: inserts need none", nothingToDo, "replica.identity.autoset.values",
	},
	{
		noEquivalent, "parameters of the Java driver", "put what libpq has too, such as connect_timeout, into postgres.dsn", "driver.*",
	},
	{
		noEquivalent, "the streamer's sessions have settings of their own", "set what has to apply with ALTER ROLE",
		"database.initial.statements",
	},
	{
		noEquivalent, "a detail of how Debezium works", nothingToDo,
		"connection.validation.timeout.ms custom.metric.tags custom.sanitize.pattern database.query.timeout.ms guardrail.* internal.* " +
			"xmin.fetch.interval.ms schema.refresh.mode include.unchanged.tables offset.mismatch.strategy",
	},
	{
		noEquivalent, "the streamer sends no lineage", "describe its topics in your catalogue yourself", "openlineage.*",
	},
	{
		noEquivalent, "it has no effect for a source connector", "set poison.policy: dead-letter and poison.topic to have dead letters",
		"errors.deadletterqueue.*",
	},
	{
		noEquivalent, "a detail of how Kafka Connect works", nothingToDo,
		"config.action.reload connector.plugin.version key.converter.plugin.version value.converter.plugin.version " +
			"header.converter.plugin.version connector.client.config.override.policy",
	},
	{
		noEquivalent, "events are in no transactions, so they have no boundaries", nothingToDo,
		"transaction.boundary transaction.boundary.interval.ms offsets.storage.topic",
	},
	{
		noEquivalent, "offsets are the position of Debezium; the streamer keeps a checkpoint of its own", "nothing, unless checkpoint.store is " +
			"to be another than kafka", "offset.* sink.offset.*",
	},
	{
		noEquivalent, "Java classes in the producer", "watch the streamer's own metrics",
		"producer.override.interceptor.classes producer.override.metric.reporters producer.override.metrics.* " +
			"producer.override.enable.metrics.push",
	},
	{
		noEquivalent, "the streamer has a transactional ID of its own", "grant Write and Describe on those that begin with " +
			"kafka.transactional_id_prefix", "producer.override.transactional.id producer.override.transaction.*",
	},
	{
		noEquivalent, "a detail of the Java client", nothingToDo,
		"producer.override.client.* producer.override.connections.* producer.override.metadata.* producer.override.partitioner.* " +
			"producer.override.receive.* producer.override.reconnect.* producer.override.send.* producer.override.socket.* " +
			"producer.override.security.providers producer.override.auto.include.jmx.reporter producer.override.auto.register.schemas",
	},
	{
		noEquivalent, "a detail of TLS in Java", nothingToDo,
		"producer.override.ssl.*",
	},
	{
		noEquivalent, "the streamer does not log in with Kerberos", "let the brokers accept SCRAM, OAUTHBEARER or AWS_MSK_IAM",
		"producer.override.sasl.kerberos.*",
	},
	{
		noEquivalent, "a detail of how the Java client logs in", "compare with kafka.sasl: the streamer gets a new token by itself, before the " +
			"old one expires", "producer.override.sasl.*",
	},
	{
		noEquivalent, "the streamer has no schema registry", "let consumers read values without one",
		"producer.override.schema.registry.* producer.override.basic.auth.*",
	},
	{same, "the streamer publishes to Kafka", "", "sink.type"},
	{noEquivalent, "a setting of the sink that is not used for Kafka", nothingToDo, "sink.*"},
	{same, "applies to the converters", "", "format.schemas.enable"},
	{noEquivalent, "a setting of Debezium Server itself, or one of yours", "see the keys under http, log and otlp", "server.*"},
	{
		noEquivalent, "it belongs to the worker, or the connector overrides it, and says nothing about how events are sent: those of the " +
			"producers begin with producer.", nothingToDo, "worker.*",
	},
}

// rest notes every option that has no finding yet. What is not known is said to
// be unknown.
func (t *translator) rest() {
	for name := range t.options {
		if _, isFound := t.findings[name]; isFound {
			continue
		}
		if k, ok := findKnown(name); ok {
			t.findings[name] = k.finding()
		} else if owner, ok := t.ofConverter(name); ok {
			t.ofOwner(name, owner)
		} else if strings.HasPrefix(name, "transforms.") {
			t.lacks(name, "unknown: the Outbox Event Router of Debezium 3.4 has no such option, and ignores it",
				"nothing, or find out whether another option was meant")
		} else {
			t.lacks(name, "unknown: Debezium 3.4, Kafka Connect 4.1 and their earlier versions have no such option, as far as the streamer knows",
				"find out what reads it, and whether it changes what is published")
		}
	}
}

func (k known) finding() finding {
	e := Entry{Says: k.says}
	switch k.verdict {
	case different:
		e.Concerns = k.next
	case noEquivalent:
		e.Action = k.next
	case same:
	}
	return finding{k.verdict, e}
}

// findKnown finds the entry of an option: the first that names it, or whose
// prefix it has.
func findKnown(name string) (known, bool) {
	for _, k := range knownOptions {
		for listed := range strings.FieldsSeq(k.names) {
			if prefix, isPrefix := strings.CutSuffix(listed, "*"); listed == name || isPrefix && strings.HasPrefix(name, prefix) {
				return k, true
			}
		}
	}
	return known{}, false
}

// ofConverter returns the converter to which an option belongs.
func (t *translator) ofConverter(name string) (string, bool) {
	for _, converter := range converters {
		if isBelow(name, converter) {
			return converter, true
		}
	}
	return "", false
}

// ofOwner notes an option that belongs to a converter, with what became of that.
func (t *translator) ofOwner(name, converter string) {
	owner := t.findings[converter]
	switch {
	case strings.Contains(name, ".delegate.converter."):
		t.same(name, "it is about records that are not the router's, such as heartbeats")
	case !t.has(converter):
		t.lacks(name, "the converter that it belongs to is not named", "as for "+converter)
	case owner.verdict == same:
		t.same(name, "no effect on text and bytes")
	default:
		see := "see " + t.options[converter].spelled
		t.findings[name] = finding{owner.verdict, Entry{Says: see, Concerns: owner.entry.Concerns, Action: owner.entry.Action}}
	}
}
