package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/kafkatest"
)

// initialisation runs streamer init in a rig without settings in the
// environment, so that the file has to hold all.
func initialisation(t *testing.T, r *rig, answers string, arguments ...string) (result, string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "made.yaml")
	var stdout, stderr bytes.Buffer
	env := environment{stdout: &stdout, stderr: &stderr}
	if answers != "" {
		env.stdin = strings.NewReader(answers)
	}
	code := run(append([]string{"init", "--dsn", r.dsn, "--output", file}, arguments...), env)
	return result{code, stdout.String(), stderr.String()}, file
}

// A file that init writes needs nothing else to set up, pass the doctor and
// publish.
func TestInitThenSetupThenDoctor(t *testing.T) {
	t.Parallel()
	r := newRig(t, true)
	r.script(`create schema "My.App"; create table "My.App"."Out""box" ("Event Id" uuid primary key default gen_random_uuid(),
		"Meta" jsonb, "Data.Body" text, "OccurredOn" timestamp not null default (now() at time zone 'UTC'))`)
	got, file := initialisation(t, r, "", "--brokers", strings.Join(kafkatest.Shared(t).Brokers(), ","), "--source", "/shop",
		"--table", `"My.App"."Out""box"`, "--set", "outbox.columns.id=Event Id", "--set", "outbox.columns.aggregate_type=Meta#/aggregate/type",
		"--set", "outbox.columns.aggregate_id=Meta#/aggregate/id", "--set", "outbox.columns.type=Meta#/type", "--set",
		"outbox.columns.payload=Data.Body#/data", "--set", "kafka.topic="+r.topic+".{aggregate_type}", "--set", "postgres.slot="+r.slot,
		"--set", "postgres.publication="+r.slot, "--set", "checkpoint.kafka.topic=checkpoints-"+r.topic, "--set", "http.listen="+r.listen)
	require.Zero(t, got.code, got.stderr)
	assert.Contains(t, got.stdout, "wrote "+file+"\nnext: streamer setup --config "+file)

	r.environ = []string{config.FileVariable + "=" + file}
	for _, step := range []string{"setup", "doctor"} {
		got := r.execute(step)
		require.Zero(t, got.code, got.stdout+got.stderr)
		assert.NotContains(t, got.stdout, "FAIL")
	}
	r.exec(`insert into "My.App"."Out""box" ("Meta", "Data.Body") values ('{"type": "Placed", "aggregate": {"type": "order", "id": 42}}',
		'{"data": {"total": 12.50}}')`)
	stop := r.stream()
	tail := r.execute("tail", "--from", "beginning", "--limit", "1")
	verified := r.execute("verify")
	stop()
	require.Zero(t, tail.code, tail.stderr)
	for _, part := range []string{`"subject":"42"`, `"type":"Placed"`, `"source":"/shop"`, `"data":{"total":12.50}`, `"key":"42"`} {
		assert.Contains(t, tail.stdout, part)
	}
	assert.Contains(t, tail.stdout, r.topic+".order")
	require.Zero(t, verified.code, verified.stdout+verified.stderr)
}

func TestInitAsks(t *testing.T) {
	t.Parallel()
	r := newRig(t, false)
	r.script(readFramework(t, "cap").table + readFramework(t, "marten").table +
		"; create table letters (id uuid, event_type text, payload jsonb, body text, recipient text, created_at timestamptz)")
	got, file := initialisation(t, r, "3\nrecipient\nletter\nkafka:9092\n")
	require.Zero(t, got.code, got.stderr)
	assert.Contains(t, got.stderr, "  1  cap.published  has all columns of preset cap, DotNetCore.CAP\n")
	assert.Contains(t, got.stderr, "  3  public.letters  looks like an outbox: "+
		"id in id, type in event_type, payload in payload, time in created_at\n")
	assert.Contains(t, got.stderr, "No column of public.letters looks like the aggregate ID, which is the key in Kafka. "+
		"It has: id, event_type, payload, body, recipient, created_at\n")
	loaded, err := config.Load(config.Options{File: file, FileExplicit: true})
	require.NoError(t, err)
	o := loaded.Config.Outbox
	assert.Equal(t, "public.letters", o.Table)
	assert.Equal(t, config.Columns{ID: "id", AggregateID: "recipient", Type: "event_type", Payload: "payload", Time: "created_at"}, o.Columns)
	assert.Equal(t, "letter", o.Defaults.AggregateType)
	assert.Equal(t, []string{"kafka:9092"}, loaded.Config.Kafka.Brokers)

	got, _ = initialisation(t, r, "1\n") // and then nothing
	assert.Equal(t, exitUsage, got.code)
	assert.Contains(t, got.stderr, "streamer: no answer was given\nfix: ")
}

// Whoever has a full table learns on the first day what becomes of its rows.
func TestInitSaysThatTheTableHasRows(t *testing.T) {
	t.Parallel()
	r := newRig(t, false)
	r.script(`create table outbox (id uuid primary key default gen_random_uuid(), aggregatetype text, aggregateid text, type text,
		payload jsonb)`)
	got, _ := initialisation(t, r, "", "--print")
	require.Zero(t, got.code, got.stderr)
	assert.NotContains(t, got.stdout+got.stderr, "which are not published")
	r.exec("insert into outbox (aggregateid) values ('a'), ('b')")
	got, _ = initialisation(t, r, "", "--print")
	require.Zero(t, got.code, got.stderr)
	assert.Contains(t, got.stdout, "The table has 2 rows, which are not published.")
	assert.Contains(t, got.stderr, "2 rows, which are not published unless snapshot.mode is initial")
}

func TestInitRefuses(t *testing.T) {
	t.Parallel()
	r := newRig(t, false)
	got, file := initialisation(t, r, "")
	assert.Equal(t, exitUsage, got.code)
	assert.Contains(t, got.stderr, "streamer: no table of the database looks like an outbox: 0 tables looked at\n"+
		"fix: name the table with --table")
	assert.NoFileExists(t, file)

	r.script(readFramework(t, "cap").table + readFramework(t, "marten").table +
		"; create table thin (id uuid, payload jsonb); create table keyless (id uuid, type text, payload jsonb)")
	for name, c := range map[string]struct {
		arguments []string
		want      string
	}{
		"several tables": {nil, "several tables look like an outbox:\n  cap.published  has all columns"},
		"unknown preset": {[]string{"--preset", "matren"}, "did you mean marten?"},
		"another preset": {[]string{"--preset", "axon"}, "no table of the database looks like an outbox of preset axon"},
		"no such table":  {[]string{"--table", "nowhere"}, "the database has no table public.nowhere"},
		"not of the preset": {
			[]string{"--table", "thin", "--preset", "debezium"},
			"table public.thin has no column aggregateid, aggregatetype, type: it has id, payload\nfix: map another column with --set",
		},
		"half mapped": {
			[]string{"--preset", "cap", "--set", "outbox.columns.payload=Contents#/Value"},
			"table cap.published has no column Contents: it has Id, ",
		},
		"no type": {
			[]string{"--table", "thin"}, "no column of public.thin looks like the aggregate ID, which is the key in Kafka\n" +
				"fix: name it: --set outbox.columns.aggregate_id=COLUMN; for events without order, --set outbox.columns.aggregate_id=id",
		},
		"no key":        {[]string{"--table", "keyless"}, "no column of public.keyless looks like the aggregate ID"},
		"wrong brokers": {[]string{"--preset", "cap", "--brokers", "kafka"}, "kafka.brokers"},
		"unknown key":   {[]string{"--set", "outbox.tabel=x"}, "did you mean outbox.table?"},
	} {
		got, file := initialisation(t, r, "", c.arguments...)
		assert.Equal(t, exitUsage, got.code, "%s: %s", name, got.stderr)
		assert.Contains(t, got.stderr, c.want, name)
		assert.NoFileExists(t, file, name)
	}
}

func TestInitNeverOverwrites(t *testing.T) {
	t.Parallel()
	r := newRig(t, false)
	r.script(readFramework(t, "debezium").table)
	got, file := initialisation(t, r, "", "--brokers", "kafka:9092")
	require.Zero(t, got.code, got.stderr)
	before, err := os.ReadFile(file)
	require.NoError(t, err)
	again := execute(t, nil, "init", "--dsn", r.dsn, "--output", file, "--table", "outbox")
	assert.Equal(t, exitUsage, again.code)
	assert.Equal(t, "streamer: file "+file+" exists and is not overwritten\n"+
		"fix: name another file with --output, or print it with --print\n", again.stderr)
	after, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, string(before), string(after))

	printed := execute(t, nil, "init", "--dsn", r.dsn, "--output", file, "--print", "--brokers", "kafka:9092")
	require.Zero(t, printed.code, printed.stderr)
	assert.Equal(t, string(before), printed.stdout)
}

// Whatever form the DSN has, its password is not in the file.
func TestInitWritesNoPassword(t *testing.T) {
	t.Parallel()
	r := newRig(t, false)
	r.script(readFramework(t, "debezium").table)
	r.exec(`create role "with_` + r.slot + `" login password 'hunter2'`)
	dsn := strings.Replace(r.dsn, "postgres://", "postgres://with_"+r.slot+":hunter2@", 1)
	if at := strings.Index(r.dsn, "@"); at >= 0 {
		dsn = "postgres://with_" + r.slot + ":hunter2" + r.dsn[at:]
	}
	got := execute(t, nil, "init", "--dsn", dsn, "--brokers", "kafka:9092", "--print")
	require.Zero(t, got.code, got.stderr)
	assert.NotContains(t, got.stdout, "hunter2")
	assert.Contains(t, got.stdout, "  dsn: postgres://with_"+r.slot+"@")
	assert.Contains(t, got.stdout, "set PGPASSWORD")

	// A password from the environment is not written either, nor is the DSN.
	got = execute(t, []string{"STREAMER_POSTGRES_DSN=" + dsn}, "init", "--brokers", "kafka:9092", "--print")
	require.Zero(t, got.code, got.stderr)
	assert.NotContains(t, got.stdout, "hunter2")
	assert.Contains(t, got.stdout, "Not set here: it comes from STREAMER_POSTGRES_DSN.")
}

// Rows that are updated, or deleted by a framework that does so, are a sign of
// another dispatcher.
func TestDispatcherIsNoticed(t *testing.T) {
	t.Parallel()
	for preset, c := range map[string]struct{ change, want string }{
		"cap":         {`update cap.published set "StatusName" = 'Succeeded'`, "3 rows have been updated"},
		"masstransit": {`delete from "OutboxMessage"`, "1 rows have been deleted"},
	} {
		t.Run(preset, func(t *testing.T) {
			t.Parallel()
			made := readFramework(t, preset)
			r := newRig(t, true, "STREAMER_KAFKA_TOPICS_CREATE=true")
			r.script(made.table)
			r.initialise()
			require.Zero(t, r.execute("setup").code)
			quiet := r.execute("doctor")
			require.Zero(t, quiet.code, quiet.stdout)
			assert.Contains(t, quiet.stdout, "ok    other dispatcher — no sign of ")
			r.script(made.rows)
			r.script(c.change)
			_, _ = r.conn.Exec(t.Context(), "select pg_stat_force_next_flush()") // PostgreSQL 14 has no such function and waits
			require.Eventually(t, func() bool {
				return strings.Contains(r.execute("doctor").stdout, "warn  other dispatcher — "+c.want)
			}, 30*time.Second, 200*time.Millisecond)
			again := r.execute("init", "--print", "--preset", preset)
			require.Zero(t, again.code, again.stderr)
			assert.Contains(t, again.stderr, "streamer: warning: "+c.want)
			assert.Contains(t, again.stdout, "# "+c.want)
		})
	}
}

// A table that a framework makes is not made up.
func TestSetupLeavesTheTableToItsFramework(t *testing.T) {
	t.Parallel()
	r := newRig(t, false, "STREAMER_OUTBOX_PRESET=cap")
	got := r.execute("setup", "--create-table")
	assert.Equal(t, exitRefused, got.code)
	assert.Equal(t, "streamer: outbox table cap.published does not exist\n"+
		"fix: let DotNetCore.CAP make it, or name another in outbox.table\n", got.stderr)
	printed := r.execute("setup", "--print")
	require.Zero(t, printed.code, printed.stderr)
	assert.Contains(t, printed.stdout, "-- The outbox table cap.published is made by DotNetCore.CAP.")
	assert.NotContains(t, printed.stdout, "CREATE TABLE")
	assert.Contains(t, printed.stdout, "CREATE PUBLICATION")
}
