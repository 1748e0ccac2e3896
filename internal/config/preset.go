package config

import (
	"maps"
	"slices"
)

// Preset describes the outbox table of a framework.
type Preset struct {
	Name  string // value of outbox.preset
	Title string // the framework, for people

	// Outbox has the keys that the preset fills: Table, Columns, Defaults,
	// Extensions, TimeUnit and NullPayload.
	Outbox Outbox

	// Marks are further columns by which such a table is recognised.
	Marks []string

	// Dispatcher is the part of the framework that sends the rows itself; empty if
	// there is none. It updates the columns Status, or deletes rows if Deletes.
	Dispatcher string
	Status     []string
	Deletes    bool
	// TurnOff says how to keep the dispatcher from sending.
	TurnOff string
}

// Presets returns all presets, sorted by name.
func Presets() []Preset { return slices.Clone(presets) }

// FindPreset returns the preset of that name.
func FindPreset(name string) (Preset, bool) {
	i := slices.IndexFunc(presets, func(p Preset) bool { return p.Name == name })
	if i < 0 {
		return Preset{}, false
	}
	return presets[i], true
}

// Apply fills the keys of the preset. It replaces what they held.
func (p Preset) Apply(o *Outbox) {
	o.Preset = p.Name
	o.Table, o.Columns, o.Defaults = p.Outbox.Table, p.Outbox.Columns, p.Outbox.Defaults
	o.Extensions = maps.Clone(p.Outbox.Extensions)
	if p.Outbox.TimeUnit != "" {
		o.TimeUnit = p.Outbox.TimeUnit
	}
	if p.Outbox.NullPayload != "" {
		o.NullPayload = p.Outbox.NullPayload
	}
}
