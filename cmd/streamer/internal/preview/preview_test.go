package preview

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/pgtest"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
)

func TestPreviewConsumesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	none := r.run(10)
	require.NoError(t, none.err)
	assert.Empty(t, none.lines)
	assert.Contains(t, none.told, "nothing waits in slot "+r.slot)

	for _, key := range []string{"1", "2", "3"} {
		r.insert("outbox", "order", key)
	}
	first := r.run(0)
	require.NoError(t, first.err)
	assert.Equal(t, []string{"1", "2", "3"}, keys(first.lines))
	assert.NotContains(t, first.told, "nothing waits")
	assert.Equal(t, "order", first.lines[0].Topic)
	assert.Contains(t, string(first.lines[0].Event), `"type":"T"`)
	assert.Equal(t, first.lines, r.preview(0))
}

func TestPreviewShowsPoisonRowsAndGoesOn(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.exec("insert into outbox (id, aggregatetype, aggregateid, type) values ('11111111-1111-1111-1111-111111111111', 'order', '1', null)")
	r.insert("outbox", "not a topic", "2")
	r.insert("outbox", "order", "3")
	got := r.preview(0)
	require.Len(t, got, 3)
	assert.Contains(t, got[0].Poison, `column "type"`)
	assert.Equal(t, "11111111-1111-1111-1111-111111111111", got[0].ID)
	assert.Contains(t, got[1].Poison, "Kafka")
	assert.NotEmpty(t, got[1].ID)
	for _, poison := range got[:2] {
		assert.Regexp(t, `^[0-9A-F]+/[0-9A-F]+\+1$`, poison.Position)
		assert.Nil(t, poison.Event)
	}
	assert.Empty(t, got[2].Poison)
	assert.Equal(t, "3", *got[2].Key)
	assert.Len(t, r.preview(2), 2, "they count as rows")
}

func TestPreviewShowsWhatIsTooLarge(t *testing.T) {
	t.Parallel()
	r := newRig(t, "STREAMER_KAFKA_MAX_RECORD_BYTES=1KiB")
	r.insert("outbox", "order", "small")
	r.exec(`insert into outbox (aggregatetype, aggregateid, type, payload)
		values ('order', 'large', 'T', jsonb_build_object('text', repeat('x', 2000)))`)
	got := r.preview(0)
	require.Len(t, got, 2)
	assert.Empty(t, got[0].Poison)
	assert.Contains(t, got[1].Poison, "larger than kafka.max_record_bytes (1024)")
}

func TestPreviewStopsAtTheLimit(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.exec("create table other (id int)")
	r.exec(`alter publication "$slot" add table other`)
	for _, key := range []string{"1", "2", "3"} { // behind many rows that are not ours
		r.exec("insert into other select generate_series(1, 500)")
		r.insert("outbox", "order", key)
	}
	all := []string{"1", "2", "3"}
	for limit, want := range map[uint][]string{
		1: all[:1], 2: all[:2], 3: all, 4: all, 0: all,
		// More than the server can be asked for.
		math.MaxInt32 / 4: all, math.MaxInt32: all, 1 << 61: all, math.MaxUint: all,
	} {
		assert.Equal(t, want, keys(r.preview(limit)), limit)
	}
}

func TestPreviewOfInvalidText(t *testing.T) {
	t.Parallel()
	for encoding, b := range map[string]string{"SQL_ASCII": "ff", "WIN1252": "81"} {
		t.Run(encoding, func(t *testing.T) {
			t.Parallel()
			r := newRigOn(t, pgtest.New(t, pgtest.Options{Encoding: encoding}))
			r.insert("outbox", "order", "1")
			r.exec(fmt.Sprintf("insert into outbox (aggregatetype, aggregateid, type, payload) "+
				`values ('order', convert_from('\x%s', '%s'), 'T', '{}')`, b, encoding))
			r.exec(fmt.Sprintf("insert into outbox (aggregatetype, aggregateid, type, payload) "+
				`values ('order', convert_from('\xc3a9', '%s'), 'T', '{}')`, encoding))
			got := r.preview(0)
			require.Len(t, got, 3)
			assert.Equal(t, "1", *got[0].Key)
			assert.Contains(t, got[1].Poison, "UTF-8")
			assert.Equal(t, map[string]string{"SQL_ASCII": "é", "WIN1252": "Ã©"}[encoding], *got[2].Key)
		})
	}
}

// A table that takes the outbox's place is prepared under another name, and so
// are the rows that are copied into it. Where the stream goes on from, the
// outbox was another table.
func TestPreviewSelectsRowsAsTheStreamDoes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.exec(`drop publication "$slot"`)
	r.exec(`create publication "$slot" for all tables with (publish = 'insert', publish_via_partition_root = true)`)
	cfg := r.config()
	control, _, err := site.ConnectPostgres(t.Context(), cfg)
	require.NoError(t, err)
	defer control.Close()
	before, err := control.DescribeTables(t.Context())
	require.NoError(t, err)
	r.exec("create table next (like outbox including all)")
	r.insert("next", "order", "copied")
	r.exec("alter table outbox rename to former; alter table next rename to outbox")
	r.insert("outbox", "order", "new")
	assert.Equal(t, []string{"copied", "new"}, keys(r.preview(0)), "as a first start selects them")

	server, err := control.Identify(t.Context())
	require.NoError(t, err)
	store, err := checkpoint.OpenFile(cfg.Checkpoint.File.Path)
	require.NoError(t, err)
	id := site.IdentityOf(server, cfg)
	require.NoError(t, store.Claim(t.Context(), id))
	require.NoError(t, store.Save(t.Context(), checkpoint.Record{Identity: id, LSN: 1, Publication: replication.Membership(before)}))
	require.NoError(t, store.Close())
	assert.Equal(t, []string{"new"}, keys(r.preview(0)))
}

func TestPreviewRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sql  string
		says []string
	}{
		"a missing table":       {"drop table outbox", []string{"outbox", "does not exist"}},
		"a missing column":      {"alter table outbox drop column payload", []string{`"payload"`}},
		"a missing publication": {`drop publication "$slot"`, []string{"does not exist", "streamer setup"}},
		"a missing slot":        {"select pg_drop_replication_slot('$slot')", []string{"streamer setup"}},
		"a slot of another plugin": {
			"select pg_drop_replication_slot('$slot'); select pg_create_logical_replication_slot('$slot', 'test_decoding')",
			[]string{"test_decoding"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.insert("outbox", "order", "1")
			r.exec(c.sql)
			requireRefused(t, r.run(0), c.says...)
		})
	}
}

func TestPreviewOfASlotInUse(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	dsn, err := r.config().Postgres.DSN.Reveal(t.Context())
	require.NoError(t, err)
	separator := "?"
	if strings.Contains(dsn, "?") {
		separator = "&"
	}
	conn, err := pgconn.Connect(t.Context(), dsn+separator+"replication=database")
	require.NoError(t, err)
	defer conn.Close(t.Context())
	require.NoError(t, pglogrepl.StartReplication(t.Context(), conn, r.slot, 0, pglogrepl.StartReplicationOptions{
		PluginArgs: []string{"proto_version '1'", `publication_names '"` + r.slot + `"'`},
	}))
	got := r.run(0)
	require.ErrorIs(t, got.err, replication.ErrSlotActive)
	assert.Equal(t, failure.Transient, failure.ClassOf(got.err), "it can be stopped")
	assert.Contains(t, failure.Fix(got.err), "streamer tail")
}

func TestPreviewWithoutPostgres(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.environ = append(r.environ, "STREAMER_POSTGRES_DSN=postgres://nobody@127.0.0.1:1/none")
	got := r.run(0)
	require.Error(t, got.err)
	assert.Equal(t, failure.Transient, failure.ClassOf(got.err))
	r.environ = append(r.environ, "STREAMER_SHARD_COUNT=-1")
	assert.ErrorContains(t, r.run(0).err, "shard.count")
}

// Whoever reads the rows decides when it is enough, and whether it goes on.
func TestReadEndsWithTheFirstError(t *testing.T) {
	t.Parallel()
	failed := errors.New("no space left")
	for name, fails := range map[string]func(*Rows){
		"of an event": func(w *Rows) { w.Event = func(router.Rendering) error { return failed } },
		"of poison":   func(w *Rows) { w.Poison = func(Poison) error { return failed } },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.insert("outbox", "order", "1")
			r.insert("outbox", "not a topic", "2")
			cfg := r.config()
			control, _, err := site.ConnectPostgres(t.Context(), cfg)
			require.NoError(t, err)
			defer control.Close()
			server, err := control.Identify(t.Context())
			require.NoError(t, err)
			routes, err := site.NewRouter(cfg, server.Database)
			require.NoError(t, err)
			w := Rows{
				Mappings: site.Mappings(cfg), Routes: routes,
				Partitions: func(string) (int, error) { return 1, nil },
				Event:      func(router.Rendering) error { return nil },
				Poison:     func(Poison) error { return nil },
			}
			fails(&w)
			require.ErrorIs(t, w.Read(t.Context(), control, server), failed)
		})
	}
}

func TestPreviewWithoutAReadableCheckpoint(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "checkpoint")
	require.NoError(t, os.WriteFile(file, []byte("half a rec"), 0o600))
	r := newRig(t, "STREAMER_CHECKPOINT_FILE_PATH="+file)
	r.insert("outbox", "order", "1")
	got := r.run(0)
	require.NoError(t, got.err)
	assert.Equal(t, []string{"1"}, keys(got.lines))
	assert.Contains(t, got.told, "as on a first start")
	assert.Contains(t, got.told, file)
}
