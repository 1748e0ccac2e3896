package page

import (
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/cmd/streamer/internal/status"
	"github.com/outboxstream/streamer/internal/ops"
	"github.com/outboxstream/streamer/internal/pipeline"
)

// Level is how urgent a state is.
type Level int

// The levels. The alerts in deploy/prometheus draw the lines at the same places.
const (
	Well Level = iota // nothing to do
	Look              // somebody should look
	Act               // now
)

// String is the word that the page shows.
func (l Level) String() string { return [...]string{"All is well", "Needs a look", "Act now"}[l] }

// Class is the word in the page's CSS.
func (l Level) Class() string { return [...]string{"well", "look", "act"}[l] }

const (
	// staleAfter is the age from which the state of the slot is not called current.
	staleAfter = 15 * time.Second
	// longStart is how long a start may take before somebody should look.
	longStart = time.Minute
	// longBehind is the lag from which somebody should look: alert StreamerLagging.
	longBehind = time.Minute
	// lostSoon is the time from which to act: alert StreamerSlotWillBeLost.
	lostSoon = 4 * time.Hour
	lostLate = 24 * time.Hour
	// recently is how long an error of the log needs a look.
	recently = 15 * time.Minute
)

// Problem is what is not as it should be, and what to do about it.
type Problem struct {
	Level   Level
	What    string
	Remedy  string
	Details string // where more is said
}

// facts are what a verdict is about.
type facts struct {
	now        time.Time
	status     pipeline.Status
	lag        time.Duration
	lagKnown   bool
	figures    ops.Figures
	slot       *status.Slot
	slotSeen   time.Time
	outlook    status.Outlook
	outlooking bool // the outlook is known
	company    pipeline.Company
	entries    []ops.Entry
	rowsLeft   time.Duration // of a snapshot; 0: not known
}

// sentence says what the streamer is doing, in the words of streamer status.
func (f facts) sentence() string {
	since := ""
	if !f.status.Since.IsZero() {
		since = " for " + console.About(f.now.Sub(f.status.Since))
	}
	switch f.status.Phase {
	case pipeline.Starting:
		return "Starting" + since
	case pipeline.Standby:
		return "Standing by" + since + ": " + detail(f.status)
	case pipeline.Snapshotting:
		return "Publishing the rows from before the slot: " + f.progress()
	case pipeline.Streaming:
		return "Streaming, " + f.distance()
	case pipeline.Blocked:
		return "Blocked" + since + ": Kafka does not acknowledge" + f.growth()
	case pipeline.Waiting:
		return "Waiting before it tries again, because the last session ended with an error" + f.growth()
	case pipeline.Draining:
		return "Stopping: waits for " + console.Counted(f.figures.InFlightEvents, "event") + " in flight"
	}
	return string(f.status.Phase)
}

// growth says where it leads that the slot is not read.
func (f facts) growth() string {
	if !f.outlook.Growing {
		return ""
	}
	return ". The slot " + strings.TrimPrefix(f.outlook.Text, "over the limit: ")
}

// brief is the state without anything that changes from second to second. It is
// what a screen reader announces.
func (f facts) brief(level Level) string {
	name := map[pipeline.Phase]string{
		pipeline.Starting: "Starting", pipeline.Standby: "Standing by", pipeline.Snapshotting: "Publishing the rows from before the slot",
		pipeline.Streaming: "Streaming", pipeline.Blocked: "Blocked", pipeline.Waiting: "Waiting before it tries again",
		pipeline.Draining: "Stopping",
	}[f.status.Phase]
	return name + ". " + level.String() + "."
}

func detail(s pipeline.Status) string {
	if s.Detail == "" {
		return "the reason is not known"
	}
	return oneLine(s.Detail)
}

func oneLine(text string) string { return strings.ReplaceAll(text, "\n", "; ") }

// distance says how far behind a stream is, and where that leads.
func (f facts) distance() string {
	switch {
	case !f.lagKnown:
		return "how far behind is not known yet"
	case f.outlook.Behind:
		return console.About(f.lag) + " behind: " + f.outlook.Text
	case f.lag < longBehind:
		return "keeps up: " + console.About(f.lag) + " behind"
	}
	return console.About(f.lag) + " behind"
}

// progress of a snapshot.
func (f facts) progress() string {
	text := fmt.Sprintf("%s of about %s; the stream begins after them",
		console.Grouped(f.figures.SnapshotRows), grouped(f.figures.SnapshotOf, "row"))
	if f.rowsLeft > 0 {
		text += ", in about " + console.About(f.rowsLeft)
	}
	return text
}

func grouped(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return console.Grouped(n) + " " + noun + "s"
}

// problems are what is not as it should be, most urgent first.
func (f facts) problems() []Problem {
	found := slices.Concat(f.aboutPhase(), f.aboutSlot(), f.aboutEvents())
	var sorted []Problem
	for _, level := range []Level{Act, Look} {
		for _, p := range found {
			if p.Level == level {
				sorted = append(sorted, p)
			}
		}
	}
	return sorted
}

const incidents = "docs/how-to/incidents.md"

func (f facts) aboutPhase() (found []Problem) {
	inPhase := f.now.Sub(f.status.Since)
	switch f.status.Phase {
	case pipeline.Starting:
		if !f.status.Since.IsZero() && inPhase > longStart {
			found = append(found, Problem{Look, "The start takes long.", "Run `streamer doctor`.", incidents})
		}
	case pipeline.Blocked:
		found = append(found, Problem{
			Look, sentenceCase(detail(f.status)) + ".",
			"Look at the brokers. Nothing is lost, and the streamer goes on by itself: a restart neither helps nor harms.",
			incidents + ", Kafka is away",
		})
	case pipeline.Waiting:
		what, remedy, _ := strings.Cut(detail(f.status), "; fix: ")
		if remedy == "" {
			remedy = "Nothing, unless it stays. Then run `streamer doctor`."
		}
		found = append(found, Problem{Look, what, remedy, incidents})
	case pipeline.Streaming:
		if f.lagKnown && f.lag > longBehind && !f.outlook.Growing && !f.outlook.CatchingUp {
			found = append(found, Problem{
				Look, "Events reach Kafka " + console.About(f.lag) + " after they were committed.",
				"Run `streamer doctor`: it names slow disks, old transactions and clocks that differ.", incidents,
			})
		}
	case pipeline.Standby, pipeline.Snapshotting, pipeline.Draining: // as it should be
	}
	return found
}

func (f facts) aboutSlot() (found []Problem) {
	if f.slot == nil || f.status.Phase == pipeline.Standby {
		return nil
	}
	if age := f.now.Sub(f.slotSeen); age > 2*staleAfter && f.status.Phase == pipeline.Streaming {
		what := "The server has not said anything about the slot for " + console.About(age) + "."
		found = append(found, Problem{Look, what, "Run `streamer status`.", ""})
	}
	const filling = incidents + ", The disk is filling"
	remedy := "Bring back what is missing: Kafka, or a streamer that keeps up. Or enlarge the disk and raise max_slot_wal_keep_size."
	switch in := f.outlook.LostIn; {
	case f.slot.Lost:
		return append(found, Problem{Act, "The slot is lost.", "Read what to do before anything else.", "docs/how-to/slot-lost.md"})
	case f.slot.SafeWALSize != nil && *f.slot.SafeWALSize <= 0:
		found = append(found, Problem{
			Act, "The slot is over the limit: lost at the server's next checkpoint, unless it is read now.", remedy, filling,
		})
	case in != nil && *in < lostSoon:
		found = append(found, Problem{Act, "The slot is lost in " + console.About(*in) + ".", remedy, filling})
	case in != nil && *in < lostLate:
		found = append(found, Problem{Look, "The slot is lost in " + console.About(*in) + ".", remedy, filling})
	case in == nil && f.outlook.Growing && f.status.Phase == pipeline.Streaming:
		found = append(found, Problem{
			Look, "The slot " + f.outlook.Text + ".",
			"Bring back what is missing: Kafka, or a streamer that keeps up. Watch the server's disk.", filling,
		})
	}
	return found
}

func (f facts) aboutEvents() (found []Problem) {
	if why := f.figures.AtLeastOnce; why != nil && *why != "" && f.status.Phase != pipeline.Standby && !chosen(*why) {
		what := "A crash may repeat events: " + oneLine(*why) + "."
		found = append(found, Problem{Look, what, "Grant the permission that is named.", "docs/exactly-once.md"})
	}
	if n := sum(f.figures.DeadLetters); n > 0 {
		found = append(found, Problem{
			Look, rowsNotPublished(n), "Run `streamer dead-letters list`, then retry or drop them.", "docs/dead-letters.md",
		})
	}
	for _, e := range f.entries {
		if e.Level >= slog.LevelError && f.now.Sub(e.Last) < recently && !strings.Contains(e.Message, "dead letters") {
			remedy := e.Fix
			if remedy == "" {
				remedy = "See the last warnings and errors below."
			}
			found = append(found, Problem{Look, sentenceCase(e.Message) + ".", remedy, "docs/reference/log.md"})
		}
	}
	return found
}

func rowsNotPublished(n int64) string {
	if n == 1 {
		return "1 row could not be published, and is a dead letter."
	}
	return console.Grouped(n) + " rows could not be published, and are dead letters."
}

// chosen reports whether the configuration asks for repeats.
func chosen(why string) bool { return why == "kafka.resume is at_least_once" }

func sum(counts map[string]int64) (total int64) {
	for _, n := range counts {
		total += n
	}
	return total
}

func sentenceCase(text string) string {
	if text == "" || text[0] < 'a' || text[0] > 'z' {
		return text
	}
	return string(text[0]-'a'+'A') + text[1:]
}

// levelOf is that of the most urgent problem.
func levelOf(problems []Problem) Level {
	level := Well
	for _, p := range problems {
		level = max(level, p.Level)
	}
	return level
}

// seconds writes a number of seconds as a duration.
func seconds(v float64) string {
	if v > 0 && v < 1 {
		return fmt.Sprintf("%.0f ms", math.Ceil(v*1000))
	}
	return console.About(time.Duration(v * float64(time.Second)))
}

func size(v float64) string { return console.Size(int64(v)) }

func perSecond(v float64) string {
	if v > 0 && v < 10 {
		return fmt.Sprintf("%.1f/s", v)
	}
	return console.Grouped(int64(math.Round(v))) + "/s"
}
