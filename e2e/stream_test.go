package e2e

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRowsArriveAsCloudEvents(t *testing.T) {
	t.Parallel()
	r := newRig(t, outboxTable)
	p := r.startReady()
	id := r.insert("order", "order-42", "com.example.order.placed", `{"total": 12.50, "n": 1}`)

	m := r.await(p, "order", 1)[0]
	assert.Equal(t, "order-42", string(m.Key))
	assert.Equal(t, `{"n": 1, "total": 12.50}`, string(m.Value), "jsonb text as PostgreSQL prints it, untouched")
	assert.Equal(t, "1.0", header(m, "ce_specversion"))
	assert.Equal(t, id, header(m, "ce_id"))
	assert.Equal(t, "com.example.order.placed", header(m, "ce_type"))
	assert.Equal(t, "order-42", header(m, "ce_subject"))
	assert.Equal(t, "order-42", header(m, "ce_partitionkey"))
	assert.Equal(t, "application/json", header(m, "content-type"))
	assert.Regexp(t, `^[0-9a-f]{16}-00000001$`, header(m, "ce_sequence"))
	assert.Regexp(t, `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z$`, header(m, "ce_time"))
	assert.Regexp(t, `^[0-9a-f]{16}$`, header(m, "streamer-stream"))
	assert.Equal(t, 0, p.stop())
}

func TestGracefulStopRepeatsNothing(t *testing.T) {
	t.Parallel()
	for _, store := range []string{"kafka", "postgres", "file"} {
		t.Run(store, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, outboxTable, withStore(store))
			total := 0
			for range 3 {
				p := r.startReady()
				for range 200 {
					r.insert("order", fmt.Sprint("o", total%7), "t", fmt.Sprintf(`{"n": %d}`, total))
					total++
				}
				require.Equal(t, 0, p.stop())
			}
			p := r.startReady()
			messages := r.await(p, "order", total)
			for key, numbers := range byKey(t, messages) {
				assert.IsIncreasing(t, numbers, key)
			}
		})
	}
}

// insertIn writes row number n of one aggregate within a transaction.
func insertIn(t *testing.T, tx pgx.Tx, n int) {
	t.Helper()
	_, err := tx.Exec(t.Context(), "insert into outbox (aggregatetype, aggregateid, type, payload) "+
		"values ('order', 'o1', 't', jsonb_build_object('n', $1::int))", n)
	require.NoError(t, err)
}

func TestRolledBackRowsAreNeverPublished(t *testing.T) {
	t.Parallel()
	r := newRig(t, outboxTable)
	p := r.startReady()
	tx, err := r.db.Begin(t.Context())
	require.NoError(t, err)
	insertIn(t, tx, 1)
	savepoint, err := tx.Begin(t.Context())
	require.NoError(t, err)
	insertIn(t, savepoint, 2)
	require.NoError(t, savepoint.Rollback(t.Context()))
	insertIn(t, tx, 3)
	require.NoError(t, tx.Commit(t.Context()))
	tx, err = r.db.Begin(t.Context())
	require.NoError(t, err)
	insertIn(t, tx, 4)
	require.NoError(t, tx.Rollback(t.Context()))
	r.insert("order", "o1", "t", `{"n": 5}`)

	messages := r.await(p, "order", 3)
	assert.Equal(t, map[string][]int{"o1": {1, 3, 5}}, byKey(t, messages))
}

func TestInterleavedTransactionsArriveInCommitOrder(t *testing.T) {
	t.Parallel()
	r := newRig(t, outboxTable)
	p := r.startReady()
	first, err := r.db.Begin(t.Context())
	require.NoError(t, err)
	second, err := r.open().Begin(t.Context())
	require.NoError(t, err)
	insertIn(t, first, 3) // begins first, commits second
	insertIn(t, second, 1)
	insertIn(t, second, 2)
	require.NoError(t, second.Commit(t.Context()))
	r.await(p, "order", 2)
	r.confirmed(p) // past the first row of the open transaction
	require.Equal(t, 0, p.stop())

	p = r.startReady()
	insertIn(t, first, 4)
	require.NoError(t, first.Commit(t.Context()))
	messages := r.await(p, "order", 4)
	assert.Equal(t, map[string][]int{"o1": {1, 2, 3, 4}}, byKey(t, messages))
	var sequences []string
	for _, m := range messages {
		sequences = append(sequences, header(m, "ce_sequence"))
	}
	assert.IsIncreasing(t, sequences)
}

func TestOneTransactionFeedsSeveralTopics(t *testing.T) {
	t.Parallel()
	r := newRig(t, outboxTable)
	p := r.startReady()
	r.exec(`insert into outbox (aggregatetype, aggregateid, type, payload)
		select case n % 3 when 0 then 'order' when 1 then 'customer' else 'invoice' end, ` +
		`'a' || n % 4, 't', jsonb_build_object('n', n) from generate_series(1, 300) n`)
	for _, aggregateType := range []string{"order", "customer", "invoice"} {
		for key, numbers := range byKey(t, r.await(p, aggregateType, 100)) {
			assert.IsIncreasing(t, numbers, key)
		}
	}
}

func TestIdlePositionIsConfirmed(t *testing.T) {
	t.Parallel()
	r := newRig(t, outboxTable)
	r.exec("create table other (n int)")
	p := r.startReady()
	r.exec("insert into other select generate_series(1, 10000)") // the publication sees nothing of it
	r.exec("update other set n = n + 1")
	r.confirmed(p)
}
