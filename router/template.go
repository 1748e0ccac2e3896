package router

import (
	"fmt"
	"slices"
	"strings"

	"github.com/outboxstream/streamer/decoder"
)

// template is text with placeholders in braces, as in
// "outbox.event.{aggregate_type}".
type template struct {
	text  string
	parts []templatePart
}

// templatePart is a literal, or the value of an attribute or an extension.
type templatePart struct {
	literal   string
	name      string // of the placeholder
	attribute decoder.Attribute
	extension int // index into Event.Extensions, or -1
	// names returns one of the names of the row's table; nil: it is none.
	names func(decoder.Names) []byte
}

// ofTable are the placeholders for the names of a row's table.
var ofTable = map[string]func(decoder.Names) []byte{
	"table":  func(n decoder.Names) []byte { return n.Table },
	"schema": func(n decoder.Names) []byte { return n.Schema },
}

// names are the placeholders with constant values.
type names map[string]string

// escaped returns the same constants, escaped for a URI-reference.
func (n names) escaped() names {
	all := names{}
	for name, value := range n {
		all[name] = string(appendEscaped(nil, []byte(value)))
	}
	return all
}

// parseTemplate resolves every placeholder, so that a typo is found at start.
// extensions are the configured names in the order of Event.Extensions.
func parseTemplate(key, text string, constants names, columns map[decoder.Attribute]string, extensions []string) (template, error) {
	t := template{text: text}
	for rest := text; rest != ""; {
		open := strings.IndexAny(rest, "{}")
		if open < 0 {
			t.literal(rest)
			break
		}
		t.literal(rest[:open])
		end := strings.IndexByte(rest[open:], '}')
		if rest[open] == '}' || end < 0 {
			return template{}, fmt.Errorf("%s: unmatched brace in %q", key, text)
		}
		name := rest[open+1 : open+end]
		rest = rest[open+end+1:]
		if constant, ok := constants[name]; ok {
			t.literal(constant)
			continue
		}
		part, err := placeholder(name, columns, extensions)
		if err != nil {
			return template{}, fmt.Errorf("%s: %q: %w", key, text, err)
		}
		t.parts = append(t.parts, part)
	}
	return t, nil
}

func placeholder(name string, columns map[decoder.Attribute]string, extensions []string) (templatePart, error) {
	if i := slices.Index(extensions, name); i >= 0 {
		return templatePart{name: name, extension: i}, nil
	}
	if names := ofTable[name]; names != nil {
		return templatePart{name: name, names: names, extension: -1}, nil
	}
	for _, a := range decoder.Attributes() {
		if a.String() != name || a == decoder.Payload || a == decoder.Time {
			continue
		}
		if columns[a] == "" {
			return templatePart{}, fmt.Errorf("placeholder {%s} needs a column under outbox.columns.%s", name, name)
		}
		return templatePart{name: name, attribute: a, extension: -1}, nil
	}
	return templatePart{}, fmt.Errorf("unknown placeholder {%s}: use {aggregate_type}, {aggregate_id}, {type}, "+
		"{table}, {schema}, {database} or the name of a mapped column", name)
}

// literal appends text and joins it with a preceding literal.
func (t *template) literal(text string) {
	if text == "" {
		return
	}
	if n := len(t.parts); n > 0 && t.parts[n-1].literal != "" {
		t.parts[n-1].literal += text
		return
	}
	t.parts = append(t.parts, templatePart{literal: text})
}

// constant returns the template's text if it has no placeholders.
func (t *template) constant() (string, bool) {
	switch len(t.parts) {
	case 0:
		return "", true
	case 1:
		return t.parts[0].literal, t.parts[0].literal != ""
	}
	return "", false
}

// single returns the value of a template that consists of one placeholder.
func (t *template) single(e *decoder.Event) ([]byte, bool) {
	if len(t.parts) == 1 && t.parts[0].literal == "" {
		return t.parts[0].value(e), true
	}
	return nil, false
}

func (p *templatePart) value(e *decoder.Event) []byte {
	if p.names != nil {
		return p.names(e.Names)
	}
	if p.extension >= 0 {
		return e.Extensions[p.extension].Value
	}
	return e.Attribute(p.attribute)
}

// append expands the template. escape percent-encodes the values of the
// placeholders, for a URI-reference.
func (t *template) append(b []byte, e *decoder.Event, escape bool) ([]byte, error) {
	for i := range t.parts {
		p := &t.parts[i]
		if p.literal != "" {
			b = append(b, p.literal...)
			continue
		}
		value := p.value(e)
		if len(value) == 0 {
			return b, fmt.Errorf("{%s} of %q is NULL or empty", p.name, t.text)
		}
		if escape {
			b = appendEscaped(b, value)
		} else {
			b = append(b, value...)
		}
	}
	return b, nil
}

// appendEscaped percent-encodes everything except RFC 3986's unreserved
// characters.
func appendEscaped(b, value []byte) []byte {
	const digits = "0123456789ABCDEF"
	for _, c := range value {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '.', c == '_', c == '~':
			b = append(b, c)
		default:
			b = append(b, '%', digits[c>>4], digits[c&15])
		}
	}
	return b
}
