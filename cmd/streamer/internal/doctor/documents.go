package doctor

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/outboxstream/streamer/router"
)

const (
	// shallowest is how deep the strictest of the SDKs reads, that of .NET.
	shallowest = 64
	// exactDigits is how many significant digits of a number a float64 surely
	// keeps, and exactInteger the highest integer below which it keeps all.
	exactDigits  = 15
	exactInteger = "9007199254740992"
)

// documents are the events in structured mode that some SDKs cannot read, or
// change while they read: the SDK parses the payload together with the
// attributes.
type documents struct {
	deep, long string // IDs of the first such events
	depth      int
}

func (s *documents) read(line router.Rendering) {
	if line.Mode != router.Structured || s.deep != "" && s.long != "" {
		return
	}
	depth, long := measure(line.Event)
	var event struct{ ID string }
	if json.Unmarshal(line.Event, &event) != nil {
		return // it is too deep even for Go
	}
	if depth > shallowest && s.deep == "" {
		s.deep, s.depth = event.ID, depth
	}
	if long && s.long == "" {
		s.long = event.ID
	}
}

// documents warns of what was read.
func (d *doctor) documents(what string, s documents) {
	if s.deep != "" {
		d.say(Warned, what, fmt.Sprintf("the document of row %q is nested %d deep, and some SDKs read no more than %d",
			s.deep, s.depth, shallowest),
			"use mode binary for its route, or a flatter payload (docs/wire-format.md)")
	}
	if s.long != "" {
		d.say(Warned, what, fmt.Sprintf("the document of row %q has a number with more than %d digits, which some SDKs round",
			s.long, exactDigits),
			"use mode binary for its route, or make the number a string (docs/wire-format.md)")
	}
}

// measure returns how deep a JSON document is nested, and whether it has a
// number that a float64 may not keep.
func measure(document []byte) (depth int, long bool) {
	open := 0
	for i := 0; i < len(document); i++ {
		switch c := document[i]; {
		case c == '"':
			for i++; i < len(document) && document[i] != '"'; i++ {
				if document[i] == '\\' {
					i++
				}
			}
		case c == '[' || c == '{':
			open++
			depth = max(depth, open)
		case c == ']' || c == '}':
			open--
		case '0' <= c && c <= '9':
			start := i
			for i+1 < len(document) && strings.IndexByte("0123456789.eE+-", document[i+1]) >= 0 {
				i++
			}
			long = long || isLong(string(document[start:i+1]))
		}
	}
	return depth, long
}

// isLong reports whether a float64 may not keep a number. Its sign is left out.
func isLong(number string) bool {
	mantissa, _, _ := strings.Cut(strings.ToLower(number), "e")
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits := strings.Trim(whole+fraction, "0")
	if len(digits) <= exactDigits {
		return false
	}
	if mantissa == number && fraction == "" && len(whole) == len(exactInteger) {
		return whole > exactInteger
	}
	return true
}
