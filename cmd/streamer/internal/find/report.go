package find

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/cmd/streamer/internal/status"
	"github.com/outboxstream/streamer/router/kafka"
)

// Result is the output of --json.
type Result struct {
	Asked  Asked    `json:"asked"`
	Events []*Event `json:"events"`
	// More reports that there are more events than --limit shows.
	More        bool     `json:"more"`
	Missing     []string `json:"missing_topics"` // in which events should be
	Slots       []Slot   `json:"slots"`
	Read        []Part   `json:"read"` // of partitions
	Records     int64    `json:"records_read"`
	NotLookedAt []string `json:"not_looked_at"`
	Seconds     float64  `json:"seconds"`
}

// Asked is what was asked for.
type Asked struct {
	ID       string  `json:"id,omitempty"`
	Key      *string `json:"key,omitempty"`
	Position string  `json:"position,omitempty"`
}

// Slot is how far a stream has come.
type Slot struct {
	Name       string `json:"slot"`
	Confirmed  string `json:"confirmed_flush_lsn"`
	Checkpoint string `json:"checkpoint,omitempty"`
	Flushed    string `json:"wal_flush_lsn"`
	Lag        int64  `json:"lag_bytes"`
	InUse      bool   `json:"in_use"`

	usedBy string
}

// Part is what was read of a partition, and what it has.
type Part struct {
	Topic     string     `json:"topic"`
	Partition int32      `json:"partition"`
	Start     int64      `json:"start"`
	End       int64      `json:"end"`
	Offsets   [][2]int64 `json:"offsets"` // from, and up to but without
}

func (s *search) result() Result {
	r := Result{
		Asked: Asked{ID: s.asked.id, Key: s.asked.key}, Events: s.events, More: s.more, Slots: []Slot{}, Read: []Part{},
		Records: s.records, NotLookedAt: s.notes, Missing: s.missing, Seconds: time.Since(s.began).Seconds(),
	}
	if s.asked.at.Commit != 0 {
		r.Asked.Position = showPosition(s.asked.at)
	}
	if r.Events == nil {
		r.Events = []*Event{}
	}
	if r.Missing == nil {
		r.Missing = []string{}
	}
	if r.NotLookedAt == nil {
		r.NotLookedAt = []string{}
	}
	for _, m := range s.members {
		if m.slot.Name == "" {
			continue
		}
		slot := Slot{
			Name: m.slot.Name, Confirmed: m.slot.Confirmed.String(), Flushed: m.slot.Flushed.String(), Lag: m.slot.Lag,
			InUse: m.slot.InUse(), usedBy: status.UsedBy(m.slot),
		}
		if m.stored.LSN != 0 {
			slot.Checkpoint = m.stored.LSN.String()
		}
		r.Slots = append(r.Slots, slot)
	}
	places := slices.Collect(maps.Keys(s.read))
	slices.SortFunc(places, func(a, b kafka.TopicPartition) int {
		if a.Topic != b.Topic {
			return strings.Compare(a.Topic, b.Topic)
		}
		return int(a.Partition - b.Partition)
	})
	for _, at := range places {
		if p := s.read[at]; len(p.spans) > 0 {
			r.Read = append(r.Read, Part{at.Topic, at.Partition, p.log.Start, p.log.End, p.spans})
		}
	}
	return r
}

// report prints the result.
func (s *search) report(std console.Streams) error {
	r := s.result()
	if s.command.JSON {
		return std.JSON(r)
	}
	switch len(r.Events) {
	case 0:
		std.Table(r.rest())
		fmt.Fprintf(std.Out, "\n%s: no trace in what was looked at\n", s.asked.described())
	case 1:
		std.Table(append(r.Events[0].rows(), r.rest()...))
		fmt.Fprintf(std.Out, "\n%s\n", r.Events[0].Answer)
	default:
		for _, e := range r.Events {
			std.Table(e.short())
			fmt.Fprintln(std.Out)
		}
		std.Table(r.rest())
	}
	return nil
}

// rows are all that is known about an event.
func (e *Event) rows() [][2]string {
	rows := e.name()
	rows = append(rows, [2]string{"row", e.Row.shown()})
	if e.at.Commit != 0 {
		rows = append(rows, [2]string{"committed", fmt.Sprintf("%s at %s", micro(e.CommittedAt), e.Position)})
	}
	if w := e.Waits; w != nil {
		rows = append(rows, [2]string{"waiting", fmt.Sprintf("in slot %s, %s before it", w.Slot, events(w.Before))})
	}
	for _, r := range e.Records {
		rows = append(rows, [2]string{string(r.Kind), r.shown()})
	}
	if l := e.DeadLetter; l != nil {
		state := string(l.State)
		if l.ResolvedBy != "" {
			state += " by " + console.Printable(l.ResolvedBy) + " at " + stamp(l.ResolvedAt)
		}
		rows = append(rows, [2]string{"dead letter", fmt.Sprintf("%s in topic %s, %s: %s (%s)",
			l.ID, l.Topic, state, l.Class, console.Printable(l.Reason))})
	}
	for _, g := range e.Groups {
		text := fmt.Sprintf("%s (%d:%d) %s", console.Printable(g.Group), g.Partition, g.Offset, g.distance())
		if g.Committed != nil {
			text += "; lag " + console.Grouped(g.Lag)
		}
		rows = append(rows, [2]string{"group", text})
	}
	return rows
}

func (e *Event) name() [][2]string {
	text := console.Printable(e.ID)
	if e.Type != "" {
		text += ", " + console.Printable(e.Type)
	}
	if e.Source != "" {
		text += ", of " + console.Printable(e.Source)
	}
	return [][2]string{{"event", text}}
}

// short is what is shown of one event among several.
func (e *Event) short() [][2]string {
	rows := e.name()
	if e.at.Commit != 0 {
		rows = append(rows, [2]string{"committed", fmt.Sprintf("%s at %s", micro(e.CommittedAt), e.Position)})
	}
	for _, r := range e.Records {
		rows = append(rows, [2]string{string(r.Kind), r.shown()})
	}
	return append(rows, [2]string{"answer", e.Answer})
}

func (r *Row) shown() string {
	if r == nil {
		return "not seen"
	}
	text := "in " + r.Table
	switch {
	case !r.WrittenAt.IsZero():
		text += ", committed " + micro(r.WrittenAt) + " (or changed then)"
	case !r.Time.IsZero():
		text += ", of " + micro(r.Time)
	}
	if r.Problem != "" {
		text += "; it can never be published: " + r.Problem
	}
	return text
}

func (r Record) shown() string {
	text := fmt.Sprintf("%s partition %d offset %s, %s", r.Topic, r.Partition, console.Grouped(r.Offset), micro(r.Timestamp))
	if r.Replay != "" {
		text += ", by the replay of " + console.Printable(r.Replay)
	}
	return text
}

func micro(at time.Time) string { return at.UTC().Format(time.RFC3339Nano) }

// rest is what was looked at, and what not.
func (r Result) rest() (rows [][2]string) {
	for _, slot := range r.Slots {
		rows = append(rows, [2]string{"slot", fmt.Sprintf("%s, confirmed %s, %s behind, %s",
			slot.Name, slot.Confirmed, console.Size(slot.Lag), slot.usedBy)})
	}
	if len(r.Read) > 0 {
		var all int64
		for _, p := range r.Read {
			all += p.End - p.Start
		}
		took := time.Duration(r.Seconds * float64(time.Second)).Round(time.Millisecond)
		rows = append(rows, [2]string{"read", fmt.Sprintf("%s of %s records in %s, in %s",
			console.Grouped(min(r.Records, all)), console.Grouped(all), console.Counted(len(r.Read), "partition"), took)})
	}
	for _, topic := range r.Missing {
		rows = append(rows, [2]string{"topic", topic + " does not exist, or is hidden from the streamer's principal"})
	}
	for _, note := range r.NotLookedAt {
		rows = append(rows, [2]string{"not looked at", note})
	}
	if r.More {
		rows = append(rows, [2]string{"more", "there are more events than are shown (--limit)"})
	}
	return rows
}
