package console

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/failure"
)

var every = []Kind{Beginning, End, AtLSN, AtTime, AtOffset}

func TestParsePosition(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	at := func(month time.Month, day, hour, minute, second int) Position {
		return Position{Kind: AtTime, Time: time.Date(2026, month, day, hour, minute, second, 0, time.UTC)}
	}
	for text, want := range map[string]Position{
		"":          {},
		"beginning": {Kind: Beginning}, "end": {Kind: End},
		"0/15306C8": {Kind: AtLSN, LSN: 0x15306C8}, "1/0": {Kind: AtLSN, LSN: 1 << 32},
		"17": {Kind: AtOffset, Offset: 17}, "2026": {Kind: AtOffset, Offset: 2026},
		"90m": at(11, 21, 10, 30, 0), "-90m": at(11, 21, 10, 30, 0),
		"2026-11-20T14:30:00Z": at(11, 20, 14, 30, 0), "2026-11-20T14:30:00+01:00": at(11, 20, 13, 30, 0),
		"2026-11-20 14:30": at(11, 20, 14, 30, 0), "2026-11-20 14:30:05": at(11, 20, 14, 30, 5), "2026-11-20": at(11, 20, 0, 0, 0),
	} {
		got, err := ParsePosition("--from", text, now, every...)
		require.NoError(t, err, text)
		got.Time = got.Time.UTC()
		want.Time = want.Time.UTC()
		assert.Equal(t, want, got, text)
	}
	for _, text := range []string{"yesterday", "14:30", "0/0", "-1", "1.5", "Beginning"} {
		_, err := ParsePosition("--from", text, now, every...)
		assert.Equal(t, failure.Misconfigured, failure.ClassOf(err), text)
		assert.EqualError(t, err, "--from "+text+": write an LSN such as 0/15306C8, "+
			"a time such as 2026-11-21T14:30:00Z, a duration such as 90m, an offset, beginning, or end")
	}
}

func TestParsePositionTakesWhatItIsAskedTo(t *testing.T) {
	t.Parallel()
	texts := map[Kind]string{Beginning: "beginning", End: "end", AtLSN: "0/1", AtTime: "1h", AtOffset: "1"}
	for _, taken := range every {
		for kind, text := range texts {
			got, err := ParsePosition("--to", text, time.Now(), taken)
			if kind == taken {
				assert.Equal(t, kind, got.Kind)
			} else {
				assert.Error(t, err, text)
			}
		}
	}
}
