package config

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/outboxstream/streamer/internal/pgname"
)

// columns checks what is mapped, and that nothing that every event needs is
// left out.
func (k *checker) columns(i int, o Outbox) {
	needed := valueOf(Default().Outbox.Columns)
	for _, s := range settingsOf(root.child("outbox").child("columns"), valueOf(o.Columns), k.below(i, "columns.")) {
		constant, hasConstant := o.Defaults.of(s.name)
		switch column := s.value.String(); {
		case column != "":
			k.reference(s.at, column)
		case needed.Field(s.index).IsZero(), constant != "":
		case hasConstant:
			k.addHidden(s.at, "every event needs it: name its column, or set the constant "+k.below(i, "defaults."+s.name))
		default:
			k.addHidden(s.at, "every event needs it: name its column")
		}
	}
	k.constants(i, o)
	if k.Shard.Count > 1 && wholeColumn(o.Columns.AggregateID) == "" {
		k.addHidden(
			"shard.count", "PostgreSQL shares rows out by a hash of the column of the aggregate ID, "+
				"and "+k.below(i, "columns.aggregate_id")+" names none: map a column without a JSON pointer, or use one shard",
		)
	}
}

// constants checks the constants of the i-th table, and returns them.
func (k *checker) constants(i int, o Outbox) []setting {
	all := settingsOf(root.child("outbox").child("defaults"), valueOf(o.Defaults), k.below(i, "defaults."))
	for _, s := range all {
		k.constant(s.at, s.value.String())
	}
	return all
}

// of returns the constant for a column by its key, and whether there can be one.
func (d Defaults) of(name string) (constant string, ok bool) {
	for _, s := range settingsOf(root.child("outbox").child("defaults"), valueOf(d), "") {
		if s.name == name {
			return s.value.String(), true
		}
	}
	return "", false
}

// reference checks a column or column#/json/pointer.
func (k *checker) reference(at, reference string) {
	c, ok := pgname.ParseColumn(reference)
	if !ok && reference != "" {
		k.add(at, reference, "write a column, or column#/json/pointer as defined in RFC 6901: in a pointer, ~0 stands for ~ and ~1 for /")
		return
	}
	k.identifier(at, c.Name)
}

// constant checks a value that goes into events as it is.
func (k *checker) constant(at, value string) {
	isForbidden := func(r rune) bool { return r == utf8.RuneError || unicode.IsControl(r) }
	if value != "" && (strings.TrimSpace(value) == "" || strings.ContainsFunc(value, isForbidden)) {
		k.add(at, value, "CloudEvents does not allow blank values and control characters")
	}
}
