package config

import (
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
)

// Draft is a configuration file to be written.
type Draft struct {
	Config  Config
	Heading string // comment at the beginning, lines separated by newlines

	// Keys are the paths of the settings that are written. Hints are those that
	// are written as comments, with the value that applies without them.
	Keys, Hints []string

	// Remarks are further comments, by the path of a key.
	Remarks map[string]string
}

// Write writes the file: each key with its meaning above it. A secret is left
// out unless it is a reference to a file or a command, and a password is left
// out of a DSN.
func (d Draft) Write(w io.Writer) error {
	var b strings.Builder
	writeComment(&b, "", d.Heading)
	for _, c := range root.children {
		d.write(&b, c, valueOf(d.Config).Field(c.index), "")
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	return nil
}

// covers reports whether the key, or one below it, is written, or is written as
// a comment.
func (d Draft) covers(path string) (kept, shown bool) {
	is := func(listed string) bool { return listed == path || strings.HasPrefix(listed, path+".") }
	return slices.ContainsFunc(d.Keys, is), slices.ContainsFunc(d.Hints, is)
}

func (d Draft) write(b *strings.Builder, k *key, value reflect.Value, indent string) {
	kept, shown := d.covers(k.path)
	if !kept && (!shown || isSection(k) && slices.Contains(d.Hints, k.path) && value.IsZero()) {
		return
	}
	if !strings.HasSuffix(b.String(), ":\n") {
		b.WriteByte('\n')
	}
	mark := ""
	if !kept {
		mark = "# "
	}
	writeComment(b, indent, strings.ReplaceAll(k.meaning(), "`", ""))
	writeComment(b, indent, d.Remarks[k.path])
	switch k.kind {
	case kindSection:
		fmt.Fprintf(b, "%s%s%s:\n", indent, mark, k.name)
		for _, c := range k.children {
			field := value.Field(c.index)
			if chosen, _ := d.covers(c.path); chosen || !slices.Contains(d.Hints, k.path) {
				d.write(b, c, field, indent+"  ")
			} else if !field.IsZero() { // the section is shown as a whole
				fmt.Fprintf(b, "%s#   %s: %s\n", indent, c.name, setting{key: c, value: field}.yaml())
			}
		}
	case kindTable:
		fmt.Fprintf(b, "%s%s%s:\n", indent, mark, k.name)
		for _, name := range tableNames(value) {
			fmt.Fprintf(b, "%s%s  %s: %s\n", indent, mark, scalar(name), scalar(value.MapIndex(reflect.ValueOf(name)).String()))
		}
	case kindRecords:
		fmt.Fprintf(b, "%s%s%s:\n", indent, mark, k.name)
		for _, l := range listLines(k, value, indent+"  ", usual(k)) {
			fmt.Fprintf(b, "%s%s\n", mark, l.text)
		}
	default:
		text, ok := draftValue(setting{key: k, value: value})
		if !ok {
			mark = "# "
		}
		fmt.Fprintf(b, "%s%s%s: %s\n", indent, mark, k.name, text)
	}
}

// usual is what a record of a list has where nothing is set in it.
func usual(k *key) reflect.Value {
	if k.name == outboxes {
		entry := Default().Outbox
		entry.Table = ""
		return valueOf(entry)
	}
	return valueOf(Route{})
}

// isSection reports whether the key has others below it, or entries.
func isSection(k *key) bool { return k.kind == kindSection || k.kind == kindTable }

// draftValue is the value in YAML. ok is false for a secret that must not be
// written.
func draftValue(s setting) (text string, ok bool) {
	switch value := s.value.Interface().(type) {
	case Secret:
		if value.isReference() {
			return scalar(*value.text), true
		}
		return "file:/path", value.IsZero()
	case DSN:
		bare, ok := value.WithoutPasswords()
		return scalar(bare), ok
	}
	return s.yaml(), true
}

// widestComment is how long a line of a comment may be, in characters.
const widestComment = 100

func writeComment(b *strings.Builder, indent, text string) {
	for paragraph := range strings.Lines(text) {
		line := indent + "#"
		for word := range strings.FieldsSeq(paragraph) {
			if len(line)+1+len(word) > widestComment && line != indent+"#" {
				b.WriteString(line + "\n")
				line = indent + "#"
			}
			line += " " + word
		}
		b.WriteString(line + "\n")
	}
}

// WithoutPasswords returns the DSN without its passwords. A reference to a file
// or a command is returned as it is. It returns false if the passwords cannot
// be located with certainty.
func (d DSN) WithoutPasswords() (string, bool) {
	shown := d.String()
	switch {
	case d.IsZero(), shown == mask:
		return "", d.IsZero()
	case d.secret.isReference():
		return *d.secret.text, true
	case isURL(shown):
		return bareURL(shown), true
	}
	var kept []string
	for rest := shown; rest != ""; {
		m := keyword.FindStringSubmatch(rest)
		if m[2] != mask {
			kept = append(kept, strings.TrimSpace(m[0]))
		}
		rest = rest[len(m[0]):]
	}
	return strings.Join(kept, " "), true
}

// HasPassword reports whether the text of the DSN holds a password.
func (d DSN) HasPassword() bool {
	return !d.IsZero() && !d.secret.isReference() && strings.Contains(d.String(), mask)
}

// bareURL removes what is masked.
func bareURL(masked string) string {
	server, query, _ := strings.Cut(strings.Replace(masked, ":"+mask+"@", "@", 1), "?")
	var kept []string
	for parameter := range strings.SplitSeq(query, "&") {
		if parameter != "" && !strings.HasSuffix(parameter, "="+mask) {
			kept = append(kept, parameter)
		}
	}
	if len(kept) == 0 {
		return server
	}
	return server + "?" + strings.Join(kept, "&")
}
