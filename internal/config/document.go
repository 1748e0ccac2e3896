package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/knadh/koanf/maps"
	"go.yaml.in/yaml/v3"
)

// delimiter joins the parts of a path inside koanf. Unlike the dot, it occurs
// in no name: names of topic configurations contain dots.
const delimiter = "\x1f"

// document reads YAML against the tree of keys. Every scalar is taken as
// written, because its key determines its meaning, not its form: a password
// 0123 stays those four digits, and a version 3.10 keeps its zero. document
// collects all problems. No problem repeats a value.
type document struct {
	name     string         // of the file, for messages
	values   map[string]any // by path
	lines    map[string]int // by dotted path
	problems []*Problem
}

func newDocument(name string) *document {
	return &document{name: name, values: map[string]any{}, lines: map[string]int{}}
}

// Unmarshal makes document a parser for koanf. It fails only if the text is not
// YAML.
func (d *document) Unmarshal(content []byte) (map[string]any, error) {
	node, err := parseYAML(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.name, err)
	}
	if node != nil {
		d.section(node, root, nil)
	}
	return maps.Unflatten(d.values, delimiter), nil
}

// Marshal is never called. koanf's parser interface requires it.
func (d *document) Marshal(map[string]any) ([]byte, error) { return nil, errors.ErrUnsupported }

// parseYAML returns the content of the only document in the text, or nil if
// there is none.
func parseYAML(content []byte) (*yaml.Node, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	var first, second yaml.Node
	switch err := decoder.Decode(&first); {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil && strings.Contains(err.Error(), "unknown anchor"):
		// The library's message repeats the name, which may be a password.
		return nil, errors.New("a value begins with * and is taken for a YAML alias: put it in quotes")
	case err != nil:
		return nil, err
	}
	if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one YAML document: keep only one")
	}
	return first.Content[0], nil
}

func (d *document) section(n *yaml.Node, k *key, path []string) {
	entries, ok := d.mapping(n, path)
	if !ok {
		return
	}
	for _, e := range entries {
		at := append(slices.Clip(path), e.name)
		child := k.child(e.name)
		if child == nil {
			d.unknown(e, at)
			continue
		}
		switch child.kind {
		case kindSection:
			d.lines[dotted(at)] = e.line
			d.section(e.value, child, at)
		case kindTable:
			d.table(e.value, at)
		default:
			if value, ok := d.value(e.value, child, at); ok {
				d.set(at, e.line, value)
			}
		}
	}
}

func (d *document) table(n *yaml.Node, path []string) {
	entries, _ := d.mapping(n, path)
	for _, e := range entries {
		at := append(slices.Clip(path), e.name)
		if value, ok := d.scalar(e.value, at); ok {
			d.set(at, e.line, value)
		}
	}
}

func (d *document) set(path []string, line int, value any) {
	d.values[strings.Join(path, delimiter)] = value
	d.lines[dotted(path)] = line
}

// value returns what a setting holds, and false when it is not set or wrong.
func (d *document) value(n *yaml.Node, k *key, path []string) (any, bool) {
	n = resolve(n)
	switch {
	case k.kind == kindRecords && n.Kind == yaml.SequenceNode:
		return d.records(n, k, path), true
	case k.kind == kindRecords && !isNull(n):
		d.problem(path, n.Line, "a list is expected here: begin each item with a dash")
		return nil, false
	case k.kind == kindList && n.Kind == yaml.SequenceNode:
		values := make([]any, 0, len(n.Content))
		for i, item := range n.Content {
			if value, ok := d.scalar(item, indexed(path, i)); ok {
				values = append(values, value)
			}
		}
		return values, true
	}
	return d.scalar(n, path)
}

func (d *document) records(n *yaml.Node, k *key, path []string) []any {
	items := make([]any, 0, len(n.Content))
	for i, item := range n.Content {
		at := indexed(path, i)
		d.lines[dotted(at)] = item.Line
		items = append(items, d.record(item, k, at))
	}
	return items
}

// record returns the values of a record, or of a section in one, by their names.
func (d *document) record(n *yaml.Node, k *key, path []string) map[string]any {
	values := map[string]any{}
	entries, _ := d.mapping(n, path)
	for _, e := range entries {
		at := append(slices.Clip(path), e.name)
		child := k.child(e.name)
		if child == nil {
			d.unknown(e, at)
			continue
		}
		d.lines[dotted(at)] = e.line
		switch child.kind {
		case kindSection:
			values[e.name] = d.record(e.value, child, at)
		case kindTable:
			values[e.name] = d.recordTable(e.value, at)
		default:
			if value, ok := d.value(e.value, child, at); ok {
				values[e.name] = value
			}
		}
	}
	return values
}

func (d *document) recordTable(n *yaml.Node, path []string) map[string]any {
	values := map[string]any{}
	entries, _ := d.mapping(n, path)
	for _, e := range entries {
		at := append(slices.Clip(path), e.name)
		if value, ok := d.scalar(e.value, at); ok {
			d.lines[dotted(at)] = e.line
			values[e.name] = value
		}
	}
	return values
}

// scalar returns a text as written, and false for null, which leaves a key
// unset, and for anything that is not a scalar.
func (d *document) scalar(n *yaml.Node, path []string) (string, bool) {
	n = resolve(n)
	switch {
	case n.Kind != yaml.ScalarNode:
		d.problem(path, n.Line, "a single value is expected here, not a list or a mapping")
	case isForeign(n):
		d.problem(path, n.Line, "put the value in quotes: ! and & at the beginning of a YAML value have a special meaning")
	case !isNull(n):
		return n.Value, true
	}
	return "", false
}

type entry struct {
	name  string
	line  int
	value *yaml.Node
}

// mapping returns the entries of a mapping. null is an empty mapping.
func (d *document) mapping(n *yaml.Node, path []string) ([]entry, bool) {
	n = resolve(n)
	if isNull(n) {
		return nil, true
	}
	if n.Kind != yaml.MappingNode {
		d.problem(path, n.Line, "keys with values are expected here")
		return nil, false
	}
	var entries []entry
	seen := map[string]int{}
	for i := 0; i < len(n.Content); i += 2 {
		name, line := resolve(n.Content[i]).Value, n.Content[i].Line
		if first, again := seen[name]; again {
			d.problem(append(slices.Clip(path), name), line, fmt.Sprintf("the key is already set on line %d: keep one of the two", first))
			continue
		}
		seen[name] = line
		entries = append(entries, entry{name: name, line: line, value: n.Content[i+1]})
	}
	return entries, true
}

func (d *document) unknown(e entry, path []string) {
	d.problems = append(d.problems, &Problem{
		Key:    dotted(path),
		Where:  d.where(e.line),
		Remedy: "unknown key" + suggestKey(dotted(path)),
	})
}

func (d *document) problem(path []string, line int, remedy string) {
	at := dotted(path)
	if at == "" {
		at = "configuration"
	}
	d.problems = append(d.problems, &Problem{Key: at, Where: d.where(line), Remedy: remedy})
}

func (d *document) where(line int) string { return fmt.Sprintf("%s:%d", d.name, line) }

// resolve follows an alias. The depth of the walk is limited by the tree of
// keys, so an alias inside itself does no harm.
func resolve(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// isForeign reports whether a scalar has its own tag, or is an anchor without a
// value. It is most likely a password that begins with the character for a tag
// or an anchor.
func isForeign(n *yaml.Node) bool {
	return !strings.HasPrefix(n.ShortTag(), "!!") || isNull(n) && n.Anchor != ""
}

func dotted(path []string) string { return strings.Join(path, ".") }

// indexed returns the path of an item of the list at path.
func indexed(path []string, i int) []string {
	at := append([]string(nil), path...)
	at[len(at)-1] += fmt.Sprintf("[%d]", i)
	return at
}
