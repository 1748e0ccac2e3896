// Package workload defines what the benchmarks let PostgreSQL write, and writes
// it.
package workload

import (
	"fmt"
	"math"
	"time"
)

// Aggregates is the number of aggregate IDs over which events are spread.
const Aggregates = 10_000

// Workload is WAL to be published. A workload without rates is a catch-up: it
// is written while nothing reads. With rates it is written while the contender
// runs, at each rate for some time, and the latency is measured.
type Workload struct {
	Name  string
	About string
	// Rows is the number of outbox rows.
	Rows int64
	// PerTransaction is the number of outbox rows of each transaction.
	PerTransaction int64
	// PayloadBytes is the approximate size of the JSON text of a payload.
	PayloadBytes int
	// OthersPerRow is the number of rows of another table that are written with
	// each outbox row.
	OthersPerRow int
	// Types is the number of aggregate types; each has its own topic.
	Types int
	// Partitions is the number of partitions of each topic.
	Partitions int
	// Only lists the contenders, including all their variants, for which the
	// workload is meant; empty: all.
	Only []string
	// Rates are in events per second, each for Duration.
	Rates    []int
	Duration time.Duration
}

// Shapes that most workloads share.
const (
	usualPayload    = 300
	usualTypes      = 4
	usualPartitions = 2 // of each topic: 8 in all
)

// All returns the workloads of the comparison, at full size.
func All() []Workload {
	w := []Workload{
		{Name: "W1", About: "transactions of 10 rows", Rows: 1_000_000, PerTransaction: 10},
		{Name: "W2", About: "single-row transactions", Rows: 300_000, PerTransaction: 1},
		{Name: "W3", About: "one transaction", Rows: 2_000_000, PerTransaction: 2_000_000},
		{Name: "W4", About: "rows of 4 KB, 10 a transaction", Rows: 100_000, PerTransaction: 10, PayloadBytes: 4096},
		{Name: "W5", About: "10 % outbox rows among other tables' traffic, 10 a transaction", Rows: 100_000, PerTransaction: 10, OthersPerRow: 9},
		{
			Name:     "W6",
			About:    "steady rates: latency from before the insert until consumption",
			Rates:    []int{100, 1_000, 10_000},
			Duration: 20 * time.Second,
		},
		manyPartitions,
	}
	return completed(w)
}

// Sweep returns the workloads that change one parameter at a time.
func Sweep() []Workload {
	var all []Workload
	for _, size := range []int{100, 300, 1024, 4096, 16384} {
		const perTransaction = 10
		transactions := int64(min(50_000, 40_000_000/(size+600))) // not more than fits on the disk
		all = append(all, Workload{
			Name: fmt.Sprintf("row-%d", size), About: fmt.Sprintf("payloads of %d bytes", size),
			Rows: transactions * perTransaction, PerTransaction: perTransaction, PayloadBytes: size,
		})
	}
	for _, rows := range []int64{1, 10, 100, 10_000} {
		all = append(all, Workload{
			Name:           fmt.Sprintf("transaction-%d", rows),
			About:          fmt.Sprintf("transactions of %d rows", rows),
			Rows:           300_000,
			PerTransaction: rows,
		})
	}
	all = append(all,
		Workload{Name: "partitions-8", About: "8 partitions, 4 topics", Rows: manyPartitions.Rows, PerTransaction: manyPartitions.PerTransaction},
		manyPartitions)
	return completed(all)
}

// manyPartitions is W1 with as many partitions as an installation may have.
var manyPartitions = Workload{
	Name: "partitions-1000", About: "as W1, with 1,000 partitions", Only: []string{"streamer", "before", "raw-produce"},
	Rows: 1_000_000, PerTransaction: 10, Types: 50, Partitions: 20,
}

func completed(all []Workload) []Workload {
	for i := range all {
		w := &all[i]
		if w.PayloadBytes == 0 {
			w.PayloadBytes = usualPayload
		}
		if w.Types == 0 {
			w.Types = usualTypes
		}
		if w.Partitions == 0 {
			w.Partitions = usualPartitions
		}
		w.PerTransaction = max(w.PerTransaction, 1)
	}
	return all
}

// Scaled returns the workload with fewer rows and less time. Transactions keep
// their size as long as there is more than one.
func (w Workload) Scaled(scale float64) Workload {
	one := w.PerTransaction >= w.Rows
	w.Rows = int64(math.Ceil(float64(w.Rows) * scale))
	if one {
		w.PerTransaction = max(w.Rows, 1)
	}
	w.PerTransaction = min(w.PerTransaction, max(w.Rows, 1))
	w.Rows -= w.Rows % w.PerTransaction
	const shortest = 2 * time.Second
	if len(w.Rates) > 0 {
		w.Duration = max(shortest, time.Duration(float64(w.Duration)*scale))
	}
	return w
}

// Steady reports whether the workload is written while the contender runs.
func (w Workload) Steady() bool { return len(w.Rates) > 0 }

// Bytes is roughly the disk space that the workload needs: heap, index, WAL,
// and topics of one contender.
func (w Workload) Bytes() int64 {
	const perRow = 700
	return w.Rows * (4*int64(w.PayloadBytes) + perRow + int64(w.OthersPerRow)*2*usualPayload)
}

// Type returns the name of aggregate type i.
func Type(i int) string { return fmt.Sprintf("type%d", i) }

// TypeNames returns the names of all aggregate types.
func (w Workload) TypeNames() []string {
	names := make([]string, w.Types)
	for i := range names {
		names[i] = Type(i)
	}
	return names
}
