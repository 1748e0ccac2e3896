package main

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/cmd/streamer/internal/setup"
	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/pgtest"
)

func TestSetupPrint(t *testing.T) {
	t.Parallel()
	for name, environ := range map[string][]string{
		"default": nil,
		"odd": {
			`STREAMER_OUTBOX_TABLE=Odd 'schema.out-box`, "STREAMER_POSTGRES_PUBLICATION=It's \"the\" publication", "STREAMER_POSTGRES_SLOT=odd_1",
			"STREAMER_CHECKPOINT_STORE=postgres", "STREAMER_CHECKPOINT_POSTGRES_TABLE=ops.check'points",
			"STREAMER_OUTBOX_COLUMNS_TIME=Created At", "STREAMER_OUTBOX_EXTENSIONS_TENANTID=tenant id",
			"STREAMER_OUTBOX_COLUMNS_SUBJECT=aggregateid",
			"STREAMER_ROUTES=[{aggregate_type: order, topic: orders}]", "STREAMER_KAFKA_TOPICS_CREATE=true", "STREAMER_KAFKA_TOPICS_PARTITIONS=6",
			"STREAMER_KAFKA_TOPICS_REPLICATION_FACTOR=3", "STREAMER_KAFKA_TOPICS_CONFIGS_CLEANUP_POLICY=compact,delete",
			"STREAMER_KAFKA_BROKERS=a:1,b:2",
		},
		"dead-letters": {
			"STREAMER_POISON_POLICY=dead-letter", "STREAMER_KAFKA_TOPICS_CONFIGS_CLEANUP_POLICY=compact",
			"STREAMER_KAFKA_TOPICS_REPLICATION_FACTOR=3",
			"STREAMER_KAFKA_TOPIC=events", "STREAMER_KAFKA_RESUME=at_least_once",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := execute(t, environ, "setup", "--print", "--failover", "--topic", "more")
			require.Zero(t, got.code, got.stderr)
			golden(t, "print/"+name, got.stdout)
		})
	}
}

// statements returns the SQL in the output of setup --print.
func statements(printed string) string {
	sql, _, _ := strings.Cut(printed, "# Kafka.")
	return sql
}

func TestPrintedStatementsWork(t *testing.T) {
	t.Parallel()
	server := pgtest.New(t, pgtest.Options{}) // roles belong to the whole server
	dsn := server.CreateDatabase(t)
	environ := []string{
		"STREAMER_POSTGRES_DSN=" + dsn, `STREAMER_OUTBOX_TABLE=Odd 'schema.out-box`, "STREAMER_POSTGRES_PUBLICATION=It's \"the\" one",
		"STREAMER_CHECKPOINT_STORE=postgres", "STREAMER_OUTBOX_COLUMNS_TIME=Created At", "STREAMER_KAFKA_BROKERS=127.0.0.1:1",
		"STREAMER_HTTP_LISTEN=", "STREAMER_KAFKA_REQUEST_TIMEOUT=1s",
	}
	printed := execute(t, environ, "setup", "--print")
	require.Zero(t, printed.code, printed.stderr)
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	for statement := range strings.SplitSeq(statements(printed.stdout), ";\n") {
		_, err := conn.Exec(t.Context(), statement)
		require.NoError(t, err, statement)
	}

	// With the role that they create, setup finds nothing to do or to complain
	// about.
	asRole := slices.Concat(environ, []string{"STREAMER_POSTGRES_DSN=" + strings.Replace(dsn, "postgres@", setup.Role+"@", 1)})
	require.Contains(t, asRole[len(asRole)-1], setup.Role+"@")
	got := execute(t, asRole, "setup")
	require.Zero(t, got.code, got.stderr)
	assert.NotContains(t, got.stdout, "created")
	assert.NotContains(t, got.stdout, "warning")
	assert.Contains(t, got.stdout, "exists   checkpoint table public.streamer_checkpoint")

	// The checkpoint table is the same as the store itself creates.
	const columns = `select string_agg(attname || ' ' || format_type(atttypid, atttypmod) || ' ' || attnotnull || ' ' || ` +
		`coalesce(pg_get_expr(adbin, adrelid), ''), ', ' order by attnum)
		from pg_attribute left join pg_attrdef on adrelid = attrelid and adnum = attnum ` +
		`where attrelid = 'public.streamer_checkpoint'::regclass and attnum > 0`
	var ours, itsOwn string
	require.NoError(t, conn.QueryRow(t.Context(), columns).Scan(&ours))
	_, err = conn.Exec(t.Context(), "drop table public.streamer_checkpoint")
	require.NoError(t, err)
	got = execute(t, environ, "setup")
	require.Zero(t, got.code, got.stderr)
	assert.Contains(t, got.stdout, "created  checkpoint table public.streamer_checkpoint")
	require.NoError(t, conn.QueryRow(t.Context(), columns).Scan(&itsOwn))
	assert.Equal(t, itsOwn, ours)
}

func TestSetup(t *testing.T) {
	t.Parallel()
	t.Run("creates everything once", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, true, "STREAMER_KAFKA_TOPICS_PARTITIONS=3", "STREAMER_OUTBOX_COLUMNS_TIME=created_at")
		first := r.execute("setup", "--create-table", "--topic", r.topic+".order")
		require.Zero(t, first.code, first.stderr)
		assert.Equal(t, 5, strings.Count(first.stdout, "created"), first.stdout)
		again := r.execute("setup", "--create-table", "--topic", r.topic+".order")
		require.Zero(t, again.code, again.stderr)
		assert.Equal(t, strings.ReplaceAll(first.stdout, "created", "exists "), again.stdout)

		admin, err := kafkatest.Shared(t).Admin()
		require.NoError(t, err)
		defer admin.Close()
		topics, err := admin.ListTopics()
		require.NoError(t, err)
		assert.EqualValues(t, 3, topics[r.topic+".order"].NumPartitions)
		checkpoints := topics["checkpoints-"+r.topic]
		assert.EqualValues(t, 1, checkpoints.NumPartitions)
		assert.Equal(t, "compact", *checkpoints.ConfigEntries["cleanup.policy"])
		healthy := r.execute("doctor")
		assert.Zero(t, healthy.code, healthy.stdout)
	})
	t.Run("topics of templates without placeholders", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, true)
		name := r.topic + "-events"
		got := r.execute("setup", "--create-table", "--set", "kafka.topic="+name)
		require.Zero(t, got.code, got.stderr)
		assert.Contains(t, got.stdout, "created  topic "+name)
	})
	t.Run("does not create the table unasked", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, false)
		got := r.execute("setup")
		assert.Equal(t, exitRefused, got.code)
		assert.Contains(t, got.stderr, "--create-table")
		var publications int
		require.NoError(t, r.conn.QueryRow(t.Context(), "select count(*) from pg_publication").Scan(&publications))
		assert.Zero(t, publications)
	})
}

func TestSetupRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sql  []string // $slot is replaced
		says string
	}{
		"a publication without inserts": {[]string{`alter publication "$slot" set (publish = 'update')`}, "does not publish inserts"},
		"a publication of another table": {[]string{
			`create table other (id int primary key)`, `alter publication "$slot" set table other`,
		}, "does not contain table"},
		"a slot of another plugin": {[]string{
			`select pg_drop_replication_slot('$slot')`, `select pg_create_logical_replication_slot('$slot', 'test_decoding')`,
		}, "test_decoding"},
		"a physical slot": {[]string{
			`select pg_drop_replication_slot('$slot')`, `select pg_create_physical_replication_slot('$slot')`,
		}, "is a physical slot"},
		"a slot without its publication": {[]string{`drop publication "$slot"`}, "pg_drop_replication_slot"},
		"a missing column":               {[]string{`alter table outbox drop column type`}, `has no column "type"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newSlot(t, false, "STREAMER_CHECKPOINT_STORE=file")
			for _, sql := range c.sql {
				r.exec(strings.ReplaceAll(sql, "$slot", r.slot))
			}
			t.Cleanup(func() { // a physical slot belongs to no database
				_, err := r.conn.Exec(context.WithoutCancel(t.Context()), "select pg_drop_replication_slot(slot_name) "+
					"from pg_replication_slots where slot_name = $1 and database is null", r.slot)
				assert.NoError(t, err)
			})
			got := r.execute("setup")
			assert.Equal(t, exitRefused, got.code, got.stderr)
			assert.Contains(t, got.stderr, c.says)
		})
	}
}

func TestSetupWaitsForTransactions(t *testing.T) {
	t.Parallel()
	r := newRig(t, false, "STREAMER_CHECKPOINT_STORE=file")
	// A server of its own: otherwise the slot would also wait for writers of
	// other tests.
	r.dsn = pgtest.New(t, pgtest.Options{}).CreateDatabase(t)
	r.environ = append(r.environ, "STREAMER_POSTGRES_DSN="+r.dsn)
	conn, err := pgx.Connect(t.Context(), r.dsn)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), "create table busy (id int)")
	require.NoError(t, err)
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "insert into busy values (1)")
	require.NoError(t, err)

	got := r.execute("setup", "--create-table", "--timeout", "3s")
	assert.Equal(t, exitFailed, got.code, got.stderr)
	assert.Contains(t, got.stderr, "waits for running transactions, the oldest is a transaction of process")
	assert.Contains(t, got.stderr, "waited 3s for running transactions to end: the oldest is a transaction of process")
	assert.Contains(t, got.stderr, `user "postgres"`)

	require.NoError(t, tx.Rollback(t.Context()))
	got = r.execute("setup", "--create-table", "--timeout", "30s")
	assert.Zero(t, got.code, got.stderr)
	assert.Contains(t, got.stdout, "created  slot")
}

func TestSetupIsBlockedByALock(t *testing.T) {
	t.Parallel()
	r := newSlot(t, false, "STREAMER_CHECKPOINT_STORE=file")
	r.exec("select pg_drop_replication_slot($1)", r.slot)
	r.exec(`drop publication "` + r.slot + `"`)
	tx, err := r.conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "lock table outbox in share update exclusive mode")
	require.NoError(t, err)
	got := r.execute("setup", "--timeout", "1s")
	assert.Equal(t, exitFailed, got.code)
	assert.Contains(t, got.stderr, "another session holds a lock")
	require.NoError(t, tx.Rollback(t.Context()))
}

func TestSetupOnReadOnlyServer(t *testing.T) {
	t.Parallel()
	primary := pgtest.New(t, pgtest.Options{})
	standby := primary.NewStandby(t, "postgres", nil)
	r := newRig(t, false)
	r.environ = append(r.environ, "STREAMER_POSTGRES_DSN="+standby.DSN("postgres"))
	got := r.execute("setup", "--create-table")
	assert.Equal(t, exitUsage, got.code, got.stderr)
	assert.Contains(t, got.stderr, "target_session_attrs=read-write")
}

func TestSetupFailoverSlot(t *testing.T) {
	t.Parallel()
	r := newRig(t, false, "STREAMER_CHECKPOINT_STORE=file")
	got := r.execute("setup", "--create-table", "--failover")
	if pgtest.Shared(t).Version() < 170000 {
		assert.Equal(t, exitRefused, got.code, got.stderr)
		assert.Contains(t, got.stderr, "a failover slot needs PostgreSQL 17 or later")
		return
	}
	require.Zero(t, got.code, got.stderr)
	var failover bool
	require.NoError(t, r.conn.QueryRow(t.Context(), "select failover from pg_replication_slots where slot_name = $1", r.slot).Scan(&failover))
	assert.True(t, failover)
}

func TestSetupWithoutPrivileges(t *testing.T) {
	t.Parallel()
	r := newRig(t, false)
	r.exec(`create table outbox (id uuid primary key, aggregatetype text not null, aggregateid text not null, type text, payload jsonb)`)
	r.exec("create role " + r.slot + " login replication")
	t.Cleanup(func() {
		_, err := r.conn.Exec(context.WithoutCancel(t.Context()), "drop role "+r.slot)
		assert.NoError(t, err)
	})
	r.environ = append(r.environ, "STREAMER_POSTGRES_DSN="+strings.Replace(r.dsn, "postgres@", r.slot+"@", 1))
	got := r.execute("setup")
	assert.Equal(t, exitRefused, got.code, got.stderr)
	assert.Contains(t, got.stderr, "the owner of table public.outbox")
}
