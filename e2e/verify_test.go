package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/IBM/sarama"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/testserver"
)

// audit holds the findings of `streamer verify --json`.
type audit struct {
	code     int
	findings []auditFinding
	summary  auditSummary
	stderr   string
}

type auditFinding struct {
	Kind      string
	EventID   string `json:"event_id"`
	At, Other *struct {
		Topic     string
		Partition int32
		Offset    int64
	}
	Sequence  string
	Topic     string
	Partition *int32
	Differs   []string
}

type auditSummary struct {
	Rows, Published, Records, Replays, Foreign, Unmatched, Newer int64

	InFlight     int64 `json:"in_flight"`
	DeadLettered int64 `json:"dead_lettered"`
	Expired      int64
	Outside      int64
	Undated      int64
	Findings     map[string]int64
	Notes        []string
}

// verify runs the command, which waits for rows that a running streamer has not
// published yet.
func (r *rig) verify(arguments ...string) audit {
	r.t.Helper()
	cmd := exec.CommandContext(r.t.Context(), binary, slices.Concat([]string{"verify", "--json"}, r.arguments(), arguments)...)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "STREAMER_") || strings.HasPrefix(v, "PG") })
	var stderr strings.Builder
	cmd.Stderr = &stderr
	output, _ := cmd.Output() // the exit code says how it ended
	a := audit{code: cmd.ProcessState.ExitCode(), stderr: stderr.String()}
	for line := range strings.Lines(string(output)) {
		var last struct{ Summary *auditSummary }
		require.NoError(r.t, json.Unmarshal([]byte(line), &last), line)
		if last.Summary != nil {
			a.summary = *last.Summary
			continue
		}
		var f auditFinding
		require.NoError(r.t, json.Unmarshal([]byte(line), &f), line)
		a.findings = append(a.findings, f)
	}
	return a
}

// clean requires that there is no finding.
func (a audit) clean(t *testing.T) audit {
	t.Helper()
	assert.Zero(t, a.code, a.stderr)
	assert.Empty(t, a.findings)
	assert.Empty(t, a.summary.Findings)
	return a
}

// only returns the one finding of a kind.
func (a audit) only(t *testing.T, kind string) auditFinding {
	t.Helper()
	assert.Equal(t, 1, a.code, a.stderr)
	assert.EqualValues(t, 1, a.summary.Findings[kind], kind)
	i := slices.IndexFunc(a.findings, func(f auditFinding) bool { return f.Kind == kind })
	require.GreaterOrEqual(t, i, 0, "no finding %q in %+v", kind, a.findings)
	return a.findings[i]
}

// put appends records to Kafka unchanged and returns their offsets.
func (r *rig) put(messages ...*sarama.ProducerMessage) []int64 {
	r.t.Helper()
	config := r.kafka.Config(kafkatest.Admin)
	config.Producer.Return.Successes = true
	config.Producer.Partitioner = sarama.NewManualPartitioner
	producer, err := sarama.NewSyncProducer(r.kafka.Brokers(), config)
	require.NoError(r.t, err)
	defer producer.Close()
	var offsets []int64
	for _, m := range messages {
		_, offset, err := producer.SendMessage(m)
		require.NoError(r.t, err)
		offsets = append(offsets, offset)
	}
	return offsets
}

// again copies a record from Kafka so that it can be changed and appended
// again.
func again(m *sarama.ConsumerMessage, headers ...string) *sarama.ProducerMessage {
	copied := &sarama.ProducerMessage{
		Topic: m.Topic, Partition: m.Partition,
		Key: sarama.ByteEncoder(m.Key), Value: sarama.ByteEncoder(m.Value), Timestamp: m.Timestamp,
	}
	for _, h := range m.Headers {
		copied.Headers = append(copied.Headers, *h)
	}
	for i := 0; i < len(headers); i += 2 {
		name, value := []byte(headers[i]), []byte(headers[i+1])
		at := slices.IndexFunc(copied.Headers, func(h sarama.RecordHeader) bool { return string(h.Key) == headers[i] })
		if at < 0 {
			copied.Headers = append(copied.Headers, sarama.RecordHeader{Key: name, Value: value})
		} else {
			copied.Headers[at].Value = value
		}
	}
	return copied
}

// fill commits events of a few aggregates and waits until they are published.
func (r *rig) fill(p *process, n int) []*sarama.ConsumerMessage {
	r.t.Helper()
	r.exec(`insert into outbox (aggregatetype, aggregateid, type, payload)
		select 'order', 'o' || n % 7, 't', jsonb_build_object('n', n) from generate_series(1, $1::int) n`, n)
	return r.await(p, "order", n)
}

func TestVerifyFindsNothingWhereNothingIsWrong(t *testing.T) {
	t.Parallel()
	const table = `create table outbox (id uuid primary key default gen_random_uuid(), aggregatetype text, aggregateid text, type text,
		payload %s, at timestamptz default clock_timestamp(), tenant int, trace text)`
	const fill = `insert into outbox (aggregatetype, aggregateid, type, payload, tenant, trace)
		select 'a' || n %% 3, 'o' || n %% 7, 'é"\t', %s, case when n %% 4 > 0 then n end, ` +
		`case when n %% 5 = 0 then '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01' end
		from generate_series(1, 60) n`
	settings := []string{"outbox.columns.time=at", "outbox.columns.traceparent=trace", "outbox.extensions.tenantid=tenant"}
	usual := []string{"jsonb", "text, structured", "bytea", "tombstone", "catching up"}
	for name, c := range map[string]struct {
		typ, payload string
		more         []string
	}{
		"jsonb": {"jsonb", "case when n % 6 > 0 then jsonb_build_object('n', n, 'é', ' x ') end", nil},
		"jsonb, structured": {
			"jsonb", "case when n % 6 > 0 then jsonb_build_object('n', n, 'é', ' x ') end",
			[]string{"cloudevents.mode=structured"},
		},
		"json, structured":      {"json", `(' {"b": 1, "n":  ' || n || '} ')::json`, []string{"cloudevents.mode=structured"}},
		"text":                  {"text", "case when n % 6 > 0 then 'line \n' || n else '' end", nil},
		"text, structured":      {"text", `case when n % 6 > 0 then e'"\\ \u0001 é' || n end`, []string{"cloudevents.mode=structured"}},
		"bytea":                 {"bytea", "decode('00ff', 'hex') || convert_to(n::text, 'UTF8')", nil},
		"bytea, structured":     {"bytea", "decode('00ff', 'hex') || convert_to(n::text, 'UTF8')", []string{"cloudevents.mode=structured"}},
		"empty object for NULL": {"jsonb", "null::jsonb", []string{"outbox.null_payload=empty_object", "postgres.binary=true"}},
		"tombstone":             {"jsonb", "null::jsonb", []string{"outbox.null_payload=tombstone"}},
		"numeric":               {"numeric", "n / 7.0", nil},
		"catching up":           {"jsonb", "jsonb_build_object('n', n)", []string{"replication.reader=catch-up"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if !slices.Contains(usual, name) {
				testserver.Long(t)
			}
			r := newRig(t, fmt.Sprintf(table, c.typ), withConfig(append(slices.Clone(settings), c.more...)...))
			p := r.startReady()
			r.exec(fmt.Sprintf(fill, c.payload))
			a := r.verify().clean(t)
			assert.EqualValues(t, 60, a.summary.Rows)
			assert.EqualValues(t, 60, a.summary.Published)
			assert.EqualValues(t, 60, a.summary.Records)
			assert.Empty(t, a.summary.Notes)

			// A comparison that cannot fail would prove nothing.
			r.exec("update outbox set payload = " + map[string]string{
				"jsonb": "'[1]'", "json": "'[1]'", "text": "'x'", "bytea": "'x'", "numeric": "1.5",
			}[c.typ] + ", tenant = 4711 where id in (select id from outbox order by id limit 1)")
			f := r.verify().only(t, "altered")
			assert.Contains(t, f.Differs, "payload")
			assert.Contains(t, f.Differs, "extensions")
			assert.Equal(t, 0, p.stop())
		})
	}
}

func TestVerifyDoesNotMissWhatIsInFlight(t *testing.T) {
	t.Parallel()
	r := newRig(t, outboxTable)
	p := r.startReady()
	r.fill(p, 50)
	require.Equal(t, 0, p.stop())
	r.exec(`insert into outbox (aggregatetype, aggregateid, type, payload) select 'order', 'o', 't', '{}' from generate_series(1, 20)`)
	a := r.verify().clean(t)
	assert.EqualValues(t, 70, a.summary.Rows)
	assert.EqualValues(t, 50, a.summary.Published)
	assert.EqualValues(t, 20, a.summary.InFlight)

	p = r.startReady()
	a = r.verify().clean(t) // waits for them
	assert.EqualValues(t, 70, a.summary.Published)
	assert.Zero(t, a.summary.InFlight)

	p.kill()
	r.exec("delete from outbox") // housekeeping
	a = r.verify().clean(t)
	assert.EqualValues(t, 70, a.summary.Unmatched)
	assert.EqualValues(t, 70, r.verify("--strict").summary.Findings["phantom"])
}

func TestVerifyFindsWhatIsWrong(t *testing.T) { //nolint:tparallel // each part adds to what is wrong
	t.Parallel()
	r := newRig(t, outboxTable)
	p := r.startReady()
	messages := r.fill(p, 100)
	require.Equal(t, 0, p.stop())
	first := messages[0]
	others := slices.DeleteFunc(slices.Clone(messages), func(m *sarama.ConsumerMessage) bool { return m.Partition != first.Partition })
	last := others[len(others)-1]

	t.Run("nothing, among records that are none of its business", func(t *testing.T) {
		replay := again(first, "streamer-replay", "1")
		stranger := again(first, "streamer-stream", "0123456789abcdef")
		r.put(replay, stranger, &sarama.ProducerMessage{Topic: first.Topic, Partition: first.Partition, Value: sarama.StringEncoder("anything")})
		a := r.verify("--strict").clean(t)
		assert.EqualValues(t, 1, a.summary.Replays)
		assert.EqualValues(t, 2, a.summary.Foreign)
		assert.EqualValues(t, 100, a.summary.Records)
	})
	t.Run("a repeated record", func(t *testing.T) {
		offset := r.put(again(first))[0]
		f := r.verify().only(t, "repeated")
		assert.Equal(t, header(first, "ce_id"), f.EventID)
		assert.Equal(t, header(first, "ce_sequence"), f.Sequence)
		assert.Equal(t, offset, f.At.Offset)
		assert.Equal(t, first.Offset, f.Other.Offset)
		assert.Equal(t, first.Partition, f.At.Partition)
	})
	t.Run("an altered record", func(t *testing.T) {
		r.exec(`update outbox set payload = '{"n": -1}', type = 'other' where id = $1`, header(last, "ce_id"))
		f := r.verify().only(t, "altered")
		assert.Equal(t, header(last, "ce_id"), f.EventID)
		assert.Equal(t, last.Offset, f.At.Offset)
		assert.Equal(t, []string{"payload", "type"}, f.Differs)
	})
	t.Run("a phantom, which scatters its key", func(t *testing.T) {
		phantom := again(first, "ce_id", uuid.NewString(), "ce_sequence", header(first, "ce_sequence")[:17]+"0000ffff")
		phantom.Partition = (first.Partition + 1) % 3
		offset := r.put(phantom)[0]
		a := r.verify()
		assert.EqualValues(t, 1, a.summary.Unmatched)
		assert.Zero(t, a.summary.Findings["phantom"])
		f := a.only(t, "scattered")
		assert.ElementsMatch(t, []int32{first.Partition, phantom.Partition}, []int32{f.At.Partition, f.Other.Partition})
		f = r.verify("--strict").only(t, "phantom")
		assert.Equal(t, offset, f.At.Offset)
		assert.Equal(t, phantom.Partition, f.At.Partition)
	})
	t.Run("a record that is no event", func(t *testing.T) {
		broken := again(first, "ce_sequence", "nonsense")
		offset := r.put(broken)[0]
		assert.Equal(t, offset, r.verify().only(t, "malformed").At.Offset)
	})

	// Rows that the slot has passed and that were never published.
	var ids []string
	for n := range 3 {
		ids = append(ids, r.insert("order", string(first.Key), "t", fmt.Sprintf(`{"n": %d}`, 1000+n)))
	}
	r.exec("select pg_replication_slot_advance($1, pg_current_wal_lsn())", r.slot)
	t.Run("a missing row", func(t *testing.T) {
		a := r.verify()
		assert.EqualValues(t, 3, a.summary.Findings["missing"])
		for _, f := range a.findings {
			if f.Kind == "missing" {
				assert.Contains(t, ids, f.EventID)
				assert.Equal(t, first.Topic, f.Topic)
				assert.Equal(t, first.Partition, *f.Partition)
			}
		}
	})
	t.Run("an event behind a later one", func(t *testing.T) {
		later := again(first, "ce_id", ids[1], "ce_sequence", "00ffffffffffff00-00000001")
		later.Value = sarama.StringEncoder(`{"n": 1001}`)
		earlier := again(first, "ce_id", ids[0], "ce_sequence", "00fffffffffff000-00000001")
		earlier.Value = sarama.StringEncoder(`{"n": 1000}`)
		offsets := r.put(later, earlier)
		a := r.verify()
		assert.EqualValues(t, 1, a.summary.Findings["missing"])
		f := a.only(t, "out_of_order")
		assert.Equal(t, ids[0], f.EventID)
		assert.Equal(t, offsets[1], f.At.Offset)
		assert.Equal(t, offsets[0], f.Other.Offset)
		assert.Equal(t, map[string]int64{
			"missing": 1, "out_of_order": 1, "repeated": 1, "altered": 1, "scattered": 1, "malformed": 1,
		}, a.summary.Findings)
	})
	t.Run("the text for people", func(t *testing.T) {
		output, _ := exec.CommandContext(t.Context(), binary, append([]string{"verify"}, r.arguments()...)...).CombinedOutput()
		for _, text := range []string{
			"missing      event " + ids[2] + " not in topic " + first.Topic,
			"repeated     event " + header(first, "ce_id") + " at " + fmt.Sprintf("%s/%d@", first.Topic, first.Partition),
			"payload, type differ from the row",
			"streamer: verify: 6 findings",
		} {
			assert.Contains(t, string(output), text)
		}
		assert.NotContains(t, string(output), `"n"`, "no payload")
	})
}

func TestVerifyDoesNotMissWhatHasExpired(t *testing.T) {
	testserver.Long(t)
	t.Parallel()
	r := newRig(t, strings.Replace(outboxTable, "payload jsonb", "payload jsonb, created_at timestamptz default now()", 1))
	p := r.startReady()
	r.fill(p, 40)
	old := r.records("order")
	r.exec("update outbox set created_at = now() - interval '1 hour'")
	r.exec(`insert into outbox (aggregatetype, aggregateid, type, payload) ` +
		`select 'order', 'o' || n % 7, 't', jsonb_build_object('n', n) from generate_series(1, 40) n`)
	r.await(p, "order", 80)
	ends := map[int32]int64{}
	for _, m := range old {
		ends[m.Partition] = m.Offset + 1
	}
	admin, err := r.kafka.Admin()
	require.NoError(t, err)
	defer admin.Close()
	require.NoError(t, admin.DeleteRecords(r.topic("order"), ends))

	a := r.verify("--time-column", "created_at").clean(t)
	assert.EqualValues(t, 40, a.summary.Expired)
	assert.EqualValues(t, 40, a.summary.Published)
	a = r.verify().clean(t) // without a time column nothing can be decided, and the report says so
	assert.EqualValues(t, 40, a.summary.Expired)

	id := r.insert("order", "o1", "t", `{}`)
	r.await(p, "order", 41)
	require.Equal(t, 0, p.stop())
	r.exec("update outbox set id = gen_random_uuid() where id = $1", id)
	f := r.verify("--time-column", "created_at").only(t, "missing")
	assert.NotEqual(t, id, f.EventID)
}

// Rows that cannot be published are in no topic, and are no reason to fail.
func TestVerifyAmongPoisonRows(t *testing.T) {
	t.Parallel()
	const table = `create table outbox (id uuid primary key default gen_random_uuid(), ` +
		`aggregatetype text, aggregateid text, type text, payload jsonb, at timestamptz default now())`
	r := newRig(t, table, withConfig("outbox.columns.time=at", "poison.policy=dead-letter"))
	r.lines = append(r.lines, "poison.topic=dead-"+r.prefix)
	p := r.startReady()
	r.exec(`insert into outbox (aggregatetype, aggregateid, type, at) values
		('no topic', 'a', 't', now()), ('order', null, 't', now()), ('order', 'a', 't', 'infinity'), ('order', 'a', 't', now())`)
	r.await(p, "order", 1)
	require.Equal(t, 0, p.stop())
	a := r.verify().clean(t)
	assert.EqualValues(t, 1, a.summary.Published)
	assert.EqualValues(t, 3, a.summary.DeadLettered)
}

func TestVerifyWithinARange(t *testing.T) { //nolint:tparallel // one process at a time is enough
	t.Parallel()
	r := newRig(t, strings.Replace(outboxTable, "payload jsonb", "payload jsonb, created_at timestamptz default clock_timestamp()", 1))
	p := r.startReady()
	for range 3 {
		r.exec(`insert into outbox (aggregatetype, aggregateid, type, payload) ` +
			`select 'order', 'o' || n % 7, 't', jsonb_build_object('n', n) from generate_series(1, 10) n`)
	}
	messages := r.await(p, "order", 30)
	require.Equal(t, 0, p.stop())
	commits := map[string]bool{}
	for _, m := range messages {
		commits[header(m, "ce_sequence")[:16]] = true
	}
	var sorted []string
	for commit := range commits {
		sorted = append(sorted, commit)
	}
	slices.Sort(sorted)
	require.Len(t, sorted, 3)
	lsn := func(i int) string {
		commit, err := strconv.ParseUint(sorted[i], 16, 64)
		require.NoError(t, err)
		return fmt.Sprintf("%X/%X", commit>>32, commit&0xFFFFFFFF)
	}

	// One event of each transaction is appended again, and one row is changed
	// so that it is missing.
	for i, commit := range sorted {
		at := slices.IndexFunc(messages, func(m *sarama.ConsumerMessage) bool { return strings.HasPrefix(header(m, "ce_sequence"), commit) })
		r.put(again(messages[at]))
		other := slices.IndexFunc(messages, func(m *sarama.ConsumerMessage) bool {
			return strings.HasPrefix(header(m, "ce_sequence"), commit) && header(m, "ce_id") != header(messages[at], "ce_id")
		})
		r.exec("update outbox set id = $1 where id = $2",
			fmt.Sprintf("00000000-0000-0000-0000-00000000000%d", i), header(messages[other], "ce_id"))
	}
	all := r.verify()
	assert.Equal(t, map[string]int64{"repeated": 3, "missing": 3}, all.summary.Findings)

	for name, c := range map[string]struct {
		arguments []string
		repeated  int64
	}{
		"from a position":       {[]string{"--from", lsn(1)}, 2},
		"to a position":         {[]string{"--to", lsn(1)}, 1},
		"between two positions": {[]string{"--from", lsn(1), "--to", lsn(2)}, 1},
		"from the future":       {[]string{"--from", "FFFF/0"}, 0},
		"of an hour":            {[]string{"--from", "1h"}, 3},
		"before that hour":      {[]string{"--to", "1h"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			a := r.verify(append(c.arguments, "--time-column", "created_at")...)
			assert.Equal(t, c.repeated, a.summary.Findings["repeated"])
			// Rows have no positions: their range is a little wide, never
			// narrow.
			assert.GreaterOrEqual(t, a.summary.Findings["missing"], c.repeated)
			a = r.verify(c.arguments...)
			assert.Zero(t, a.summary.Findings["missing"])
			assert.Len(t, a.summary.Notes, 1, "what is not looked for must be said")
		})
	}
	t.Run("of one topic", func(t *testing.T) {
		a := r.verify("--topic", r.topic("elsewhere"))
		assert.Zero(t, a.code, a.stderr)
		assert.Zero(t, a.summary.Rows)
		a = r.verify("--topic", r.topic("order"), "--limit", "1")
		assert.Equal(t, 1, a.code)
		assert.Len(t, a.findings, 2)
	})
	t.Run("with rows that tell no time", func(t *testing.T) {
		r.exec("update outbox set created_at = " +
			"case when id::text like '%0' then null else '-infinity'::timestamptz end where id::text like '00000000-%'")
		a := r.verify("--from", "1h", "--time-column", "created_at")
		assert.Zero(t, a.summary.Findings["missing"])
		assert.EqualValues(t, 3, a.summary.Undated, "what is not looked for must be said")
	})
}

func TestVerifyAgainstARecording(t *testing.T) {
	t.Parallel()
	r := newRig(t, outboxTable)
	p := r.startReady()
	r.fill(p, 30)
	file := filepath.Join(t.TempDir(), "truth.jsonl")
	record := func() ([]byte, error) {
		return exec.CommandContext(t.Context(), binary, append([]string{"verify", "--record", file}, r.arguments()...)...).CombinedOutput()
	}
	output, err := record()
	require.NoError(t, err, string(output))
	assert.Contains(t, string(output), "recorded 30 rows")
	output, err = record()
	require.Error(t, err, "an existing file is not overwritten: %s", output)
	r.exec("delete from outbox")
	a := r.verify("--truth", file).clean(t)
	assert.EqualValues(t, 30, a.summary.Rows)
	assert.EqualValues(t, 30, a.summary.Published)

	// Later rows are not held against a recording that cannot contain them.
	r.exec(`insert into outbox (aggregatetype, aggregateid, type, payload) values ('order', 'late', 't', '{}')`)
	messages := r.await(p, "order", 31)
	require.Equal(t, 0, p.stop())
	assert.EqualValues(t, 1, r.verify("--truth", file).clean(t).summary.Newer)

	recorded, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.NotContains(t, string(recorded), `"n"`, "no payload")
	lines := strings.SplitAfter(strings.TrimSpace(string(recorded)), "\n")
	lines[5] = strings.Replace(lines[5], `"type":"t"`, `"type":"u"`, 1)
	require.NoError(t, os.WriteFile(file, []byte(strings.Join(lines[:len(lines)-1], "")+
		string(recorded)+`{"id": "never published", "topic": "`+r.topic("order")+`"}`), 0o600))
	a = r.verify("--truth", file)
	assert.Equal(t, map[string]int64{"missing": 1}, a.summary.Findings, "an event of two recordings may be as in either")
	assert.Equal(t, "never published", a.only(t, "missing").EventID)

	phantom := again(messages[0], "ce_id", uuid.NewString(), "ce_sequence", "0000000000000001-00000001")
	r.put(phantom)
	assert.EqualValues(t, 1, r.verify("--truth", file).summary.Findings["phantom"])
}

func TestVerifyRefusals(t *testing.T) { //nolint:tparallel // the last part changes what the others see
	t.Parallel()
	r := newRig(t, outboxTable)
	for name, c := range map[string]struct {
		arguments []string
		code      int
		says      string
	}{
		"a bound that is none":      {[]string{"--from", "yesterday"}, 2, "--from yesterday: write an LSN"},
		"a column that is none":     {[]string{"--time-column", "created"}, 2, `has no column "created"`},
		"a column that is no time":  {[]string{"--time-column", "payload"}, 2, "is jsonb, not timestamptz"},
		"a recording that is none":  {[]string{"--truth", "/dev/zero/none"}, 2, "--truth"},
		"a file that is no record":  {[]string{"--truth", "verify_test.go"}, 2, "line 1: not a line of a truth file"},
		"a table that is not there": {[]string{"--set", "outbox.table=missing"}, 3, "does not exist"},
	} {
		t.Run(name, func(t *testing.T) {
			a := r.verify(c.arguments...)
			assert.Equal(t, c.code, a.code)
			assert.Contains(t, a.stderr, c.says)
		})
	}
	t.Run("a role that may not read", func(t *testing.T) {
		role := "reader_" + r.slot[max(0, len(r.slot)-20):]
		r.exec("create role " + role + " login replication password 'x'")
		t.Cleanup(func() {
			_, err := r.db.Exec(context.WithoutCancel(t.Context()), "drop role "+role)
			assert.NoError(t, err)
		})
		dsn, err := url.Parse(r.dsn)
		require.NoError(t, err)
		dsn.User = url.UserPassword(role, "x")
		a := r.verify("--set", "postgres.dsn="+dsn.String())
		assert.Equal(t, 3, a.code)
		assert.Contains(t, a.stderr, "GRANT SELECT ON")
	})
	t.Run("a slot that is gone: every row is due", func(t *testing.T) {
		p := r.startReady()
		r.fill(p, 5)
		require.Equal(t, 0, p.stop())
		r.insert("order", "o", "t", "{}")
		r.exec("select pg_drop_replication_slot($1)", r.slot)
		a := r.verify()
		a.only(t, "missing")
		assert.Contains(t, strings.Join(a.summary.Notes, " "), "is missing or lost")
	})
}
