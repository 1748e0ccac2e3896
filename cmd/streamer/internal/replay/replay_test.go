package replay

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/pipeline"
	"github.com/outboxstream/streamer/replication"
)

func TestBeginAt(t *testing.T) {
	t.Parallel()
	now := time.Now()
	stream := checkpoint.Record{LSN: 1000, Past: []checkpoint.Moment{
		{At: now.Add(-3 * time.Hour), LSN: 100},
		{At: now.Add(-2 * time.Hour), LSN: 200},
		{At: now.Add(-time.Hour), LSN: 300},
		{At: now, LSN: 1000},
	}}
	planned := func(from string) *replay {
		return &replay{Command: Command{From: from}, rewind: &replication.Slot{Name: "s_rewind", Confirmed: 200}, stream: stream}
	}
	for from, want := range map[string]replication.LSN{
		"beginning": 200, "0/C8": 200, "0/12C": 300, "0/3E8": 1000,
		"1h30m": 200, "59m": 300, "60m": 200, // a minute of tolerance
		"2h": 200, // no earlier than what is kept
	} {
		at, err := planned(from).beginAt(time.Now())
		if assert.NoError(t, err, from) {
			assert.Equal(t, want, at, from)
		}
	}
	for from, class := range map[string]failure.Class{
		"0/C7": failure.Refused, "0/3E9": failure.Misconfigured, "3h": failure.Refused, "x": failure.Misconfigured,
	} {
		_, err := planned(from).beginAt(time.Now())
		require.Error(t, err, from)
		assert.Equal(t, class, failure.ClassOf(err), from)
	}
	stream.Past = nil
	_, err := planned("1m").beginAt(time.Now())
	assert.Equal(t, failure.Refused, failure.ClassOf(err), "since when it is kept is not known")
}

func TestEndAt(t *testing.T) {
	t.Parallel()
	planned := func(to string) *replay {
		return &replay{Command: Command{To: to}, stream: checkpoint.Record{LSN: 1000}}
	}
	for to, want := range map[string]replication.LSN{"": 1000, "10m": 1000, "0/64": 100, "0/3E8": 1000} {
		at, err := planned(to).endAt(time.Now())
		require.NoError(t, err, to)
		assert.Equal(t, want, at, to)
	}
	for _, to := range []string{"0/3E9", "x"} {
		_, err := planned(to).endAt(time.Now())
		assert.Equal(t, failure.Misconfigured, failure.ClassOf(err), to)
	}
}

func TestProgressLine(t *testing.T) {
	t.Parallel()
	g := newReplayProgress(&pipeline.Replay{ID: "r", From: 1000, Until: 2000}, console.Streams{})
	g.metrics.events.Store(500)
	assert.Equal(t, "streamer: replay r: 500 events, 50/s", g.line(0, 0, 0, 10*time.Second))
	assert.Equal(t, "streamer: replay r: 500 events, 50/s, at 0/5DC (50 %), done in 10 s", g.line(1500, 1000, 10*time.Second, 10*time.Second))
	assert.Equal(t, "streamer: replay r: 500 events, 50/s, at 0/7D0 (100 %)", g.line(2000, 1000, 10*time.Second, 10*time.Second))
}

// A duration counts from when the replay began, not from when it continues.
func TestInterruptedReplayKeepsItsTimes(t *testing.T) {
	t.Parallel()
	began := time.Now().Add(-time.Hour).UTC().Truncate(time.Millisecond)
	r := &replay{
		Command: Command{From: "2h", To: "10m"}, left: &replication.Slot{Name: "s_replay"},
	}
	r.record = &checkpoint.Record{LSN: 150, Replay: &checkpoint.Replay{ID: replayID(began), Request: r.request(), From: "0/64", Until: "0/C8"}}
	plan, err := r.resume(t.Context())
	require.NoError(t, err)
	assert.Equal(t, r.record.Replay.ID, plan.ID)
	assert.Equal(t, began.Add(-2*time.Hour), plan.Since)
	assert.Equal(t, began.Add(-10*time.Minute), plan.Before)
	assert.EqualValues(t, 100, plan.From)
	assert.EqualValues(t, 200, plan.Until)
	r.record.Replay.ID = "of another kind"
	_, err = r.resume(t.Context())
	assert.ErrorContains(t, err, "of another kind")
}
