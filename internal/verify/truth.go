package verify

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router/wire"
)

// TruthHeader is the first line of a truth file. docs/verify.md describes the
// format.
type TruthHeader struct {
	Version int `json:"streamer_truth"`
	// Streams are the identities in the header streamer-stream.
	Streams []string `json:"streams,omitempty"`
	// Opened is the end of the WAL before the recording began, as an LSN.
	Opened string    `json:"opened_lsn,omitempty"`
	Table  string    `json:"table,omitempty"`
	At     time.Time `json:"recorded_at,omitzero"`
}

const (
	truthVersion = 1
	// longestTruth bounds a line of a truth file, in bytes.
	longestTruth = 16 << 20
)

// truthLine is any further line.
type truthLine struct {
	ID          string            `json:"id"`
	Topic       *string           `json:"topic,omitempty"`
	Key         *string           `json:"key,omitempty"`
	KeyBase64   []byte            `json:"key_base64,omitempty"` // for a key that is not UTF-8
	Type        *string           `json:"type,omitempty"`
	Subject     *string           `json:"subject,omitempty"`
	Source      *string           `json:"source,omitempty"`
	Time        *string           `json:"time,omitempty"`
	ContentType *string           `json:"datacontenttype,omitempty"`
	Payload     *string           `json:"payload_sha256,omitempty"` // hex, or "absent"
	Extensions  map[string]string `json:"extensions,omitempty"`
	Compared    bool              `json:"extensions_known,omitempty"`
	Written     time.Time         `json:"written_at,omitzero"`
	Sequence    string            `json:"sequence,omitempty"`
	Unreadable  bool              `json:"unreadable,omitempty"`
}

// absentPayload stands for a null record value, or an event without data.
const absentPayload = "absent"

// TruthWriter writes a truth file.
type TruthWriter struct {
	encoder *json.Encoder
	rows    int64
}

// NewTruthWriter writes the header.
func NewTruthWriter(w io.Writer, h TruthHeader) (*TruthWriter, error) {
	h.Version = truthVersion
	t := &TruthWriter{encoder: json.NewEncoder(w)}
	t.encoder.SetEscapeHTML(false)
	return t, t.encoder.Encode(h)
}

// Rows is the number of rows written.
func (t *TruthWriter) Rows() int64 { return t.rows }

// Write writes a row.
func (t *TruthWriter) Write(r *Row) error {
	line := truthLine{
		ID: string(r.ID), Topic: text(r.Topic), Type: text(r.Type), Subject: text(r.Subject), Source: text(r.Source),
		Time: text(r.Time), ContentType: text(r.ContentType), Compared: r.HasAttributes, Written: r.Written, Unreadable: r.Unreadable,
	}
	if utf8.Valid(r.Key) {
		line.Key = text(r.Key)
	} else {
		line.KeyBase64 = r.Key
	}
	if r.Payload != nil {
		hash := hex.EncodeToString(r.Payload[:])
		if *r.Payload == (PayloadHash{}) {
			hash = absentPayload
		}
		line.Payload = &hash
	}
	if r.Position != (replication.Position{}) {
		line.Sequence = sequence(r.Position)
	}
	for _, a := range r.Attributes {
		if line.Extensions == nil {
			line.Extensions = map[string]string{}
		}
		line.Extensions[a.Name] = string(a.Value)
	}
	t.rows++
	return t.encoder.Encode(line)
}

func text(value []byte) *string {
	if value == nil {
		return nil
	}
	s := string(value)
	return &s
}

func bytesOf(s *string) []byte {
	if s == nil {
		return nil
	}
	return append([]byte{}, *s...)
}

// ReadTruth hands the rows of a truth file to visit, and headers to header.
// Files may be concatenated: each keeps its header.
func ReadTruth(r io.Reader, header func(TruthHeader) error, visit func(*Row) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), longestTruth)
	for number := 1; lines.Scan(); number++ {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		if err := readTruthLine(line, header, visit); err != nil {
			return fmt.Errorf("line %d: %w", number, err)
		}
	}
	return lines.Err()
}

var errTruth = errors.New("not a line of a truth file: neither a header with streamer_truth nor a row with id")

func readTruthLine(line []byte, header func(TruthHeader) error, visit func(*Row) error) error {
	var h TruthHeader
	if bytes.Contains(line, []byte(`"streamer_truth"`)) && json.Unmarshal(line, &h) == nil && h.Version != 0 {
		if h.Version > truthVersion {
			return fmt.Errorf("format %d, but this streamer reads up to %d", h.Version, truthVersion)
		}
		return header(h)
	}
	var l truthLine
	if err := json.Unmarshal(line, &l); err != nil || l.ID == "" {
		return errTruth
	}
	row, err := l.row()
	if err != nil {
		return fmt.Errorf("event %q: %w", l.ID, err)
	}
	return visit(row)
}

func (l *truthLine) row() (*Row, error) {
	r := &Row{
		ID: []byte(l.ID), Topic: bytesOf(l.Topic), Key: bytesOf(l.Key), Type: bytesOf(l.Type), Subject: bytesOf(l.Subject),
		Source: bytesOf(l.Source), Time: bytesOf(l.Time), ContentType: bytesOf(l.ContentType), Written: l.Written,
		HasAttributes: l.Compared || len(l.Extensions) > 0, Unreadable: l.Unreadable,
	}
	if l.KeyBase64 != nil {
		r.Key = l.KeyBase64
	}
	for name, value := range l.Extensions {
		r.Attributes = append(r.Attributes, Attribute{name, []byte(value)})
	}
	if l.Payload != nil {
		hash := PayloadHash{}
		if *l.Payload != absentPayload {
			raw, err := hex.DecodeString(*l.Payload)
			if err != nil || len(raw) != len(hash) {
				return nil, errors.New("payload_sha256 is neither 64 hexadecimal digits nor absent")
			}
			copy(hash[:], raw)
		}
		r.Payload = &hash
	}
	if l.Sequence != "" {
		position, err := wire.ParseSequence(l.Sequence)
		if err != nil {
			return nil, err
		}
		r.Position = position
	}
	return r, nil
}

// OpenedLSN is Opened as a number, 0 if it is missing.
func (h TruthHeader) OpenedLSN() (replication.LSN, error) {
	if h.Opened == "" {
		return 0, nil
	}
	lsn, err := replication.ParseLSN(h.Opened)
	if err != nil {
		return 0, fmt.Errorf("opened_lsn: %w", err)
	}
	return lsn, nil
}
