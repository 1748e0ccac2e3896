package verify

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/replication"
)

func TestTruthFile(t *testing.T) {
	t.Parallel()
	hash, absent := HashPayload([]byte("x"), true), HashPayload(nil, false)
	rows := []Row{
		{ID: []byte("only an id")},
		{
			ID: []byte("1"), Topic: []byte("t"), Key: []byte("<k>"), Type: []byte("ty"), Subject: []byte("s"), Source: []byte("/s"),
			Time:        []byte("2026-11-21T11:33:26Z"),
			ContentType: []byte("a/b"), Payload: &hash, HasAttributes: true, Attributes: []Attribute{{"tenant", []byte("7")}},
			Written: time.UnixMicro(1_700_000_000_123_456).UTC(), Position: replication.Position{Commit: 0xda08ce68, Ordinal: 3},
		},
		{ID: []byte("2"), Key: []byte{0xff, 0}, Payload: &absent, HasAttributes: true, Unreadable: true},
		{ID: []byte("3"), Key: []byte{}},
	}
	var file bytes.Buffer
	header := TruthHeader{
		Streams: []string{"a", "b"},
		Opened:  "0/15306C8",
		Table:   "public.outbox",
		At:      time.UnixMicro(1_700_000_000_000_001).UTC(),
	}
	w, err := NewTruthWriter(&file, header)
	require.NoError(t, err)
	for i := range rows {
		require.NoError(t, w.Write(&rows[i]))
	}
	assert.EqualValues(t, len(rows), w.Rows())
	text := file.String()
	assert.Contains(t, text, `{"id":"1","topic":"t","key":"<k>",`)
	assert.Contains(t, text, `"sequence":"00000000da08ce68-00000003"`)

	var headers []TruthHeader
	var read []Row
	err = ReadTruth(strings.NewReader(text+"\n"+text), func(h TruthHeader) error {
		headers = append(headers, h)
		return nil
	}, func(r *Row) error {
		read = append(read, *r)
		return nil
	})
	require.NoError(t, err)
	header.Version = 1
	assert.Equal(t, []TruthHeader{header, header}, headers)
	assert.Equal(t, append(rows, rows...), read)
	lsn, err := headers[0].OpenedLSN()
	require.NoError(t, err)
	assert.EqualValues(t, 0x15306C8, lsn)
}

func TestTruthFileErrors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, says string }{
		"no JSON":            {`{"id":"1"}` + "\nhello", "line 2: not a line of a truth file"},
		"no id":              {`{"topic":"t"}`, "line 1: not a line of a truth file"},
		"a newer format":     {`{"streamer_truth":2}`, "format 2, but this streamer reads up to 1"},
		"a wrong hash":       {`{"id":"1","payload_sha256":"12"}`, `line 1: event "1": payload_sha256`},
		"a wrong sequence":   {`{"id":"1","sequence":"12"}`, `sequence "12"`},
		"a line without end": {`{"id":"` + strings.Repeat("x", longestTruth) + `"}`, "too long"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := ReadTruth(strings.NewReader(c.text), func(TruthHeader) error { return nil }, func(*Row) error { return nil })
			assert.ErrorContains(t, err, c.says)
		})
	}
	_, err := TruthHeader{Opened: "x"}.OpenedLSN()
	assert.ErrorContains(t, err, "opened_lsn")
}

// The same event from two recordings counts as one; where they differ, either
// version counts.
func TestUnion(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(o *Options) { o.Union = true })
	b.row(1, nil)
	b.row(1, nil)
	b.row(2, nil)
	b.row(2, func(r *Row) { r.Type = []byte("changed since") })
	b.records(1, 2, 1)
	counts := b.compare()
	assert.Equal(t, []string{"repeated 1 @2 after @0"}, b.told())
	assert.EqualValues(t, 3, counts.Rows)
}

func TestExpectation(t *testing.T) {
	t.Parallel()
	rules := sampleRules()
	rules.Columns = append(rules.Columns, "at", "paid", "raw", "millis")
	rules.Types = append(rules.Types, typeTimestamptz, typeBool, typeBytea, typeInt8)
	rules.Extensions = map[string]string{"at": "at", "paid": "paid", "raw": "raw"}
	rules.Key = "{aggregate_type}/{paid}"
	rules.Routes = []Route{{AggregateType: "audit*", Topic: "audit", Mode: "structured", NullPayload: "tombstone"}}
	values := func() [][]byte {
		return append(sampleValues(1, "x"), []byte("2026-11-21 11:33:26.150000+00"), []byte("t"), []byte(`\x00ff`), []byte("1700000000123"))
	}
	row := func(t *testing.T, change func(*Rules, [][]byte)) (*Row, error) {
		t.Helper()
		r, v := rules, values()
		if change != nil {
			change(&r, v)
		}
		e, err := NewExpectation(r)
		require.NoError(t, err)
		return e.Row(v)
	}
	t.Run("a plain row", func(t *testing.T) {
		t.Parallel()
		r, err := row(t, nil)
		require.NoError(t, err)
		payload := HashPayload([]byte(`{"n": "x"}`), true)
		assert.Equal(t, &Row{
			ID: []byte(sampleID(1)), Topic: []byte("outbox.event.order"), Key: []byte("order/true"),
			Type: []byte("com.example.order.placed"), Subject: []byte("order-42"),
			Source: []byte("/outbox/shop/public.outbox"), ContentType: []byte("application/json"), Payload: &payload, HasAttributes: true,
			Attributes: []Attribute{{"at", []byte("2026-11-21T11:33:26.15Z")}, {"paid", []byte("true")}, {"raw", []byte("AP8=")}},
		}, r)
	})
	t.Run("the content type of a column", func(t *testing.T) {
		t.Parallel()
		payload := slices.Index(rules.Columns, "payload")
		for oid, want := range map[uint32]string{
			typeJSONB: "application/json", typeXML: "application/xml", typeBytea: "application/octet-stream", 25: "text/plain; charset=utf-8",
		} {
			r, err := row(t, func(r *Rules, v [][]byte) {
				r.Types = slices.Clone(r.Types)
				r.Types[payload], v[payload] = oid, []byte(`\x00`)
			})
			require.NoError(t, err)
			assert.Equal(t, want, string(r.ContentType))
		}
	})
	t.Run("a time in milliseconds", func(t *testing.T) {
		t.Parallel()
		r, err := row(t, func(r *Rules, _ [][]byte) {
			r.Attributes = map[string]string{"id": "id", "time": "millis"}
		})
		require.NoError(t, err)
		assert.Equal(t, "2023-11-14T22:13:20.123Z", string(r.Time))
	})
	t.Run("a route of its own", func(t *testing.T) {
		t.Parallel()
		r, err := row(t, func(_ *Rules, v [][]byte) { v[1], v[3] = []byte("audit.log"), nil })
		require.NoError(t, err)
		assert.Equal(t, "audit", string(r.Topic))
		assert.True(t, r.Unreadable)
		assert.Nil(t, r.ContentType)
	})
	t.Run("a source that the streamer escapes is not guessed", func(t *testing.T) {
		t.Parallel()
		r, err := row(t, func(r *Rules, _ [][]byte) { r.Source = "/{aggregate_id}/{paid}/{raw}" })
		require.NoError(t, err)
		assert.Nil(t, r.Source)
	})
	t.Run("a time that is none", func(t *testing.T) {
		t.Parallel()
		r, err := row(t, func(_ *Rules, v [][]byte) { v[5] = []byte("infinity") })
		require.NoError(t, err)
		assert.Equal(t, &Row{ID: []byte(sampleID(1))}, r)
	})
	t.Run("a column that is not read", func(t *testing.T) {
		t.Parallel()
		_, err := NewExpectation(Rules{Attributes: map[string]string{"id": "id"}})
		assert.ErrorContains(t, err, `column "id" of id is not read`)
	})
}
