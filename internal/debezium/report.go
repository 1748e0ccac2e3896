package debezium

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Report says what became of each option of a connector. Every option is in
// exactly one of its lists.
type Report struct {
	Connector    string  `json:"connector"`
	Same         []Entry `json:"same"`
	Different    []Entry `json:"different"`
	NoEquivalent []Entry `json:"no_equivalent"`
}

// Entry is what became of an option. It holds no value of the file.
type Entry struct {
	Option   string   `json:"option"` // as the file spells it
	Keys     []string `json:"keys,omitempty"`
	Says     string   `json:"says,omitempty"`     // how it differs, or why there is nothing like it
	Concerns string   `json:"concerns,omitempty"` // for whom the difference matters
	Action   string   `json:"action,omitempty"`   // what to do where there is nothing like it
}

func (r *Report) sort() {
	for _, list := range [][]Entry{r.Same, r.Different, r.NoEquivalent} {
		slices.SortStableFunc(list, func(a, b Entry) int { return cmp.Compare(a.Option, b.Option) })
	}
}

// WriteJSON writes the report as an object.
func (r Report) WriteJSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(r)
}

// WriteText writes the report for people.
func (r Report) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Connector %s: %d the same, %d different, %d without an equivalent\n",
		r.Connector, len(r.Same), len(r.Different), len(r.NoEquivalent))
	for _, list := range []struct {
		title   string
		entries []Entry
	}{{"The same", r.Same}, {"Different", r.Different}, {"No equivalent", r.NoEquivalent}} {
		if len(list.entries) > 0 {
			fmt.Fprintf(&b, "\n%s:\n", list.title)
		}
		for _, e := range list.entries {
			e.write(&b)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (e Entry) write(b *strings.Builder) {
	fmt.Fprintf(b, "  %s", printable(e.Option))
	if len(e.Keys) > 0 {
		fmt.Fprintf(b, " -> %s", strings.Join(e.Keys, ", "))
	}
	b.WriteByte('\n')
	for _, line := range []struct{ label, text string }{{"", e.Says}, {"concerns: ", e.Concerns}, {"do: ", e.Action}} {
		if line.text != "" {
			wrap(b, line.label+line.text)
		}
	}
}

// wrap writes an indented paragraph.
func wrap(b *strings.Builder, text string) {
	const indent, widest = "      ", 100
	line := indent
	for word := range strings.FieldsSeq(text) {
		if len(line)+len(word) > widest && line != indent {
			b.WriteString(strings.TrimRight(line, " ") + "\n")
			line = indent
		}
		line += word + " "
	}
	b.WriteString(strings.TrimRight(line, " ") + "\n")
}
