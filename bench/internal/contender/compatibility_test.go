package contender

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/testserver"
)

// newestDebezium is the newest that Maven Central serves whole.
const newestDebezium = "3.6.1.Final"

// serverVersion is the newest Debezium Server that Maven Central serves.
const serverVersion = "3.0.0.Final"

// debeziumVersions are those that records are compared with.
// STREAMER_TEST_DEBEZIUM_VERSION names another newest one.
func debeziumVersions() []string {
	return []string{DebeziumVersion, cmp.Or(os.Getenv("STREAMER_TEST_DEBEZIUM_VERSION"), newestDebezium)}
}

const (
	simpleConverter = "org.apache.kafka.connect.storage.SimpleHeaderConverter"
	stringConverter = "org.apache.kafka.connect.storage.StringConverter"
)

// placedConnectors place columns of every type that can be exact as headers,
// with each converter of headers that can be exact.
func placedConnectors() []imported {
	var all []imported
	for name, options := range map[string]map[string]string{
		"placed":        {},
		"placed_simple": {"header.converter": simpleConverter},
		"placed_string": {"header.converter": stringConverter},
		"placed_json":   {"header.converter": jsonConverter, "header.converter.schemas.enable": "false"},
	} {
		all = append(all, placedAs(name, options))
	}
	return all
}

// placedAs has texts that each converter writes in a way of its own, times at
// the ends of what is possible, and payloads that are blank.
func placedAs(name string, more map[string]string) imported {
	const odd = `E'q"\\ \t\n\r\b\f\x01\x1f\x7f ü \u2028 😀 </a>'`
	const none = "null, null, null, null, null, null, null, null, null, null, null, null, null, null"
	times := []string{
		"2024-01-02 03:04:05.6", "2024-01-02 03:04:00", "1969-12-31 23:59:59.999999", "1500-02-28 12:00:00", "0001-01-01 00:00:00",
		"9999-12-31 23:59:59.999999",
	}
	rows := []string{
		fmt.Sprintf(`('k-1', '{"a":  1.0}', 'text', 'v', 'ab', '0199C0A0-0000-7000-8000-00000000ABCD', -1, 2, 9223372036854775807, true,
			'{"a":  1.0, "t": %[1]s}', '{"b": 2.50}', '%[2]s+00', '%[2]s', 'dom', 7)`, `"😀"`, times[0]),
		fmt.Sprintf("('k-2', %[1]s, %[1]s, '', '', null, 0, 0, 0, false, '\"q\"', '\"q\"', null, null, %[1]s, -7)", odd),
		"('k-3', null, " + none + ")", "('k-4', '', " + none + ")", "('k-5', E' \\t\\r\\n\\x01', " + none + ")",
		"('k-6', ' x ', '  ', '  ', ' ', null, null, null, null, null, null, null, null, null, E'\\x01', null)",
	}
	for n, at := range times {
		const before = "null, null, null, null, null, null, null, null, null, null"
		rows = append(rows, fmt.Sprintf("('t-%d', '{}', %s, '%[3]s+00', '%[3]s', null, null)", n, before, at))
	}
	options := maps.Clone(more)
	maps.Copy(options, map[string]string{
		"table.include.list": "public." + name, "transforms.outbox.route.topic.regex": ".*",
		"transforms.outbox.route.topic.replacement": "records-" + name, "transforms.outbox.route.tombstone.on.empty.payload": "true",
		"transforms.outbox.table.field.event.id": "no", "transforms.outbox.table.field.event.type": "kind",
		"transforms.outbox.table.fields.additional.placement": "kind:header:eventType,a:header,b:header:B,c:header:x-c,d:header:D.d,e:header," +
			"f:header,g:header,h:header,i:header,j:header,k:header:at,l:header,m:header,n:header,no:header:number",
	})
	return imported{
		name: name, tables: "public." + name, rows: len(rows), odd: true, topics: []string{"records-" + name}, options: options,
		script: fmt.Sprintf(`create domain word_%[1]s as text; create domain number_%[1]s as bigint; create table %[1]s (
				no bigint generated always as identity primary key, aggregatetype text default 'x', kind text default 'Kind', aggregateid text,
				payload text, a text, b varchar(100), c char(5), d uuid, e int2, f int4, g int8, h bool, i json, j jsonb, k timestamptz,
				l timestamp, m word_%[1]s, n number_%[1]s);
			insert into %[1]s (aggregateid, payload, a, b, c, d, e, f, g, h, i, j, k, l, m, n) values %[2]s`, name, strings.Join(rows, ",\n")),
	}
}

// TestImportOfServer is TestImport with Debezium Server, of the newest version
// that can be had, and with its sink and a newer engine.
func TestImportOfServer(t *testing.T) { //nolint:tparallel // each case uses what the parent has started
	testserver.Long(t)
	t.Parallel()
	server, err := installServer(t.Context(), func(line string) { t.Log(line) })
	if errors.Is(err, ErrMissing) {
		err = fmt.Errorf("%w: %w", testserver.ErrMissing, err)
	}
	testserver.Require(t, err)
	connect, err := InstallConnect(t.Context(), func(line string) { t.Log(line) })
	require.NoError(t, err)
	plain := map[string]string{"header.converter.schemas.enable": "false"}
	placed, newer := placedAs("server_placed", plain), placedAs("server_newer", plain)
	connectors := []imported{placed, newer, serverBytes()}
	for i := range connectors {
		connectors[i].server = true
	}
	r := newImportRig(t)
	r.prepare(connectors)
	for _, i := range connectors {
		path := server.path()
		if i.name == newer.name {
			path = append(server.engine(connect), path...)
		}
		home := filepath.Join(r.folder, "home-"+i.name)
		require.NoError(t, os.MkdirAll(filepath.Join(home, "config"), 0o700))
		text, err := os.ReadFile(filepath.Join(r.folder, i.name+".properties"))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(home, "config", "application.properties"), text, 0o600))
		cmd := exec.CommandContext(t.Context(), server.java, "-Xmx512m", "-cp", strings.Join(path, ":"), "io.debezium.server.Main")
		cmd.Env, cmd.Dir = environment(), home
		r.start(t, "server-"+i.name, cmd)
	}
	for _, i := range connectors {
		t.Run(i.name, func(t *testing.T) { r.same(t, i) })
	}
}

// serverBytes has payloads of bytes, and a column that says the partition, which
// Debezium Server does not pass on.
func serverBytes() imported {
	return imported{
		name: "server_bytes", tables: "public.server_bytes", rows: 60, topics: []string{"outbox.event.bytes"},
		script: `create table server_bytes (id uuid primary key default gen_random_uuid(), aggregatetype text, aggregateid uuid, type text,
				payload bytea, part int);
			insert into server_bytes (aggregatetype, aggregateid, type, payload, part) select 'bytes', gen_random_uuid(), 't',
				case when i % 10 = 0 then null else sha256(i::text::bytea) end, i % 3 from generate_series(1, 60) i`,
		options: map[string]string{
			"table.include.list": "public.server_bytes", "value.converter": "binary", "header.converter.schemas.enable": "false",
			"transforms.outbox.table.fields.additional.placement": "part:partition,type:header:eventType",
		},
	}
}

// application is the connector as Debezium Server's properties.
func (i imported) application(connector map[string]string, brokers []string) map[string]string {
	const serializer = "org.apache.kafka.common.serialization."
	all := map[string]string{
		"quarkus.http.port": "0", "debezium.sink.type": "kafka", "debezium.format.key": "simplestring", "debezium.format.value": "simplestring",
		"debezium.sink.kafka.producer.bootstrap.servers": strings.Join(brokers, ","),
		"debezium.sink.kafka.producer.key.serializer":    serializer + "StringSerializer",
		"debezium.sink.kafka.producer.value.serializer":  serializer + "StringSerializer",
		"debezium.source.offset.storage":                 "org.apache.kafka.connect.storage.FileOffsetBackingStore",
		"debezium.source.offset.storage.file.filename":   "offsets",
	}
	for name, value := range connector {
		switch {
		case name == "value.converter":
			all["debezium.format.value"], all["debezium.sink.kafka.producer.value.serializer"] = value, serializer+"ByteArraySerializer"
		case strings.HasPrefix(name, "header.converter"):
			all["debezium.format.header"+strings.TrimPrefix(name, "header.converter")] = value
		case strings.HasPrefix(name, "transforms"):
			all["debezium."+name] = value
		case name != "name" && name != "tasks.max":
			all["debezium.source."+name] = value
		}
	}
	return all
}

// debeziumServer is an installation.
type debeziumServer struct{ java, folder string }

// installServer downloads Debezium Server once, and what a newer engine needs
// besides the plug-in for Kafka Connect. Errors wrap [ErrMissing].
func installServer(ctx context.Context, progress func(string)) (*debeziumServer, error) {
	java, err := newJava(ctx)
	if err != nil {
		return nil, err
	}
	folder, err := testserver.Cached(ctx, "debezium-server-"+serverVersion, progress, func(folder string) error {
		testserver.Report(progress, "downloading Debezium Server %s from Maven Central (about 460 MB)", serverVersion)
		for _, artifact := range []string{"debezium-server-dist:" + serverVersion + ":tar.gz", "debezium-embedded:" + DebeziumVersion + ":jar"} {
			cmd := exec.CommandContext(ctx, cmp.Or(os.Getenv("MVN"), "mvn"), "-q", "-B",
				"org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy", "-Dartifact=io.debezium:"+artifact, "-DoutputDirectory="+folder)
			cmd.Dir = folder // where there is no pom.xml
			if err := run(cmd); err != nil {
				return fmt.Errorf("download Debezium Server: mvn: %w", err)
			}
		}
		archive := filepath.Join(folder, "debezium-server-dist-"+serverVersion+".tar.gz")
		if err := run(exec.CommandContext(ctx, "tar", "-xzf", archive, "-C", folder)); err != nil {
			return fmt.Errorf("unpack Debezium Server: %w", err)
		}
		return os.Remove(archive)
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMissing, err)
	}
	return &debeziumServer{java, folder}, nil
}

var javaVersion = regexp.MustCompile(`version "(\d+)`)

// newJava finds Java 21 or later, which Debezium Server needs.
func newJava(ctx context.Context) (string, error) {
	const needed = 21
	installed, _ := filepath.Glob("/usr/lib/jvm/*/bin/java") // the pattern is right
	for _, java := range append([]string{"java", filepath.Join(os.Getenv("JAVA_HOME"), "bin", "java")}, installed...) {
		said, err := output(exec.CommandContext(ctx, java, "-version"))
		m := javaVersion.FindStringSubmatch(said)
		if err != nil || m == nil {
			continue
		}
		if version, err := strconv.Atoi(m[1]); err == nil && version >= needed {
			return java, nil
		}
	}
	return "", fmt.Errorf("%w: Java %d or later", ErrMissing, needed)
}

func (s *debeziumServer) path() []string {
	home := filepath.Join(s.folder, "debezium-server")
	return []string{filepath.Join(home, "debezium-server-dist-"+serverVersion+"-runner.jar"), filepath.Join(home, "lib", "*")}
}

// engine is what replaces the engine of Debezium Server by that of the connector.
func (s *debeziumServer) engine(connect *Connect) []string {
	return []string{
		filepath.Join(s.folder, "debezium-embedded-"+DebeziumVersion+".jar"),
		filepath.Join(connect.folder, "plugins", "debezium-connector-postgres", "*"), filepath.Join(connect.folder, "connect", "*"),
	}
}
