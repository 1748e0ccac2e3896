package decoder

import (
	"bytes"
	"errors"
	"fmt"
	"unicode/utf8"
)

// fill builds the event from the values of the row, or from a message. Every
// error is a *PoisonError.
func (d *Decoder) fill() error {
	e, t := &d.event, d.row
	e.Table, e.Extensions, e.Headers = t.index, t.extensions, t.headers
	if e.attributes = [attributeCount][]byte{}; t.defaults != nil {
		e.attributes = *t.defaults
	}
	e.Time, e.Data, e.HasData = e.CommitTime, nil, false
	d.scratch, d.checked = d.scratch[:0], nil
	var problem error
	if t.mapping.Messages != "" {
		problem = d.readEvent()
	} else {
		problem = d.fillRow()
	}
	if problem == nil {
		return nil
	}
	if m := d.charset; m != nil && errors.Is(problem, errEncoding) {
		problem = fmt.Errorf("a byte stands for no character in %s: %w", m, problem)
	}
	return d.poison(problem)
}

// fillRow builds the event from columns. The first problem is reported at the
// end, when the row's ID is known.
func (d *Decoder) fillRow() (problem error) {
	e, t := &d.event, d.row
	for i, a := range t.attributes {
		if err := d.fillAttribute(i, a); err != nil && problem == nil {
			problem = fmt.Errorf("column %q: %w", t.mapping.Columns[a], err)
		}
	}
	for i := range e.Extensions {
		if err := d.fillExtension(len(t.attributes)+i, &e.Extensions[i]); err != nil && problem == nil {
			problem = fmt.Errorf("column %q: %w", t.mapping.Extensions[e.Extensions[i].Name], err)
		}
	}
	for i := range e.Headers {
		target := len(t.attributes) + len(e.Extensions) + i
		if err := d.fillHeader(target, &e.Headers[i]); err != nil && problem == nil {
			problem = fmt.Errorf("column %q: %w", t.mapping.Headers[i], err)
		}
	}
	return problem
}

func (d *Decoder) poison(err error) error {
	p := &PoisonError{Position: d.event.Position, Reason: err.Error()}
	if id := d.event.attributes[ID]; checkString(id) == nil {
		p.EventID = string(id)
	}
	return p
}

// remedy is the only remedy for a row that is itself wrong.
const remedy = ": correct the application"

var (
	errNull     = errors.New("value is NULL, an event needs it" + remedy)
	errEmpty    = errors.New("value is empty or blank, an event needs it" + remedy)
	errEncoding = errors.New("value is not valid UTF-8" + remedy)
	errControl  = errors.New("value holds control characters or noncharacters, which CloudEvents does not allow" + remedy)
)

// required reports whether there is no event without the attribute, if it is
// mapped.
func required(a Attribute) bool { return a <= Type }

func (d *Decoder) fillAttribute(target int, a Attribute) (err error) {
	e, v := &d.event, &d.row.values[target]
	if d.row.pointers != nil {
		if v, err = d.source(target); err != nil {
			return err
		}
	}
	switch {
	case v.null && required(a) && e.attributes[a] == nil:
		return errNull
	case a == Payload:
		return d.fillData(v)
	case v.null:
		return nil
	case a == Time:
		if e.Time, err = v.micro(); err == errNoTimestamp { //nolint:errorlint // it is never wrapped
			e.Time, err = v.instant(d.row.unit)
		}
		return err
	}
	var text []byte
	if text, d.scratch, err = v.appendText(d.scratch); err != nil {
		return err
	}
	if err := checkString(text); err != nil {
		return err
	}
	switch {
	case !blank(text):
		e.attributes[a] = text
	case required(a) && e.attributes[a] == nil:
		return errEmpty
	}
	return nil
}

func (d *Decoder) fillData(v *value) (err error) {
	e := &d.event
	e.DataKind = v.dataKind()
	if v.null {
		return nil
	}
	e.HasData = true
	e.Data, d.scratch, err = v.data(d.scratch)
	if err == nil && e.DataKind != Bytes && !utf8.Valid(e.Data) {
		return errEncoding
	}
	return err
}

func (d *Decoder) fillExtension(target int, x *Extension) (err error) {
	x.Value = nil
	v := &d.row.values[target]
	if d.row.pointers != nil {
		if v, err = d.source(target); err != nil {
			return err
		}
	}
	x.Kind = v.extensionKind()
	if v.null {
		return nil
	}
	var text []byte
	if text, d.scratch, err = v.appendText(d.scratch); err != nil {
		return err
	}
	if err := checkString(text); err != nil || blank(text) {
		return err
	}
	x.Value = text
	return nil
}

// fillHeader takes any text, also one that no attribute could have.
func (d *Decoder) fillHeader(target int, h *Header) (err error) {
	v := &d.row.values[target]
	if d.row.pointers != nil {
		if v, err = d.source(target); err != nil {
			return err
		}
	}
	*h = Header{Bare: v.isBare()}
	if v.null {
		return nil
	}
	var text []byte
	if d.row.mapping.AsDebezium {
		text, d.scratch, err = v.appendDebezium(d.scratch)
	} else {
		text, d.scratch, err = v.appendText(d.scratch)
	}
	switch {
	case err != nil:
		return err
	case !utf8.Valid(text):
		return errEncoding
	case text == nil:
		text = []byte{} // empty, but not NULL
	}
	h.Value = text
	return nil
}

// blank reports whether CloudEvents takes a value for empty, which no attribute
// may be: the SDKs trim white space before they look.
func blank(text []byte) bool {
	return len(text) == 0 || (text[0] <= ' ' || text[0] >= utf8.RuneSelf) && len(bytes.TrimSpace(text)) == 0
}

// checkString applies the rules for the CloudEvents type String: Unicode
// without control characters and noncharacters.
func checkString(text []byte) error {
	for i := range text {
		if c := text[i]; c >= utf8.RuneSelf {
			return checkUnicode(text[i:])
		} else if c < ' ' || c == 0x7f {
			return errControl
		}
	}
	return nil
}

func checkUnicode(text []byte) error {
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		switch {
		case r == utf8.RuneError && size <= 1:
			return errEncoding
		case r < ' ', r >= 0x7f && r <= 0x9f, r >= 0xfdd0 && r <= 0xfdef, r&0xfffe == 0xfffe:
			return errControl
		}
		text = text[size:]
	}
	return nil
}
