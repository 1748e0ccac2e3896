package contender

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/outboxstream/streamer/internal/testserver"
)

// heap is the limit of the JVM's heap.
const heap = "-Xmx1g"

// Debezium is the PostgreSQL connector with the Outbox Event Router on one
// worker of Kafka Connect, in one configuration.
type Debezium struct {
	connect *Connect
	tuning  tuning
	address string // of the worker of the current task
}

// tuning is what differs from the defaults.
type tuning struct {
	name, about       string
	worker, connector map[string]string
	exactlyOnce       bool
}

// Tuned for throughput and latency.
var (
	tunedWorker = map[string]string{
		"producer.compression.type": "lz4",
		"producer.batch.size":       strconv.Itoa(256 << 10),
		"producer.linger.ms":        "5",
		"producer.buffer.memory":    strconv.Itoa(64 << 20),
		"offset.flush.interval.ms":  "10000",
	}
	tunedConnector = map[string]string{
		"max.batch.size":   "16384",
		"max.queue.size":   "65536",
		"poll.interval.ms": "10",
	}
)

// tunings are the configurations that are compared.
var tunings = []tuning{
	{name: "debezium", about: "standalone (" + heap + "), with its defaults"},
	{
		name: "debezium-tuned",
		about: "standalone (" + heap + "), tuned: max.batch.size=16384, max.queue.size=65536, poll.interval.ms=10; " +
			"producer with lz4, batch.size=256 KiB, linger.ms=5",
		worker: tunedWorker, connector: tunedConnector,
	},
	{
		name: "debezium-eos",
		about: "distributed, one worker (" + heap + "), exactly.once.source.support=enabled, exactly.once.support=required, " +
			"otherwise as debezium-tuned; read with read_committed",
		worker: tunedWorker, connector: tunedConnector, exactlyOnce: true,
	},
}

// Debeziums returns all configurations.
func Debeziums(connect *Connect) []*Debezium {
	var all []*Debezium
	for _, t := range tunings {
		all = append(all, &Debezium{connect: connect, tuning: t})
	}
	return all
}

// Name is the name of the configuration.
func (d *Debezium) Name() string { return d.tuning.name }

// About describes the configuration.
func (d *Debezium) About() string {
	return fmt.Sprintf("Debezium %s with the Outbox Event Router on Kafka Connect %s", DebeziumVersion, d.tuning.about)
}

// Kind is Relay.
func (*Debezium) Kind() Kind { return Relay }

// Transactional reports whether the events are in transactions.
func (d *Debezium) Transactional() bool { return d.tuning.exactlyOnce }

// Command writes the worker's and the connector's properties.
func (d *Debezium) Command(ctx context.Context, t Task) (*exec.Cmd, error) {
	ports, err := testserver.FreePorts(1)
	if err != nil {
		return nil, err
	}
	d.address = "127.0.0.1:" + strconv.Itoa(ports[0])
	for name, properties := range map[string]map[string]string{
		"worker.properties": d.workerProperties(t), "connector.properties": d.connectorProperties(t), "log4j2.properties": logging,
	} {
		if err := os.WriteFile(filepath.Join(t.Folder, name), []byte(propertiesText(properties)), 0o600); err != nil {
			return nil, fmt.Errorf("write %s: %w", name, err)
		}
	}
	if d.tuning.exactlyOnce {
		return d.connect.distributed(context.WithoutCancel(ctx), t), nil
	}
	return d.connect.standalone(context.WithoutCancel(ctx), t), nil
}

// Submit makes the connector on a distributed worker, which takes none from its
// command line.
func (d *Debezium) Submit(ctx context.Context, t Task, ended <-chan struct{}) error {
	if !d.tuning.exactlyOnce {
		return nil
	}
	return submit(ctx, "http://"+d.address+"/connectors/outbox/config", d.connectorProperties(t), ended)
}

func (d *Debezium) workerProperties(t Task) map[string]string {
	properties := map[string]string{
		"bootstrap.servers": strings.Join(t.Brokers, ","),
		"key.converter":     "org.apache.kafka.connect.storage.StringConverter",
		"value.converter":   "org.apache.kafka.connect.storage.StringConverter",
		"listeners":         "http://" + d.address,
		"plugin.path":       filepath.Join(d.connect.folder, "plugins"),
	}
	if d.tuning.exactlyOnce {
		maps.Copy(properties, distributedProperties(t))
	} else {
		properties["offset.storage.file.filename"] = filepath.Join(t.Folder, "offsets")
	}
	maps.Copy(properties, d.tuning.worker)
	return properties
}

// distributedProperties are those of a cluster of one worker, with its topics
// on one broker.
func distributedProperties(t Task) map[string]string {
	properties := map[string]string{
		"group.id":                    t.Prefix + "connect",
		"exactly.once.source.support": "enabled",
		"offset.storage.partitions":   "1",
		"status.storage.partitions":   "1",
	}
	for i, name := range []string{"config", "offset", "status"} {
		properties[name+".storage.topic"] = t.Internal()[i]
		properties[name+".storage.replication.factor"] = "1"
	}
	return properties
}

func (d *Debezium) connectorProperties(t Task) map[string]string {
	properties := map[string]string{
		"name":                        "outbox",
		"connector.class":             "io.debezium.connector.postgresql.PostgresConnector",
		"tasks.max":                   "1",
		"plugin.name":                 "pgoutput",
		"database.hostname":           "127.0.0.1",
		"database.port":               strconv.Itoa(t.Port),
		"database.user":               "postgres",
		"database.password":           "postgres",
		"database.dbname":             t.Database,
		"topic.prefix":                "bench",
		"slot.name":                   t.Slot,
		"publication.name":            t.Publication,
		"publication.autocreate.mode": "disabled",
		"snapshot.mode":               "no_data",
		"table.include.list":          "public.outbox",
		"tombstones.on.delete":        "false",

		"transforms":             "outbox",
		"transforms.outbox.type": "io.debezium.transforms.outbox.EventRouter",
		"transforms.outbox.route.topic.replacement":           t.Prefix + "${routedByValue}",
		"transforms.outbox.table.fields.additional.placement": "type:header:eventType",
	}
	maps.Copy(properties, d.tuning.connector)
	if d.tuning.exactlyOnce {
		properties["exactly.once.support"] = "required"
	}
	return properties
}

// logging is the configuration of the worker's log.
var logging = map[string]string{
	"status":                             "error",
	"appender.console.type":              "Console",
	"appender.console.name":              "console",
	"appender.console.layout.type":       "PatternLayout",
	"appender.console.layout.pattern":    "%d %p %m (%c{1})%n",
	"rootLogger.level":                   "info",
	"rootLogger.appenderRef.console.ref": "console",
}

// propertiesText writes properties in Java's format.
func propertiesText(properties map[string]string) string {
	var text strings.Builder
	for _, name := range sorted(properties) {
		fmt.Fprintf(&text, "%s=%s\n", name, strings.ReplaceAll(properties[name], `\`, `\\`))
	}
	return text.String()
}
