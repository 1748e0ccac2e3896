package workload

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestScaled(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name               string
		workload           Workload
		scale              float64
		rows, transactions int64
		duration           time.Duration
	}{
		{name: "as it is", workload: Workload{Rows: 1000, PerTransaction: 10}, scale: 1, rows: 1000, transactions: 100},
		{name: "transactions keep their size", workload: Workload{Rows: 1000, PerTransaction: 10}, scale: 0.1, rows: 100, transactions: 10},
		{name: "no half transactions", workload: Workload{Rows: 1000, PerTransaction: 10}, scale: 0.015, rows: 10, transactions: 1},
		{name: "never empty", workload: Workload{Rows: 1000, PerTransaction: 10}, scale: 0.0001, rows: 1, transactions: 1},
		{name: "one transaction stays one", workload: Workload{Rows: 1000, PerTransaction: 1000}, scale: 0.1, rows: 100, transactions: 1},
		{
			name:     "steady",
			workload: Workload{PerTransaction: 1, Rates: []int{100}, Duration: 30 * time.Second},
			scale:    0.5,
			duration: 15 * time.Second,
		},
		{
			name:     "steady, but not too short",
			workload: Workload{PerTransaction: 1, Rates: []int{100}, Duration: 30 * time.Second},
			scale:    0.001,
			duration: 2 * time.Second,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := test.workload.Scaled(test.scale)
			assert.Equal(t, test.rows, got.Rows)
			assert.Equal(t, test.transactions, got.Rows/got.PerTransaction)
			assert.Equal(t, test.duration, got.Duration)
		})
	}
}

func TestWorkloadsAreComplete(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for _, w := range append(All(), Sweep()...) {
		assert.False(t, names[w.Name] && w.Name != manyPartitions.Name, "%s occurs twice", w.Name)
		names[w.Name] = true
		assert.NotEmpty(t, w.About, w.Name)
		assert.Positive(t, w.PayloadBytes, w.Name)
		assert.Positive(t, w.Types, w.Name)
		assert.Positive(t, w.Partitions, w.Name)
		assert.Equal(t, w.Steady(), w.Rows == 0, "%s has either rows or rates", w.Name)
		if !w.Steady() {
			assert.Zero(t, w.Rows%w.PerTransaction, "%s has half a transaction", w.Name)
			assert.Greater(t, w.Bytes(), w.Rows*int64(w.PayloadBytes), w.Name)
		}
	}
	many := Sweep()[len(Sweep())-1]
	assert.Equal(t, manyPartitions.Name, many.Name)
	assert.Equal(t, 1000, many.Types*many.Partitions)
}

func TestClock(t *testing.T) {
	t.Parallel()
	clock := NewClock(100, 40)
	made := map[int64]int64{}
	maker := func(got map[int64]int64) Make {
		return func(_ context.Context, n, rows int64) error {
			got[n] = rows
			return nil
		}
	}
	other := map[int64]int64{}
	const fast = 1_000_000 // 10 rows per transaction, with negligible waiting
	require.NoError(t, clock.Steadily(t.Context(), fast, []Make{maker(made), maker(other)}))
	assert.Equal(t, map[int64]int64{100: 10, 120: 10}, made, "every second transaction")
	assert.Equal(t, map[int64]int64{110: 10, 130: 10}, other)

	for _, n := range []int64{99, 140} {
		_, expected := clock.Since(n, time.Now())
		assert.False(t, expected, "event %d", n)
	}
	took, expected := clock.Since(139, time.Now().Add(time.Hour))
	assert.True(t, expected)
	assert.InDelta(t, time.Hour, took, float64(time.Minute))
}
