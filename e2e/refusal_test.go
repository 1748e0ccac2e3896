package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/internal/pgtest"
	"github.com/outboxstream/streamer/internal/testserver"
)

const (
	exitUsage   = 2
	exitRefused = 3
	exitDrain   = 4

	// refusalTime is the longest a refusal may take.
	refusalTime = 20 * time.Second
	// quick is how soon a process ends that has no work to finish.
	quick = 3 * time.Second

	// The canaries are in payloads and connection strings, and must never
	// appear in a log or an error.
	payloadCanary  = "canary-in-payload"
	passwordCanary = "canary-in-password"
)

// withPassword puts a password into the DSN. A server with trust authentication
// does not ask for it.
func (r *rig) withPassword() *rig {
	r.t.Helper()
	r.dsn = dsnOf(r.t, r.dsn, func(u *url.URL) { u.User = url.UserPassword("postgres", passwordCanary) })
	return r
}

// dsnOf returns a changed DSN.
func dsnOf(t *testing.T, dsn string, change func(*url.URL)) string {
	t.Helper()
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	change(u)
	return u.String()
}

// numbered commits rows of one aggregate, one after the other.
func (r *rig) numbered(aggregateID string, numbers ...int) {
	r.t.Helper()
	for _, n := range numbers {
		r.insert("order", aggregateID, "t", fmt.Sprintf(`{"n": %d, "secret": %q}`, n, payloadCanary))
	}
}

// published waits until exactly these rows of one aggregate have arrived, each
// once and in order.
func (r *rig) published(p *process, aggregateID string, numbers ...int) { //nolint:unparam // a test names what it inserted
	r.t.Helper()
	messages := r.await(p, "order", len(numbers))
	assert.Equal(r.t, map[string][]int{aggregateID: numbers}, byKey(r.t, messages))
}

// refused waits until the process ends by itself, and asserts that it says why
// in one sentence, with the remedy on a line of its own, at the end of its log, and
// that all these words are in there.
func (p *process) refused(code int, words ...string) (sentence string) {
	p.t.Helper()
	asked := time.Now()
	assert.Equal(p.t, code, p.code())
	assert.Less(p.t, time.Since(asked), refusalTime)
	p.discreet()
	return oneSentence(p.t, code, p.log.String(), words...)
}

func oneSentence(t *testing.T, code int, output string, words ...string) string {
	t.Helper()
	const prefix = "streamer: "
	at := strings.Index("\n"+output, "\n"+prefix)
	require.GreaterOrEqual(t, at, 0, "no reason in:\n%s", output)
	sentence := strings.TrimRight(output[at:], "\n")
	for line := range strings.SplitSeq(sentence, "\n") {
		assert.True(t, strings.HasPrefix(line, prefix) || strings.HasPrefix(line, "fix: "), "not a part of the reason: %s", line)
	}
	for _, word := range words {
		assert.Contains(t, sentence, word)
	}
	t.Logf("exit %d: %s", code, strings.TrimPrefix(sentence, prefix))
	return sentence
}

// discreet asserts that the log holds no payload and no password.
func (p *process) discreet() {
	p.t.Helper()
	assert.NotContains(p.t, p.log.String(), payloadCanary)
	assert.NotContains(p.t, p.log.String(), passwordCanary)
}

// outcome runs the binary to its end in a folder, without servers.
func outcome(t *testing.T, folder string, environment []string, arguments ...string) (output string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, arguments...)
	cmd.Dir, cmd.Env = folder, environment
	out, err := cmd.CombinedOutput()
	if _, exit := errors.AsType[*exec.ExitError](err); !exit {
		require.NoError(t, err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func TestWrongConfiguration(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		arguments, environment []string
		file                   string
		words                  []string
	}{
		"unknown key in a flag": {
			arguments: []string{"--set", "kafka.borkers=127.0.0.1:1"},
			words:     []string{"kafka.borkers", "did you mean kafka.brokers"},
		},
		"unknown key in the file": {
			file:  "postgres:\n  slott: outbox\n",
			words: []string{"streamer.yaml:2", "postgres.slott", "did you mean postgres.slot"},
		},
		"unknown environment variable": {
			environment: []string{"STREAMER_KAFKA_TOPICK=x"},
			words:       []string{"STREAMER_KAFKA_TOPICK", "did you mean STREAMER_KAFKA_TOPIC"},
		},
		"missing configuration file": {
			arguments: []string{"--config", "elsewhere.yaml"},
			words:     []string{"elsewhere.yaml", "create it or name another"},
		},
		"file is not YAML":        {file: "postgres: [\n", words: []string{"streamer.yaml"}},
		"value of the wrong type": {file: "kafka:\n  linger: often\n", words: []string{"streamer.yaml:2", "kafka.linger", "often"}},
		"DSN is no connection string": {
			arguments: []string{"--set", "postgres.dsn=" + passwordCanary},
			words:     []string{"postgres.dsn", "postgres://"},
		},
		"DSN with a port that is none": {
			arguments: []string{"--set", "postgres.dsn=postgres://app:" + passwordCanary + "@127.0.0.1:many/shop"},
			words:     []string{"postgres.dsn", "postgres://user:password@host:5432/database"},
		},
		"DSN with a stray parameter": {
			arguments: []string{"--set", "postgres.dsn=host=127.0.0.1 port=x password=" + passwordCanary},
			words:     []string{"postgres.dsn", "key=value"},
		},
		"DSN in a file that is gone": {
			arguments: []string{"--set", "postgres.dsn=file:dsn.secret"},
			words:     []string{"postgres.dsn", "dsn.secret"},
		},
		"slot name that is none": {
			arguments: []string{"--set", "postgres.slot=Out-Box"},
			words:     []string{"postgres.slot", "Out-Box", "lower-case"},
		},
		"unknown placeholder": {
			arguments: []string{"--set", "kafka.topic=x.{agregate_type}"}, //nolint:misspell // the typo is the test
			words:     []string{"kafka.topic", "did you mean {aggregate_type}"},
		},
		"HTTP address in use": {
			arguments: []string{"--set", "http.listen=" + occupied(t)},
			words:     []string{"http.listen", "choose another address"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			if c.file != "" {
				require.NoError(t, os.WriteFile(filepath.Join(folder, "streamer.yaml"), []byte(c.file), 0o600))
			}
			output, code := outcome(t, folder, c.environment, append([]string{"run", "--set", "http.listen="}, c.arguments...)...)
			assert.Equal(t, exitUsage, code)
			assert.NotContains(t, output, passwordCanary)
			oneSentence(t, code, output, c.words...)
		})
	}
}

// occupied returns an address with a listener until the end of the test.
func occupied(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	return listener.Addr().String()
}

// refusal is something that is made wrong after rows were committed, and
// corrected again.
type refusal struct {
	needs int                   // server_version_num from which it can be wrong
	spoil func(r *rig)          // makes it wrong
	wrong func(r *rig) []string // or these settings are wrong
	code  int
	words []string
	cure  func(r *rig)
}

func settings(keyValues ...string) func(*rig) []string {
	return func(*rig) []string { return keyValues }
}

// TestRefusedUntilPutRight makes something wrong between two runs. The refusal
// must name it. Once it has been corrected, every row arrives once.
func TestRefusedUntilPutRight(t *testing.T) {
	t.Parallel()
	for name, c := range serverRefusals() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.try(newRig(t, outboxTable, withStore("file")).withPassword())
		})
	}
}

func (c refusal) try(r *rig) {
	r.t.Helper()
	if r.pg.Version() < c.needs {
		r.t.Skipf("PostgreSQL %d cannot be set up that way", r.pg.Version())
	}
	p := r.startReady()
	r.numbered("o1", 1, 2)
	r.published(p, "o1", 1, 2)
	require.Equal(r.t, 0, p.stop())
	r.numbered("o1", 3, 4)
	var wrong []string
	if c.spoil != nil {
		c.spoil(r)
	}
	if c.wrong != nil {
		wrong = c.wrong(r)
	}
	for range 2 { // the same at every start
		r.start(wrong...).refused(c.code, c.words...)
	}
	assert.Len(r.t, r.records("order"), 2)
	if c.cure != nil {
		c.cure(r)
	}
	p = r.startReady()
	r.numbered("o1", 5)
	r.published(p, "o1", 1, 2, 3, 4, 5)
	assert.Equal(r.t, 0, p.stop())
	p.discreet()
}

// accepted is a cure that leaves a gap in the stream. The operator has to
// accept the gap.
func accepted(cure func(*rig)) func(*rig) {
	return func(r *rig) {
		r.t.Helper()
		cure(r)
		sentence := r.start().refused(exitRefused, "may have been out of publication",
			"in no stream", "also below the checkpoint", "streamer checkpoint set 0/", "streamer replay --missing")
		assert.NotContains(r.t, sentence, "is published; what was committed from there on")
		r.notices("FAIL", "publication", "may have been out of publication", "streamer replay --missing")
		output, code := outcome(r.t, r.folder, os.Environ(), append([]string{"checkpoint", "set", "slot", "--yes"}, r.arguments()...)...)
		require.Equal(r.t, 0, code, output)
	}
}

func sql(statements ...string) func(*rig) {
	return func(r *rig) {
		r.t.Helper()
		for _, s := range statements {
			r.exec(s)
		}
	}
}

func serverRefusals() map[string]refusal {
	return map[string]refusal{
		"unknown database": {
			wrong: func(r *rig) []string {
				return []string{"postgres.dsn=" + dsnOf(r.t, r.dsn, func(u *url.URL) { u.Path = "/nowhere" })}
			},
			code: exitUsage, words: []string{`database "nowhere" does not exist`, "postgres.dsn"},
		},
		"missing slot": {
			wrong: settings("postgres.slot=nobodys_slot"),
			code:  exitRefused, words: []string{`slot "nobodys_slot" does not exist`, "streamer setup"},
		},
		"missing publication": {
			spoil: sql("drop publication streamer"),
			code:  exitRefused, words: []string{`publication "streamer" does not exist`, "streamer setup"},
			cure: accepted(sql("create publication streamer for table outbox with (publish = 'insert')")),
		},
		"missing table": {
			spoil: sql("alter table outbox rename to elsewhere"),
			code:  exitRefused, words: []string{"table public.outbox does not exist", "streamer setup --print", "outbox.table"},
			cure: accepted(sql("alter table elsewhere rename to outbox")),
		},
		"missing column": {
			spoil: sql("alter table outbox rename column payload to body"),
			code:  exitRefused, words: []string{`public.outbox has no column "payload"`, "outbox.columns", "body"},
			cure: sql("alter table outbox rename column body to payload"),
		},
		"publication without inserts": {
			spoil: sql("alter publication streamer set (publish = 'update')"),
			code:  exitRefused,
			words: []string{`publication "streamer" does not publish inserts`, "ALTER PUBLICATION", "publish = 'insert, update'"},
			cure:  accepted(sql("alter publication streamer set (publish = 'insert')")),
		},
		"publication without the table": {
			spoil: sql("create table other (n int)", "alter publication streamer set table other"),
			code:  exitRefused, words: []string{`publication "streamer" does not contain table public.outbox`, "ALTER PUBLICATION", "ADD TABLE"},
			cure: accepted(sql("alter publication streamer set table outbox")),
		},
		"publication that filters rows": {
			needs: 150000,
			spoil: sql("alter publication streamer set table outbox where (type <> 'unwanted')"),
			code:  exitRefused, words: []string{`publication "streamer" filters rows of public.outbox`, "ALTER PUBLICATION", "ADD TABLE"},
			cure: accepted(sql("alter publication streamer set table outbox")),
		},
		"publication that leaves out a column": {
			needs: 150000,
			spoil: sql("alter publication streamer set table outbox (id, aggregatetype, aggregateid, type)"),
			code:  exitRefused,
			words: []string{
				`publication "streamer" leaves out column "payload" of public.outbox`, "ALTER PUBLICATION", "ADD TABLE",
			},
			cure: accepted(sql("alter publication streamer set table outbox")),
		},
	}
}

func TestRoleWithoutReplication(t *testing.T) {
	t.Parallel()
	r := newRig(t, outboxTable, withStore("file"))
	r.asRole("")
	r.numbered("o1", 1)
	r.start().refused(exitRefused, "replication", "ALTER ROLE", "REPLICATION")
	r.exec("alter role " + r.role + " replication")
	p := r.startReady()
	r.numbered("o1", 2)
	r.published(p, "o1", 1, 2)
	assert.Equal(t, 0, p.stop())
	p.discreet()
}

func TestSlotOfAnotherKind(t *testing.T) { //nolint:tparallel // the refusals come first, then the rig continues
	t.Parallel()
	r := newRig(t, outboxTable, withStore("file")).withPassword()
	r.numbered("o1", 1)
	t.Run("another plugin", func(t *testing.T) {
		r := r.of(t)
		if _, err := r.db.Exec(t.Context(), "select pg_create_logical_replication_slot($1, 'test_decoding')", r.slot+"_plugin"); err != nil {
			t.Skipf("this PostgreSQL has no test_decoding: %v", err)
		}
		r.start("postgres.slot="+r.slot+"_plugin").refused(exitRefused, "_plugin", "test_decoding", "pgoutput", "postgres.slot")
	})
	t.Run("physical", func(t *testing.T) {
		r := r.of(t)
		r.exec("select pg_create_physical_replication_slot($1)", r.slot+"_physical")
		t.Cleanup(func() {
			_, err := r.db.Exec(context.WithoutCancel(t.Context()), "select pg_drop_replication_slot($1)", r.slot+"_physical")
			assert.NoError(t, err)
		})
		r.start("postgres.slot="+r.slot+"_physical").refused(exitRefused, "_physical", "not a logical one", "postgres.slot")
	})
	t.Run("another database", func(t *testing.T) {
		other := newRig(t, outboxTable, withStore("file"))
		r := r.of(t)
		r.start("postgres.slot="+other.slot).refused(exitRefused, other.slot, "belongs to database", "postgres.dsn")
	})
	p := r.startReady()
	r.numbered("o1", 2)
	r.published(p, "o1", 1, 2)
	assert.Equal(t, 0, p.stop())
}

// of returns the rig for a subtest.
func (r *rig) of(t *testing.T) *rig {
	t.Helper()
	same := *r
	same.t = t
	return &same
}

func TestPartitionedOutboxNotViaRoot(t *testing.T) {
	t.Parallel()
	r := newRig(t, `create table outbox (id uuid default gen_random_uuid(), day date not null default '2026-01-01',
		aggregatetype text, aggregateid text, type text, payload jsonb) partition by range (day);
		create table outbox_1 partition of outbox for values from ('2026-01-01') to ('2026-02-01')`, withStore("file"))
	r.numbered("o1", 1)
	r.exec("alter publication streamer set (publish_via_partition_root = false)")
	r.start().refused(exitRefused, `publication "streamer"`, "partitions of public.outbox",
		"ALTER PUBLICATION", "publish_via_partition_root = true")
	r.exec("alter publication streamer set (publish_via_partition_root = true)")
	p := r.startReady()
	r.numbered("o1", 2)
	r.published(p, "o1", 1, 2)
}

// checkpointFile is where the file store keeps the checkpoint.
func (r *rig) checkpointFile() string { return filepath.Join(r.folder, "checkpoint") }

// alter changes the stored checkpoint and returns the previous one.
func (r *rig) alter(change func(*checkpoint.Record)) (before []byte) {
	r.t.Helper()
	before, err := os.ReadFile(r.checkpointFile())
	require.NoError(r.t, err)
	r.writeCheckpoint(altered(r.t, before, change))
	return before
}

// altered returns a stored checkpoint with a change.
func altered(t *testing.T, stored []byte, change func(*checkpoint.Record)) []byte {
	t.Helper()
	var envelope struct {
		Checkpoint checkpoint.Identity `json:"checkpoint"`
	}
	require.NoError(t, json.Unmarshal(stored, &envelope))
	record, err := checkpoint.Decode(stored, envelope.Checkpoint, "test")
	require.NoError(t, err)
	change(&record)
	encoded, err := checkpoint.Encode(record)
	require.NoError(t, err)
	return encoded
}

func (r *rig) writeCheckpoint(content []byte) {
	r.t.Helper()
	require.NoError(r.t, os.WriteFile(r.checkpointFile(), content, 0o600))
}

func TestCheckpointThatDoesNotFit(t *testing.T) {
	t.Parallel()
	replace := func(change func([]byte) []byte) func(*rig) []byte {
		return func(r *rig) []byte {
			before, err := os.ReadFile(r.checkpointFile())
			require.NoError(r.t, err)
			r.writeCheckpoint(change(slices.Clone(before)))
			return before
		}
	}
	alter := func(change func(*checkpoint.Record)) func(*rig) []byte {
		return func(r *rig) []byte { return r.alter(change) }
	}
	for name, c := range map[string]struct {
		spoil func(*rig) []byte
		words []string
	}{
		"ahead of the server": {
			alter(func(c *checkpoint.Record) { c.LSN += 1 << 40 }),
			[]string{"is ahead of the server", "streamer checkpoint set"},
		},
		"behind the slot": {
			alter(func(c *checkpoint.Record) { c.LSN = 1 }),
			[]string{"after the checkpoint 0/1", "slot", "streamer checkpoint set"},
		},
		"another system": {
			alter(func(c *checkpoint.Record) { c.SystemID = "4711" }),
			[]string{"another cluster", "system 4711", "streamer checkpoint set"},
		},
		"another slot": {
			alter(func(c *checkpoint.Record) { c.Slot = "theirs" }),
			[]string{`slot "theirs"`, "another cluster, database or slot"},
		},
		"unknown timeline": {
			alter(func(c *checkpoint.Record) { c.Timeline, c.Started = 7, "2026-01-01 00:00:00+00" }),
			[]string{"timeline 7", "streamer checkpoint set"},
		},
		"torn": {
			replace(func(b []byte) []byte { return b[:len(b)/2] }),
			[]string{"checkpoint is damaged", "checkpoint\"", "streamer checkpoint set"},
		},
		"empty": {replace(func([]byte) []byte { return nil }), []string{"checkpoint is damaged", "checkpoint\""}},
		"one letter changed": {replace(func(b []byte) []byte {
			return []byte(strings.Replace(string(b), `"lsn":"0/`, `"lsn":"1/`, 1))
		}), []string{"checkpoint is damaged", "checksum"}},
		"written by a newer one": {replace(func(b []byte) []byte {
			return []byte(strings.Replace(string(b), `"version":1`, `"version":99`, 1))
		}), []string{"newer version", "format 99", "run the newer version"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var before []byte
			refusal{
				spoil: func(r *rig) { before = c.spoil(r) },
				code:  exitRefused, words: c.words,
				cure: func(r *rig) { r.writeCheckpoint(before) },
			}.try(newRig(t, outboxTable, withStore("file")).withPassword())
		})
	}
}

// A slot that was dropped and created again has lost what was committed in
// between. It must not be taken for the old one.
func TestSlotRecreated(t *testing.T) {
	t.Parallel()
	for _, store := range []string{"file", "postgres", "kafka"} {
		t.Run(store, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, outboxTable, withStore(store)).withPassword()
			p := r.startReady()
			r.numbered("o1", 1, 2)
			r.published(p, "o1", 1, 2)
			require.Equal(t, 0, p.stop())
			r.exec("select pg_drop_replication_slot($1)", r.slot)
			r.numbered("o1", 3) // in no slot
			r.start().refused(exitRefused, r.slot, "does not exist", "streamer setup", "outbox table")
			r.exec("select pg_create_logical_replication_slot($1, 'pgoutput')", r.slot)
			r.numbered("o1", 4)
			first := r.start().refused(exitRefused, r.slot, "re-created", "publish what is missing", "streamer checkpoint set")
			assert.Equal(t, first, r.start().refused(exitRefused))
			assert.Len(t, r.records("order"), 2)
		})
	}
}

// TestSettingsOfTheServer uses a server of its own, whose settings it may
// spoil.
func TestSettingsOfTheServer(t *testing.T) {
	t.Parallel()
	server := pgtest.New(t, pgtest.Options{Settings: map[string]string{"wal_level": "replica"}})
	r := newRig(t, "", withServer(server), withStore("file")).withPassword()
	r.exec(outboxTable)
	r.exec("create publication streamer for table outbox with (publish = 'insert')")

	r.start().refused(exitRefused, "wal_level", `"replica"`, "ALTER SYSTEM SET wal_level = 'logical'", "restart")
	require.NoError(t, server.AlterSystem(t.Context(), "wal_level", "logical"))
	require.NoError(t, server.Restart(t.Context()))
	r.db = r.open()
	r.exec("select pg_create_logical_replication_slot($1, 'pgoutput')", r.slot)
	r.numbered("o1", 1)

	require.NoError(t, server.AlterSystem(t.Context(), "synchronous_standby_names", "*"))
	p := r.start()
	p.refused(exitRefused, "synchronous_standby_names", "application_name", "commits", "name the standbys")
	require.NoError(t, server.AlterSystem(t.Context(), "synchronous_standby_names", ""))
	p = r.startReady()
	r.numbered("o1", 2)
	r.published(p, "o1", 1, 2)
	assert.Equal(t, 0, p.stop())
}

// ask reads /readyz of an instance.
func ask(t *testing.T, address string) (h health, code int) {
	t.Helper()
	response, err := get(t, "http://"+address+"/readyz")
	if err != nil {
		return h, 0 // not listening yet
	}
	defer response.Body.Close()
	require.NoError(t, json.NewDecoder(response.Body).Decode(&h))
	return h, response.StatusCode
}

// waits waits until /readyz says that the instance is not ready, in this phase,
// for a reason that contains these words.
func (p *process) waits(address, phase string, words ...string) {
	p.t.Helper()
	var h health
	var code int
	p.eventually("/readyz says "+phase+" "+strings.Join(words, " "), func() bool {
		h, code = ask(p.t, address)
		return code == 503 && h.Phase == phase &&
			!slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(h.Detail, word) })
	})
	p.t.Logf("readyz %d %s: %s", code, h.Phase, h.Detail)
}

// standsBy waits until /readyz says that the instance is a ready standby.
func (p *process) standsBy(address string, words ...string) {
	p.t.Helper()
	var h health
	p.eventually("the instance stands by", func() bool {
		var code int
		h, code = ask(p.t, address)
		return code == 200 && h.Phase == "standby"
	})
	for _, word := range words {
		assert.Contains(p.t, h.Detail, word)
	}
	p.logged("standing by")
	p.t.Logf("readyz 200 standby: %s", h.Detail)
}

// stopsQuickly asserts that a process with nothing in flight ends at once with
// code 0.
func (p *process) stopsQuickly() {
	p.t.Helper()
	asked := time.Now()
	assert.Equal(p.t, 0, p.stop())
	assert.Less(p.t, time.Since(asked), quick)
	p.discreet()
}

func TestServerUnreachable(t *testing.T) {
	t.Parallel()
	server := pgtest.New(t, pgtest.Options{})
	r := newRig(t, outboxTable, withServer(server)).withPassword()
	r.numbered("o1", 1)
	require.NoError(t, server.Stop())
	p := r.start()
	p.waits(r.address, "waiting", "connect to PostgreSQL", "refused")
	p.stopsQuickly()

	p = r.start()
	p.waits(r.address, "waiting", "connect to PostgreSQL")
	require.NoError(t, server.StartAgain(t.Context()))
	r.ready(p)
	r.db = r.open()
	r.numbered("o1", 2)
	r.published(p, "o1", 1, 2)
	r.confirmed(p)

	require.NoError(t, server.StopImmediate()) // again while streaming
	p.waits(r.address, "waiting", "PostgreSQL")
	require.NoError(t, server.StartAgain(t.Context()))
	r.ready(p)
	r.db = r.open()
	r.numbered("o1", 3)
	r.published(p, "o1", 1, 2, 3)
	assert.Equal(t, 0, p.stop())
	p.discreet()
}

// A server that accepts connections and does not answer must not delay a stop.
func TestStopWhileServerIsSilent(t *testing.T) {
	t.Parallel()
	r := newRig(t, outboxTable)
	listener, accepted := silent(t)
	p := r.start("postgres.dsn=postgres://postgres:" + passwordCanary + "@" + listener + "/shop?sslmode=disable")
	<-accepted
	p.stopsQuickly()
}

// silent listens and accepts connections, and signals the first one.
func silent(t *testing.T) (address string, accepted <-chan struct{}) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	first := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		var connections []net.Conn
		for {
			conn, err := listener.Accept()
			if err != nil {
				break
			}
			if connections = append(connections, conn); len(connections) == 1 {
				close(first)
			}
		}
		for _, conn := range connections {
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
	})
	return listener.Addr().String(), first
}

func TestPasswordWrongOrRotated(t *testing.T) {
	t.Parallel()
	server := pgtest.New(t, pgtest.Options{Auth: "scram-sha-256", Password: "superuser"})
	r := newRig(t, outboxTable, withServer(server), withStore("file"))
	const role, rotated = "app", passwordCanary + "-rotated"
	r.exec("create role " + role + " login replication password '" + passwordCanary + "'")
	login := func(password string) string {
		return dsnOf(t, r.dsn, func(u *url.URL) { u.User = url.UserPassword(role, password) })
	}
	secret := filepath.Join(r.folder, "dsn")
	write := func(password string) {
		require.NoError(t, os.WriteFile(secret, []byte(login(password)+"\n"), 0o600))
	}
	r.numbered("o1", 1)

	r.start("postgres.dsn="+login("wrong-"+passwordCanary)).refused(exitUsage, "password authentication failed", role, "postgres.dsn")
	write("wrong-" + passwordCanary)
	r.start("postgres.dsn=file:"+secret).refused(exitUsage, "password authentication failed", role, "postgres.dsn")

	write(passwordCanary)
	p := r.startReady("postgres.dsn=file:" + secret)
	r.published(p, "o1", 1)
	r.confirmed(p)
	r.exec("alter role " + role + " password '" + rotated + "'")
	r.exec("select pg_terminate_backend(pid) from pg_stat_activity where usename = $1", role)
	p.waits(r.address, "waiting", "password authentication failed")
	r.numbered("o1", 2)
	write(rotated)
	r.ready(p)
	r.published(p, "o1", 1, 2)
	assert.Equal(t, 0, p.stop())
	p.discreet()
}

func TestStandbyTakesOver(t *testing.T) {
	t.Parallel()
	for _, store := range []string{"kafka", "postgres", "file"} {
		t.Run(store, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, outboxTable, withStore(store)).withPassword()
			holder := r.startReady()
			r.numbered("o1", 1, 2)
			r.published(holder, "o1", 1, 2)
			r.confirmed(holder)
			ports, err := testserver.FreePorts(1)
			require.NoError(t, err)
			address := fmt.Sprintf("127.0.0.1:%d", ports[0])
			r.standbyStops("http.listen="+address, address)

			second := r.start("http.listen=" + address)
			second.standsBy(address, r.slot)
			killed := time.Now()
			holder.kill()
			r.numbered("o1", 3)
			second.eventually("the standby streams", func() bool {
				h, _ := ask(t, address)
				return h.Phase == "streaming"
			})
			takeover := time.Since(killed)
			t.Logf("took over after %s", takeover.Round(time.Millisecond))
			assert.Less(t, takeover, 5*time.Second)
			r.published(second, "o1", 1, 2, 3)
			assert.Equal(t, 0, second.stop())
			second.discreet()
		})
	}
}

func (r *rig) standbyStops(setting, address string) {
	r.t.Helper()
	p := r.start(setting)
	p.standsBy(address, r.slot)
	p.stopsQuickly()
}

// The streamer waits for a slot whose reader does not use the streamer's lock.
func TestActiveSlotIsWaitedFor(t *testing.T) {
	t.Parallel()
	r := newRig(t, outboxTable).withPassword()
	other, err := pgconn.Connect(t.Context(), dsnOf(t, r.dsn, func(u *url.URL) {
		query := u.Query()
		query.Set("replication", "database")
		u.RawQuery = query.Encode()
	}))
	require.NoError(t, err)
	hangUp := func() { _ = other.Close(context.WithoutCancel(t.Context())) }
	t.Cleanup(hangUp)
	require.NoError(t, pglogrepl.StartReplication(t.Context(), other, r.slot, 0, pglogrepl.StartReplicationOptions{
		PluginArgs: []string{"proto_version '1'", "publication_names 'streamer'"},
	}))
	r.numbered("o1", 1)
	p := r.start()
	p.standsBy(r.address, r.slot, "in use")
	p.stopsQuickly()

	p = r.start()
	p.standsBy(r.address, r.slot, "in use")
	hangUp()
	p.eventually("the streamer streams", func() bool {
		h, _ := ask(t, r.address)
		return h.Phase == "streaming"
	})
	r.numbered("o1", 2)
	r.published(p, "o1", 1, 2)
	assert.Equal(t, 0, p.stop())
	p.discreet()
}

// TestPoisonRow commits a row that can never become an event between good ones.
// The rows before it are published once, the rows after it not at all. The
// process says the same at every start.
func TestPoisonRow(t *testing.T) {
	t.Parallel()
	const poison = "insert into outbox (id, aggregatetype, aggregateid, type, payload) values "
	for name, c := range map[string]struct {
		row   string
		words []string
		cure  func(*rig) string // a setting with which the row can be published, if one exists
	}{
		"aggregate ID is NULL": {
			`('row-x', 'order', null, 't', '{"n": 0}')`,
			[]string{`"row-x"`, `"aggregateid"`, "NULL", "correct the application"},
			nil,
		},
		"aggregate ID is empty": {
			`('row-x', 'order', '', 't', '{"n": 0}')`,
			[]string{`"row-x"`, `"aggregateid"`, "empty", "correct the application"},
			nil,
		},
		"id is NULL": {
			`(null, 'order', 'o1', 't', '{"n": 0}')`,
			[]string{"unknown id", `"id"`, "NULL", "correct the application"},
			nil,
		},
		"id is empty": {
			`('', 'order', 'o1', 't', '{"n": 0}')`,
			[]string{"unknown id", `"id"`, "empty", "correct the application"},
			nil,
		},
		"type is NULL": {
			`('row-x', 'order', 'o1', null, '{"n": 0}')`,
			[]string{`"row-x"`, `"type"`, "NULL", "correct the application"},
			nil,
		},
		"id with a control character": {
			`(E'row\tx', 'order', 'o1', 't', '{"n": 0}')`,
			[]string{"unknown id", `"id"`, "control character", "correct the application"},
			nil,
		},
		"NULL payload that is refused": {
			`('row-x', 'order', 'o1', 't', null)`,
			[]string{`"row-x"`, "payload", "NULL", "outbox.null_payload"},
			func(*rig) string { return "outbox.null_payload=json_null" },
		},
		"topic name of a row": {
			`('row-x', 'order/größe', 'o1', 't', '{"n": 0}')`,
			[]string{`"row-x"`, "topic name", "TestPoisonRow", "aggregate type", "kafka.topic", "letters, digits"},
			func(r *rig) string { return "kafka.topic=" + r.topic("order") },
		},
		"topic name too long": {
			`('row-x', repeat('x', 300), 'o1', 't', '{"n": 0}')`,
			[]string{`"row-x"`, "topic name", "249", "kafka.topic"},
			nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, `create table outbox (id text default gen_random_uuid()::text,
				aggregatetype text, aggregateid text, type text, payload jsonb)`, withConfig("outbox.null_payload=reject")).withPassword()
			r.numbered("o1", 1, 2)
			var before string
			require.NoError(t, r.db.QueryRow(t.Context(), "select pg_current_wal_insert_lsn()::text").Scan(&before))
			r.exec(poison + c.row)
			r.numbered("o1", 3)
			r.numbered("o2", 4) // a row with another key
			first := r.start().refused(exitRefused, c.words...)
			held := r.heldAt(before)
			assert.Equal(t, first, r.start().refused(exitRefused))
			assert.Equal(t, held, r.heldAt(before))
			assert.Equal(t, map[string][]int{"o1": {1, 2}}, byKey(t, r.records("order")), "each row before the poison once, none after it")
			if c.cure == nil {
				return
			}
			p := r.startReady(c.cure(r))
			assert.Equal(t, map[string][]int{"o1": {1, 2, 0, 3}, "o2": {4}}, byKey(t, r.await(p, "order", 5)))
		})
	}
}

// heldAt asserts that the slot is confirmed up to the last good row and no
// further, and returns the confirmed position.
func (r *rig) heldAt(lsn string) (confirmed string) {
	r.t.Helper()
	var past bool
	require.NoError(r.t, r.db.QueryRow(r.t.Context(), "select confirmed_flush_lsn::text, "+
		"confirmed_flush_lsn > $1::pg_lsn from pg_replication_slots where slot_name = $2", lsn, r.slot).
		Scan(&confirmed, &past))
	assert.False(r.t, past, "slot is confirmed up to %s, past the poison row at %s", confirmed, lsn)
	return confirmed
}

// A SQL_ASCII database accepts every byte, and others accept bytes that stand
// for no character. They must not wedge the stream with an error of the server
// that names no row, and a column that is not read must not matter.
func TestInvalidUTF8(t *testing.T) {
	t.Parallel()
	for encoding, b := range map[string]string{"SQL_ASCII": "ff", "WIN1252": "81", "WIN1253": "d2"} {
		t.Run(encoding, func(t *testing.T) {
			t.Parallel()
			testInvalidUTF8(t, encoding, b)
		})
	}
}

func testInvalidUTF8(t *testing.T, encoding, b string) {
	t.Helper()
	server := pgtest.New(t, pgtest.Options{Encoding: encoding})
	bad := fmt.Sprintf(`convert_from('\x6f%s', '%s')`, b, encoding)
	for column, row := range map[string]string{
		"payload":     `('row-x', 'order', 'o1', 't', ('{"n": "' || ` + bad + ` || '"}')::json)`,
		"aggregateid": `('row-x', 'order', ` + bad + `, 't', '{"n": 0}')`,
	} {
		t.Run(column, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, "create table outbox (id text, aggregatetype text, aggregateid text, type text, payload json, unread text)",
				withServer(server), withStore("file"))
			r.exec(`insert into outbox values ('row-1', 'order', 'o1', 't', '{"n": 1}', ` + bad + `)`)
			r.exec("insert into outbox values " + row)
			r.exec(`insert into outbox values ('row-2', 'order', 'o1', 't', '{"n": 2}')`)
			first := r.start().refused(exitRefused, `"row-x"`, column, "UTF-8",
				"correct the application", "deleting the row does not help", "streamer run --set poison.policy=dead-letter")
			assert.Equal(t, first, r.start().refused(exitRefused))
			assert.Equal(t, map[string][]int{"o1": {1}}, byKey(t, r.records("order")))
		})
	}
}

func TestRowAboveMaxRowBytes(t *testing.T) {
	t.Parallel()
	for _, store := range []string{"kafka", "file"} {
		t.Run(store, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, outboxTable, withStore(store)).withPassword()
			r.numbered("o1", 1, 2)
			r.exec(`insert into outbox (aggregatetype, aggregateid, type, payload) ` +
				`values ('order', 'o1', 't', jsonb_build_object('n', 3, 's', repeat('x', 300000)))`)
			r.numbered("o1", 4)
			const limit = "outbox.max_row_bytes=100KiB"
			first := r.start(limit).refused(exitRefused, "row of 30", "outbox.max_row_bytes", "raise", r.slot)
			assert.Equal(t, first, r.start(limit).refused(exitRefused))
			assert.Equal(t, map[string][]int{"o1": {1, 2}}, byKey(t, r.records("order")))
			p := r.startReady()
			r.published(p, "o1", 1, 2, 3, 4)
		})
	}
}

// A value that would fill the memory is refused before memory is allocated for
// it.
func TestHugeRowTakesNoMemory(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("the memory of a process is read from /proc")
	}
	r := newRig(t, "create table outbox (id text, aggregatetype text, aggregateid text, type text, payload text)").withPassword()
	r.exec(`insert into outbox values ('row-1', 'order', 'o1', 't', '{"n": 1}')`)
	r.exec(`insert into outbox values ('row-2', 'order', 'o1', 't', repeat('x', 300 * 1000 * 1000))`)
	p := r.start()
	var peak int // kB
	for ended := false; !ended; {
		select {
		case <-p.exited:
			ended = true
		case <-time.After(10 * time.Millisecond):
			peak = max(peak, p.peak())
		}
	}
	p.refused(exitRefused, "row of 300000", "outbox.max_row_bytes", "raise", "reference")
	t.Logf("peak RSS %d MiB", peak>>10)
	assert.Less(t, peak, 64<<10)
	assert.Positive(t, peak)
	assert.Equal(t, map[string][]int{"o1": {1}}, byKey(t, r.records("order")))
}

// peak returns the largest resident set so far, in kB, or 0 if it cannot be
// read. The usage that Wait reports begins with that of the test itself.
func (p *process) peak() int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(status), "VmHWM:")
	var peak int
	_, _ = fmt.Sscan(after, &peak)
	return peak
}

// The streamer waits for a checkpoint database that is away. It names rights
// that are missing.
func TestCheckpointTableCannotBeOpened(t *testing.T) {
	t.Parallel()
	r := newRig(t, outboxTable, withStore("postgres")).withPassword()
	p := r.start("checkpoint.postgres.dsn=postgres://nobody@127.0.0.1:1/none")
	p.logged("starting again from the checkpoint")
	assert.Zero(t, p.stop())
	_, code := r.command("setup")
	require.Zero(t, code)
	r.asRole("replication password '" + passwordCanary + "'")
	r.start().refused(exitRefused, "streamer_checkpoint", "GRANT SELECT, INSERT, UPDATE")
}
