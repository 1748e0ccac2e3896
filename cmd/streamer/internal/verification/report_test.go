package verification

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/internal/goldentest"
	"github.com/outboxstream/streamer/internal/verify"
)

func TestReport(t *testing.T) {
	t.Parallel()
	plain := result{
		Counts: verify.Counts{Rows: 1234, Published: 1234, Records: 1234}, Table: "public.outbox", Settled: "0/64",
		Streams: []string{"s"}, Topics: []string{"a", "b"}, Partitions: 4, Seconds: 1.5,
	}
	var out bytes.Buffer
	console.Streams{Out: &out}.Table(plain.rows(10))
	goldentest.Equal(t, "report/plain", out.String())
	plain.Truth = "truth.jsonl"
	assert.Equal(t, [2]string{"outbox", "truth.jsonl: 1,234 rows"}, plain.rows(10)[0])
}

// What there is nothing of has no line, and all else has one with its number.
func TestReportOfEverything(t *testing.T) {
	t.Parallel()
	full := result{Streams: []string{"s", "t"}, TempBytes: 3 << 20, Notes: []string{"first note", "second note"}}
	full.Counts = verify.Counts{
		Rows: 5000, Published: 4000, Records: 4001, Replays: 11, Foreign: 12, Unmatched: 13, Newer: 14,
		InFlight: 15, DeadLettered: 16, Expired: 17, Outside: 18, Undated: 19, Unreadable: 20, Findings: map[verify.Kind]int64{},
	}
	for i, kind := range verify.Kinds() {
		full.Findings[kind] = int64(9 + i)
	}
	want := [][2]string{
		{"outbox", ": 5,000 rows"},
		{"Kafka", "4,001 records of stream s, t, 12 of others"},
		{"published", "4,000 "},
		{"in flight", "15 "},
		{"dead letters", "16 "},
		{"expired", "17 "},
		{"outside", "18 "},
		{"undecided", "19 "},
		{"unreadable", "20 "},
		{"without row", "13 "},
		{"newer", "14 "},
		{"replayed", "11 "},
		{"note", "first note"},
		{"note", "second note"},
		{"missing", "9: "},
		{"altered", "10: "},
		{"out of order", "11 (10 shown): "},
		{"scattered", "12 (10 shown): "},
		{"repeated", "13 (10 shown): "},
		{"phantom", "14 (10 shown): "},
		{"malformed", "15 (10 shown): "},
		{"took", "3.0 MiB"},
	}
	got := full.rows(10)
	require.Len(t, got, len(want))
	for i, row := range got {
		assert.Equal(t, want[i][0], row[0])
		assert.Contains(t, row[1], want[i][1], row[0])
	}
	assert.NotContains(t, fmt.Sprint(full.rows(0)), "shown", "all of them are")
}

// The names are those on which scripts rely.
func TestSummaryOfScripts(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	require.NoError(t, console.Streams{Out: &out}.Line(summary{result{
		Counts: verify.Counts{Rows: 2, Findings: map[verify.Kind]int64{verify.OutOfOrder: 1}}, Table: "public.outbox", Settled: "0/64",
		Streams: []string{"s"}, Topics: []string{"a"}, Partitions: 3, TempBytes: 4, Seconds: 5, Notes: []string{"n"},
	}}))
	assert.JSONEq(t, `{"summary": {"rows": 2, "published": 0, "records": 0, "replays": 0, "foreign": 0, "unmatched": 0, "newer": 0,
		"in_flight": 0, "dead_lettered": 0, "expired": 0, "outside": 0, "undated": 0, "unreadable": 0, "findings": {"out_of_order": 1},
		"table": "public.outbox", "rows_as_of": "0/64", "streams": ["s"], "topics": ["a"], "partitions": 3,
		"temporary_file_bytes": 4, "seconds": 5, "notes": ["n"]}}`, out.String())
}

func TestShow(t *testing.T) {
	t.Parallel()
	finding := verify.Finding{Kind: verify.Missing, EventID: "e", Topic: "orders"}
	for asJSON, want := range map[bool]string{
		true: `{"kind":"missing","event_id":"e","topic":"orders"}` + "\n", false: finding.String() + "\n",
	} {
		var out bytes.Buffer
		v := &verification{command: Command{JSON: asJSON}, std: console.Streams{Out: &out}}
		require.NoError(t, v.show(finding))
		assert.Equal(t, want, out.String())
	}
}

// A comparison that takes long says how far it is; a short one says nothing.
func TestProgress(t *testing.T) {
	t.Parallel()
	const looked = 1 << 12
	var stderr strings.Builder
	p := newProgress(console.Streams{Err: &stderr})
	rows := func() string {
		stderr.Reset()
		for range looked {
			p.one()
		}
		return stderr.String()
	}
	late := func() { p.began = time.Now().Add(-time.Duration(p.next.Load())) }
	p.step("reading")
	assert.Empty(t, rows(), "too early")
	late()
	assert.Equal(t, "streamer: reading: 8,192\n", rows())
	assert.Empty(t, rows(), "too soon again")
	p.step("comparing")
	p.expect(1000000)
	late()
	assert.Equal(t, "streamer: comparing: 4,096 of about 1,000,000\n", rows())
	late()
	stderr.Reset()
	p.share(1, 3)
	assert.Equal(t, "streamer: comparing: 33 %\n", stderr.String())
	p.step("reading again")
	late()
	assert.Equal(t, "streamer: reading again: 4,096\n", rows(), "of another step nothing is expected")
}

func TestReportOfARun(t *testing.T) {
	t.Parallel()
	for truth, want := range map[string]string{"": "public.outbox", "truth.jsonl": "truth.jsonl"} {
		var out bytes.Buffer
		std := console.Streams{Out: &out}
		v := &verification{command: Command{JSON: true, Truth: truth}, std: std, progress: newProgress(std), settled: 100}
		v.cfg.Outbox.Table, v.matched, v.streams = "public.outbox", []string{"a"}, []string{"s"}
		v.comparison = verify.New(verify.Options{TempDir: t.TempDir()}, nil)
		require.NoError(t, v.report(verify.Counts{Rows: 7}))
		v.close()
		var got summary
		require.NoError(t, json.Unmarshal(out.Bytes(), &got))
		assert.EqualValues(t, 7, got.Summary.Rows)
		assert.Equal(t, want, got.Summary.Table+got.Summary.Truth)
		assert.Equal(t, truth == "", got.Summary.Settled == "0/64")
	}
}
