package verification

import (
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/internal/verify"
)

// show prints a finding.
func (v *verification) show(f verify.Finding) error {
	if v.command.JSON {
		return v.std.Line(f)
	}
	_, err := fmt.Fprintln(v.std.Out, f)
	return err
}

// summary is the last line of --json.
type summary struct {
	Summary result `json:"summary"`
}

type result struct {
	verify.Counts
	Table      string   `json:"table,omitempty"`
	Truth      string   `json:"truth,omitempty"`
	Settled    string   `json:"rows_as_of,omitempty"`
	Streams    []string `json:"streams"`
	Topics     []string `json:"topics"`
	Partitions int      `json:"partitions"`
	TempBytes  int64    `json:"temporary_file_bytes"`
	Seconds    float64  `json:"seconds"`
	Notes      []string `json:"notes,omitempty"`
}

// report prints what was compared and the result.
func (v *verification) report(c verify.Counts) error {
	r := result{
		Counts: c, Streams: v.streams, Topics: v.matched, Partitions: len(v.logs), TempBytes: v.comparison.SpilledBytes(),
		Seconds: time.Since(v.progress.began).Seconds(), Notes: v.notes,
	}
	if v.command.Truth != "" {
		r.Truth = v.command.Truth
	} else {
		r.Table, r.Settled = v.tableNames(), v.settled.String()
	}
	if v.command.JSON {
		return v.std.Line(summary{r})
	}
	v.std.Table(r.rows(v.command.Limit))
	return nil
}

func (r result) rows(limit uint) [][2]string {
	from := fmt.Sprintf("%s as of %s", r.Table, r.Settled)
	if r.Truth != "" {
		from = r.Truth
	}
	rows := [][2]string{
		{"outbox", fmt.Sprintf("%s: %s rows", from, console.Grouped(r.Rows))},
		{"Kafka", fmt.Sprintf("%d topics, %d partitions: %s records of stream %s, %s of others", len(r.Topics),
			r.Partitions, console.Grouped(r.Records), strings.Join(r.Streams, ", "), console.Grouped(r.Foreign))},
		{"published", console.Grouped(r.Published) + " rows have a record"},
	}
	for _, line := range []struct {
		name  string
		count int64
		means string
	}{
		{"in flight", r.InFlight, "rows are not confirmed as published yet"},
		{"dead letters", r.DeadLettered, "rows are in the dead-letter topic instead"},
		{"expired", r.Expired, "rows have no record, and Kafka has deleted records of that time: expired, or missing all along"},
		{"outside", r.Outside, "rows without a record are outside --from and --to"},
		{"undecided", r.Undated, "rows without a record do not say when they were written, so they may be in the range"},
		{"unreadable", r.Unreadable, "rows become tombstones in structured mode, which carry no id"},
		{"without row", r.Unmatched, "records have no row in the outbox: deleted since (a finding with --strict)"},
		{"newer", r.Newer, "records are newer than the rows that were read"},
		{"replayed", r.Replays, "records were published again on purpose"},
	} {
		if line.count > 0 {
			rows = append(rows, [2]string{line.name, console.Grouped(line.count) + " " + line.means})
		}
	}
	for _, note := range r.Notes {
		rows = append(rows, [2]string{"note", note})
	}
	for _, kind := range verify.Kinds() {
		if n := r.Findings[kind]; n > 0 {
			shown := ""
			if limit > 0 && n > int64(limit) {
				shown = fmt.Sprintf(" (%d shown)", limit)
			}
			rows = append(rows, [2]string{kind.String(), console.Grouped(n) + shown + ": " + kind.Meaning()})
		}
	}
	if r.Total() == 0 {
		rows = append(rows, [2]string{"findings", "none"})
	}
	temporary := ""
	if r.TempBytes > 0 {
		temporary = ", with a temporary file of " + console.Size(r.TempBytes)
	}
	return append(rows, [2]string{"took", time.Duration(r.Seconds*float64(time.Second)).Round(time.Millisecond).String() + temporary})
}

// progressEvery is how often a long comparison reports its progress.
const progressEvery = 5 * time.Second

// progress reports long steps on standard error. Counting is safe for
// concurrent use.
type progress struct {
	std      console.Streams
	began    time.Time
	name     string
	expected int64
	done     atomic.Int64
	next     atomic.Int64 // time of the next line, in nanoseconds since began
}

func newProgress(std console.Streams) *progress {
	p := &progress{std: std, began: time.Now()}
	p.next.Store(int64(progressEvery))
	return p
}

// step begins another part of the work.
func (p *progress) step(name string) {
	p.name, p.expected = name, 0
	p.done.Store(0)
}

// expect sets how much there is to do in this step; 0 is not known.
func (p *progress) expect(n int64) { p.expected = n }

// one counts a row or a record.
func (p *progress) one() {
	done := p.done.Add(1)
	const looked = 1 << 12 // the clock is read only now and then
	if done%looked == 0 {
		p.tell(func() string {
			if p.expected > 0 {
				return fmt.Sprintf("%s of about %s", console.Grouped(done), console.Grouped(p.expected))
			}
			return console.Grouped(done)
		})
	}
}

// share says which part of the step is done.
func (p *progress) share(done, of int) {
	p.tell(func() string { return fmt.Sprintf("%d %%", 100*done/of) })
}

func (p *progress) tell(what func() string) {
	now := int64(time.Since(p.began))
	if next := p.next.Load(); now >= next && p.next.CompareAndSwap(next, now+int64(progressEvery)) {
		fmt.Fprintf(p.std.Err, "streamer: %s: %s\n", p.name, what())
	}
}
