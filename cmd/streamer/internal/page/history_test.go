package page

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/ops"
	"github.com/outboxstream/streamer/internal/pipeline"
)

// One hour is kept, and no more.
func TestHistoryIsBounded(t *testing.T) {
	t.Parallel()
	s := healthy()
	p := New(about(), s.sources())
	began := p.history.started
	for n := range 3 * kept {
		p.tick(began.Add(time.Duration(n) * sampleEvery))
	}
	samples := p.history.samples()
	require.Len(t, samples, kept)
	assert.Equal(t, time.Hour-sampleEvery, samples[kept-1].at.Sub(samples[0].at))
	assert.LessOrEqual(t, len(p.history.counts), 4)
}

// A peak of the lag between two samples is in the picture.
func TestShortPeakIsSeen(t *testing.T) {
	t.Parallel()
	s := healthy()
	p := New(about(), s.sources())
	now := p.history.started
	for n := range 12 {
		s.change(func(s *streamer) {
			s.lag = 0
			if n == 7 {
				s.lag = 9 * time.Second
			}
		})
		p.tick(now.Add(time.Duration(n) * time.Second))
	}
	samples := p.history.samples()
	require.Len(t, samples, 2)
	assert.Equal(t, []float64{0, 9}, []float64{samples[0].lag, samples[1].lag})
}

// The rate is that of the last seconds.
func TestRate(t *testing.T) {
	t.Parallel()
	s := healthy()
	p := New(about(), s.sources())
	now := p.history.started
	_, known := p.history.rate()
	assert.False(t, known)
	for n := range int64(60) {
		s.change(func(s *streamer) {
			events := 100 * n
			if n > 40 {
				events = 4000
			}
			s.figures.Topics = map[string]ops.Topic{"a": {Events: events}}
		})
		p.look(now.Add(time.Duration(n) * time.Second))
		if n == 30 {
			rate, known := p.history.rate()
			assert.True(t, known)
			assert.InDelta(t, 100, rate, 1e-9)
		}
	}
	rate, _ := p.history.rate()
	assert.Zero(t, rate)
}

// When a topic last got something is known from its count, as exactly as there
// are looks, and never later than Kafka's last acknowledgement.
func TestLastPublicationOfATopic(t *testing.T) {
	t.Parallel()
	s := healthy()
	p := New(about(), s.sources())
	now := p.history.started
	set := func(at, acknowledged time.Duration, a, b int64) {
		s.change(func(s *streamer) {
			s.figures.LastAck = now.Add(acknowledged)
			s.figures.Topics = map[string]ops.Topic{"a": {Events: a}, "b": {Events: b}}
		})
		p.look(now.Add(at))
	}
	set(5*time.Second, time.Second, 1, 0)
	assert.Equal(t, now.Add(time.Second), p.history.topics["a"].at)
	set(10*time.Second, 7*time.Second, 1, 1)
	set(15*time.Second, 7*time.Second, 1, 1)
	assert.Equal(t, now.Add(time.Second), p.history.topics["a"].at)
	assert.Equal(t, now.Add(7*time.Second), p.history.topics["b"].at)
	v := p.view(now.Add(15 * time.Second))
	require.Len(t, v.Topics, 2)
	assert.Equal(t, "8 s ago", v.Topics[1].Ago)
}

// However many topics there are, the page lists those that were written last.
func TestManyTopics(t *testing.T) {
	t.Parallel()
	s := healthy()
	p := New(about(), s.sources())
	now := p.history.started
	all := map[string]ops.Topic{}
	for n := range 100 {
		all[strings.Repeat("t", n+1)] = ops.Topic{Events: 1}
	}
	s.change(func(s *streamer) { s.figures.Topics = all; s.figures.LastAck = time.Time{} })
	p.look(now)
	s.change(func(s *streamer) {
		busy := map[string]ops.Topic{}
		for name := range all {
			busy[name] = ops.Topic{Events: 1}
		}
		busy[strings.Repeat("t", 80)] = ops.Topic{Events: 2}
		s.figures.Topics = busy
	})
	p.look(now.Add(10 * time.Minute))
	v := p.view(now.Add(10 * time.Minute))
	assert.Len(t, v.Topics, shownTopics)
	assert.Equal(t, 100-shownTopics, v.MoreTopics)
	assert.Contains(t, v.Topics, Topic{
		Name: strings.Repeat("t", 80), Events: "2", Bytes: "0 B", At: now.Add(10 * time.Minute).UTC().Format(time.RFC3339), Ago: "0 s ago",
	})
}

// A chart says in words what it shows, grows with what there is to show, and has
// gaps where nothing is known.
func TestChart(t *testing.T) {
	t.Parallel()
	now := time.Now()
	q := quantity{
		id: "q", name: "Q", text: seconds, atLeast: 1,
		of: func(s sample) float64 { return s.lag }, limit: func(s sample) float64 { return s.limit },
	}
	samples := func(age time.Duration, values ...float64) (all []sample) {
		for i, v := range values {
			all = append(all, sample{at: now.Add(-age + time.Duration(i)*sampleEvery), lag: v, limit: 10})
		}
		return all
	}
	empty := q.draw(now, nil)
	assert.Empty(t, empty.Line)
	assert.Equal(t, "5 min ago", empty.From)

	c := q.draw(now, samples(20*time.Second, 1, 3, unknown, unknown, 2))
	assert.Equal(t, []string{"2 s", "1 s", "3 s", "10 s"}, []string{c.Now, c.Lowest, c.Highest, c.LimitText})
	assert.NotEmpty(t, c.Limit, "it is near enough to be in the picture")
	assert.Equal(t, 2, strings.Count(c.Line, "M"), "interrupted once: %s", c.Line)
	assert.NotContains(t, c.Line+c.Area+c.Limit, "NaN")

	assert.Empty(t, q.draw(now, samples(20*time.Second, .1)).Limit, "far away")
	for age, want := range map[time.Duration]string{
		4 * time.Minute: "5 min ago", 6 * time.Minute: "15 min ago", 20 * time.Minute: "30 min ago", 31 * time.Minute: "1 h ago",
		59 * time.Minute: "1 h ago",
	} {
		assert.Equal(t, want, q.draw(now, samples(age, 1)).From, age)
	}
	whole := q.draw(now, samples(time.Hour-sampleEvery, make([]float64, kept)...))
	assert.LessOrEqual(t, strings.Count(whole.Line, "L"), points)
	for i, v := range []float64{height(1, 2), height(0, 1)} {
		assert.InDelta(t, []float64{chartHeight / 2, chartHeight}[i], v, 1e-9)
	}
}

// While the state of the slot is old, the charts do not claim to know it.
func TestOldSlotIsNotDrawn(t *testing.T) {
	t.Parallel()
	s := healthy()
	p := New(about(), s.sources())
	now := s.grow(p, p.history.started, 0, 0)
	old := s.viewAt(p, now.Add(time.Minute))
	samples := p.history.samples()
	assert.True(t, math.IsNaN(samples[len(samples)-1].retained))
	assert.Equal(t, Row{"seen", "1 min 0 s ago", true}, old.Slot[0])
	assert.Equal(t, Look, old.Level)
	s.change(func(s *streamer) { s.status.Phase = pipeline.Standby })
	assert.Equal(t, Well, s.viewAt(p, now.Add(time.Minute)).Level, "the other instance asks")
}
