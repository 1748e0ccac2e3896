package page

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/cmd/streamer/internal/status"
	"github.com/outboxstream/streamer/internal/pipeline"
	"github.com/outboxstream/streamer/replication"
)

// shownTopics is how many topics the page lists: those with the latest events.
const shownTopics = 25

// View is what the template shows. All texts are plain: the template escapes
// them.
type View struct {
	About    About
	Assets   string // changes with the assets
	At       string // RFC 3339
	Level    Level
	Sentence string
	Brief    string
	Problems []Problem

	Lag, Rate, Retained                Quantity
	LagChart, RateChart, RetainedChart Chart

	Slot       []Row
	Progress   *Progress // of a snapshot
	Topics     []Topic
	MoreTopics int
	Read       []Count // rows, by table
	Delivery   []Row
	Instances  []Instance
	Warnings   []Warning
	Up         string
}

// About is what does not change while the process runs.
type About struct {
	Version, Slot string
	Shard         string // empty: the only one
	Instance      string // process and host
	Topic         string // template of the topic names
	DeadLetters   bool   // rows that cannot be published do not stop the streamer
}

// Quantity is a large number with a remark.
type Quantity struct{ Value, Remark string }

// Row is a line of a list. Note marks what needs a look.
type Row struct {
	Name, Value string
	Note        bool
}

// Progress is how much of a whole is done.
type Progress struct {
	Done, Whole int64
	Text        string
}

// Topic is a line of the table of topics.
type Topic struct {
	Name, Events, Bytes, Refused string
	At, Ago                      string // of the last publication
}

// Count is a number of something.
type Count struct{ Name, Count string }

// Instance is a streamer at the slot.
type Instance struct {
	Role, Who string
	Self      bool
}

// Warning is a warning or an error of the log.
type Warning struct {
	Error        bool
	At, Ago      string
	Count        int
	Message, Err string
	Fix, Details string
}

// view puts together what is known at a moment.
func (p *Page) view(now time.Time) View {
	f := p.facts(now)
	problems := f.problems()
	level := levelOf(problems)
	samples := p.history.samples()
	v := View{
		About: p.about, Assets: assetsVersion, At: now.UTC().Format(time.RFC3339), Level: level,
		Sentence: f.sentence() + ".", Brief: f.brief(level), Problems: problems,
		LagChart: lagQuantity.draw(now, samples), RateChart: rateQuantity.draw(now, samples),
		RetainedChart: retainedQuantity.draw(now, samples),
		Slot:          f.slotRows(), Progress: f.snapshotProgress(), Read: counts(f.figures.Read),
		Delivery:  f.deliveryRows(p.about),
		Instances: f.instances(p.about), Warnings: f.warnings(),
		Up: console.About(now.Sub(p.history.started).Truncate(time.Minute)),
	}
	v.Lag, v.Rate, v.Retained = f.lagNow(), p.rateNow(f), f.retainedNow()
	v.Topics, v.MoreTopics = p.topics(f)
	return v
}

// facts collects what a verdict is about.
func (p *Page) facts(now time.Time) facts {
	f := facts{
		now: now, status: p.sources.Status(), figures: p.figures, company: p.sources.Company(), entries: p.sources.Entries(),
	}
	f.lag, f.lagKnown = p.sources.Lag()
	if s := f.figures.Slot; s != nil {
		shown := status.ShowSlot(*s)
		f.slot, f.slotSeen = &shown, s.At
		f.outlook, f.outlooking = p.history.trend(now, shown)
	}
	if f.status.Phase == pipeline.Snapshotting {
		left := f.figures.SnapshotOf - f.figures.SnapshotRows
		if rate, known := p.history.rate(); known && rate >= 1 && left > 0 {
			f.rowsLeft = time.Duration(float64(left) / rate * float64(time.Second))
		}
	}
	return f
}

var (
	lagQuantity  = quantity{id: "lag", name: "Behind by", of: func(s sample) float64 { return s.lag }, text: seconds, atLeast: 1}
	rateQuantity = quantity{
		id: "rate", name: "Events per second", of: func(s sample) float64 { return s.rate }, text: perSecond, atLeast: 1,
	}
	retainedQuantity = quantity{
		id: "wal", name: "WAL kept by the slot", text: size, atLeast: 1 << 20,
		of: func(s sample) float64 { return s.retained }, limit: func(s sample) float64 { return s.limit },
	}
)

func (f facts) lagNow() Quantity {
	switch {
	case f.lagKnown:
		reader := pipeline.ReadStream
		if f.figures.CatchingUp {
			reader = pipeline.ReadCatchUp
		}
		return Quantity{seconds(f.lag.Seconds()), "reader " + string(reader)}
	case f.status.Phase == pipeline.Standby:
		return Quantity{"–", "the other instance knows"}
	}
	return Quantity{"–", "not known yet"}
}

func (p *Page) rateNow(f facts) Quantity {
	inFlight := grouped(f.figures.InFlightEvents, "event") + " in flight, " + console.Size(f.figures.InFlightBytes)
	rate, known := p.history.rate()
	if !known {
		return Quantity{"–", inFlight}
	}
	return Quantity{perSecond(rate), inFlight}
}

func (f facts) retainedNow() Quantity {
	if f.slot == nil {
		return Quantity{"–", "not known yet"}
	}
	return Quantity{console.Size(f.slot.RetainedWAL), f.slot.Left()}
}

func (f facts) slotRows() (rows []Row) {
	s := f.slot
	if s == nil {
		return nil
	}
	old := f.now.Sub(f.slotSeen) > staleAfter
	if old {
		rows = append(rows, Row{"seen", console.About(f.now.Sub(f.slotSeen)) + " ago", true})
	}
	rows = append(rows,
		Row{Name: "slot", Value: s.Name + ", " + status.UsedBy(replication.Slot{Active: s.Active, ActivePID: s.ActivePID, Copies: s.Copies})},
		Row{Name: "confirmed", Value: s.Confirmed + " of " + s.Flushed},
		Row{Name: "lag", Value: console.Size(s.Lag)},
		Row{Name: "retained WAL", Value: fmt.Sprintf("%s (%s)", console.Size(s.RetainedWAL), s.WALStatus), Note: s.WALStatus != "reserved"},
		Row{Name: "limit", Value: s.Left(), Note: s.Lost},
	)
	outlook := "known after " + console.About(trendOver)
	if f.outlooking && !old {
		outlook = f.outlook.Text
	}
	rows = append(rows, Row{Name: "outlook", Value: outlook, Note: f.outlook.Growing})
	if r := f.figures.Rewind; r != nil {
		kept := r.Name + ", for `streamer replay`, keeps " + console.Size(r.RetainedWAL)
		rows = append(rows, Row{Name: "rewind slot", Value: kept, Note: r.Lost()})
	}
	if r := f.company.Replay; r != nil {
		state := "interrupted"
		if r.Active {
			state = "replay is running"
		}
		kept := fmt.Sprintf("%s, %s, from %s, keeps %s", r.Name, state, r.Confirmed, console.Size(r.RetainedWAL))
		rows = append(rows, Row{Name: "replay slot", Value: kept, Note: !r.Active})
	}
	return rows
}

func (f facts) snapshotProgress() *Progress {
	if f.status.Phase != pipeline.Snapshotting {
		return nil
	}
	return &Progress{f.figures.SnapshotRows, max(1, f.figures.SnapshotOf), f.progress()}
}

func (f facts) deliveryRows(about About) []Row {
	rows := []Row{f.resumeRow(), {Name: "checkpoint", Value: f.ago(f.figures.Saved, "saved ", "none saved yet")}}
	rows = append(rows, Row{Name: "acknowledged", Value: f.ago(f.figures.LastAck, "", "nothing yet")})
	if f.figures.SnapshotRows > 0 && f.status.Phase != pipeline.Snapshotting {
		rows = append(rows, Row{Name: "snapshot", Value: grouped(f.figures.SnapshotRows, "row") + " published before the stream"})
	}
	rows = append(rows, Row{Name: "reconnects", Value: console.Grouped(f.figures.Reconnects), Note: f.figures.Reconnects > 10})
	if f.figures.Skipped > 0 {
		rows = append(rows, Row{Name: "not repeated", Value: grouped(f.figures.Skipped, "event") + " that had been published before"})
	}
	if f.figures.Removed > 0 {
		rows = append(rows, Row{Name: "cleaned up", Value: grouped(f.figures.Removed, "row")})
	}
	if f.figures.Loose > 0 {
		rows = append(rows, Row{Name: "loose messages", Value: console.Grouped(f.figures.Loose) + ", not published", Note: true})
	}
	letters := "none since the start"
	switch n := sum(f.figures.DeadLetters); {
	case n > 0:
		letters = console.Grouped(n) + " since the start (" + listed(f.figures.DeadLetters) + ")"
	case !about.DeadLetters:
		letters = "a row that cannot be published stops the streamer"
	}
	return append(rows, Row{Name: "dead letters", Value: letters, Note: sum(f.figures.DeadLetters) > 0})
}

func (f facts) resumeRow() Row {
	switch why := f.figures.AtLeastOnce; {
	case why == nil:
		return Row{Name: "resume", Value: "known once it streams"}
	case *why == "":
		return Row{Name: "resume", Value: "exactly once"}
	default:
		return Row{Name: "resume", Value: "at least once (" + oneLine(*why) + ")", Note: !chosen(*why)}
	}
}

// ago writes the age of a moment.
func (f facts) ago(at time.Time, before, never string) string {
	if at.IsZero() {
		return never
	}
	return before + console.About(max(0, f.now.Sub(at))) + " ago"
}

func (p *Page) topics(f facts) (shown []Topic, more int) {
	names := slices.SortedFunc(maps.Keys(f.figures.Topics), func(a, b string) int {
		at, bt := p.history.topics[a].at, p.history.topics[b].at
		if d := bt.Truncate(time.Minute).Compare(at.Truncate(time.Minute)); d != 0 && len(f.figures.Topics) > shownTopics {
			return d
		}
		return strings.Compare(a, b)
	})
	if len(names) > shownTopics {
		names, more = names[:shownTopics], len(names)-shownTopics
		slices.Sort(names)
	}
	for _, name := range names {
		t := f.figures.Topics[name]
		line := Topic{Name: name, Events: "–", Bytes: "–", Ago: "–"}
		if t.Events > 0 {
			line.Events, line.Bytes = console.Grouped(t.Events), console.Size(t.Bytes)
		}
		if t.Refused > 0 {
			line.Refused = console.Grouped(t.Refused)
		}
		if at := p.history.topics[name].at; !at.IsZero() {
			line.At, line.Ago = at.UTC().Format(time.RFC3339), f.ago(at, "", "")
		}
		shown = append(shown, line)
	}
	return shown, more
}

// listed writes counts of classes on one line.
func listed(of map[string]int64) string {
	var all []string
	for _, class := range slices.Sorted(maps.Keys(of)) {
		all = append(all, console.Grouped(of[class])+" "+class)
	}
	return strings.Join(all, ", ")
}

func counts(of map[string]int64) (all []Count) {
	for _, name := range slices.Sorted(maps.Keys(of)) {
		all = append(all, Count{name, console.Grouped(of[name])})
	}
	return all[:min(len(all), shownTopics)]
}

func (f facts) instances(about About) []Instance {
	role := map[pipeline.Phase]string{pipeline.Standby: "stands by"}[f.status.Phase]
	if role == "" {
		role = "works"
	}
	all := []Instance{{Role: role, Who: about.Instance, Self: true}}
	if f.status.Phase == pipeline.Starting || f.company.At.IsZero() {
		return all
	}
	for _, h := range f.company.Working {
		all = append(all, Instance{Role: "works", Who: h.String()})
	}
	for _, h := range f.company.Standbys {
		all = append(all, Instance{Role: "stands by", Who: h.String()})
	}
	if f.company.Unknown != "" {
		all = append(all, Instance{Role: "not known", Who: f.company.Unknown})
	}
	return all
}

func (f facts) warnings() (all []Warning) {
	for _, e := range f.entries {
		var details []string
		for _, d := range e.Details {
			details = append(details, d[0]+"="+d[1])
		}
		all = append(all, Warning{
			Error: e.Level >= slog.LevelError, At: e.Last.UTC().Format(time.RFC3339), Ago: f.ago(e.Last, "", ""), Count: e.Count,
			Message: sentenceCase(e.Message), Err: oneLine(e.Err), Fix: oneLine(e.Fix), Details: strings.Join(details, "  "),
		})
	}
	return all
}
