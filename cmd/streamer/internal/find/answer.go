package find

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/router"
)

// conclude says of each event where it has got to.
func (s *search) conclude() {
	for _, e := range s.events {
		e.State = e.state(s.snapshotPending(), s.slotRead && s.wholeRead)
		e.slotRead = s.slotRead
		e.Answer = e.answer()
	}
}

// snapshotPending reports whether rows from before the slot are being published.
func (s *search) snapshotPending() bool {
	return slices.ContainsFunc(s.members, func(m *member) bool { return m.stored.Snapshot.Pending() })
}

// state is where the event has got to, as far as was looked. all reports that the
// slot and the partitions of the event were read as a whole.
func (e *Event) state(snapshot, all bool) State {
	switch l := e.DeadLetter; {
	case len(e.Records) > 0, isRetried(l):
		return Published
	case l != nil && l.State == router.Dropped:
		return Dropped
	case l != nil:
		return DeadLettered
	case e.Waits != nil:
		return Waiting
	case e.Row != nil && snapshot:
		return Snapshot
	case e.Row != nil && e.gone == "" && all:
		return NotPublished
	}
	return Unknown
}

// answer is what an operator wants to know, in one sentence.
func (e *Event) answer() string {
	switch e.State {
	case Published:
		return e.published()
	case Waiting:
		return e.Waits.answer()
	case DeadLettered:
		return fmt.Sprintf("not published: it is dead letter %s (%s) and awaits a decision: "+
			"`streamer dead-letters retry %s`, or drop", e.DeadLetter.ID, e.DeadLetter.Class, e.DeadLetter.ID)
	case Dropped:
		return fmt.Sprintf("never to be published: dead letter %s was dropped by %s at %s",
			e.DeadLetter.ID, console.Printable(e.DeadLetter.ResolvedBy), stamp(e.DeadLetter.ResolvedAt))
	case Snapshot:
		return "not published yet: the rows from before the slot are being published (`streamer status`)"
	case NotPublished:
		if e.Row.Problem != "" {
			return "not published, and not waiting: its row can never be published: " + e.Row.Problem
		}
		return "not published, and not waiting: its row was committed before the slot began, or did not get into the stream; " +
			"`streamer verify` says how many there are, `streamer replay --missing` publishes them"
	case Unknown:
	}
	return e.unknown()
}

func (e *Event) unknown() string {
	switch {
	case e.Row != nil && e.Row.Problem != "":
		return "its row is there, and can never be published: " + e.Row.Problem
	case e.Row != nil && e.gone != "":
		return "its row is there, and neither a record nor a place in the slot was found, but the record may have expired: " + e.gone
	case e.Row != nil && e.complete && e.slotRead:
		return "not where its row says, and not waiting: it was probably committed before the slot began, or did not get into the stream; " +
			"--scan reads the rest, `streamer verify` compares everything"
	case e.Row != nil && e.complete:
		return "not where its row says, and more waits in the slot than could be read: it probably waits there"
	case e.Row != nil:
		return "its row is there; whether it was published is not known, because not everything was looked at"
	}
	return "not known, because not everything was looked at"
}

// published names the groups that the event has not reached.
func (e *Event) published() string {
	text := "published"
	switch {
	case e.DeadLetter != nil && isRetried(e.DeadLetter):
		text = fmt.Sprintf("published late: it was dead letter %s, retried by %s at %s",
			e.DeadLetter.ID, console.Printable(e.DeadLetter.ResolvedBy), stamp(e.DeadLetter.ResolvedAt))
	case !e.own() && e.Records[0].Kind == Foreign:
		text = "published by another program"
	case len(e.Records) > 1:
		text = fmt.Sprintf("published %d times", len(e.Records))
	}
	if len(e.Records) == 0 {
		return text + "; its record was not found"
	}
	behind, passed := e.reached()
	switch {
	case len(behind) > 0:
		return text + ", but " + strings.Join(behind, "; ")
	case passed > 0:
		return text + ", and " + console.Counted(passed, "consumer group") + " of its topic " + have(passed) + " passed it"
	case len(e.Groups) == 0:
		return text + "; no consumer group with offsets in its topic was seen"
	}
	return text
}

func have(n int) string {
	if n == 1 {
		return "has"
	}
	return "have"
}

// reached returns what keeps groups from having passed any record of the event,
// and the number of those that have passed one.
func (e *Event) reached() (behind []string, passed int) {
	var names []string
	nearest := map[string]Group{}
	done := map[string]bool{}
	for _, g := range e.Groups {
		if !slices.Contains(names, g.Group) {
			names = append(names, g.Group)
			nearest[g.Group] = g
		}
		done[g.Group] = done[g.Group] || g.Passed
		if known := nearest[g.Group]; g.Committed != nil && (known.Committed == nil || g.Before < known.Before) {
			nearest[g.Group] = g
		}
	}
	for _, name := range names {
		if done[name] {
			passed++
			continue
		}
		behind = append(behind, "group "+console.Printable(name)+" "+nearest[name].distance())
	}
	return behind, passed
}

func (w *Wait) answer() string {
	text := fmt.Sprintf("waiting in slot %q: %s and %s of WAL before it", w.Slot, events(w.Before), console.Size(w.Bytes))
	switch {
	case w.Problem != "":
		text += "; it can never be published: " + w.Problem
	case w.Behind != "":
		text += "; it is behind a row that can never be published, " + w.Behind
	case !w.InUse:
		text += "; no streamer reads the slot"
	default:
		text += "; a streamer reads the slot"
	}
	return text
}

func events(n int64) string {
	if n == 1 {
		return "1 event"
	}
	return console.Grouped(n) + " events"
}

func stamp(at time.Time) string {
	if at.IsZero() {
		return "an unknown time"
	}
	return at.UTC().Format(time.RFC3339)
}
