package pipeline

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
)

// come passes the n-th row of a transaction to the trail.
func (t *trail) come(commit replication.LSN, n uint32) {
	at := router.Point{Position: replication.Position{Commit: commit, Ordinal: n}, Digest: uint64(commit)<<8 + uint64(n)}
	t.pass(at, []byte(rowName(commit, n)), int64(commit))
}

func rowName(commit replication.LSN, n uint32) string { return fmt.Sprintf("%s+%d", commit, n) }

// describe is a step in words: its position, and the last row below it.
func (s *step) describe() string {
	if s == nil {
		return "none"
	}
	if !s.exact {
		return fmt.Sprintf("%s after not known", s.lsn)
	}
	return fmt.Sprintf("%s after %s", s.lsn, s.event().ID)
}

// fromTheStart is where a slot without a stored checkpoint begins.
func fromTheStart() resumePoint {
	return resumeAt(checkpoint.Record{LSN: 0x1000})
}

// A checkpoint is made between two transactions, and names the last row below
// it.
func TestTrail(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		begin resumePoint
		play  func(*trail)
		below replication.LSN
		want  string
	}{
		"nothing has come by": {fromTheStart(), func(*trail) {}, 0x9000, "none"},
		"an idle position, and no row so far": {fromTheStart(), func(t *trail) {
			t.reach(0x2000)
		}, 0x9000, "0/2000 after not known"},
		"the end of a transaction": {fromTheStart(), func(t *trail) {
			t.come(0x2000, 1)
			t.come(0x2000, 2)
			t.reach(0x2040)
		}, 0x2040, "0/2040 after 0/2000+2"},
		"not within it": {fromTheStart(), func(t *trail) {
			t.come(0x2000, 1)
		}, 0x9000, "none"},
		"not before it": {fromTheStart(), func(t *trail) {
			t.come(0x2000, 1)
			t.reach(0x2040)
		}, 0x203f, "none"},
		"the last one at or below": {fromTheStart(), func(t *trail) {
			for lsn := replication.LSN(0x2000); lsn < 0x6000; lsn += 0x1000 {
				t.come(lsn, 1)
				t.reach(lsn + 0x40)
			}
		}, 0x4fff, "0/4040 after 0/4000+1"},
		"an idle position has the row of the transaction before": {fromTheStart(), func(t *trail) {
			t.come(0x2000, 1)
			t.reach(0x2040)
			t.reach(0x3000)
			t.reach(0x4000)
		}, 0x4000, "0/4000 after 0/2000+1"},
		"a transaction without a row of ours is an idle position": {fromTheStart(), func(t *trail) {
			t.come(0x2000, 1)
			t.reach(0x2040)
			t.reach(0x3040)
			t.come(0x4000, 1)
			t.reach(0x4040)
		}, 0x3040, "0/3040 after 0/2000+1"},
		"the row of the checkpoint that it began with": {
			resumeAt(checkpoint.Record{LSN: 0x2800, Exact: true, Last: &checkpoint.Event{
				Sequence: sequence(0x2000, 7), ID: "seventh", CommitTime: 3,
			}}),
			func(t *trail) { t.reach(0x3000) }, 0x3000, "0/3000 after seventh",
		},
		"a checkpoint of an older version does not know it": {
			resumeAt(checkpoint.Record{LSN: 0x2800, Last: &checkpoint.Event{Sequence: sequence(0x2000, 7), ID: "perhaps"}}),
			func(t *trail) { t.reach(0x3000) }, 0x3000, "0/3000 after not known",
		},
		"but the first row that comes by is known": {resumeAt(checkpoint.Record{LSN: 0x2800}), func(t *trail) {
			t.reach(0x2900)
			t.come(0x3000, 1)
			t.reach(0x3040)
		}, 0x3040, "0/3040 after 0/3000+1"},
		"and is not known before it": {resumeAt(checkpoint.Record{LSN: 0x2800}), func(t *trail) {
			t.reach(0x2900)
			t.come(0x3000, 1)
			t.reach(0x3040)
		}, 0x303f, "0/2900 after not known"},
		"a connection that ended within a transaction": {fromTheStart(), func(t *trail) {
			t.come(0x2000, 1)
			t.reach(0x2040)
			t.come(0x3000, 1)
			t.begin()
			t.reach(0x2800)
		}, 0x2800, "0/2800 after 0/2000+1"},
		"what comes again after it changes nothing": {fromTheStart(), func(t *trail) {
			t.come(0x2000, 1)
			t.reach(0x2040)
			t.come(0x3000, 1)
			t.reach(0x3040)
			t.begin()
			t.come(0x2000, 1)
			t.reach(0x2040)
			t.reach(0x2800)
		}, 0x9000, "0/3040 after 0/3000+1"},
		"and goes on behind it": {fromTheStart(), func(t *trail) {
			t.come(0x2000, 1)
			t.reach(0x2040)
			t.begin()
			t.come(0x2000, 1)
			t.reach(0x2040)
			t.come(0x3000, 1)
			t.reach(0x3040)
		}, 0x9000, "0/3040 after 0/3000+1"},
		"what comes again takes nothing back": {fromTheStart(), func(t *trail) {
			t.come(0x2000, 1)
			t.reach(0x2040)
			t.come(0x3000, 1)
			t.reach(0x3040)
			t.begin()
			t.come(0x2000, 1)
			t.reach(0x2040)
			t.reach(0x5000)
		}, 0x5000, "0/5000 after 0/3000+1"},
		"forgotten up to the checkpoint": {fromTheStart(), func(t *trail) {
			t.come(0x2000, 1)
			t.reach(0x2040)
			t.come(0x3000, 1)
			t.reach(0x3040)
			t.forget(0x2040)
		}, 0x2fff, "none"},
		"and not above it": {fromTheStart(), func(t *trail) {
			t.come(0x2000, 1)
			t.reach(0x2040)
			t.come(0x3000, 1)
			t.reach(0x3040)
			t.forget(0x303f)
		}, 0x3040, "0/3040 after 0/3000+1"},
		"an idle position after everything was forgotten": {fromTheStart(), func(t *trail) {
			t.come(0x2000, 1)
			t.reach(0x2040)
			t.forget(0x2040)
			t.reach(0x3000)
		}, 0x3000, "0/3000 after 0/2000+1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			trail := newTrail(test.begin)
			test.play(&trail)
			assert.Equal(t, test.want, trail.below(test.below).describe())
		})
	}
}

// naiveTrail keeps everything and searches all of it.
type naiveTrail struct {
	steps []naiveStep
	row   string
	open  string
	at    replication.LSN // everything below it has been read
}

type naiveStep struct {
	lsn replication.LSN
	row string
}

func (n *naiveTrail) reach(lsn replication.LSN) {
	if lsn <= n.at {
		n.open = ""
		return
	}
	if n.open != "" {
		n.row, n.open = n.open, ""
	}
	n.at = lsn
	if last := len(n.steps) - 1; last >= 0 && n.steps[last].row == n.row {
		n.steps[last].lsn = lsn
		return
	}
	n.steps = append(n.steps, naiveStep{lsn, n.row})
}

func (n *naiveTrail) below(lsn replication.LSN) string {
	found := "none"
	for _, s := range n.steps {
		if s.lsn <= lsn {
			found = fmt.Sprintf("%s after %s", s.lsn, s.row)
		}
	}
	return found
}

func (n *naiveTrail) forget(stored replication.LSN) {
	var kept []naiveStep
	for _, s := range n.steps {
		if s.lsn > stored {
			kept = append(kept, s)
		}
	}
	n.steps = kept
}

// Whatever is read, read again and forgotten, the trail gives the same answers
// as one that keeps everything.
func TestTrailAgainstANaiveOne(t *testing.T) {
	t.Parallel()
	for seed := range uint64(100) {
		random := rand.New(rand.NewPCG(seed, 7))
		trail, naive := newTrail(fromTheStart()), &naiveTrail{row: "not known", at: 0x1000}
		type transaction struct {
			commit replication.LSN
			rows   uint32
		}
		var wal []transaction
		next := replication.LSN(0x1000)
		read := func(x transaction, rows uint32) {
			for n := range rows {
				trail.come(x.commit, n+1)
				naive.open = rowName(x.commit, n+1)
			}
		}
		for range 200 {
			switch random.IntN(10) {
			case 0, 1, 2, 3, 4:
				x := transaction{next + replication.LSN(8*random.IntN(4)), uint32(random.IntN(4))}
				wal, next = append(wal, x), x.commit+0x40
				read(x, x.rows)
				trail.reach(next)
				naive.reach(next)
			case 5, 6:
				next += replication.LSN(8 * random.IntN(100))
				trail.reach(next)
				naive.reach(next)
			case 7: // the connection ends, possibly within a transaction that then comes completely
				x := transaction{next, 1 + uint32(random.IntN(4))}
				read(x, uint32(random.IntN(int(x.rows)+1)))
				trail.begin()
				naive.open = ""
				for _, again := range wal[random.IntN(len(wal)+1):] {
					read(again, again.rows)
					trail.reach(again.commit + 0x40)
					naive.reach(again.commit + 0x40)
				}
			case 8:
				stored := next - replication.LSN(random.IntN(0x400))
				trail.forget(stored)
				naive.forget(stored)
			}
			for range 5 {
				at := next + 0x40 - replication.LSN(random.IntN(0x1000))
				require.Equal(t, naive.below(at), trail.below(at).describe(), "seed %d at %s", seed, at)
			}
		}
	}
}

// However far the checkpoint lags behind, the trail stays short. Its strides
// become larger, but the newest step and the rows stay exact.
func TestTrailIsThinned(t *testing.T) {
	t.Parallel()
	trail := newTrail(fromTheStart())
	commit := func(i int) replication.LSN { return replication.LSN(0x2000 + 0x100*i) }
	for i := range 10 * longestTrail {
		trail.come(commit(i), 1)
		trail.reach(commit(i) + 0x40)
		require.LessOrEqual(t, len(trail.steps), longestTrail)
		youngest := trail.below(commit(i) + 0x40)
		require.Equal(t, commit(i)+0x40, youngest.lsn)
		require.Equal(t, rowName(commit(i), 1), string(youngest.eventID))
	}
	const longest = 16 // transactions between two steps
	previous := replication.LSN(0)
	for i := range 10 * longestTrail {
		s := trail.below(commit(i) + 0x40)
		if s == nil {
			require.Less(t, i, longest, "the oldest step is dropped, and no other")
			continue
		}
		require.LessOrEqual(t, s.lsn, commit(i)+0x40)
		require.GreaterOrEqual(t, s.lsn, previous)
		require.Equal(t, s.lsn-0x40, s.point.Position.Commit, "its own row, not that of a dropped step")
		require.Equal(t, rowName(s.lsn-0x40, 1), string(s.eventID))
		require.True(t, s.exact)
		require.Less(t, commit(i)+0x40-s.lsn, replication.LSN(0x100*longest), "strides are even")
		previous = s.lsn
	}
	require.Equal(t, commit(10*longestTrail-1)+0x40, previous, "the newest step is not dropped")
	trail.forget(previous)
	for i := 10 * longestTrail; i < 10*longestTrail+10; i++ { // each forgets the one before
		trail.come(commit(i), 1)
		trail.reach(commit(i) + 0x40)
		trail.forget(commit(i-1) + 0x40)
	}
	trail.come(commit(10*longestTrail+10), 1)
	trail.reach(commit(10*longestTrail+10) + 0x40)
	require.Len(t, trail.steps, 2, "strides are short again")
}

// Once it has grown, the trail allocates nothing: it is on the path of every
// event. The test is not parallel, because it counts the allocations of the
// whole process.
func TestTrailAllocatesNothing(t *testing.T) {
	trail := newTrail(fromTheStart())
	id := []byte("0123456789")
	lsn := replication.LSN(0x2000)
	round := func() {
		for range longestTrail + 10 {
			trail.pass(router.Point{Position: replication.Position{Commit: lsn, Ordinal: 1}}, id, int64(lsn))
			trail.reach(lsn + 0x40)
			lsn += 0x100
		}
		trail.forget(lsn - 0x800)
	}
	round()
	assert.Zero(t, testing.AllocsPerRun(10, round))
}
