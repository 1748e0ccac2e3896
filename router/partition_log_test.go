package router

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/replication"
)

// commits returns a run of acknowledged records whose last record has this
// commit.
func commits(base, end int64, commit replication.LSN) run {
	return run{base: base, end: end, last: replication.Position{Commit: commit, Ordinal: 1}}
}

func TestMarkAt(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		found FoundPartition
		runs  []run
		want  map[replication.LSN]int64 // marks at checkpoints, each checked independently
	}{
		{name: "new", want: map[replication.LSN]int64{0: 0, 99: 0}},
		{name: "nothing written yet", found: FoundPartition{Mark: 7, End: 7}, want: map[replication.LSN]int64{0: 7, 99: 7}},
		{
			name: "some", runs: []run{commits(0, 5, 10), commits(5, 6, 20), commits(6, 9, 30)},
			want: map[replication.LSN]int64{0: 0, 10: 0, 11: 5, 20: 5, 21: 6, 30: 6, 31: 9, 99: 9},
		},
		{
			name: "others write in between", runs: []run{commits(10, 15, 10), commits(40, 41, 20), commits(90, 95, 30)},
			want: map[replication.LSN]int64{0: 10, 11: 40, 21: 90, 31: 95},
		},
		{
			name: "read back", found: FoundPartition{Mark: 100, End: 200, Last: replication.Position{Commit: 15, Ordinal: 2}},
			runs: []run{commits(200, 210, 20)},
			want: map[replication.LSN]int64{0: 100, 15: 100, 16: 200, 21: 210},
		},
		{
			name: "read back, nothing of ours", found: FoundPartition{Mark: 100, End: 200}, runs: []run{commits(250, 260, 20)},
			want: map[replication.LSN]int64{1: 250, 20: 250, 21: 260},
		},
		{
			name: "one acknowledged late", runs: []run{commits(0, 5, 10), commits(8, 9, 30), commits(5, 8, 20)},
			want: map[replication.LSN]int64{0: 0, 11: 5, 20: 5, 21: 8, 31: 8},
		},
		{
			name: "one without offset", runs: []run{commits(0, 5, 10), commits(-1, 2, 20), commits(8, 9, 30)},
			want: map[replication.LSN]int64{0: 0, 11: 0, 20: 0, 21: 8, 31: 9},
		},
		{
			name: "only ones without offset", runs: []run{commits(-1, 99, 10), commits(-1, 99, 20)},
			want: map[replication.LSN]int64{0: 0, 11: 0, 21: 0},
		},
		{
			name: "the log goes back", runs: []run{commits(0, 10, 10), commits(10, 20, 20), commits(20, 30, 30), commits(10, 15, 40)},
			want: map[replication.LSN]int64{0: 0, 11: 10, 21: 10, 31: 10, 40: 10, 41: 15},
		},
		{
			name: "to its beginning", runs: []run{commits(50, 60, 10), commits(0, 1, 20)},
			want: map[replication.LSN]int64{0: 0, 11: 0, 20: 0, 21: 1},
		},
	} {
		for checkpoint, want := range test.want {
			l := newPartitionLog(test.found)
			for _, w := range test.runs {
				l.add(w)
			}
			assert.Equal(t, want, l.markAt(checkpoint), "%s, at %d", test.name, checkpoint)
			assert.Equal(t, want, l.markAt(checkpoint), "%s, at %d again", test.name, checkpoint)
		}
	}
}

func TestLogGoesBack(t *testing.T) {
	t.Parallel()
	l := newPartitionLog(FoundPartition{Mark: 5, End: 20})
	assert.LessOrEqual(t, l.add(commits(20, 30, 1)), int64(0))
	assert.LessOrEqual(t, l.add(commits(35, 40, 2)), int64(0), "others write as well")
	assert.LessOrEqual(t, l.add(commits(-1, 4, 3)), int64(0), "nothing is known")
	assert.EqualValues(t, 10, l.add(commits(30, 31, 4)))
	assert.EqualValues(t, 31, l.add(commits(0, 3, 5)))
	assert.Zero(t, l.mark)
}

// However many batches are above a checkpoint, the remembered runs are bounded
// and never wrong.
func TestLogIsBounded(t *testing.T) {
	t.Parallel()
	var l partitionLog
	for n := range int64(100_000) {
		l.add(commits(3*n, 3*n+2, replication.LSN(n)))
		require.Less(t, len(l.above), mostRuns)
	}
	for _, n := range []int64{0, 1, 777, 50_000, 99_990, 99_999} {
		mark := l.markAt(replication.LSN(n))
		require.LessOrEqual(t, mark, 3*n, "at %d", n)
	}
	require.GreaterOrEqual(t, l.mark, int64(3*99_000), "new records are known precisely")
	require.EqualValues(t, 3*99_999+2, l.markAt(100_000))
}

// logModel is a partition as the broker has it.
type logModel struct {
	commits []replication.LSN // of the stream's records by offset; 0 is a record of another writer
	next    replication.LSN   // of the next commit
}

// write appends a batch of n records of the stream, each its own commit, and
// returns how it is acknowledged.
func (m *logModel) write(n int) run {
	base := int64(len(m.commits))
	for range n {
		m.next++
		m.commits = append(m.commits, m.next)
	}
	return commits(base, base+int64(n), m.next)
}

// FuzzLog compares marks with the real places of the records. No record of the
// stream above the checkpoint may be below the mark. That holds for any order
// of acknowledgements, whatever the broker leaves out, and even when it loses
// the end of the partition.
func FuzzLog(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 3, 0, 2, 5, 1, 0, 4, 5, 9})
	f.Add([]byte{0, 9, 0, 9, 0, 9, 4, 1, 0, 5, 5, 28, 3, 200, 0, 1, 5, 255})
	f.Add([]byte{1, 3, 2, 5, 0, 1, 5, 3, 5, 4, 3, 9, 5, 8, 6, 255, 5, 90, 6, 255, 5, 200})
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 400 {
			t.Skip("long enough")
		}
		m, l, checkpoint := &logModel{}, partitionLog{}, replication.LSN(0)
		check := func(before int64, wentBack bool) {
			require.Less(t, len(l.above), mostRuns)
			if !wentBack {
				require.GreaterOrEqual(t, l.mark, before, "the mark goes back")
			}
			for offset, commit := range m.commits[:min(int64(len(m.commits)), l.mark)] {
				if commit != 0 {
					require.Less(t, commit, checkpoint, "offset %d is below the mark %d", offset, l.mark)
				}
			}
		}
		// cut: the partition has gone back, and no answer has shown it yet.
		wentBack, cut := false, false
		for len(data) >= 2 {
			op, n := data[0]%7, int(data[1])
			data = data[2:]
			before := l.mark
			if op == 1 && cut {
				op = 0 // what no answer says cannot be known
			}
			switch op {
			case 0:
				l.add(m.write(1 + n%20))
				cut = false
			case 1: // the broker does not say where it is
				w := m.write(1 + n%20)
				l.add(run{base: -1, end: w.end - w.base - 1, last: w.last})
			case 2: // sent again, and acknowledged after later batches
				first, second := m.write(1+n%5), m.write(1+n/5%5)
				l.add(second)
				l.add(first)
				cut = false
			case 3: // others write
				m.commits = append(m.commits, make([]replication.LSN, n)...)
			case 4: // the broker loses the end
				end := max(0, len(m.commits)-n)
				wentBack, cut = wentBack || end < len(m.commits), cut || end < len(m.commits)
				m.commits = m.commits[:end]
			case 5: // everything written is acknowledged, so a checkpoint may be anywhere
				checkpoint = min(m.next+1, checkpoint+replication.LSN(n))
				mark := l.markAt(checkpoint)
				require.Equal(t, l.mark, mark)
			default: // very many batches
				for range n {
					l.add(m.write(1))
					cut = false
				}
			}
			// Until something is acknowledged after the cut, a mark may be too
			// high: no record of the stream is there.
			check(before, wentBack && op != 5)
		}
	})
}
