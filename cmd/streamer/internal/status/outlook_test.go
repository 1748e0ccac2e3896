package status

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestOutlook(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	safe := int64(36 << 30)
	over := int64(-5 << 20)
	used := func(s *Report) *Report {
		s.Slot.Active = true
		return s
	}
	look := func(seconds int, lag int64, safe *int64) *Report {
		return &Report{
			At:   start.Add(time.Duration(seconds) * time.Second),
			Slot: &Slot{Lag: lag, RetainedWAL: lag, SafeWALSize: safe, Flushed: "A/0"},
		}
	}
	saved := func(s *Report, lsn string, ago time.Duration) *Report {
		s.Checkpoint = &Checkpoint{LSN: lsn, SavedAt: s.At.Add(-ago)}
		return s
	}
	for name, test := range map[string]struct {
		now, before *Report
		want        string
	}{
		"no slot":                   {now: &Report{}},
		"lost":                      {now: &Report{Slot: &Slot{Lost: true, Lag: 1 << 40}}},
		"first look, near the end":  {now: look(0, 1<<20, nil)},
		"first look, no checkpoint": {now: look(0, 1<<30, nil)},
		"first look, at work": {
			now:  used(saved(look(0, 1<<30, nil), "9/F0000000", time.Second)),
			want: "a streamer is at work; `streamer status --watch` shows whether it catches up",
		},
		"first look, stopped": {
			now:  saved(look(0, 1<<30, &safe), "9/C0000000", 1024*time.Second),
			want: "keeps 1.0 MiB/s more: lost in 10 h 14 min",
		},
		"first look, stopped, no limit": {
			now:  saved(look(0, 1<<30, nil), "9/C0000000", 1024*time.Second),
			want: "keeps 1.0 MiB/s more until the disk is full: max_slot_wal_keep_size sets no limit",
		},
		"first look, stopped just now": {
			now:  saved(look(0, 1<<30, &safe), "9/F8000000", 2*time.Second),
			want: "keeps 64.0 MiB/s more: lost in 9 min 36 s",
		},
		"over the limit": {
			now: look(2, 1<<30, &over), before: look(0, 1<<30, &over),
			want: "over the limit: lost at the server's next checkpoint, unless it is read now",
		},
		"first look, checkpoint of future": {now: saved(look(0, 1<<30, nil), "9/C0000000", -time.Second)},
		"first look, ahead of the log":     {now: saved(look(0, 1<<30, nil), "B/0", time.Hour)},
		"keeps up":                         {now: look(2, 1<<20, nil), before: look(0, 2<<20, nil), want: "keeps up"},
		"catching up": {
			now: look(2, 1<<30, nil), before: look(0, 1<<30+200<<20, nil),
			want: "catching up by 100.0 MiB/s, done in 10 s",
		},
		"falling behind": {
			now: look(2, 1<<30, &safe), before: look(0, 1<<30-6<<20, &safe),
			want: "keeps 3.0 MiB/s more: lost in 3 h 24 min",
		},
		"standing still":  {now: look(2, 1<<30, &safe), before: look(0, 1<<30, &safe), want: "stands still"},
		"the same moment": {now: look(0, 1<<20, nil), before: look(0, 1<<20, nil)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, test.want, test.now.outlook(test.before))
		})
	}
}

func TestRate(t *testing.T) {
	t.Parallel()
	at := func(seconds int, events int64) *Report {
		return &Report{At: time.Unix(int64(seconds), 0), Streamer: &Streamer{Topics: map[string]Topic{"a": {Events: events}, "b": {Events: 1}}}}
	}
	assert.Nil(t, at(1, 5).rate(nil))
	assert.Nil(t, at(1, 5).rate(&Report{}))
	assert.Nil(t, (&Report{At: time.Unix(9, 0)}).rate(at(1, 5)))
	assert.Nil(t, at(3, 4).rate(at(1, 5)), "the process was restarted")
	got := at(3, 25).rate(at(1, 5))
	if assert.NotNil(t, got) {
		assert.InDelta(t, 10, *got, 1e-9)
	}
}
