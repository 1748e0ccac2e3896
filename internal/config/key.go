package config

import (
	"reflect"
	"slices"
	"strings"
	"time"
)

// kind is the kind of value that a key holds.
type kind int

const (
	kindSection kind = iota // further keys
	kindText
	kindBoolean
	kindInteger
	kindSize
	kindDuration
	kindSecret
	kindDSN
	kindList    // of texts
	kindTable   // texts by free names
	kindRecords // list of sections, which cannot be set one by one from the environment
)

// key is one node of the tree of everything that can be configured, as derived
// from the tags of Config.
type key struct {
	path     string // dotted, "routes[].topic" inside records
	name     string // last part of path
	doc      string
	enum     []string
	min, max string
	like     string // of records: the section that has the same keys
	required string // of records: the key that each must have
	example  string // of records
	kind     kind
	index    int // of the field in its struct
	children []*key
}

// root is the section that holds all keys.
var root = &key{kind: kindSection, children: keysOf(reflect.TypeFor[Config](), "")}

// environmentPrefix begins the name of every environment variable that is meant
// for the streamer.
const environmentPrefix = "STREAMER_"

func keysOf(structure reflect.Type, prefix string) []*key {
	var keys []*key
	for i := range structure.NumField() {
		field := structure.Field(i)
		k := &key{
			name: field.Tag.Get("koanf"),
			doc:  field.Tag.Get("doc"),
			min:  field.Tag.Get("min"),
			max:  field.Tag.Get("max"),
			like: field.Tag.Get("like"), required: field.Tag.Get("required"), example: field.Tag.Get("example"),
			kind:  kindOf(field.Type),
			index: i,
		}
		k.path = prefix + k.name
		if enum, ok := field.Tag.Lookup("enum"); ok {
			k.enum = strings.Split(enum, ",")
		}
		switch k.kind {
		case kindSection:
			k.children = keysOf(field.Type, k.path+".")
		case kindRecords:
			k.children = keysOf(field.Type.Elem(), k.path+"[].")
		default: // a setting has no keys below it
		}
		keys = append(keys, k)
	}
	return keys
}

func kindOf(t reflect.Type) kind {
	switch t {
	case reflect.TypeFor[time.Duration]():
		return kindDuration
	case reflect.TypeFor[Size]():
		return kindSize
	case reflect.TypeFor[Secret]():
		return kindSecret
	case reflect.TypeFor[DSN]():
		return kindDSN
	case reflect.TypeFor[[]string]():
		return kindList
	}
	switch t.Kind() {
	case reflect.Struct:
		return kindSection
	case reflect.Slice:
		return kindRecords
	case reflect.Map:
		return kindTable
	case reflect.String:
		return kindText
	case reflect.Bool:
		return kindBoolean
	case reflect.Int:
		return kindInteger
	}
	panic("config: no kind of key for a field of type " + t.String()) //nolint:forbidigo // a mistake in Config, which the first start shows
}

// child returns the key of that name directly below k, or nil.
func (k *key) child(name string) *key {
	for _, c := range k.children {
		if c.name == name {
			return c
		}
	}
	return nil
}

// environment returns the variable that sets the key, or the prefix of those
// that set its entries if k is a table.
func (k *key) environment() string {
	return environmentPrefix + strings.ToUpper(strings.ReplaceAll(k.path, ".", "_"))
}

// variable returns the environment variable in the form shown to the operator.
func (k *key) variable() string {
	if k.kind == kindTable {
		return k.environment() + "_<NAME>"
	}
	return k.environment()
}

// settings returns the keys below k that hold a value, in the order of Config.
// Records count as one.
func (k *key) settings() []*key {
	if k.kind != kindSection {
		return []*key{k}
	}
	var found []*key
	for _, c := range k.children {
		found = append(found, c.settings()...)
	}
	return found
}

// setting is a key together with its value in one configuration.
type setting struct {
	*key
	at    string // path with the index of a record: "routes[0].topic"
	value reflect.Value
}

// Key describes one setting for presentation, such as in the help of the
// command line.
type Key struct {
	Path        string   // dotted, as in Options.Flags
	Environment string   // variable that sets it; <NAME> stands for the name of a table's entry
	Default     string   // as text; empty if nothing is set
	Doc         string   // what it means, in full sentences
	Enum        []string // accepted values; none if any text is accepted
}

// Keys returns every setting in the order of the reference document. The
// records of routes count as one setting.
func Keys() []Key {
	var keys []Key
	for _, s := range Default().settings() {
		k := Key{Path: s.path, Environment: s.variable(), Default: s.shown(), Doc: s.doc, Enum: slices.Clone(s.enum)}
		switch s.kind {
		case kindList, kindTable, kindRecords:
			k.Default = strings.Trim(s.yaml(), "[]{}")
		default: // shown unchanged
		}
		keys = append(keys, k)
	}
	return keys
}
