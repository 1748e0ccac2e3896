package site

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// nowhere is an address where no server listens.
const nowhere = "127.0.0.1:1"

// configured loads settings, each a key, "=" and a value, over the defaults.
func configured(t *testing.T, settings ...string) config.Config {
	t.Helper()
	flags := map[string]string{}
	for _, setting := range settings {
		key, value, _ := strings.Cut(setting, "=")
		flags[key] = value
	}
	loaded, err := config.Load(config.Options{Flags: flags})
	require.NoError(t, err)
	return loaded.Config
}

var slots atomic.Int64

// withDatabase is a configuration for a new database, and a connection to it.
// There is neither a table nor a slot.
func withDatabase(t *testing.T, settings ...string) (config.Config, *pgx.Conn) {
	t.Helper()
	dsn := pgtest.Shared(t).CreateDatabase(t)
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) })
	slot := fmt.Sprintf("site_%d_%d", os.Getpid(), slots.Add(1))
	return configured(t, append(settings, "postgres.dsn="+dsn, "postgres.slot="+slot, "kafka.brokers="+nowhere)...), conn
}
