package checkpoint

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func TestMomentInJSON(t *testing.T) {
	t.Parallel()
	written, err := json.Marshal([]Moment{{noon, 0x15306C8}})
	require.NoError(t, err)
	assert.Equal(t, `["2026-11-21T12:00:00.000Z 0/15306C8"]`, string(written))
	var read []Moment
	require.NoError(t, json.Unmarshal(written, &read))
	assert.Equal(t, []Moment{{noon, 0x15306C8}}, read)
	for _, wrong := range []string{`[1]`, `["noon 0/1"]`, `["2026-11-21T12:00:00Z"]`, `["2026-11-21T12:00:00Z x"]`} {
		assert.Error(t, json.Unmarshal([]byte(wrong), &read), wrong)
	}
}

func TestRememberThinsWhatIsLongAgo(t *testing.T) {
	t.Parallel()
	const keep, spacing = 24 * time.Hour, 10 * time.Second
	var past []Moment
	at := noon
	for i := range 3 * int(keep/spacing) {
		at = at.Add(spacing)
		before := past
		past = Remember(past, Moment{at, LSN(i)}, keep)
		if len(before) > 0 {
			assert.Equal(t, noon.Location(), before[0].At.Location())
		}
	}
	assert.Less(t, len(past), 100)
	assert.Equal(t, at, past[len(past)-1].At)
	assert.GreaterOrEqual(t, at.Sub(past[0].At), keep, "one moment is older than the time to keep")
	assert.Less(t, at.Sub(past[0].At), keep*3/2)
	for age := spacing; age <= keep; age += spacing {
		m, found := Before(past, at.Add(-age))
		require.True(t, found, age)
		require.LessOrEqual(t, at.Add(-age).Sub(m.At), age/(fineness-1)+2*spacing, "something close to %s ago", age)
	}
}

func TestRememberLeavesOutWhatCannotBe(t *testing.T) {
	t.Parallel()
	past := []Moment{{noon, 10}, {noon.Add(time.Hour), 20}}
	assert.Equal(
		t, []Moment{{noon, 10}, {noon.Add(30 * time.Minute), 15}},
		Remember(past, Moment{noon.Add(30 * time.Minute), 15}, 24*time.Hour), "the clock was set back",
	)
	assert.Equal(
		t, []Moment{{noon, 10}, {noon.Add(2 * time.Hour), 15}},
		Remember(past, Moment{noon.Add(2 * time.Hour), 15}, 24*time.Hour), "the position was set back",
	)
	assert.Equal(t, []Moment{{noon, 10}, {noon.Add(time.Hour), 20}}, past, "the argument stays unchanged")
}

func TestBefore(t *testing.T) {
	t.Parallel()
	past := []Moment{{noon, 10}, {noon.Add(time.Hour), 20}}
	_, found := Before(past, noon.Add(-time.Second))
	assert.False(t, found)
	for at, want := range map[time.Duration]LSN{0: 10, time.Minute: 10, time.Hour: 20, 2 * time.Hour: 20} {
		m, found := Before(past, noon.Add(at))
		assert.True(t, found)
		assert.Equal(t, want, m.LSN)
	}
}
