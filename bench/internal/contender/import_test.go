package contender

import (
	"fmt"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/pgtest"
	"github.com/outboxstream/streamer/internal/testserver"
	"github.com/outboxstream/streamer/internal/wait"
)

// imported is a connector whose import claims that keys and values are the
// same.
type imported struct {
	name    string
	script  string // makes the tables and their rows
	tables  string
	options map[string]string // on top of those that all have
	topics  []string
	rows    int
	headers []string // of CloudEvents that the connector writes, too
	server  bool     // it runs in Debezium Server
	odd     bool     // it places texts that no attribute of CloudEvents can be
}

// Rows of a script come in separate transactions, as a shop writes them.
var importedConnectors = []imported{
	{
		name: "defaults", tables: "public.outbox", rows: 301, topics: []string{"outbox.event.order", "outbox.event.invoice"},
		script: `create table outbox (id uuid primary key default gen_random_uuid(), aggregatetype text not null, aggregateid text not null,
				type text not null, payload jsonb);
			insert into outbox (aggregatetype, aggregateid, type, payload) select (array['order', 'invoice'])[1 + i % 2], 'a-' || i % 23, 'Placed',
				jsonb_build_object('n', i, 'total', 2.50, 'long', 12345678901234567890, 'text', 'ü "q" \ <>', 'none', null, 'mixed',
					'[1, "a", {}, []]'::jsonb) from generate_series(1, 300) i;
			insert into outbox (aggregatetype, aggregateid, type) values ('order', 'a-1', 'Removed')`,
		options: map[string]string{"table.include.list": "public.outbox"},
	},
	{
		name: "mapped", tables: "shop.events", rows: 200, topics: []string{"mapped.Order", "mapped.Invoice", "mapped-other"},
		headers: []string{"ce_type", "ce_tenant"},
		script: `create schema shop; create table shop.events (no bigint primary key, topic text, aggregate bigint, kind text, tenant text,
				body text);
			insert into shop.events select i, (array['Order', 'Invoice', 'mapped-other'])[1 + i % 3], i % 17, 'kind-' || i % 5, 'tenant ' || i % 3,
				case when i % 10 = 0 then null else '{"no": ' || i || ', "price": 1.10}' end from generate_series(1, 200) i`,
		options: map[string]string{
			"table.include.list":                                  "shop\\.events",
			"transforms.outbox.table.field.event.id":              "no",
			"transforms.outbox.table.field.event.key":             "aggregate",
			"transforms.outbox.table.field.event.type":            "kind",
			"transforms.outbox.table.field.event.payload":         "body",
			"transforms.outbox.route.by.field":                    "topic",
			"transforms.outbox.route.topic.regex":                 "(Order|Invoice)",
			"transforms.outbox.route.topic.replacement":           "mapped.$1",
			"transforms.outbox.table.fields.additional.placement": "kind:header:ce_type,tenant:header:ce_tenant",
			"transforms.outbox.route.tombstone.on.empty.payload":  "true",
		},
	},
	{
		name: "tables", tables: "public.bytes_a, public.bytes_b", rows: 120, topics: []string{"tables-all"},
		script: `create table bytes_a (id uuid primary key default gen_random_uuid(), aggregatetype text, aggregateid uuid, type text,
				payload bytea);
			create table bytes_b (like bytes_a including all); create table other (id int primary key);
			insert into bytes_a (aggregatetype, aggregateid, type, payload) select 'x', gen_random_uuid(), 't', sha256(i::text::bytea)
				from generate_series(1, 60) i;
			insert into bytes_b (aggregatetype, aggregateid, type, payload) select 'y', gen_random_uuid(), 't', sha256(i::text::bytea)
				from generate_series(1, 60) i; insert into other values (1)`,
		options: map[string]string{
			"database.hostname":                         "${env:IMPORT_HOST}",
			"table.include.list":                        "public\\.(bytes_[ab]|other)",
			"value.converter":                           "io.debezium.converters.BinaryDataConverter",
			"transforms.outbox.predicate":               "isOutbox",
			"predicates":                                "isOutbox",
			"predicates.isOutbox.type":                  "org.apache.kafka.connect.transforms.predicates.TopicNameMatches",
			"predicates.isOutbox.pattern":               "tables\\.public\\.bytes.*",
			"transforms.outbox.route.topic.regex":       ".*",
			"transforms.outbox.route.topic.replacement": "tables-all",
		},
	},
}

// different is a connector of which the report says that its bytes are others,
// with the only record that Debezium makes.
type different struct {
	name       string
	options    map[string]string
	key, value string
	header     string // id, apart from the ID itself
}

const jsonConverter = "org.apache.kafka.connect.json.JsonConverter"

var differentConnectors = []different{
	{
		name: "json_keys", key: `"42"`, value: `"{\"total\": 2.50}"`, header: "%s",
		options: map[string]string{
			"key.converter": jsonConverter, "key.converter.schemas.enable": "false",
			"value.converter": jsonConverter, "value.converter.schemas.enable": "false",
		},
	},
	{
		name: "expanded", key: "42", value: `{"total":2.5}`, header: `"%s"`,
		options: map[string]string{
			"value.converter": jsonConverter, "value.converter.schemas.enable": "false", "header.converter": jsonConverter,
			"header.converter.schemas.enable": "false", "transforms.outbox.table.expand.json.payload": "true",
		},
	},
	{
		name: "envelope", key: "42", value: `{"payload":"{\"total\": 2.50}","eventType":"Placed"}`, header: "%s",
		options: map[string]string{
			"value.converter": jsonConverter, "value.converter.schemas.enable": "false",
			"transforms.outbox.table.fields.additional.placement": "type:envelope:eventType",
		},
	},
	{
		name: "schemas", key: "42", header: "%s",
		value:   `{"schema":{"type":"string","optional":true,"name":"io.debezium.data.Json","version":1},"payload":"{\"total\": 2.50}"}`,
		options: map[string]string{"value.converter": jsonConverter},
	},
}

// imported makes the table and one row.
func (d different) imported() imported {
	table := "public." + d.name
	options := maps.Clone(d.options)
	options["table.include.list"] = table
	options["transforms.outbox.route.topic.replacement"] = d.topic()
	return imported{
		name: d.name, tables: table, rows: 1, topics: []string{d.topic()}, options: options,
		script: fmt.Sprintf(`create table %[1]s (id uuid primary key, aggregatetype text, aggregateid text, type text, payload jsonb);
			insert into %[1]s values ('%[2]s', 'order', '42', 'Placed', '{"total": 2.50}')`, table, onlyID),
	}
}

func (d different) topic() string { return "different." + d.name }

const onlyID = "d5f4a1a8-8f0e-4f5e-9d4e-0c6f1d2f3a4b"

// allConnectors are those of both lists.
func allConnectors() []imported {
	all := append(slices.Clone(importedConnectors), placedConnectors()...)
	for _, d := range differentConnectors {
		all = append(all, d.imported())
	}
	return all
}

// connector is the file that Debezium gets, and import.
func (i imported) connector(dsn *url.URL) map[string]string {
	options := map[string]string{
		"name":                        i.name,
		"connector.class":             "io.debezium.connector.postgresql.PostgresConnector",
		"tasks.max":                   "1",
		"plugin.name":                 "pgoutput",
		"database.hostname":           dsn.Hostname(),
		"database.port":               dsn.Port(),
		"database.user":               dsn.User.Username(),
		"database.password":           "hunter2",
		"database.dbname":             strings.TrimPrefix(dsn.Path, "/"),
		"topic.prefix":                i.name,
		"slot.name":                   i.name,
		"publication.name":            i.name,
		"publication.autocreate.mode": "disabled",
		"snapshot.mode":               "no_data",
		"transforms":                  "outbox",
		"transforms.outbox.type":      "io.debezium.transforms.outbox.EventRouter",
	}
	maps.Copy(options, i.options)
	return options
}

// TestImport lets Debezium and a streamer, whose configuration is imported from
// Debezium's files, publish the same rows. Keys, values, partitions, headers and
// the order in each partition have to be the same, or differ as the report says.
func TestImport(t *testing.T) { //nolint:tparallel // one version after the other
	testserver.Long(t)
	t.Parallel()
	for _, version := range debeziumVersions() {
		t.Run(version, func(t *testing.T) { compareImports(t, version) })
	}
}

func compareImports(t *testing.T, version string) { //nolint:thelper // it is the test
	connect, err := installConnect(t.Context(), version, func(line string) { t.Log(line) })
	require.NoError(t, err)
	r := newImportRig(t)
	r.prepare(allConnectors())
	r.debezium(connect, allConnectors())
	for _, i := range append(slices.Clone(importedConnectors), placedConnectors()...) {
		t.Run(i.name, func(t *testing.T) { r.same(t, i) })
	}
	for _, d := range differentConnectors {
		t.Run(d.name, func(t *testing.T) {
			i := d.imported()
			r.streamer(t, i)
			r.await(t, i)
			records, err := r.kafka.Consume(t.Context(), d.topic())
			require.NoError(t, err)
			require.Len(t, records, 2)
			for _, m := range records {
				key, value := d.key, d.value
				if headerOf(m, "ce_id") != "" {
					key, value = "42", `{"total": 2.50}`
					assert.Empty(t, headerOf(m, "id"), "it is not claimed to be the same")
				} else {
					assert.Equal(t, fmt.Sprintf(d.header, onlyID), headerOf(m, "id"))
				}
				assert.Equal(t, key, string(m.Key))
				assert.Equal(t, value, string(m.Value))
			}
		})
	}
}

// importRig is what all cases share.
type importRig struct {
	t      *testing.T
	folder string
	kafka  *kafkatest.Cluster
	pg     *pgtest.Server
	dsn    *url.URL
}

func newImportRig(t *testing.T) *importRig {
	t.Helper()
	return &importRig{
		t: t, folder: t.TempDir(), kafka: kafkatest.New(t, kafkatest.Options{Progress: func(line string) { t.Log(line) }}),
		pg: pgtest.New(t, pgtest.Options{Settings: map[string]string{
			"wal_level": "logical", "max_replication_slots": "40", "max_wal_senders": "40",
		}}),
	}
}

// same compares the records of both.
func (r *importRig) same(t *testing.T, i imported) {
	t.Helper()
	r.streamer(t, i)
	theirs, ours := r.await(t, i)
	assert.Len(t, theirs, i.rows)
	assert.Equal(t, theirs, ours)
}

// prepare makes tables, slots for both, rows and topics, and writes the files.
func (r *importRig) prepare(connectors []imported) {
	text := r.pg.CreateDatabase(r.t)
	dsn, err := url.Parse(text)
	require.NoError(r.t, err)
	r.dsn = dsn
	conn, err := pgx.Connect(r.t.Context(), text)
	require.NoError(r.t, err)
	defer conn.Close(r.t.Context())
	for _, i := range connectors {
		tables, rows, _ := strings.Cut(i.script, "insert")
		for _, statement := range append(strings.Split(tables, ";"),
			fmt.Sprintf("create publication %s for table %s", i.name, i.tables),
			fmt.Sprintf("select pg_create_logical_replication_slot('%s', 'pgoutput')", i.name),
			fmt.Sprintf("select pg_create_logical_replication_slot('%s_streamer', 'pgoutput')", i.name),
			"insert"+rows,
		) {
			_, err := conn.Exec(r.t.Context(), statement)
			require.NoError(r.t, err, statement)
		}
		for _, topic := range i.topics {
			require.NoError(r.t, r.kafka.CreateTopic(r.t.Context(), topic, 3, nil))
		}
		options := i.connector(dsn)
		if i.server {
			options = i.application(options, r.kafka.Brokers())
		}
		r.write(i.name+".properties", options)
	}
	r.write("worker.properties", map[string]string{
		"bootstrap.servers":            strings.Join(r.kafka.Brokers(), ","),
		"key.converter":                "org.apache.kafka.connect.storage.StringConverter",
		"value.converter":              "org.apache.kafka.connect.storage.StringConverter",
		"offset.storage.file.filename": filepath.Join(r.folder, "offsets"),
		"config.providers":             "env",
		"config.providers.env.class":   "org.apache.kafka.common.config.provider.EnvVarConfigProvider",
	})
	r.write("log4j2.properties", logging)
}

func (r *importRig) write(name string, properties map[string]string) {
	require.NoError(r.t, os.WriteFile(filepath.Join(r.folder, name), []byte(propertiesText(properties)), 0o600))
}

// debezium starts one worker with all connectors. What only a running worker
// needs is in a file of its own.
func (r *importRig) debezium(connect *Connect, connectors []imported) {
	ports, err := testserver.FreePorts(1)
	require.NoError(r.t, err)
	worker, err := os.ReadFile(filepath.Join(r.folder, "worker.properties"))
	require.NoError(r.t, err)
	running := filepath.Join(r.folder, "running.properties")
	require.NoError(r.t, os.WriteFile(running, append(worker, propertiesText(map[string]string{
		"listeners":   fmt.Sprintf("http://127.0.0.1:%d", ports[0]),
		"plugin.path": filepath.Join(connect.folder, "plugins"),
	})...), 0o600))
	files := []string{running}
	for _, i := range connectors {
		files = append(files, filepath.Join(r.folder, i.name+".properties"))
	}
	cmd := connect.command(r.t.Context(), Task{Folder: r.folder}, "ConnectStandalone", files...)
	cmd.Env = append(cmd.Env, "IMPORT_HOST="+r.dsn.Hostname())
	r.start(r.t, "worker", cmd)
}

// streamer imports the files and runs on a slot of its own.
func (r *importRig) streamer(t *testing.T, i imported) {
	t.Helper()
	binary, made := filepath.Join(r.folder, "streamer"), filepath.Join(r.folder, i.name+".yaml")
	require.NoError(t, testserver.Build(t.Context(), "", module+"cmd/streamer", binary))
	files := []string{filepath.Join(r.folder, i.name+".properties"), filepath.Join(r.folder, "worker.properties")}
	if i.server {
		files = files[:1]
	}
	said, err := output(exec.CommandContext(t.Context(), binary, append([]string{"import", "debezium", "-o", made}, files...)...))
	require.NoError(t, err)
	assert.NotContains(t, said, "hunter2")
	if i.odd {
		text, err := os.ReadFile(made)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(made, regexp.MustCompile(`(?m)^  extensions:\n(?:    .+\n)+`).ReplaceAll(text, nil), 0o600))
	}
	command := func(words ...string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), binary, append(words, "--config", made, "--set", "postgres.slot="+i.name+"_streamer",
			"--set", "http.listen=")...)
		cmd.Env = append(environment(), "PGHOST="+r.dsn.Hostname(), "PGPASSWORD=hunter2", "PGSSLMODE=disable")
		return cmd
	}
	// The same events are meant to be there twice.
	require.NoError(t, run(command("checkpoint", "set", "slot", "--yes")))
	r.start(t, i.name, command("run"))
}

// start runs a process until the end of the test.
func (r *importRig) start(t *testing.T, name string, cmd *exec.Cmd) *testserver.Process {
	t.Helper()
	log, err := os.Create(filepath.Join(r.folder, name+".log"))
	require.NoError(t, err)
	cmd.Stdout, cmd.Stderr = log, log
	process, err := testserver.StartProcess(cmd, syscall.SIGKILL)
	require.NoError(t, err)
	t.Cleanup(func() {
		process.Kill()
		_ = log.Close()
		if text, err := os.ReadFile(log.Name()); err == nil && (t.Failed() || r.t.Failed()) {
			t.Logf("log of %s:\n%s", name, text[max(0, len(text)-20_000):])
		}
	})
	return process
}

// await returns the records of both, as text, once there are enough.
func (r *importRig) await(t *testing.T, i imported) (theirs, ours []string) {
	t.Helper()
	_, err := wait.Until(t.Context(), 3*time.Minute, time.Second, func() (bool, error) {
		theirs, ours = nil, nil
		for _, topic := range i.topics {
			records, err := r.kafka.Consume(t.Context(), topic)
			if err != nil {
				return false, err
			}
			for _, m := range records {
				if headerOf(m, "ce_id") == "" {
					theirs = append(theirs, i.text(m, "id"))
				} else {
					ours = append(ours, i.text(m, "ce_id"))
				}
			}
		}
		return len(theirs) >= i.rows && len(ours) >= i.rows, nil
	})
	require.NoError(t, err)
	return theirs, ours
}

// text is what has to be the same. The ID, which is the header of another name
// as well, makes a difference readable.
func (i imported) text(m *sarama.ConsumerMessage, id string) string {
	name := strings.Trim(headerOf(m, id), `"`)
	record := fmt.Sprintf("%s/%d %s %q %q null=%t", m.Topic, m.Partition, name, m.Key, m.Value, m.Value == nil)
	return strings.Join(append([]string{record}, i.placed(m)...), " ")
}

// placed are the headers that Debezium writes, sorted, without those that name
// the connector.
func (i imported) placed(m *sarama.ConsumerMessage) (all []string) {
	for _, h := range m.Headers {
		name := string(h.Key)
		isOurs := name == "content-type" || strings.HasPrefix(name, "ce_") || strings.HasPrefix(name, "streamer-")
		if isOurs && !slices.Contains(i.headers, name) || strings.HasPrefix(name, "__debezium.context.") {
			continue
		}
		all = append(all, fmt.Sprintf("%s=%q null=%t", name, h.Value, h.Value == nil))
	}
	slices.Sort(all)
	return all
}

func headerOf(m *sarama.ConsumerMessage, name string) string {
	for _, h := range m.Headers {
		if string(h.Key) == name {
			return string(h.Value)
		}
	}
	return ""
}
