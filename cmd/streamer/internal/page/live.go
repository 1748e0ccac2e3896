package page

import (
	"bytes"
	"encoding/json"
	"errors"
	"time"
)

// backlog is how many updates a viewer may be behind before it is dropped. Its
// browser connects again by itself.
const backlog = 4

var (
	errFull  = errors.New("too many viewers")
	errEnded = errors.New("the streamer has stopped")
)

// viewer is a browser that watches.
type viewer struct{ updates chan []byte } // closed when it is dropped

// viewers are all who watch. What is rendered for one is sent to all. The page's
// mutex guards it.
type viewers struct {
	all     map[*viewer]struct{}
	shown   map[string]string // parts of the page as the viewers have them
	updated time.Time
	at      string // the same, as the viewers have it
	ended   bool
}

func newViewers() viewers { return viewers{all: map[*viewer]struct{}{}} }

func (vs *viewers) watching() bool { return len(vs.all) > 0 }

// update sends what has changed to all viewers, and the time even if nothing
// has: a viewer that hears nothing has lost contact.
func (vs *viewers) update(now time.Time, v View) {
	parts := renderParts(v)
	changed := map[string]string{}
	for name, html := range parts {
		if vs.shown[name] != html {
			changed[name] = html
		}
	}
	vs.shown, vs.updated, vs.at = parts, now, v.At
	message := event("update", update{v.At, assetsVersion, changed})
	for one := range vs.all {
		select {
		case one.updates <- message:
		default:
			vs.remove(one)
		}
	}
}

// add adds a viewer, and gives it what the others have. That is at most one beat
// old: many who come at once neither cost much nor disturb those who are there.
func (vs *viewers) add(now time.Time, view func(time.Time) View) (*viewer, error) {
	if vs.ended {
		return nil, errEnded
	}
	if len(vs.all) >= mostViewers {
		return nil, errFull
	}
	if vs.shown == nil || now.Sub(vs.updated) >= beat {
		vs.update(now, view(now))
	}
	one := &viewer{updates: make(chan []byte, backlog)}
	one.updates <- event("update", update{vs.at, assetsVersion, vs.shown})
	vs.all[one] = struct{}{}
	return one, nil
}

func (vs *viewers) remove(one *viewer) {
	if _, there := vs.all[one]; there {
		delete(vs.all, one)
		close(one.updates)
	}
	if len(vs.all) == 0 {
		vs.shown = nil
	}
}

// dismiss ends all.
func (vs *viewers) dismiss() {
	vs.ended = true
	goodbye := event("end", struct{}{})
	for one := range vs.all {
		select {
		case one.updates <- goodbye:
		default:
		}
		vs.remove(one)
	}
}

// update is what a viewer gets.
type update struct {
	At     string            `json:"at"`
	Assets string            `json:"assets"`
	Parts  map[string]string `json:"parts"` // HTML, by name
}

// event is a message of server-sent events. JSON has no line breaks.
func event(kind string, data any) []byte {
	var text bytes.Buffer
	text.WriteString("event: " + kind + "\ndata: ")
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false) // it is no HTML for anybody before JSON is parsed
	_ = encoder.Encode(data)     // of strings only; ends with a line break
	text.WriteByte('\n')
	return text.Bytes()
}
