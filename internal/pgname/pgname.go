// Package pgname reads and writes the names of tables as they stand in the
// configuration.
package pgname

import (
	"path"
	"strings"
)

// Table is a table's name, each part spelled as in the catalog.
type Table struct{ Schema, Name string }

// DefaultSchema is the schema of a name without one.
const DefaultSchema = "public"

// Parse reads schema.table. A part with a dot or a quote in it is written in
// double quotes, and quotes in it are doubled, as in SQL. Other parts are
// spelled as in the catalog, in quotes or not: capitals count. It returns false
// for anything else.
func Parse(text string) (Table, bool) {
	first, rest, ok := part(text)
	switch {
	case !ok:
		return Table{}, false
	case rest == "":
		return Table{DefaultSchema, first}, true
	}
	second, rest, ok := part(rest[1:])
	if !ok || rest != "" {
		return Table{}, false
	}
	return Table{first, second}, true
}

// part reads one part. What follows it begins with a dot, or is empty.
func part(text string) (name, rest string, ok bool) {
	if !strings.HasPrefix(text, `"`) {
		end := strings.IndexByte(text, '.')
		if end < 0 {
			end = len(text)
		}
		name, rest = text[:end], text[end:]
		return name, rest, name != "" && !strings.ContainsRune(name, '"')
	}
	var b strings.Builder
	for rest = text[1:]; ; {
		before, after, closed := strings.Cut(rest, `"`)
		if !closed {
			return "", "", false
		}
		b.WriteString(before)
		if !strings.HasPrefix(after, `"`) {
			name, rest = b.String(), after
			return name, rest, name != "" && (rest == "" || rest[0] == '.')
		}
		b.WriteByte('"')
		rest = after[1:]
	}
}

// String is the shortest text that Parse reads as this name.
func (t Table) String() string { return shown(t.Schema) + "." + shown(t.Name) }

func shown(name string) string {
	if strings.ContainsAny(name, `."`) {
		return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
	}
	return name
}

// IsPattern reports whether the name stands for all tables that match it: a *
// in it is any text.
func (t Table) IsPattern() bool { return strings.Contains(t.Schema+t.Name, "*") }

// Matches reports whether a table has this name, or matches this pattern.
func (t Table) Matches(schema, name string) bool {
	if !t.IsPattern() {
		return t.Schema == schema && t.Name == name
	}
	return matches(t.Schema, schema) && matches(t.Name, name)
}

func matches(pattern, name string) bool {
	// A slash would end what a * stands for, and other characters have meanings of
	// their own.
	literal := strings.NewReplacer(`\`, `\\`, "?", `\?`, "[", `\[`, "/", "\x00")
	ok, _ := path.Match(literal.Replace(pattern), strings.ReplaceAll(name, "/", "\x00"))
	return ok
}

// OwnMessages is the prefix of the messages that the streamer writes into the WAL
// itself.
const OwnMessages = "streamer"

// OfMessages stands for the name of a table where events are messages with this
// prefix: in metrics, dead letters and reports. No table is called that, because
// tables are named with their schema.
func OfMessages(prefix string) string { return "messages:" + prefix }
