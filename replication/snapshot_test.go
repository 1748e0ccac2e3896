package replication

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/pgtest"
)

// old reads the rows from before the slot as the pipeline does, but remembers
// everything, so that it is short.
type old struct {
	f        *fixture
	query    SnapshotQuery
	snapshot *Snapshot
	relation pglogrepl.RelationMessage
	streamed map[string]bool
	after    Key
	last     Key
	rows     []string // IDs in the order in which they were read
}

func newOld(f *fixture, q SnapshotQuery) *old {
	f.t.Helper()
	o := &old{f: f, query: q}
	o.connect()
	return o
}

// connect begins as a start does.
func (o *old) connect() {
	o.f.t.Helper()
	ctx := o.f.t.Context()
	control, err := Connect(ctx, o.f.config)
	require.NoError(o.f.t, err)
	defer control.Close()
	server, err := control.Identify(ctx)
	require.NoError(o.f.t, err)
	slot, err := control.Slot(ctx)
	require.NoError(o.f.t, err)
	table := describe(o.f.t, control)
	order, found, err := control.PlanSnapshot(ctx, table, o.query)
	require.NoError(o.f.t, err)
	require.Empty(o.f.t, found)
	o.snapshot, err = OpenSnapshot(ctx, o.f.config, server, table, o.query, order, slot.Confirmed)
	require.NoError(o.f.t, err)
	o.streamed = map[string]bool{}
}

func (o *old) settle() {
	o.f.t.Helper()
	require.NoError(o.f.t, o.snapshot.Settle(o.f.t.Context(), func(string) {}))
	if o.last == nil {
		var err error
		o.last, _, err = o.snapshot.Highest(o.f.t.Context())
		require.NoError(o.f.t, err)
	}
}

func (o *old) readStreamed() {
	o.f.t.Helper()
	require.NoError(o.f.t, o.snapshot.Streamed(o.f.t.Context(), func(data []byte) error {
		m, err := pglogrepl.Parse(data)
		if err != nil {
			return err
		}
		switch m := m.(type) {
		case *pglogrepl.RelationMessage:
			o.relation = *m
		case *pglogrepl.InsertMessage:
			for i, column := range o.relation.Columns {
				if column.Name == o.query.ID {
					o.streamed[string(m.Tuple.Columns[i].Data)] = true
				}
			}
		}
		return nil
	}, func() error { return nil }))
}

// chunk reads the old rows of one moment.
func (o *old) chunk() (done bool) {
	o.f.t.Helper()
	require.NoError(o.f.t, o.snapshot.Open(o.f.t.Context()))
	o.readStreamed()
	return o.chunkRows()
}

func (o *old) chunkRows() (done bool) {
	o.f.t.Helper()
	require.NoError(o.f.t, o.snapshot.Ask(o.after, o.last, o.query.ChunkRows))
	count := 0
	for {
		row, done, err := o.snapshot.Next()
		require.NoError(o.f.t, err)
		switch {
		case done:
			require.NoError(o.f.t, o.snapshot.Done(o.f.t.Context()))
			return count < o.query.ChunkRows
		case row == nil:
			require.NoError(o.f.t, o.snapshot.Wait(time.Now().Add(patience)))
			continue
		}
		count++
		key := Key(row[len(o.f.config.Outboxes[0].Columns):]).Clone()
		if o.after != nil {
			require.Positive(o.f.t, o.snapshot.order.Compare(key, o.after), "in order")
		}
		require.LessOrEqual(o.f.t, o.snapshot.order.Compare(key, o.last), 0)
		o.after = key
		if id := string(key[len(key)-1]); !o.streamed[id] {
			o.rows = append(o.rows, id)
		}
	}
}

// all reads everything.
func (o *old) all() []string {
	o.f.t.Helper()
	o.settle()
	for done := o.last == nil; !done; {
		done = o.chunk()
	}
	o.snapshot.Close()
	return o.rows
}

// stream returns the IDs that the slot delivers up to now.
func (f *fixture) stream() (ids []string) {
	f.t.Helper()
	server, slot := f.identify()
	f.exec("select pg_logical_emit_message(true, 'test', 'end')")
	to := f.end()
	u, err := OpenCatchUp(f.t.Context(), f.config, server, slot, slot.Confirmed)
	require.NoError(f.t, err)
	defer u.Close()
	all, _ := transcript(f.t, u, slot.Confirmed, to, never)
	for _, text := range all {
		if text[0] == 'I' {
			m, err := pglogrepl.Parse([]byte(text))
			require.NoError(f.t, err)
			ids = append(ids, string(m.(*pglogrepl.InsertMessage).Tuple.Columns[0].Data))
		}
	}
	return ids
}

var byID = SnapshotQuery{OrderBy: "id", ID: "id", ChunkRows: 3}

func TestSnapshotIsWhatTheStreamLacks(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		before, after []string // the slot's creation
		old, stream   []string
	}{
		"plain":   {nil, nil, numbers(1, 10), nil},
		"written": {nil, []string{"insert into outbox values (11, 'new'), (0, 'backdated')"}, numbers(1, 10), []string{"11", "0"}},
		"updated": {nil, []string{"update outbox set payload = 'changed'"}, numbers(1, 10), nil},
		"upserted": {
			nil,
			[]string{"insert into outbox select n, 'again' from generate_series(9, 12) n on conflict (id) do update set payload = 'again'"},
			numbers(1, 10),
			[]string{"11", "12"},
		},
		"rewritten": {nil, []string{
			"insert into outbox values (11, 'new')", "alter table outbox alter payload type varchar(99)",
			"alter table outbox alter payload type text using payload || ''",
		}, numbers(1, 10), []string{"11"}},
		"frozen": {nil, []string{"insert into outbox values (11, 'new')", "vacuum freeze outbox"}, numbers(1, 10), []string{"11"}},
		"inserted again": {
			nil,
			[]string{"delete from outbox where id in (4, 7)", "insert into outbox values (7, 'again')"},
			slices.DeleteFunc(numbers(1, 10), func(id string) bool { return id == "4" || id == "7" }),
			[]string{"7"},
		},
		"inserted and deleted": {
			nil,
			[]string{"insert into outbox values (11, 'gone')", "delete from outbox where id = 11"},
			numbers(1, 10),
			[]string{"11"},
		},
		"a gap in the publication": {
			nil,
			[]string{
				"alter publication p drop table outbox", "insert into outbox values (5000, 'unpublished')",
				"alter publication p add table outbox", "insert into outbox values (5001, 'published')",
			},
			append(numbers(1, 10), "5000"),
			[]string{"5001"},
		},
		"savepoints": {
			nil, []string{"begin", "insert into outbox values (11, 'kept')", savepoints(400), "commit"}, numbers(1, 10), []string{"11"},
		},
		"empty": {[]string{"delete from outbox"}, []string{"insert into outbox values (11, 'new')"}, nil, []string{"11"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newEmptyFixture(t, pgtest.Shared(t))
			f.exec("CREATE TABLE outbox (id int PRIMARY KEY, payload text)", "CREATE PUBLICATION p FOR TABLE outbox WITH (publish = 'insert')")
			f.insert(1, 10)
			f.exec(test.before...)
			f.createSlot()
			f.exec(test.after...)
			assert.Equal(t, test.old, newOld(f, byID).all())
			assert.Equal(t, test.stream, f.stream())
		})
	}
}

// savepoints are more subtransactions than a snapshot lists.
func savepoints(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "savepoint s%d; update outbox set payload = 'sub' where id = 1;", i)
	}
	return b.String()
}

// hang makes a statement of another session wait for a synchronous standby that
// does not exist, and returns when it does. release ends the wait.
func (f *fixture) hang(statement string) (release func()) {
	f.t.Helper()
	ctx := f.t.Context()
	require.NoError(f.t, f.server.AlterSystem(ctx, "synchronous_standby_names", "absent"))
	conn := connect(f.t, f.config.DSN)
	_, err := conn.Exec(ctx, "set synchronous_commit = on")
	require.NoError(f.t, err)
	done := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.WithoutCancel(ctx), statement)
		done <- err
	}()
	require.Eventually(f.t, func() bool {
		return query[bool](f, "select exists (select from pg_stat_activity where wait_event = 'SyncRep')")
	}, patience, 10*time.Millisecond)
	released := false
	release = func() {
		if !released {
			released = true
			require.NoError(f.t, f.server.AlterSystem(context.WithoutCancel(ctx), "synchronous_standby_names", ""))
			require.NoError(f.t, <-done)
		}
	}
	f.t.Cleanup(release)
	return release
}

// TestSnapshotWaitsForCommits has a transaction whose commit record is in the
// WAL before the slot begins, and whose rows are not visible yet. The stream
// never has them.
func TestSnapshotWaitsForCommits(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ prepare, commit, waiting string }{
		"a commit": {"", "insert into outbox values (1000, 'late')", "IPC SyncRep"},
		"COMMIT PREPARED": {
			"begin; insert into outbox values (1000, 'late'); prepare transaction 'two-phase'", "commit prepared 'two-phase'",
			`prepared as "two-phase"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, pgtest.New(t, pgtest.Options{Settings: map[string]string{"max_prepared_transactions": "5"}}))
			f.exec("set synchronous_commit = local")
			f.insert(1, 10)
			if test.prepare != "" {
				f.exec(test.prepare)
			}
			release := f.hang(test.commit)
			f.exec("select pg_replication_slot_advance('" + f.config.Slot + "', pg_current_wal_flush_lsn())")

			if test.prepare == "" {
				open, err := newOld(f, byID).snapshot.unsettled(t.Context(), nil)
				require.NoError(t, err)
				assert.Empty(t, open, "without a transaction of its own the barrier does not see the newest one")
			}
			lost := newOld(f, byID)
			lost.last = Key{[]byte("9999")}
			for !lost.chunk() {
			}
			assert.Equal(t, numbers(1, 10), lost.rows, "without the barrier the row is lost: the test can see that")
			lost.snapshot.Close()

			o := newOld(f, byID)
			ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond)
			defer cancel()
			var waits []string
			err := o.snapshot.Settle(ctx, func(open string) { waits = append(waits, open) })
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.NotEmpty(t, waits)
			assert.Contains(t, waits[0], test.waiting)
			release()
			assert.Equal(t, append(numbers(1, 10), "1000"), newOld(f, byID).all())
			assert.Empty(t, f.stream())
		})
	}
}

// TestSnapshotDoesNotWaitForIdleTransactions has sessions that have not begun to
// commit: their rows come in the stream.
func TestSnapshotDoesNotWaitForIdleTransactions(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.Shared(t))
	other := connect(t, f.config.DSN)
	_, err := other.Exec(t.Context(), "begin; insert into outbox values (1, 'open')")
	require.NoError(t, err)
	o := newOld(f, byID)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	// Other tests on this server have transactions, too, but they end.
	require.NoError(t, o.snapshot.Settle(ctx, func(string) {}))
	_, err = other.Exec(t.Context(), "commit")
	require.NoError(t, err)
	assert.Empty(t, o.all())
	assert.Equal(t, []string{"1"}, f.stream())
}

// TestSnapshotUnderLoad has writers of all kinds, whose commits are asynchronous
// and whose keys are in no order, while rows are read in small parts with
// restarts. Every row that is not deleted is in the snapshot or in the stream,
// and none is in both.
func TestSnapshotUnderLoad(t *testing.T) {
	t.Parallel()
	f := newEmptyFixture(t, pgtest.Shared(t))
	f.config.Outboxes[0].Columns = []string{"id", "payload"}
	f.exec(
		`CREATE TABLE outbox (id uuid PRIMARY KEY, payload text, at timestamptz NOT NULL)`, "CREATE INDEX ON outbox (at)",
		"CREATE PUBLICATION p FOR TABLE outbox WITH (publish = 'insert')",
		`INSERT INTO outbox SELECT gen_random_uuid(), 'old', now() - n * interval '1 second' FROM generate_series(1, 3000) n`,
	)
	writing, stop := context.WithCancel(t.Context())
	const writers = 4
	written := make(chan error, writers)
	for n := range writers {
		conn := connect(t, f.config.DSN)
		_, err := conn.Exec(t.Context(), "set synchronous_commit = off")
		require.NoError(t, err)
		random := rand.New(rand.NewPCG(uint64(n), 7))
		go func() {
			var err error
			for n := 0; n < 300 && writing.Err() == nil && err == nil; n++ { // the oldest key may be new, so reading need not end before
				statement := `insert into outbox select gen_random_uuid(), 'new', now() - random() * interval '3000 seconds' from generate_series(1, 5)`
				switch random.IntN(6) {
				case 0:
					statement = "update outbox set payload = 'updated' where id in (select id from outbox order by random() limit 20)"
				case 1:
					statement = "begin; insert into outbox values (gen_random_uuid(), 'rolled back', now() - interval '9 minutes'); rollback"
				case 2:
					statement = "begin; savepoint a; " + statement + "; savepoint b; " + statement + "; rollback to b; commit"
				}
				_, err = conn.Exec(context.WithoutCancel(writing), statement)
			}
			written <- err
		}()
	}
	f.createSlot()
	o := newOld(f, SnapshotQuery{OrderBy: "at", ID: "id", ChunkRows: 300})
	o.settle()
	for n, done := 0, false; !done; n++ {
		if n%7 == 6 {
			o.snapshot.Close()
			o.connect()
			o.settle()
		}
		done = o.chunk()
	}
	o.snapshot.Close()
	stop()
	for range writers {
		require.NoError(t, <-written)
	}
	stream := f.stream()
	assert.NotEmpty(t, stream)
	all := append(slices.Clone(o.rows), stream...)
	slices.Sort(all)
	assert.Equal(t, slices.Compact(slices.Clone(all)), all, "nothing twice")
	var have []string
	rows, err := f.conn.Query(t.Context(), "select id::text from outbox")
	require.NoError(t, err)
	for rows.Next() {
		var id string
		require.NoError(t, rows.Scan(&id))
		have = append(have, id)
	}
	require.NoError(t, rows.Err())
	slices.Sort(have)
	assert.Equal(t, have, all, "nothing missing")
	t.Logf("%d old rows, %d streamed", len(o.rows), len(stream))
}

// TestSnapshotFenceIsAfterTheMoment shows why the stream is read after the
// moment begins: before, it lacks what becomes visible in between.
func TestSnapshotFenceIsAfterTheMoment(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.Shared(t))
	o := newOld(f, byID)
	o.settle()
	o.last = Key{[]byte("99")}
	o.readStreamed()
	f.insert(1, 1)
	require.NoError(t, o.snapshot.Open(t.Context()))
	o.chunkRows()
	assert.Equal(t, []string{"1"}, o.rows, "the row would be published twice: the test can see that")

	o = newOld(f, byID)
	o.settle()
	assert.Empty(t, o.all())
}

// TestSnapshotKeepsNothingOpen makes sure that between two moments nothing holds
// back vacuum.
func TestSnapshotKeepsNothingOpen(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.New(t, pgtest.Options{}))
	f.insert(1, 10)
	o := newOld(f, byID)
	o.settle()
	held := func() bool {
		return query[bool](f, `select exists (select from pg_stat_activity where application_name = $1 and
			(backend_xmin is not null or backend_xid is not null))`, f.config.ApplicationName())
	}
	o.chunk()
	assert.False(t, held())
	require.NoError(t, o.snapshot.Open(t.Context()))
	assert.True(t, held())
	require.NoError(t, o.snapshot.Ask(nil, o.last, 5))
	require.NoError(t, o.snapshot.Done(t.Context()), "with rows that were not read")
	require.Eventually(t, func() bool { return !held() }, patience, 10*time.Millisecond)
}
