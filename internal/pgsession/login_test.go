package pgsession

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/failure"
)

func TestLogin(t *testing.T) {
	t.Parallel()
	asked := 0
	login := Login(func(_ context.Context, host string, port uint16, user string) (string, error) {
		asked++
		return fmt.Sprintf("token %d for %s at %s:%d", asked, user, host, port), nil
	})
	for i, mode := range []string{"prefer", "allow", "require"} {
		config, err := pgconn.ParseConfig("postgres://u:old@db.example.com:5433/shop?sslmode=" + mode)
		require.NoError(t, err)
		require.NoError(t, login.Use(t.Context(), config))
		assert.Equal(t, fmt.Sprintf("token %d for u at db.example.com:5433", i+1), config.Password, "another one each time")
		assert.NotNil(t, config.TLSConfig, mode)
		assert.Empty(t, config.Fallbacks, "%s: nothing is left that would send the token in clear", mode)
	}
}

func TestNoLogin(t *testing.T) {
	t.Parallel()
	config, err := pgconn.ParseConfig("postgres://u:old@a,b/shop?sslmode=prefer")
	require.NoError(t, err)
	before := *config
	require.NoError(t, Login(nil).Use(t.Context(), config))
	assert.Equal(t, before.Password, config.Password)
	assert.Equal(t, before.Fallbacks, config.Fallbacks)
}

func TestLoginRefuses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"postgres://u@db/shop?sslmode=disable":     "sslmode=verify-full",
		"postgres://u@a,b/shop?sslmode=require":    "name one host",
		"postgres://u@a:1,a:2/shop?sslmode=prefer": "name one host",
		"host=/run/postgresql user=u":              "sslmode=verify-full",
	} {
		config, err := pgconn.ParseConfig(text)
		require.NoError(t, err)
		err = Login(func(context.Context, string, uint16, string) (string, error) {
			assert.Fail(t, "it must not be asked", text)
			return "", nil
		}).Use(t.Context(), config)
		assert.Contains(t, failure.Describe(err), want, text)
		assert.Equal(t, failure.Misconfigured, failure.ClassOf(err), text)
	}
	config, err := pgconn.ParseConfig("postgres://u@db/shop?sslmode=require")
	require.NoError(t, err)
	unknown := errors.New("no credentials")
	login := Login(func(context.Context, string, uint16, string) (string, error) { return "", unknown })
	require.ErrorIs(t, login.Use(t.Context(), config), unknown)
	assert.Equal(t, failure.Transient, failure.ClassOf(unknown))
}
