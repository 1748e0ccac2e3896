package config

import (
	"errors"
	"slices"
	"strings"
)

// part is a piece of a template: constant text, or the name of a placeholder.
type part struct {
	text        string
	placeholder bool
}

// parseTemplate splits a template such as "outbox.event.{aggregate_type}".
// Braces may only enclose a name.
func parseTemplate(template string) ([]part, error) {
	var parts []part
	for rest := template; rest != ""; {
		constant, after, found := strings.Cut(rest, "{")
		if strings.Contains(constant, "}") {
			return nil, errors.New("a } without { before it: braces enclose placeholders such as {aggregate_type}")
		}
		if constant != "" {
			parts = append(parts, part{text: constant})
		}
		if !found {
			break
		}
		name, remaining, closed := strings.Cut(after, "}")
		if !closed || name == "" || strings.Contains(name, "{") {
			return nil, errors.New("a { that does not begin a placeholder such as {aggregate_type}")
		}
		parts = append(parts, part{text: name, placeholder: true})
		rest = remaining
	}
	return parts, nil
}

// Placeholders returns the names that general templates may contain, sorted:
// those that every row has, and those of the columns and extensions that are
// configured for every table.
func (c Config) Placeholders() []string {
	var common []string
	for i, o := range c.Tables() {
		names := o.placeholders()
		if i == 0 {
			common = names
		}
		common = slices.DeleteFunc(common, func(name string) bool { return !slices.Contains(names, name) })
	}
	return common
}

func (o Outbox) placeholders() []string {
	names := []string{"aggregate_id", "aggregate_type", "database", "id", "table", "type"}
	if o.Messages == "" {
		names = append(names, "schema")
	}
	for _, s := range settingsOf(root.child("outbox").child("columns"), valueOf(o.Columns), "") {
		if s.value.String() != "" && s.name != "payload" {
			names = append(names, s.name)
		}
	}
	for name := range o.Extensions {
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// fill replaces every placeholder by the same text.
func fill(parts []part, with string) string {
	var b strings.Builder
	for _, p := range parts {
		if p.placeholder {
			b.WriteString(with)
		} else {
			b.WriteString(p.text)
		}
	}
	return b.String()
}

// constants returns the constant texts joined.
func constants(parts []part) string { return fill(parts, "") }

// couldYield reports whether the template may produce the name, as far as its
// constant texts tell. For a template that begins and ends with a placeholder
// they tell nothing.
func couldYield(parts []part, name string) bool {
	if len(parts) == 0 {
		return false
	}
	first, last := parts[0], parts[len(parts)-1]
	switch {
	case len(parts) == 1:
		return !first.placeholder && first.text == name
	case !first.placeholder:
		return strings.HasPrefix(name, first.text)
	case !last.placeholder:
		return strings.HasSuffix(name, last.text)
	}
	return false
}
