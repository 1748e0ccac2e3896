package replication

import (
	"context"
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/pgtest"
)

func TestSetup(t *testing.T) {
	t.Parallel()
	f := newEmptyFixture(t, pgtest.Shared(t))
	f.config.Outboxes[0].Table, f.config.Publication = `public."Out""box"`, `p "quoted"`
	control := f.control()
	exists, err := control.TableExists(t.Context(), f.config.Outboxes[0].Table)
	require.NoError(t, err)
	assert.False(t, exists)
	exists, err = control.SlotExists(t.Context())
	require.NoError(t, err)
	assert.False(t, exists)

	require.NoError(t, control.CreateTable(t.Context(), f.config.Outboxes[0].Table, TableSQL(
		f.config.Outboxes[0].Table, []Column{{Name: "id", Type: "int PRIMARY KEY"}, {Name: "payload", Type: "text"}},
	)))
	require.NoError(t, control.CreatePublication(t.Context(), []Table{{Outbox: f.config.Outboxes[0]}}))
	require.NoError(t, control.CreateSlot(t.Context(), false, func(Transaction) {}))
	exists, err = control.TableExists(t.Context(), f.config.Outboxes[0].Table)
	require.NoError(t, err)
	assert.True(t, exists)
	exists, err = control.SlotExists(t.Context())
	require.NoError(t, err)
	assert.True(t, exists)

	t.Run("passes its own checks", func(t *testing.T) {
		t.Parallel()
		table, err := f.control().DescribeTable(t.Context(), f.config.Outboxes[0])
		require.NoError(t, err)
		assert.Empty(t, CheckTable(table, f.config))
		server, slot := f.identify()
		assert.Empty(t, CheckSlot(slot, server))
	})
	t.Run("streams", func(t *testing.T) {
		t.Parallel()
		f.exec("INSERT INTO " + QuoteTable(f.config.Outboxes[0].Table) + " VALUES (1, 'x')")
		ids, _ := readRows(t, f.open(), 1)
		assert.Equal(t, []string{"1"}, ids)
	})
}

func TestSetting(t *testing.T) {
	t.Parallel()
	f := newEmptyFixture(t, pgtest.Shared(t))
	f.exec("ALTER DATABASE " + f.config.Slot + " SET work_mem = '5MB'")
	value, err := f.control().Setting(t.Context(), "work_mem")
	require.NoError(t, err)
	assert.Equal(t, "5120", value)
	_, err = f.control().Setting(t.Context(), "not_there")
	require.ErrorContains(t, err, "not_there")
}

// restricted is a control connection of a role that may only log in.
func restricted(t *testing.T, f *fixture) *Control {
	t.Helper()
	role := f.config.Slot
	f.exec("CREATE ROLE " + role + " LOGIN")
	t.Cleanup(func() {
		_, err := f.conn.Exec(context.WithoutCancel(t.Context()), "DROP OWNED BY "+role+"; DROP ROLE "+role)
		assert.NoError(t, err)
	})
	g := *f
	u, err := url.Parse(f.config.DSN)
	require.NoError(t, err)
	u.User = url.User(role)
	g.config.DSN = u.String()
	return g.control()
}

func TestSetupErrors(t *testing.T) {
	t.Parallel()
	t.Run("without privileges", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t, pgtest.Shared(t))
		f.exec("REVOKE CREATE ON SCHEMA public FROM public")
		f.config.Publication = "q"
		control := restricted(t, f)
		for what, err := range map[string]error{
			"create table":       control.CreateTable(t.Context(), "public.new", TableSQL("public.new", []Column{{Name: "id", Type: "int"}})),
			"create publication": control.CreatePublication(t.Context(), []Table{{Outbox: f.config.Outboxes[0]}}),
			"create slot":        control.CreateSlot(t.Context(), false, func(Transaction) {}),
		} {
			require.ErrorContains(t, err, what)
			require.ErrorContains(t, err, "42501")
			assert.Equal(t, failure.Refused, failure.ClassOf(err), what)
		}
	})
	t.Run("a role that other sessions become", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t, pgtest.Shared(t))
		f.config.Publication = "q"
		role, owner := f.config.Slot, f.config.Slot+"_o"
		control := restricted(t, f)
		f.exec("CREATE ROLE "+owner, "GRANT "+owner+" TO "+role, "ALTER TABLE outbox OWNER TO "+owner)
		t.Cleanup(func() {
			_, err := f.conn.Exec(context.WithoutCancel(t.Context()), "DROP OWNED BY "+owner+"; DROP ROLE "+owner)
			assert.NoError(t, err)
		})
		for _, test := range []struct{ sql, want string }{
			{"SELECT", ""},
			{"ALTER DATABASE " + role + " SET role = elsewhere", "elsewhere"},
			{"ALTER ROLE " + role + " SET role = " + owner, owner},
			{"ALTER ROLE " + role + " IN DATABASE " + role + " SET role = none", ""},
			{"ALTER ROLE " + role + " IN DATABASE " + role + " RESET role", owner},
		} {
			f.exec(test.sql)
			got, err := control.RoleSetting(t.Context())
			require.NoError(t, err)
			assert.Equal(t, test.want, got, test.sql)
		}
		f.exec("ALTER ROLE " + role + " NOINHERIT")
		err := control.CreatePublication(t.Context(), []Table{describe(t, control)})
		require.ErrorContains(t, err, "the session acts as the user itself, not as "+owner)
		assert.Equal(t, failure.Refused, failure.ClassOf(err))

		f.exec("ALTER ROLE "+role+" REPLICATION", "REVOKE "+owner+" FROM "+role)
		f.config.Publication = "p"
		works(t, f, control.Config().DSN) // although the server cannot apply the setting
	})
	t.Run("no schema", func(t *testing.T) {
		t.Parallel()
		f := newEmptyFixture(t, pgtest.Shared(t))
		err := f.control().CreateTable(t.Context(), "nowhere.outbox", TableSQL("nowhere.outbox", []Column{{Name: "id", Type: "int"}}))
		assert.Contains(t, failure.Fix(err), "create the schema")
		assert.Equal(t, failure.Refused, failure.ClassOf(err))
	})
	t.Run("a slot that exists", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t, pgtest.Shared(t))
		require.ErrorContains(t, f.control().CreateSlot(t.Context(), false, func(Transaction) {}), f.config.Slot)
	})
	t.Run("failover before 17", func(t *testing.T) {
		t.Parallel()
		f := newEmptyFixture(t, pgtest.Shared(t))
		err := f.control().CreateSlot(t.Context(), true, func(Transaction) {})
		if f.server.Version() >= 170000 {
			require.NoError(t, err)
			assert.True(t, f.slot().Failover)
			return
		}
		require.ErrorContains(t, err, "PostgreSQL 17")
		assert.Equal(t, failure.Refused, failure.ClassOf(err))
	})
	t.Run("a lock", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t, pgtest.Shared(t))
		f.exec("BEGIN", "LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE")
		f.config.Publication = "q"
		control := f.control()
		require.NoError(t, control.Limit(t.Context(), 100*time.Millisecond))
		err := control.CreatePublication(t.Context(), []Table{{Outbox: f.config.Outboxes[0]}})
		f.exec("ROLLBACK")
		require.ErrorContains(t, err, "holds a lock")
		assert.Equal(t, failure.Transient, failure.ClassOf(err))
	})
}

// The creation of a slot waits for writers, and names them. It needs its own
// server: other tests write as well.
func TestCreateSlotWaits(t *testing.T) {
	t.Parallel()
	f := newEmptyFixture(t, pgtest.New(t, pgtest.Options{Settings: map[string]string{"max_prepared_transactions": "5"}}))
	f.exec("CREATE TABLE outbox (id int, payload text)", "BEGIN", "INSERT INTO outbox VALUES (1, 'x')")
	pid := query[int](f, "SELECT pg_backend_pid()")
	control := f.control()
	require.NoError(t, control.Limit(t.Context(), 2500*time.Millisecond))
	var seen []Transaction
	err := control.CreateSlot(t.Context(), false, func(tx Transaction) { seen = append(seen, tx) })
	require.ErrorContains(t, err, fmt.Sprintf("process %d", pid))
	assert.Contains(t, failure.Describe(err), "streamer setup")
	require.NotEmpty(t, seen)
	for _, tx := range seen {
		assert.Equal(t, pid, tx.PID)
		assert.Equal(t, "postgres", tx.User)
		assert.Equal(t, f.config.Slot, tx.Database)
		assert.Positive(t, tx.Age)
	}
	exists, err := control.SlotExists(t.Context())
	require.NoError(t, err)
	assert.False(t, exists, "the attempt leaves nothing behind")

	// A prepared transaction holds it up as well, and has no process.
	f.exec("PREPARE TRANSACTION 'held'")
	seen = nil
	require.NoError(t, control.Limit(t.Context(), 30*time.Second))
	err = control.CreateSlot(t.Context(), false, func(tx Transaction) {
		if seen = append(seen, tx); len(seen) == 1 {
			f.exec("COMMIT PREPARED 'held'")
		}
	})
	require.NoError(t, err)
	require.NotEmpty(t, seen)
	assert.Equal(t, "held", seen[0].Prepared)
	assert.Contains(t, seen[0].String(), `prepared as "held"`)
}

func TestTransactionString(t *testing.T) {
	t.Parallel()
	assert.Equal(t, `a transaction of process 7 (user "u", database "d", application "a"), running for 1m0s`,
		Transaction{PID: 7, User: "u", Database: "d", Application: "a", Age: time.Minute}.String())
	assert.Contains(t, Transaction{PID: 7}.String(), "pg_read_all_stats")
}

func TestGrantedTable(t *testing.T) {
	t.Parallel()
	f := newEmptyFixture(t, pgtest.Shared(t))
	f.exec(`CREATE SCHEMA "S"`, `CREATE TABLE "S"."T" (id int)`)
	control := restricted(t, f)
	_, err := control.Conn().Exec(t.Context(), `INSERT INTO "S"."T" VALUES (1)`)
	require.ErrorContains(t, err, "42501")
	f.exec(GrantTableSQL("S.T", f.config.Slot))
	for _, statement := range []string{`INSERT INTO "S"."T" VALUES (1)`, `UPDATE "S"."T" SET id = 2`, `SELECT FROM "S"."T"`} {
		_, err := control.Conn().Exec(t.Context(), statement)
		require.NoError(t, err)
	}
	_, err = control.Conn().Exec(t.Context(), `DELETE FROM "S"."T"`)
	require.ErrorContains(t, err, "42501")
}
