package checkpoint_test

import (
	"context"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/pgtest"
)

const table = "public.streamer_checkpoint"

func openPostgres(t *testing.T, dsn string) *checkpoint.PostgresStore {
	t.Helper()
	store, err := checkpoint.OpenPostgres(t.Context(), dsn, nil, table)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, store.Close()) })
	return store
}

// execute runs SQL as superuser, over its own connection. It may be used while
// the test cleans up.
func execute(t *testing.T, dsn, sql string, arguments ...any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	require.NoError(t, err)
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, sql, arguments...)
	require.NoError(t, err)
}

func postgresPlace(t *testing.T) place {
	t.Helper()
	return tableOf(pgtest.Shared(t).CreateDatabase(t))
}

func tableOf(dsn string) place {
	return place{
		named: `table "` + table + `"`,
		open: func(t *testing.T) checkpoint.Store {
			t.Helper()
			store, err := checkpoint.OpenPostgres(t.Context(), dsn, nil, table)
			require.NoError(t, err)
			return store
		},
		plant: func(t *testing.T, id checkpoint.Identity, stored string) {
			t.Helper()
			execute(
				t, dsn,
				"INSERT INTO "+table+" (key, record, saved_at) VALUES ($1, $2, now()) ON CONFLICT (key) DO UPDATE SET record = $2",
				id.Key(), stored,
			)
		},
	}
}

// stoppablePostgres is a separate server, which crashes.
func stoppablePostgres(t *testing.T) place {
	t.Helper()
	server := pgtest.New(t, pgtest.Options{})
	p := tableOf(server.DSN("postgres"))
	p.fail = func(t *testing.T) (repair func()) {
		t.Helper()
		require.NoError(t, server.StopImmediate())
		return func() { require.NoError(t, server.StartAgain(t.Context())) }
	}
	return p
}

func TestPostgresStore(t *testing.T) {
	t.Parallel()
	pgtest.Shared(t) // skips here, once, where there is no server
	conform(t, postgresPlace, stoppablePostgres)
}

func TestPostgresStoreConnection(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Shared(t).CreateDatabase(t)
	end := func() {
		execute(
			t, dsn,
			"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = 'streamer:checkpoint' "+
				"AND datname = current_database()",
		)
	}
	store := openPostgres(t, dsn)
	require.NoError(t, store.Save(t.Context(), record(100)))
	end()
	require.NoError(t, store.Save(t.Context(), record(200)), "over a new connection")
	end()
	got, err := store.Load(t.Context(), ours)
	require.NoError(t, err)
	assert.EqualValues(t, 200, got.LSN)

	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	defer conn.Close(context.WithoutCancel(t.Context()))
	_, err = conn.Exec(t.Context(), "BEGIN; LOCK TABLE "+table)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, store.Save(ctx, record(300)), context.DeadlineExceeded, "the server does not answer")
	require.ErrorIs(t, store.Save(ctx, record(300)), context.DeadlineExceeded)
	_, err = conn.Exec(t.Context(), "COMMIT")
	require.NoError(t, err)
	require.NoError(t, store.Save(t.Context(), record(400)))
}

func TestPostgresStoreIsDurable(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Shared(t).CreateDatabase(t)
	openPostgres(t, dsn)
	execute(t, dsn, `
		CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
			$$ BEGIN NEW.epoch = (current_setting('synchronous_commit') = 'on')::int; RETURN NEW; END $$;
		CREATE TRIGGER note BEFORE INSERT OR UPDATE ON `+table+` FOR EACH ROW EXECUTE FUNCTION note();
		DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database());
			EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database()); END $$`)
	store := openPostgres(t, dsn)
	require.NoError(t, store.Save(t.Context(), record(100)))

	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	var on int
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT epoch FROM "+table).Scan(&on))
	assert.Equal(t, 1, on)
}

func TestPostgresStoreOfRenamedDatabase(t *testing.T) {
	t.Parallel()
	findsFormer(t, openPostgres(t, pgtest.Shared(t).CreateDatabase(t)))
}

func TestOpenPostgres(t *testing.T) {
	t.Parallel()
	t.Run("any name is quoted", func(t *testing.T) {
		t.Parallel()
		dsn := pgtest.Shared(t).CreateDatabase(t)
		execute(t, dsn, `CREATE SCHEMA "my ""Schema"""`)
		for _, name := range []string{`"my ""Schema"""."po""sition; DROP TABLE x.y"`, "position"} {
			store, err := checkpoint.OpenPostgres(t.Context(), dsn, nil, name)
			require.NoError(t, err)
			require.NoError(t, store.Save(t.Context(), record(100)))
			_, err = store.Load(t.Context(), ours)
			require.NoError(t, err)
			require.NoError(t, store.Close())
		}
		execute(t, dsn, `SELECT FROM "my ""Schema"""."po""sition; DROP TABLE x.y", public.position`)
	})
	t.Run("many streamers create the table at the same moment", func(t *testing.T) {
		t.Parallel()
		dsn := pgtest.Shared(t).CreateDatabase(t)
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				store, err := checkpoint.OpenPostgres(t.Context(), dsn, nil, table)
				if assert.NoError(t, err) {
					assert.NoError(t, store.Close())
				}
			})
		}
		all.Wait()
	})
	t.Run("another table is refused", func(t *testing.T) {
		t.Parallel()
		for name, create := range map[string]string{
			"columns": "CREATE TABLE " + table + " (id int)",
			"no key":  "CREATE TABLE " + table + " (key text, record text, saved_at timestamptz)",
			"types":   "CREATE TABLE " + table + " (key text PRIMARY KEY, record text, saved_at point)",
		} {
			dsn := pgtest.Shared(t).CreateDatabase(t)
			execute(t, dsn, create)
			_, err := checkpoint.OpenPostgres(t.Context(), dsn, nil, table)
			assert.Contains(t, failure.Describe(err), "this is not a checkpoint table; fix: name another table in checkpoint.postgres.table", name)
			require.ErrorContains(t, err, table)
			assert.Equal(t, failure.Refused, failure.ClassOf(err))
		}
	})
	t.Run("a missing schema is refused", func(t *testing.T) {
		t.Parallel()
		_, err := checkpoint.OpenPostgres(t.Context(), pgtest.Shared(t).CreateDatabase(t), nil, "ops.position")
		assert.Contains(t, failure.Describe(err), `create the schema with CREATE SCHEMA "ops";`)
		assert.Equal(t, failure.Refused, failure.ClassOf(err))
	})
	t.Run("a dropped table is refused", func(t *testing.T) {
		t.Parallel()
		dsn := pgtest.Shared(t).CreateDatabase(t)
		store := openPostgres(t, dsn)
		execute(t, dsn, "DROP TABLE "+table)
		err := store.Save(t.Context(), record(100))
		require.ErrorContains(t, err, "the checkpoint table existed and has been dropped")
		assert.Equal(t, failure.Refused, failure.ClassOf(err))
		_, err = store.Load(t.Context(), ours)
		require.ErrorContains(t, err, "the checkpoint table existed and has been dropped")
	})
}

func TestPostgresStorePrivileges(t *testing.T) {
	t.Parallel()
	owner := pgtest.Shared(t).CreateDatabase(t)
	const role = `check"pointer`
	execute(t, owner, `CREATE ROLE "check""pointer" LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC`)
	t.Cleanup(func() { execute(t, pgtest.Shared(t).DSN("postgres"), `DROP ROLE "check""pointer"`) })
	t.Cleanup(func() { execute(t, owner, `DROP OWNED BY "check""pointer"`) })
	limited, err := url.Parse(owner)
	require.NoError(t, err)
	limited.User = url.User(role)

	_, err = checkpoint.OpenPostgres(t.Context(), limited.String(), nil, table)
	require.ErrorContains(t, err, "42501")
	assert.Equal(t, failure.Refused, failure.ClassOf(err))
	_, sql, ok := strings.Cut(failure.Fix(err), "superuser run: ")
	require.True(t, ok, "%v", err)
	execute(t, owner, sql)
	store := openPostgres(t, limited.String())
	require.NoError(t, store.Save(t.Context(), record(100)), "following the message was enough")

	execute(t, owner, "REVOKE UPDATE ON "+table+` FROM "check""pointer"`)
	err = store.Save(t.Context(), record(200))
	assert.Contains(t, failure.Fix(err), sql)
	assert.Equal(t, failure.Refused, failure.ClassOf(err))
	_, err = checkpoint.OpenPostgres(t.Context(), limited.String(), nil, table)
	assert.Contains(t, failure.Fix(err), sql, "found out before anything is streamed")
}

// TestPostgresStoreKeepsSecrets has a password, or a piece of one, in every
// DSN.
func TestPostgresStoreKeepsSecrets(t *testing.T) {
	t.Parallel()
	server := pgtest.New(t, pgtest.Options{Auth: "scram-sha-256", Password: "right"})
	dsn, err := url.Parse(server.DSN("postgres"))
	require.NoError(t, err)
	silent, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0") // accepts and sends nothing
	require.NoError(t, err)
	t.Cleanup(func() { silent.Close() })
	withUser := func(user, password, path string) string {
		changed := *dsn
		changed.User, changed.Path = url.UserPassword(user, password), path
		return changed.String()
	}
	for name, test := range map[string]struct {
		dsn, message string
		class        failure.Class
	}{
		"a password that is not escaped": {"postgres://user:ca/nary@db/shop", "percent-encoded", failure.Misconfigured},
		"a percent sign":                 {"postgres://user:ca%nary@db/shop", "percent-encoded", failure.Misconfigured},
		"a wrong port":                   {"host=db port=canary", "not a valid connection string", failure.Misconfigured},
		"a wrong sslmode":                {"host=db password=canary sslmode=canary", "not a valid connection string", failure.Misconfigured},
		"an unknown host":                {"postgres://user:canary@host.invalid/shop", "connect to PostgreSQL", failure.Transient},
		"nobody listens":                 {"postgres://user:canary@127.0.0.1:1/shop", "connect to PostgreSQL", failure.Transient},
		"nobody answers": {
			"postgres://user:canary@" + silent.Addr().String() + "/shop", "connect to PostgreSQL",
			failure.Transient,
		},
		"a wrong password": {withUser("postgres", "canary", "/postgres"), "check user and password", failure.Misconfigured},
		"a wrong user":     {withUser("nobody", "canary", "/postgres"), "check user and password", failure.Misconfigured},
		"a wrong database": {withUser("postgres", "right", "/canary"), "name an existing database", failure.Misconfigured},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			_, err := checkpoint.OpenPostgres(ctx, test.dsn, nil, table)
			require.Error(t, err)
			t.Log(err)
			assert.Contains(t, failure.Describe(err), test.message)
			require.ErrorContains(t, err, table)
			assert.Equal(t, test.class, failure.ClassOf(err))
			if name != "a wrong database" { // whose name appears in the message
				assert.NotContains(t, err.Error(), "nary")
			}
		})
	}
}

// A frozen instance cannot overwrite the position of the instance that took
// over with its own, older one.
func TestPostgresStoreClaim(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Shared(t).CreateDatabase(t)
	frozen, successor := openPostgres(t, dsn), openPostgres(t, dsn)
	require.NoError(t, frozen.Claim(t.Context(), ours))
	require.NoError(t, frozen.Save(t.Context(), record(100)))
	require.NoError(t, successor.Claim(t.Context(), ours))
	require.ErrorIs(t, frozen.Save(t.Context(), record(101)), checkpoint.ErrClaimed)
	require.NoError(t, successor.Save(t.Context(), record(200)))
	require.ErrorIs(t, frozen.Save(t.Context(), record(300)), checkpoint.ErrClaimed)
	got, err := frozen.Load(t.Context(), ours)
	require.NoError(t, err)
	assert.EqualValues(t, 200, got.LSN)
	require.NoError(t, frozen.Claim(t.Context(), ours))
	require.NoError(t, frozen.Save(t.Context(), record(400)))
}

// A connection that is replaced says as well that there is nothing.
func TestPostgresHasNothingAfterARestart(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Shared(t).CreateDatabase(t)
	store := openPostgres(t, dsn)
	execute(t, dsn, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
	_, err := store.Load(t.Context(), checkpoint.Identity{SystemID: "1", Database: "shop", Slot: "s"})
	require.ErrorIs(t, err, checkpoint.ErrNone)
}

// Reading creates nothing, and says what would keep a streamer from writing.
func TestReadPostgres(t *testing.T) {
	t.Parallel()
	server := pgtest.Shared(t)
	dsn := server.CreateDatabase(t)
	id := checkpoint.Identity{SystemID: "1", Database: "shop", Slot: "s"}
	reader, err := checkpoint.ReadPostgres(dsn, nil, table)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, reader.Close()) })
	require.ErrorIs(t, reader.Writable(t.Context()), checkpoint.ErrNone)
	_, err = reader.Load(t.Context(), id)
	require.ErrorIs(t, err, checkpoint.ErrNone, "and has created nothing")
	require.ErrorContains(t, err, "does not exist")
	_, err = reader.Former(t.Context(), id)
	require.ErrorIs(t, err, checkpoint.ErrNone, "nor is there one under another name")

	require.NoError(t, openPostgres(t, dsn).Save(t.Context(), checkpoint.Record{Identity: id, LSN: 7}))
	require.NoError(t, reader.Writable(t.Context()))
	r, err := reader.Load(t.Context(), id)
	require.NoError(t, err)
	assert.EqualValues(t, 7, r.LSN)

	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	defer conn.Close(context.WithoutCancel(t.Context()))
	_, err = conn.Exec(t.Context(), "ALTER TABLE "+table+" DROP COLUMN epoch")
	require.NoError(t, err)
	assert.Equal(t, failure.Refused, failure.ClassOf(reader.Writable(t.Context())))
}
