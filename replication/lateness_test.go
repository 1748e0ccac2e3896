package replication

import (
	"encoding/binary"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// sentAfter is a stream with one message, sent the given delay after the moment
// that a Begin message names.
func sentAfter(delay time.Duration, kind byte) *Stream {
	const commit = 800_000_000_000_000 // microseconds since 2000
	body := append([]byte{'w'}, make([]byte, 16)...)
	body = binary.BigEndian.AppendUint64(body, uint64(commit+delay.Microseconds()))
	body = append(append(body, kind), make([]byte, 8)...)
	body = binary.BigEndian.AppendUint64(body, commit)
	s := scripted(frame{'d', string(append(body, 0, 0, 0, 1))}.wire())
	s.config.BulkReads, s.config.SenderTimeout = true, time.Minute
	s.lastReceived = time.Now()
	return s
}

// A late server is left alone for a moment, once.
func TestLateServer(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		delay    time.Duration
		kind     byte
		off      bool
		lastRead int
		want     time.Duration
	}{
		"late":                    {delay: 6 * time.Millisecond, kind: 'B', want: catchBreath},
		"in time":                 {delay: 5 * time.Millisecond, kind: 'B'},
		"its clock was set back":  {delay: -time.Hour, kind: 'B'},
		"not the begin of one":    {delay: time.Hour, kind: 'I'},
		"much comes at once":      {delay: time.Hour, kind: 'B', lastRead: flowing},
		"bulk reads switched off": {delay: time.Hour, kind: 'B', off: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := sentAfter(test.delay, test.kind)
				s.config.BulkReads = !test.off
				for {
					m, err := s.Next()
					require.NoError(t, err)
					if m.Kind == Data {
						break
					}
					require.NoError(t, s.frames.fill())
				}
				for _, want := range []time.Duration{test.want, 0} {
					s.pending = true // Wait returns without reading
					s.frames.lastRead = test.lastRead
					before := time.Now()
					require.NoError(t, s.Wait(time.Now()))
					assert.Equal(t, want, time.Since(before))
				}
			})
		})
	}
}

// A message that is too short is ignored.
func TestLateShortMessage(t *testing.T) {
	t.Parallel()
	var l lateness
	l.begun(make([]byte, 8), []byte("B\x00"))
	assert.False(t, l.late)
}
