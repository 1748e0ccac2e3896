package pgsession_test

import (
	"context"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/pgsession"
	"github.com/outboxstream/streamer/internal/pgtest"
	"github.com/outboxstream/streamer/internal/testserver"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// Settings of the role and database change no session of the streamer, of
// either kind and on any server.
func TestSet(t *testing.T) {
	t.Parallel()
	for _, version := range testserver.Ends("14", "15", "16", "17", "18") {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			if testing.Short() {
				t.Skip("downloads and starts servers")
			}
			server := pgtest.New(t, pgtest.Options{Version: version})
			conn, err := pgx.Connect(t.Context(), server.CreateDatabase(t))
			require.NoError(t, err)
			t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
			dsn := server.HostileRole(t, conn, "REPLICATION")
			for kind, more := range map[string]string{"SQL": "", "walsender": "&replication=database"} {
				config, err := pgconn.ParseConfig(dsn + more)
				require.NoError(t, err)
				pgsession.Set(config)
				session, err := pgconn.ConnectConfig(t.Context(), config)
				require.NoError(t, err, kind)
				t.Cleanup(func() { _ = session.Close(context.WithoutCancel(t.Context())) })
				show := func(what string) string {
					results, err := session.Exec(t.Context(), what).ReadAll()
					require.NoError(t, err, what)
					return string(results[0].Rows[0][0])
				}
				for name, hostile := range server.Hostile() {
					if name == "wal_sender_timeout" || name == "client_encoding" || name == "synchronous_commit" {
						continue // connections that need them set them
					}
					assert.NotEqual(t, hostile, show("SHOW "+name), "%s of the %s session", name, kind)
				}
				assert.Equal(t, "hostile", show("SELECT current_user"), kind)
				assert.Equal(t, "hostile", show("SELECT session_user"), kind)
			}
		})
	}
}

// A pinned setting appears only once, however the connection string spells it.
func TestPin(t *testing.T) {
	t.Parallel()
	config := &pgconn.Config{RuntimeParams: map[string]string{"timezone": "Asia/Tokyo", "TIMEZONE": "Asia/Kolkata", "other": "1"}}
	pgsession.Pin(config, "TimeZone", "UTC")
	assert.Equal(t, map[string]string{"TimeZone": "UTC", "other": "1"}, config.RuntimeParams)
	pgsession.Unpin(config, "Timezone")
	assert.Equal(t, map[string]string{"other": "1"}, config.RuntimeParams)
}
