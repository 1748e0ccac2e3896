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

// Debezium is the PostgreSQL connector with the Outbox Event Router on a
// standalone worker of Kafka Connect, in one configuration.
type Debezium struct {
	connect *Connect
	tuning  tuning
}

// tuning is what differs from the defaults.
type tuning struct {
	name, about       string
	worker, connector map[string]string
}

// tunings are the configurations that are compared.
var tunings = []tuning{
	{name: "debezium", about: "with its defaults"},
	{
		name: "debezium-tuned",
		about: "tuned: max.batch.size=16384, max.queue.size=65536, poll.interval.ms=10; " +
			"producer with lz4, batch.size=256 KiB, linger.ms=5",
		worker: map[string]string{
			"producer.compression.type": "lz4",
			"producer.batch.size":       strconv.Itoa(256 << 10),
			"producer.linger.ms":        "5",
			"producer.buffer.memory":    strconv.Itoa(64 << 20),
			"offset.flush.interval.ms":  "10000",
		},
		connector: map[string]string{
			"max.batch.size":   "16384",
			"max.queue.size":   "65536",
			"poll.interval.ms": "10",
		},
	},
}

// Debeziums returns all configurations.
func Debeziums(connect *Connect) []Debezium {
	var all []Debezium
	for _, t := range tunings {
		all = append(all, Debezium{connect: connect, tuning: t})
	}
	return all
}

// Name is the name of the configuration.
func (d Debezium) Name() string { return d.tuning.name }

// About describes the configuration.
func (d Debezium) About() string {
	return fmt.Sprintf("Debezium %s with the Outbox Event Router on Kafka Connect standalone (%s), %s", DebeziumVersion, heap, d.tuning.about)
}

// Kind is Relay.
func (Debezium) Kind() Kind { return Relay }

// Command writes the worker's and the connector's properties.
func (d Debezium) Command(ctx context.Context, t Task) (*exec.Cmd, error) {
	ports, err := testserver.FreePorts(1)
	if err != nil {
		return nil, err
	}
	worker := d.workerProperties(t, ports[0])
	for name, properties := range map[string]map[string]string{
		"worker.properties": worker, "connector.properties": d.connectorProperties(t), "log4j2.properties": logging,
	} {
		if err := os.WriteFile(filepath.Join(t.Folder, name), []byte(propertiesText(properties)), 0o600); err != nil {
			return nil, fmt.Errorf("write %s: %w", name, err)
		}
	}
	return d.connect.command(context.WithoutCancel(ctx), t), nil
}

func (d Debezium) workerProperties(t Task, port int) map[string]string {
	properties := map[string]string{
		"bootstrap.servers":            strings.Join(t.Brokers, ","),
		"key.converter":                "org.apache.kafka.connect.storage.StringConverter",
		"value.converter":              "org.apache.kafka.connect.storage.StringConverter",
		"offset.storage.file.filename": filepath.Join(t.Folder, "offsets"),
		"listeners":                    "http://127.0.0.1:" + strconv.Itoa(port),
		"plugin.path":                  filepath.Join(d.connect.folder, "plugins"),
	}
	maps.Copy(properties, d.tuning.worker)
	return properties
}

func (d Debezium) connectorProperties(t Task) map[string]string {
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
