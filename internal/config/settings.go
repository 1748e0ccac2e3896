package config

import (
	"fmt"
	"maps"
	"reflect"

	"github.com/outboxstream/streamer/internal/pgname"
)

// settings returns every key that holds a value, with its value. Records are
// followed by the keys inside each.
func (c Config) settings() []setting { return settingsOf(root, valueOf(c), "") }

func valueOf(structure any) reflect.Value { return reflect.ValueOf(structure) }

func settingsOf(k *key, structure reflect.Value, prefix string) []setting {
	var found []setting
	for _, c := range k.children {
		at, value := prefix+c.name, structure.Field(c.index)
		if c.kind == kindSection {
			found = append(found, settingsOf(c, value, at+".")...)
			continue
		}
		found = append(found, setting{key: c, at: at, value: value})
		if c.kind == kindRecords {
			for i := range value.Len() {
				found = append(found, settingsOf(c, value.Index(i), fmt.Sprintf("%s[%d].", at, i))...)
			}
		}
	}
	return found
}

// normalise converts values that may be written in several ways to one form.
func (c *Config) normalise() {
	c.Outbox.normalise()
	for i := range c.Outboxes {
		c.Outboxes[i].normalise()
	}
	c.Checkpoint.Postgres.Table = qualified(c.Checkpoint.Postgres.Table)
	c.Postgres.Slot += c.Shard.suffix()
	c.Postgres.Publication += c.Shard.suffix()
	if len(c.Routes) == 0 {
		c.Routes = nil
	}
	if len(c.Outboxes) == 0 {
		c.Outboxes = nil
	}
	if len(c.Kafka.SASL.Scopes) == 0 {
		c.Kafka.SASL.Scopes = nil
	}
}

func (o *Outbox) normalise() {
	o.Table = qualified(o.Table)
	if o.Messages != "" {
		o.takeMessages()
	}
	o.dropExtensions()
	if len(o.Routes) == 0 {
		o.Routes = nil
	}
}

// dropExtensions leaves out extensions of the preset that are set to nothing.
func (o *Outbox) dropExtensions() {
	p, _ := FindPreset(o.Preset)
	maps.DeleteFunc(o.Extensions, func(name, column string) bool { return column == "" && p.Outbox.Extensions[name] != "" })
}

// qualified is the one form of a table's name, with its schema. Validation
// refuses what is none.
func qualified(table string) string {
	if t, ok := pgname.Parse(table); ok {
		return t.String()
	}
	return table
}
