package consumer

import (
	"fmt"
	"strings"
)

// Line describes a delivery in one line: where, what, about which aggregate, in
// which order, and the payload.
func (d Delivery) Line() string {
	if d.Err != nil {
		return "not a CloudEvent: " + d.Err.Error()
	}
	var line strings.Builder
	e := d.Event
	fmt.Fprintf(&line, "%s  %s  key=%s  id=%s  source=%s", place(d.Record), e.Type(), d.Record.Key, e.ID(), e.Source())
	if sequence, present := e.Extensions()["sequence"]; present {
		fmt.Fprintf(&line, "  sequence=%s", sequence)
	}
	if d.Verdict != New {
		fmt.Fprintf(&line, "  [%s]", d.Verdict)
	}
	// Text may contain line ends; a line must not.
	line.WriteString("  " + strings.NewReplacer("\r", " ", "\n", " ").Replace(string(e.Data())))
	return line.String()
}
