package find

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/verify"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router/wire"
)

// asked is what the operator knows of the event.
type asked struct {
	id           string
	key          *string
	at           replication.Position // zero: not known; ordinal 0: any event of that commit
	since, until time.Time
}

func (command Command) asked(now time.Time) (a asked, err error) {
	a = asked{id: command.ID, key: command.Key}
	if command.LSN != "" {
		if a.at, err = parsePosition(command.LSN); err != nil {
			return a, err
		}
	}
	since, err := console.ParsePosition("--since", command.Since, now, console.AtTime)
	if err != nil {
		return a, err
	}
	until, err := console.ParsePosition("--until", command.Until, now, console.AtTime)
	if err != nil {
		return a, err
	}
	a.since, a.until = since.Time, until.Time
	if !a.since.IsZero() && !a.until.IsZero() && !a.since.Before(a.until) {
		return a, fmt.Errorf("--since %s is not before --until %s", command.Since, command.Until)
	}
	return a, nil
}

// parsePosition reads the forms in which positions are printed: an LSN, an LSN
// with the number in its transaction, and the attribute sequence.
func parsePosition(text string) (p replication.Position, err error) {
	if p, err := wire.ParseSequence(text); err == nil && p.Commit != 0 {
		return p, nil
	}
	lsn, ordinal, numbered := strings.Cut(text, "+")
	if p.Commit, err = replication.ParseLSN(lsn); err == nil && p.Commit != 0 && !numbered {
		return p, nil
	}
	if number, bad := strconv.ParseUint(ordinal, 10, 32); err == nil && bad == nil && p.Commit != 0 && number > 0 {
		p.Ordinal = uint32(number)
		return p, nil
	}
	return p, failure.Misconfigure(failure.Advise(
		fmt.Errorf("--lsn %q is no position", text),
		"write an LSN such as 0/DA08CE68, a position such as 0/DA08CE68+1, or a sequence such as %s",
		wire.FormatSequence(replication.Position{Commit: 0xDA08CE68, Ordinal: 1}),
	))
}

// wants reports whether an event is the one that was asked for, or one of them.
func (a asked) wants(id, key []byte, at replication.Position) bool {
	if a.id != "" {
		return string(id) == a.id // key and position only say where to look
	}
	return (a.key == nil || key != nil && string(key) == *a.key) && a.isAt(at)
}

func (a asked) isAt(at replication.Position) bool {
	return a.at.Commit == 0 || at.Commit == a.at.Commit && (a.at.Ordinal == 0 || at.Ordinal == a.at.Ordinal)
}

// wantsRecord is wants for a record of a streamer.
func (a asked) wantsRecord(h *verify.Head, key []byte) bool { return a.wants(h.ID, key, h.Position) }

// described names what was asked for.
func (a asked) described() string {
	var names []string
	if a.id != "" {
		names = append(names, fmt.Sprintf("event %q", console.Printable(a.id)))
	}
	if a.key != nil {
		names = append(names, fmt.Sprintf("key %q", console.Printable(*a.key)))
	}
	if a.at.Commit != 0 {
		names = append(names, "position "+showPosition(a.at))
	}
	return strings.Join(names, ", ")
}

func showPosition(p replication.Position) string {
	if p.Ordinal == 0 {
		return p.Commit.String()
	}
	return p.String()
}
