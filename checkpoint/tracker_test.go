package checkpoint

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pglogrepl"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "rewrite the expected positions in testdata")

func TestTracker(t *testing.T) {
	t.Parallel()
	const start LSN = 100
	// event counts an event in a separate batch.
	event := func(tracker *Tracker) Ticket {
		ticket := tracker.Open()
		tracker.Add()
		return ticket
	}
	for name, test := range map[string]func(*assert.Assertions, *Tracker){
		"a new tracker confirms the checkpoint": func(check *assert.Assertions, tr *Tracker) {
			check.Equal(start, tr.Confirmed())
			check.True(tr.Idle())
		},
		"a mark with nothing in flight is confirmed at once": func(check *assert.Assertions, tr *Tracker) {
			tr.Mark(110)
			check.EqualValues(110, tr.Confirmed())
		},
		"an acknowledged event is not confirmed before its transaction ends": func(check *assert.Assertions, tr *Tracker) {
			tr.Finish(event(tr))
			check.Equal(start, tr.Confirmed())
			tr.Mark(110)
			check.EqualValues(110, tr.Confirmed())
		},
		"the end of a transaction is not confirmed before its event is acknowledged": func(check *assert.Assertions, tr *Tracker) {
			ticket := event(tr)
			tr.Mark(110)
			check.Equal(start, tr.Confirmed())
			check.False(tr.Idle())
			tr.Finish(ticket)
			check.EqualValues(110, tr.Confirmed())
			check.True(tr.Idle())
		},
		"the oldest batch holds back what was acknowledged behind it": func(check *assert.Assertions, tr *Tracker) {
			first := event(tr)
			tr.Mark(110)
			second := event(tr)
			tr.Mark(120)
			tr.Finish(second)
			check.Equal(start, tr.Confirmed())
			tr.Finish(first)
			check.EqualValues(120, tr.Confirmed())
		},
		"a batch with events of two transactions holds back both": func(check *assert.Assertions, tr *Tracker) {
			ticket := event(tr)
			tr.Mark(110)
			tr.Add()
			tr.Mark(120)
			check.Equal(start, tr.Confirmed())
			tr.Finish(ticket)
			check.EqualValues(120, tr.Confirmed())
		},
		"a mark is confirmed while a batch that began right behind it is in flight": func(check *assert.Assertions, tr *Tracker) {
			first := event(tr)
			tr.Mark(110)
			event(tr)
			tr.Finish(first)
			check.EqualValues(110, tr.Confirmed())
		},
		"marks do not coalesce over the beginning of a batch": func(check *assert.Assertions, tr *Tracker) {
			first := event(tr)
			tr.Mark(110)
			second := event(tr)
			tr.Mark(120)
			tr.Add() // another event of the second batch
			tr.Mark(130)
			tr.Finish(first)
			check.EqualValues(110, tr.Confirmed(), "neither 120 nor 130")
			tr.Finish(second)
			check.EqualValues(130, tr.Confirmed())
		},
		"a transaction without events extends the mark before it": func(check *assert.Assertions, tr *Tracker) {
			first := event(tr)
			tr.Mark(110)
			tr.Mark(115)
			event(tr)
			tr.Mark(120)
			tr.Finish(first)
			check.EqualValues(115, tr.Confirmed())
		},
		"positions that do not rise are ignored": func(check *assert.Assertions, tr *Tracker) {
			tr.Mark(90)
			tr.Mark(0)
			check.Equal(start, tr.Confirmed())
			ticket := event(tr)
			tr.Mark(120)
			tr.Mark(110)
			tr.Finish(ticket)
			check.EqualValues(120, tr.Confirmed())
		},
		"an open batch without an event confirms nothing behind it": func(check *assert.Assertions, tr *Tracker) {
			empty := tr.Open()
			other := event(tr)
			tr.Mark(110)
			tr.Finish(other)
			check.Equal(start, tr.Confirmed())
			tr.Finish(empty)
			check.EqualValues(110, tr.Confirmed())
		},
		"a ticket finished twice finishes nobody else's batch": func(check *assert.Assertions, tr *Tracker) {
			first := event(tr)
			tr.Mark(110)
			tr.Finish(first)
			for range 16 { // fills the ring, where the place of the first is reused
				event(tr)
			}
			tr.Mark(120)
			tr.Finish(first)
			check.EqualValues(110, tr.Confirmed())
			check.Equal(0, tr.finished)
		},
		"a ticket that was never opened is ignored": func(check *assert.Assertions, tr *Tracker) {
			tr.Finish(0)
			event(tr)
			tr.Mark(110)
			tr.Finish(16)
			tr.Finish(1 << 63)
			check.Equal(start, tr.Confirmed())
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(assert.New(t), NewTracker(start))
		})
	}
}

func TestTrackerMemory(t *testing.T) {
	t.Parallel()
	t.Run("a partition that stands still costs nothing for the others", func(t *testing.T) {
		t.Parallel()
		tr := NewTracker(0)
		stuck := tr.Open()
		tr.Add()
		for i := range LSN(1_000_000) {
			ticket := tr.Open()
			tr.Add()
			tr.Mark(i + 1)
			tr.Finish(ticket)
		}
		assert.Zero(t, tr.Confirmed())
		assert.LessOrEqual(t, len(tr.batches.items)+len(tr.marks.items), 32)
		tr.Finish(stuck)
		assert.EqualValues(t, 1_000_000, tr.Confirmed())
	})
	t.Run("idle positions cost nothing while nothing is acknowledged", func(t *testing.T) {
		t.Parallel()
		tr := NewTracker(0)
		tr.Open()
		tr.Add()
		tr.Open()
		for i := range LSN(1000) {
			tr.Mark(i + 1)
		}
		assert.Equal(t, 1, tr.marks.len())
	})
	t.Run("transactions inside one batch cost nothing", func(t *testing.T) {
		t.Parallel()
		tr := NewTracker(0)
		ticket := tr.Open()
		for i := range LSN(1_000_000) {
			tr.Add()
			tr.Mark(i + 1)
		}
		assert.Equal(t, 1, tr.marks.len())
		tr.Finish(ticket)
		assert.EqualValues(t, 1_000_000, tr.Confirmed())
	})
}

// TestTrackerData runs the scripts in testdata/tracker. Each line is a command
// and, after the arrow, the confirmed position that results:
//
//	open a       a batch begins with the next event
//	add 3        three events are counted
//	mark 0/10    a transaction ends, or the server is idle, at this position
//	finish a     the batch is acknowledged
func TestTrackerData(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob(filepath.Join("testdata", "tracker", "*.txt"))
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			t.Parallel()
			script, err := os.ReadFile(path)
			require.NoError(t, err)
			got := runScript(t, string(script))
			if *update {
				require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
				return
			}
			assert.Equal(t, string(script), got, "run the test with -update and look at the difference")
		})
	}
}

func runScript(t *testing.T, script string) string {
	t.Helper()
	tracker, tickets := NewTracker(0), map[string]Ticket{}
	var out strings.Builder
	for line := range strings.Lines(script) {
		command, _, _ := strings.Cut(strings.TrimSpace(line), "->")
		words := strings.Fields(command)
		if len(words) == 0 || words[0] == "#" {
			out.WriteString(line)
			continue
		}
		require.Len(t, words, 2, line)
		runCommand(t, tracker, tickets, words[0], words[1])
		fmt.Fprintf(&out, "%-12s -> %s\n", strings.Join(words, " "), tracker.Confirmed())
	}
	return out.String()
}

func runCommand(t *testing.T, tracker *Tracker, tickets map[string]Ticket, command, argument string) {
	t.Helper()
	switch command {
	case "open":
		require.NotContains(t, tickets, argument)
		tickets[argument] = tracker.Open()
	case "add":
		n, err := strconv.Atoi(argument)
		require.NoError(t, err)
		for range n {
			tracker.Add()
		}
	case "mark":
		lsn, err := pglogrepl.ParseLSN(argument)
		require.NoError(t, err)
		tracker.Mark(lsn)
	case "finish":
		require.Contains(t, tickets, argument)
		tracker.Finish(tickets[argument])
	default:
		t.Fatalf("unknown command %q", command)
	}
}

// BenchmarkTracker is a transaction of ten events over eight partitions.
// Batches hold about a hundred events and are acknowledged out of order, with
// up to forty in flight. One op is one event.
func BenchmarkTracker(b *testing.B) {
	const partitions, batchEvents, inFlight = 8, 100, 40
	random := rand.New(rand.NewPCG(1, 2))
	tracker := NewTracker(0)
	var open [partitions]Ticket
	var count [partitions]int
	sent := make([]Ticket, 0, inFlight)
	lsn, n := LSN(0), 0
	b.ReportAllocs()
	for b.Loop() {
		p := n % partitions
		if count[p] == 0 {
			open[p] = tracker.Open()
		}
		tracker.Add()
		if count[p]++; count[p] == batchEvents {
			count[p] = 0
			sent = append(sent, open[p])
		}
		if len(sent) == inFlight {
			i := random.IntN(len(sent))
			tracker.Finish(sent[i])
			sent[i] = sent[len(sent)-1]
			sent = sent[:len(sent)-1]
		}
		if n++; n%10 == 0 {
			lsn += 1000
			tracker.Mark(lsn)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkTrackerBatch has one event in each batch and a mark after each
// event, the most there can be, while one batch is never acknowledged.
func BenchmarkTrackerBatch(b *testing.B) {
	tracker := NewTracker(0)
	tracker.Open()
	tracker.Add()
	lsn := LSN(0)
	b.ReportAllocs()
	for b.Loop() {
		ticket := tracker.Open()
		tracker.Add()
		lsn++
		tracker.Mark(lsn)
		tracker.Finish(ticket)
	}
}
