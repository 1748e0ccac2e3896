package verification

import (
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/internal/verify"
)

func TestRemarks(t *testing.T) {
	t.Parallel()
	one := map[string]struct{}{"a": {}}
	for name, c := range map[string]struct {
		absence       Absence
		dated, former bool
		want          [][]string // words of each remark
	}{
		"none": {absence: Absence{IDs: one}},
		"notes come first": {
			absence: Absence{notes: []string{"n"}, counts: verify.Counts{Expired: 1}}, dated: true, want: [][]string{{"n"}, {"1 row "}},
		},
		"left out": {
			absence: Absence{counts: verify.Counts{Expired: 2, Undated: 1}},
			want:    [][]string{{"3 rows without a record left out", "--time-column"}},
		},
		"other streams": {
			absence: Absence{IDs: one, counts: verify.Counts{Foreign: 2}},
			want:    [][]string{{"2 records", "--former-slot"}},
		},
		"other streams, named":  {absence: Absence{IDs: one, counts: verify.Counts{Foreign: 2}}, former: true},
		"other streams, no row": {absence: Absence{counts: verify.Counts{Foreign: 2}}},
	} {
		got := c.absence.Remarks(c.dated, c.former)
		require.Len(t, got, len(c.want), name)
		for i, words := range c.want {
			for _, word := range words {
				assert.Contains(t, got[i], word, name)
			}
		}
	}
	dated := Absence{counts: verify.Counts{Expired: 1}}.Remarks(true, false)
	assert.NotContains(t, dated[0], "--time-column", "there is one")
}

// Missing looks for all rows without a record, however many, and prints none.
func TestMissing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.insert("order", "1", "2", "3")
	r.insert("bill", "4")
	r.passOver()
	r.insert("order", "5")
	r.publish()
	missing := func(c Command) Absence {
		t.Helper()
		found, err := Missing(t.Context(), r.config(), console.Streams{Err: io.Discard}, c)
		require.NoError(t, err)
		return found
	}
	found := missing(Command{Limit: 1})
	assert.Equal(t, map[string]struct{}{"1": {}, "2": {}, "3": {}, "4": {}}, found.IDs)
	assert.Equal(t, map[string]int64{"events.order": 3, "events.bill": 1}, found.Topics)
	assert.EqualValues(t, 5, found.counts.Rows)
	require.Len(t, found.notes, 1)
	assert.Contains(t, found.notes[0], `"events.bill"`)

	r.exec("update outbox set created_at = now() - interval '1 day' where id in ('1', '4')")
	assert.Len(t, missing(Command{From: "1h", TimeColumn: "created_at"}).IDs, 2, "the rest is out of range")
	assert.Len(t, missing(Command{To: "1h", TimeColumn: "created_at"}).IDs, 2)

	r.settings["kafka.brokers"] = "127.0.0.1:1"
	_, err := Missing(t.Context(), r.config(), console.Streams{Err: io.Discard}, Command{})
	assert.ErrorContains(t, err, "connect to Kafka")
}
