package config

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Formats of WriteEffective.
const (
	FormatYAML = "yaml" // a configuration file, with the origin of each value as a comment
	FormatJSON = "json" // an object with the members config and origins
)

// WriteEffective writes the configuration that applies and where each value
// comes from. Secrets are masked. Load refuses the masks, so that a copied file
// cannot be mistaken for a working one.
func WriteEffective(w io.Writer, loaded *Loaded, format string) error {
	switch format {
	case FormatYAML:
		return writeLines(w, effectiveLines(loaded))
	case FormatJSON:
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		return encoder.Encode(map[string]any{"config": plain(root, valueOf(loaded.Config)), "origins": loaded.Origins})
	}
	return fmt.Errorf("unknown format %q of the effective configuration: use %s or %s", format, FormatYAML, FormatJSON)
}

// line is one line of YAML and where its value comes from.
type line struct{ text, origin string }

func effectiveLines(loaded *Loaded) []line {
	return sectionLines(root, valueOf(loaded.Config), "", "", loaded.Origins)
}

func sectionLines(k *key, structure reflect.Value, at, indent string, origins map[string]string) []line {
	var lines []line
	for _, c := range k.children {
		s := setting{key: c, at: at + c.name, value: structure.Field(c.index)}
		switch {
		case c.kind == kindSection:
			lines = append(lines, line{text: indent + c.name + ":"})
			lines = append(lines, sectionLines(c, s.value, s.at+".", indent+"  ", origins)...)
		case c.kind == kindTable && s.value.Len() > 0:
			lines = append(lines, line{text: indent + c.name + ":"})
			for _, name := range tableNames(s.value) {
				value := s.value.MapIndex(reflect.ValueOf(name)).String()
				lines = append(lines, line{indent + "  " + scalar(name) + ": " + scalar(value), origins[s.at+"."+name]})
			}
		case c.kind == kindRecords && s.value.Len() > 0:
			lines = append(lines, line{indent + c.name + ":", origins[s.at]})
			lines = append(lines, listLines(c, s.value, indent+"  ", reflect.Zero(s.value.Type().Elem()))...)
		default:
			lines = append(lines, line{indent + c.name + ": " + s.yaml(), origins[s.at]})
		}
	}
	return lines
}

// listLines returns the records of a list. What a record has in common with
// usual is left out.
func listLines(k *key, list reflect.Value, indent string, usual reflect.Value) []line {
	var lines []line
	for i := range list.Len() {
		record := insideRecord(k, list.Index(i), indent+"  ", usual)
		if len(record) > 0 {
			record[0].text = indent + "- " + strings.TrimPrefix(record[0].text, indent+"  ")
		}
		lines = append(lines, record...)
	}
	return lines
}

func insideRecord(k *key, structure reflect.Value, indent string, usual reflect.Value) []line {
	var lines []line
	for _, c := range k.children {
		s, common := setting{key: c, value: structure.Field(c.index)}, usual.Field(c.index)
		var below []line
		switch {
		case isSame(s.value, common):
			continue
		case c.kind == kindSection:
			below = insideRecord(c, s.value, indent+"  ", common)
		case c.kind == kindTable:
			for _, name := range tableNames(s.value) {
				below = append(below, line{text: indent + "  " + scalar(name) + ": " + scalar(s.value.MapIndex(reflect.ValueOf(name)).String())})
			}
		case c.kind == kindRecords:
			below = listLines(c, s.value, indent+"  ", reflect.Zero(s.value.Type().Elem()))
		default:
			lines = append(lines, line{text: indent + c.name + ": " + s.yaml()})
			continue
		}
		if len(below) > 0 {
			lines = append(append(lines, line{text: indent + c.name + ":"}), below...)
		}
	}
	return lines
}

// isSame reports whether two values of a key mean the same. A list or a table
// without entries is as one that is not set.
func isSame(a, b reflect.Value) bool {
	return a.IsZero() && b.IsZero() || reflect.DeepEqual(a.Interface(), b.Interface())
}

func tableNames(table reflect.Value) []string {
	return slices.Sorted(maps.Keys(table.Interface().(map[string]string)))
}

// yaml returns the value as one line of YAML.
func (s setting) yaml() string {
	switch s.kind {
	case kindRecords:
		return "[]"
	case kindTable:
		return "{}"
	case kindList:
		items := make([]string, s.value.Len())
		for i := range items {
			items[i] = inFlow(s.value.Index(i).String())
		}
		return "[" + strings.Join(items, ", ") + "]"
	case kindText, kindSecret, kindDSN:
		return scalar(s.shown())
	default:
		return s.shown()
	}
}

// scalar returns a text as YAML, in quotes if it would mean something else
// without them.
func scalar(value string) string { return encode(value, "\n\r") }

// inFlow returns a text as an item of a list on one line, where commas and
// brackets are special.
func inFlow(value string) string { return encode(value, "\n\r,[]{}") }

func encode(value, quoted string) string {
	node := yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: value}
	if strings.ContainsAny(value, quoted) {
		node.Style = yaml.DoubleQuotedStyle
	}
	encoded, err := yaml.Marshal(&node)
	if err != nil {
		panic("config: encode a text as YAML: " + err.Error()) //nolint:forbidigo // YAML can express any text
	}
	return strings.TrimSuffix(string(encoded), "\n")
}

// writeLines aligns the comments, except after very long lines.
func writeLines(w io.Writer, lines []line) error {
	const widest = 56
	width := 0
	for _, l := range lines {
		if n := utf8.RuneCountInString(l.text); l.origin != "" && n <= widest {
			width = max(width, n)
		}
	}
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l.text)
		if l.origin != "" {
			b.WriteString(strings.Repeat(" ", max(0, width-utf8.RuneCountInString(l.text))))
			b.WriteString("  # " + l.origin)
		}
		b.WriteByte('\n')
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write the effective configuration: %w", err)
	}
	return nil
}

// plain returns a section as maps and lists of JSON types. Everything with a
// text form becomes that text.
func plain(k *key, structure reflect.Value) map[string]any {
	values := map[string]any{}
	for _, c := range k.children {
		value := structure.Field(c.index)
		switch c.kind {
		case kindSection:
			values[c.name] = plain(c, value)
		case kindRecords:
			items := []any{}
			for i := range value.Len() {
				items = append(items, plain(c, value.Index(i)))
			}
			values[c.name] = items
		default:
			values[c.name] = setting{key: c, value: value}.plain()
		}
	}
	return values
}

func (s setting) plain() any {
	switch s.kind {
	case kindBoolean, kindInteger:
		return s.value.Interface()
	case kindList:
		return append([]string{}, s.value.Interface().([]string)...)
	case kindTable:
		entries := map[string]string{}
		maps.Copy(entries, s.value.Interface().(map[string]string))
		return entries
	default:
		return s.shown()
	}
}
