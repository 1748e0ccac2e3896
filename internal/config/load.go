package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/v2"
)

// DefaultFile is read when no other file is named. It may be missing.
const DefaultFile = "streamer.yaml"

// FileVariable is the environment variable that names the configuration file.
const FileVariable = environmentPrefix + "CONFIG"

// Options says where a configuration comes from. Later fields take precedence
// over earlier ones.
type Options struct {
	File         string            // YAML or JSON file; empty: STREAMER_CONFIG, then DefaultFile
	NoFile       bool              // read no file at all
	FileExplicit bool              // the operator named File, so it must exist and takes precedence over STREAMER_CONFIG
	Environ      []string          // environment as os.Environ returns it
	Flags        map[string]string // command-line flags that were given: key such as "kafka.brokers" (or kafka-brokers), value
}

// Loaded is a complete and valid configuration.
type Loaded struct {
	Config Config

	// Origins holds, for each key, where its value comes from: "default", "file
	// streamer.yaml", "environment STREAMER_KAFKA_TOPIC" or "--set kafka.topic".
	// Entries of tables have their own keys.
	Origins map[string]string
}

// origin is where a value was set: name for the effective configuration, where
// for messages.
type origin struct{ name, where string }

type loader struct {
	tree     *koanf.Koanf
	origins  map[string]origin // of what is set, by dotted path
	problems []*Problem
}

// Load reads the file, the environment and the flags over the defaults, and
// validates the result. The error holds every problem found, each a *Problem.
// No problem contains a secret.
func Load(o Options) (*Loaded, error) {
	l := &loader{tree: koanf.New(delimiter), origins: map[string]origin{}}
	if !o.NoFile {
		if err := l.file(o); err != nil {
			return nil, err
		}
	}
	if err := l.environment(o.Environ); err != nil {
		return nil, err
	}
	if err := l.flags(o.Flags); err != nil {
		return nil, err
	}
	cfg := Default()
	l.preset(&cfg.Outbox)
	if err := l.decode(&cfg); err != nil {
		return nil, err
	}
	cfg.normalise()
	l.validate(cfg)
	if len(l.problems) > 0 {
		return nil, join(l.problems)
	}
	return &Loaded{Config: cfg, Origins: l.allOrigins(cfg)}, nil
}

func (l *loader) file(o Options) error {
	name, explicit := o.File, o.FileExplicit
	if !explicit {
		for _, variable := range o.Environ {
			if value, ok := strings.CutPrefix(variable, FileVariable+"="); ok && value != "" {
				name, explicit = value, true
			}
		}
	}
	if name == "" {
		name = DefaultFile
	}
	doc := newDocument(name)
	err := l.tree.Load(file.Provider(name), doc)
	if errors.Is(err, fs.ErrNotExist) && !explicit {
		return nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read configuration file: %w: create it or name another one", err)
	}
	if err != nil {
		return fmt.Errorf("read configuration file: %w", err)
	}
	for at, line := range doc.lines {
		l.origins[at] = origin{name: "file " + name, where: doc.where(line)}
	}
	l.problems = append(l.problems, doc.problems...)
	return nil
}

func (l *loader) environment(environ []string) error {
	return l.tree.Load(env.Provider(delimiter, env.Opt{
		Prefix:      environmentPrefix,
		EnvironFunc: func() []string { return environ },
		TransformFunc: func(variable, value string) (string, any) {
			if isIgnored(variable, value) {
				return "", nil
			}
			k, path := lookup(variable)
			if k == nil {
				l.problems = append(l.problems, &Problem{
					Key: variable, Remedy: "unknown environment variable" + suggestEnvironment(variable),
				})
				return "", nil
			}
			set := "environment " + variable
			return l.assign(k, path, value, origin{name: set, where: set})
		},
	}), nil)
}

func (l *loader) flags(flags map[string]string) error {
	values := map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(flags)) {
		k, path := lookup(environmentPrefix + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(name)))
		if k == nil {
			l.problems = append(l.problems, &Problem{Key: "--set " + name, Remedy: "unknown key" + suggestFlag(name)})
			continue
		}
		if entry := len(path) - 1; slices.Contains(caseSensitive, k.path) {
			path[entry] = name[len(name)-len(path[entry]):]
		}
		set := "--set " + name
		if at, value := l.assign(k, path, flags[name], origin{name: set, where: set}); at != "" {
			values[at] = value
		}
	}
	return l.tree.Load(confmap.Provider(values, delimiter), nil)
}

// assign notes where the key at path was set, and returns its path and value
// for koanf. Records are returned as YAML.
func (l *loader) assign(k *key, path []string, value string, set origin) (string, any) {
	at := dotted(path)
	maps.DeleteFunc(l.origins, func(other string, _ origin) bool { return strings.HasPrefix(other, at+"[") })
	l.origins[at] = set
	if k.kind != kindRecords {
		return strings.Join(path, delimiter), value
	}
	doc := newDocument(set.name)
	node, err := parseYAML([]byte(value))
	if err != nil || node == nil || isNull(node) {
		l.problems = append(l.problems, &Problem{
			Key: at, Where: set.where, Remedy: "write the list as in the file, on one line: " + k.example,
		})
		return "", nil
	}
	items, ok := doc.value(node, k, path)
	for _, p := range doc.problems {
		p.Where = set.where
		l.problems = append(l.problems, p)
	}
	if !ok {
		return "", nil
	}
	return strings.Join(path, delimiter), items
}

// preset fills the keys of the preset that is set, if there is such a one, so
// that what is set is written over them.
func (l *loader) preset(o *Outbox) {
	name, _ := l.tree.Get("outbox" + delimiter + "preset").(string)
	p, ok := FindPreset(name)
	if !ok {
		return // validation says so
	}
	before := plain(root.child("outbox"), valueOf(*o))
	p.Apply(o)
	l.presetOrigins(p, before, plain(root.child("outbox"), valueOf(*o)), "outbox.")
}

// presetOrigins notes what the preset has changed and nothing else sets.
func (l *loader) presetOrigins(p Preset, before, after map[string]any, prefix string) {
	for name, value := range after {
		switch value := value.(type) {
		case map[string]any:
			l.presetOrigins(p, before[name].(map[string]any), value, prefix+name+".")
			continue
		case []any: // no preset has routes
			continue
		case map[string]string:
			for entry := range value {
				l.presetOrigin(p, prefix+name+"."+entry)
			}
			continue
		}
		if before[name] != value {
			l.presetOrigin(p, prefix+name)
		}
	}
}

func (l *loader) presetOrigin(p Preset, at string) {
	if _, set := l.origins[at]; !set {
		l.origins[at] = origin{name: "preset " + p.Name, where: "preset " + p.Name}
	}
}

// decode writes what is set over the defaults in cfg. A key that cannot be
// decoded keeps its default.
func (l *loader) decode(cfg *Config) error {
	entries, _ := l.tree.Get(outboxes).([]any)
	l.tree.Delete(outboxes)
	if err := l.decodeInto("", l.tree.Raw(), cfg); err != nil {
		return err
	}
	for i, values := range entries {
		entry := Default().Outbox
		entry.Table = ""
		if set, ok := values.(map[string]any); ok {
			name, _ := set["preset"].(string)
			if p, ok := FindPreset(name); ok {
				p.Apply(&entry)
			}
		}
		if err := l.decodeInto(fmt.Sprintf("%s[%d].", outboxes, i), values, &entry); err != nil {
			return err
		}
		cfg.Outboxes = append(cfg.Outboxes, entry)
	}
	return nil
}

// outboxes is the list whose entries have defaults.
const outboxes = "outboxes"

func (l *loader) decodeInto(at string, values, into any) error {
	decoder, err := mapstructure.NewDecoder(&mapstructure.DecoderConfig{
		DecodeHook: decodeText, TagName: "koanf", Result: into,
	})
	if err == nil {
		err = decoder.Decode(values)
	}
	errs := decodeErrors(err)
	if err != nil && len(errs) == 0 {
		return fmt.Errorf("decode configuration: %w", err)
	}
	for _, e := range errs {
		p := &Problem{Key: at + e.Name(), Where: l.whereOf(at + e.Name()), Remedy: e.Unwrap().Error()}
		if value, ok := l.tree.Get(strings.ReplaceAll(e.Name(), ".", delimiter)).(string); ok && at == "" {
			p.Value = quote(value)
		}
		l.problems = append(l.problems, p)
	}
	return nil
}

// decodeErrors returns the errors of single keys that mapstructure has joined.
func decodeErrors(err error) []*mapstructure.DecodeError {
	switch e := err.(type) { //nolint:errorlint // it walks the tree of errors itself
	case *mapstructure.DecodeError:
		return []*mapstructure.DecodeError{e}
	case interface{ Unwrap() []error }:
		var found []*mapstructure.DecodeError
		for _, inner := range e.Unwrap() {
			found = append(found, decodeErrors(inner)...)
		}
		return found
	case interface{ Unwrap() error }:
		return decodeErrors(e.Unwrap())
	}
	return nil
}

// decodeText is mapstructure's hook: it turns the text of a setting into its
// type.
func decodeText(_, to reflect.Type, data any) (any, error) {
	value, ok := data.(string)
	if !ok {
		return data, nil
	}
	if to.Kind() == reflect.String {
		return value, nil
	}
	switch kindOf(to) {
	case kindBoolean:
		b, err := strconv.ParseBool(value)
		if err != nil {
			return nil, errors.New("write true or false")
		}
		return b, nil
	case kindInteger:
		n, err := strconv.Atoi(value)
		if err != nil {
			return nil, errors.New("write a whole number")
		}
		return n, nil
	case kindSize:
		return ParseSize(value)
	case kindDuration:
		d, err := time.ParseDuration(value)
		if err != nil {
			return nil, errors.New("write a duration with its unit, such as 500ms, 10s or 1m30s")
		}
		return d, nil
	case kindSecret:
		return NewSecret(value), nil
	case kindDSN:
		return NewDSN(value), nil
	case kindList:
		return splitList(value), nil
	default:
		return data, nil
	}
}

// splitList returns the items of a comma separated list.
func splitList(value string) []string {
	var items []string
	for item := range strings.SplitSeq(value, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}

// validate adds the problems of the decoded configuration, but not those of
// keys that already have one.
func (l *loader) validate(cfg Config) {
	known := map[string]bool{}
	for _, p := range l.problems {
		known[p.Key] = true
	}
	for _, p := range cfg.problems() {
		if !known[p.Key] {
			p.Where = l.whereOf(p.Key)
			l.problems = append(l.problems, p)
		}
	}
}

// whereOf returns where a key, or the list or record it is in, was set.
func (l *loader) whereOf(at string) string {
	for at != "" {
		if o, ok := l.origins[at]; ok {
			return o.where
		}
		at = at[:max(0, strings.LastIndexAny(at, ".["))]
	}
	return ""
}

func (l *loader) allOrigins(cfg Config) map[string]string {
	origins := map[string]string{}
	for _, s := range cfg.settings() {
		if s.kind == kindTable {
			for _, name := range s.value.MapKeys() {
				at := s.at + "." + name.String()
				origins[at] = l.origins[at].name
			}
		}
		o, ok := l.origins[s.at]
		if !ok {
			o.name = "default"
		}
		origins[s.at] = o.name
	}
	return origins
}
