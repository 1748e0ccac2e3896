package e2e

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/examples/patterns/accounts"
	"github.com/outboxstream/streamer/internal/pgtest"
)

// An event can be handled before the transaction that wrote it is visible. What it
// compensates must not pass for something that never was: a lost refund.
func TestCompensationOfWhatIsNotVisibleYet(t *testing.T) {
	t.Parallel()
	db, err := pgx.Connect(t.Context(), pgtest.Shared(t).CreateDatabase(t))
	require.NoError(t, err)
	defer db.Close(t.Context())
	exec := func(statement string) {
		_, err := db.Exec(t.Context(), statement)
		require.NoError(t, err)
	}
	number := func(query string) (n int) {
		require.NoError(t, db.QueryRow(t.Context(), query).Scan(&n))
		return n
	}
	within := func(work func(tx pgx.Tx) error) error { return pgx.BeginFunc(t.Context(), db, work) }
	exec(accounts.Schema)
	exec("insert into account values ('ann', 100)")

	refund := func(tx pgx.Tx) error { return accounts.Refund(t.Context(), tx, "order-1") }
	require.ErrorContains(t, within(refund), "find the charge for order-1")
	require.NoError(t, within(func(tx pgx.Tx) error {
		_, err := accounts.Charge(t.Context(), tx, "order-1", "ann", 30)
		return err
	}))
	assert.Equal(t, 70, number("select balance from account"))
	for range 2 { // the second time there is nothing left to give back
		require.NoError(t, within(refund))
		assert.Equal(t, 100, number("select balance from account"))
	}
}
