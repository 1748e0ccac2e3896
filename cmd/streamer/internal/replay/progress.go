package replay

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/internal/ops"
	"github.com/outboxstream/streamer/internal/pipeline"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
)

// replayMetrics counts what a replay publishes. Other metrics are discarded.
type replayMetrics struct {
	*ops.Metrics
	events, bytes, passedOver atomic.Int64

	mu     sync.Mutex
	topics map[string]int64
}

func newReplayMetrics() *replayMetrics {
	return &replayMetrics{Metrics: ops.NewMetrics(console.Version()), topics: map[string]int64{}}
}

// Published is called once for each batch.
func (m *replayMetrics) Published(p router.Publication) {
	m.events.Add(int64(p.Events))
	m.bytes.Add(int64(p.Bytes))
	m.mu.Lock()
	defer m.mu.Unlock()
	m.topics[p.Topic] += int64(p.Events)
}

// DeadLetter is called for each row that is skipped as a dead letter.
func (m *replayMetrics) DeadLetter(string) { m.passedOver.Add(1) }

// replayProgress shows how far a replay has come.
type replayProgress struct {
	std     console.Streams
	plan    *pipeline.Replay
	metrics *replayMetrics
	began   time.Time
	reached atomic.Uint64
}

func newReplayProgress(plan *pipeline.Replay, std console.Streams) *replayProgress {
	g := &replayProgress{std: std, plan: plan, metrics: newReplayMetrics(), began: time.Now()}
	plan.Reached = func(lsn replication.LSN) { g.reached.Store(uint64(lsn)) }
	return g
}

const (
	progressOnTerminal = 2 * time.Second
	progressInLog      = 15 * time.Second
)

// show prints a line at intervals until the returned function is called.
func (g *replayProgress) show() (stop func()) {
	interval := progressInLog
	if console.IsTerminal(g.std.Err) {
		interval = progressOnTerminal
	}
	done := make(chan struct{})
	var showing sync.WaitGroup
	showing.Go(func() {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		first, began := replication.LSN(0), time.Time{}
		for {
			select {
			case <-done:
				return
			case now := <-ticker.C:
				at := replication.LSN(g.reached.Load())
				if at != 0 && first == 0 {
					first, began = at, now
				}
				fmt.Fprintln(g.std.Err, g.line(at, first, now.Sub(began), now.Sub(g.began)))
			}
		}
	})
	return func() {
		close(done)
		showing.Wait()
	}
}

// line describes a replay that took a duration from first to at and has been
// running for a longer one.
func (g *replayProgress) line(at, first replication.LSN, took, runs time.Duration) string {
	text := fmt.Sprintf("streamer: replay %s: %s, %.0f/s", g.plan.ID,
		console.Counted(g.metrics.events.Load(), "event"), float64(g.metrics.events.Load())/runs.Seconds())
	whole := g.plan.Until - g.plan.From
	if at < g.plan.From || whole == 0 {
		return text
	}
	text += fmt.Sprintf(", at %s (%d %%)", at, min(100, 100*(at-g.plan.From)/whole))
	if at > first && at < g.plan.Until {
		left := time.Duration(float64(g.plan.Until-at) / float64(at-first) * float64(took))
		text += ", done in " + console.About(left)
	}
	return text
}

// replayResult is what a replay has published, or would publish.
type replayResult struct {
	Replay     string           `json:"replay,omitempty"`
	From       string           `json:"from,omitempty"`
	Until      string           `json:"until,omitempty"`
	Events     int64            `json:"events"`
	Bytes      int64            `json:"bytes"`
	Topics     map[string]int64 `json:"topics"` // events
	PassedOver int64            `json:"passed_over"`
	Seconds    float64          `json:"seconds,omitempty"`
	Estimate   float64          `json:"estimated_seconds,omitempty"`
	First      *time.Time       `json:"first_commit,omitempty"`
	Last       *time.Time       `json:"last_commit,omitempty"`
	DryRun     bool             `json:"dry_run,omitempty"`
	FromTable  bool             `json:"from_table,omitempty"`
}

func (g *replayProgress) result() replayResult {
	g.metrics.mu.Lock()
	defer g.metrics.mu.Unlock()
	return replayResult{
		Replay: g.plan.ID, From: g.plan.From.String(), Until: g.plan.Until.String(),
		Events: g.metrics.events.Load(), Bytes: g.metrics.bytes.Load(), Topics: maps.Clone(g.metrics.topics),
		PassedOver: g.metrics.passedOver.Load(), Seconds: time.Since(g.began).Seconds(),
	}
}

func rehearsed(plan *pipeline.Replay, found pipeline.Rehearsal, rate int) replayResult {
	result := replayResult{
		From: plan.From.String(), Until: plan.Until.String(), DryRun: true,
		Events: found.Events, Bytes: found.Bytes, Topics: found.Topics, PassedOver: found.Unpublishable,
	}
	if found.Events > 0 {
		result.First, result.Last = &found.First, &found.Last
	}
	if rate > 0 {
		result.Estimate = float64(found.Events) / float64(rate)
	}
	return result
}

func (r replayResult) rows() [][2]string {
	var rows [][2]string
	add := func(name, format string, arguments ...any) {
		rows = append(rows, [2]string{name, fmt.Sprintf(format, arguments...)})
	}
	if r.FromTable && r.Events == 0 && r.Replay == "" {
		return [][2]string{{"missing", "nothing is missing that could be published"}}
	}
	if r.DryRun {
		add("dry run", "nothing is published")
	} else {
		add("replay", "%s is complete", r.Replay)
	}
	if !r.FromTable {
		add("WAL", "%s to %s", r.From, r.Until)
	}
	if r.First != nil {
		add("committed", "%s to %s", r.First.Format(time.RFC3339), r.Last.Format(time.RFC3339))
	}
	add("events", "%d, %s", r.Events, console.Size(r.Bytes))
	for _, topic := range slices.Sorted(maps.Keys(r.Topics)) {
		add("topic", "%s: %s", topic, console.Counted(r.Topics[topic], "event"))
	}
	if r.PassedOver > 0 {
		add("passed over", "%s that cannot be published", console.Counted(r.PassedOver, "row"))
	}
	switch {
	case r.DryRun && r.Estimate > 0:
		add("would take", "%s at --rate", console.About(time.Duration(r.Estimate*float64(time.Second))))
	case !r.DryRun:
		add("took", "%s", console.About(time.Duration(r.Seconds*float64(time.Second))))
	}
	return rows
}
