package pipeline

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/replication"
)

// A flow continues only in its own history: on the same timeline, even after a
// restart of the server, or with the same run of a server that was promoted
// meanwhile.
func TestHistoryGoesOn(t *testing.T) {
	t.Parallel()
	here := history{systemID: "7", timeline: 3, started: "monday", database: "shop", slot: "streamer", number: 2}
	for name, test := range map[string]struct {
		change func(*history)
		want   bool
	}{
		"the same":                      {func(*history) {}, true},
		"started again":                 {func(h *history) { h.started = "tuesday" }, true},
		"promoted while it was read":    {func(h *history) { h.timeline = 4 }, true},
		"another server, promoted":      {func(h *history) { h.timeline, h.started = 4, "tuesday" }, false},
		"promoted, and the run unknown": {func(h *history) { h.timeline, h.started = 4, "" }, false},
		"the run unknown":               {func(h *history) { h.started = "" }, true},
		"another cluster":               {func(h *history) { h.systemID = "8" }, false},
		"another database":              {func(h *history) { h.database = "warehouse" }, false},
		"another slot":                  {func(h *history) { h.slot = "streamer2" }, false},
		"accepted by an operator":       {func(h *history) { h.number = 3 }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			with := here
			test.change(&with)
			assert.Equal(t, test.want, here.goesOn(with))
		})
	}
	unknown := history{timeline: 1}
	assert.False(t, unknown.goesOn(history{timeline: 2}), "two unknown runs are not the same")
}

// The history of a server and that of a checkpoint made on it are the same.
func TestHistoryOfARecord(t *testing.T) {
	t.Parallel()
	server := replication.Server{SystemID: "7", Timeline: 3, Started: "monday", Database: "shop"}
	record := checkpoint.Record{
		Identity: checkpoint.Identity{SystemID: "7", Database: "shop", Slot: "streamer"}, Timeline: 3, Started: "monday", History: 2,
	}
	assert.Equal(t, historyOf(server, "streamer", 2), historyIn(record))
}

// recordAt is a checkpoint at 0x3000. The last row below it is the row of last,
// unless last is 0.
func recordAt(exact bool, last replication.LSN) checkpoint.Record {
	r := checkpoint.Record{LSN: 0x3000, Exact: exact}
	if last != 0 {
		r.Last = &checkpoint.Event{Sequence: sequence(last, 2), ID: "last", CommitTime: 5}
	}
	return r
}

// If the last row is known exactly, nothing above it counts as published,
// whatever the LSN. Otherwise the record vouches for everything below its LSN.
// Such a record is from an older version, or the first of a slot.
func TestResumeAt(t *testing.T) {
	t.Parallel()
	unreadable := recordAt(true, 0x2000)
	unreadable.Last.Sequence = "nonsense"
	everything := replication.Position{Commit: 0x2fff, Ordinal: math.MaxUint32}
	for name, test := range map[string]struct {
		record checkpoint.Record
		want   replication.Position
		exact  bool
	}{
		"exact":                                 {recordAt(true, 0x2000), replication.Position{Commit: 0x2000, Ordinal: 2}, true},
		"older version":                         {recordAt(false, 0x2000), everything, false},
		"the first of a slot":                   {recordAt(false, 0), everything, false},
		"older version, exact without a row":    {recordAt(true, 0), everything, false},
		"exact, with a row that cannot be read": {unreadable, everything, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := resumeAt(test.record)
			assert.Equal(t, test.want, r.point.Position)
			assert.Zero(t, r.point.Digest, "digests of two processes have nothing in common")
			want := test.record
			want.Exact = test.exact
			assert.Equal(t, want, r.Record)
		})
	}
}

// A stream is read from where the slot begins, if that is before the checkpoint
// and reading from there proves something. Then the last published row must be
// among the rows read.
func TestReadFrom(t *testing.T) {
	t.Parallel()
	unreadable := recordAt(true, 0x2000)
	unreadable.Last.Sequence = "nonsense"
	for name, test := range map[string]struct {
		record    checkpoint.Record
		confirmed replication.LSN
		start     replication.LSN
		again     bool
	}{
		"the slot is where the checkpoint is":                  {recordAt(true, 0x2000), 0x3000, 0x3000, false},
		"the slot is after it, which is refused elsewhere":     {recordAt(true, 0x2000), 0x4000, 0x3000, false},
		"the slot is before the last row":                      {recordAt(true, 0x2000), 0x1000, 0x1000, true},
		"the slot begins with the last row":                    {recordAt(true, 0x2000), 0x2000, 0x2000, true},
		"the slot is between the last row and it":              {recordAt(true, 0x2000), 0x2001, 0x2001, false},
		"exact without a row":                                  {recordAt(true, 0), 0x1000, 0x3000, false},
		"the slot's position is not known":                     {recordAt(true, 0x2000), 0, 0x3000, false},
		"a last row that cannot be read":                       {unreadable, 0x1000, 0x3000, false},
		"older version, the slot before the last row":          {recordAt(false, 0x2000), 0x1000, 0x1000, true},
		"older version, the slot begins with it":               {recordAt(false, 0x2000), 0x2000, 0x2000, true},
		"older version, the slot after the last row":           {recordAt(false, 0x2000), 0x2001, 0x3000, false},
		"older version, without a last row":                    {recordAt(false, 0), 0x1000, 0x3000, false},
		"older version, the slot is where the checkpoint is":   {recordAt(false, 0x2000), 0x3000, 0x3000, false},
		"older version, the slot's position is not known":      {recordAt(false, 0x2000), 0, 0x3000, false},
		"older version, without a last row, the slot after it": {recordAt(false, 0), 0x4000, 0x3000, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			start, again := resumeAt(test.record).readFrom(replication.Slot{Confirmed: test.confirmed})
			assert.Equal(t, test.start, start)
			if !test.again {
				assert.Empty(t, again)
				return
			}
			last, known := lastOf(test.record)
			assert.True(t, known)
			assert.Equal(t, "last", last.EventID)
			assert.EqualValues(t, 5, last.CommitTime)
			assert.Len(t, again, 1)
			assert.Equal(t, last, again[0])
		})
	}
}

// Whether something at or above an LSN was published is decided by the last row
// if it is known exactly, otherwise by the LSN.
func TestPublishedBeyond(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		record checkpoint.Record
		lsn    replication.LSN
		want   bool
	}{
		"above the last row":                       {recordAt(true, 0x2000), 0x2001, false},
		"at the last row":                          {recordAt(true, 0x2000), 0x2000, true},
		"below the last row":                       {recordAt(true, 0x2000), 0x1000, true},
		"between it and the checkpoint":            {recordAt(true, 0x2000), 0x2800, false},
		"exact without a row":                      {recordAt(true, 0), 0x1000, true},
		"older version, at the checkpoint":         {recordAt(false, 0x2000), 0x3000, false},
		"older version, below it":                  {recordAt(false, 0x2000), 0x2fff, true},
		"older version, without a row, below it":   {recordAt(false, 0), 0x2fff, true},
		"older version, without a row, at it":      {recordAt(false, 0), 0x3000, false},
		"older version, above the row, below that": {recordAt(false, 0x2000), 0x2800, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, test.want, resumeAt(test.record).publishedBeyond(test.lsn))
		})
	}
}

// Reading proves something if the last row must reappear, or if the slot is a
// copy of the streamer's. A slot that begins after that row says nothing.
func TestProvable(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		record checkpoint.Record
		slot   replication.Slot
		want   bool
	}{
		"the row has to come by":    {recordAt(true, 0x2000), replication.Slot{Confirmed: 0x1000}, true},
		"the slot begins with it":   {recordAt(true, 0x2000), replication.Slot{Confirmed: 0x2000}, true},
		"the slot begins after it":  {recordAt(true, 0x2000), replication.Slot{Confirmed: 0x2001}, false},
		"but is a copy":             {recordAt(true, 0x2000), replication.Slot{Confirmed: 0x2001, Synced: true}, true},
		"without a row":             {recordAt(true, 0), replication.Slot{Confirmed: 0x1000}, false},
		"without a row, and a copy": {recordAt(true, 0), replication.Slot{Confirmed: 0x1000, Synced: true}, false},
		"older version":             {recordAt(false, 0x2000), replication.Slot{Confirmed: 0x1000}, false},
		"older version, and a copy": {recordAt(false, 0x2000), replication.Slot{Confirmed: 0x1000, Synced: true}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, test.want, resumeAt(test.record).provable(test.slot))
		})
	}
}

// A stored record is the one saved last if it agrees with it in every respect
// that another instance would change.
func TestFollows(t *testing.T) {
	t.Parallel()
	saved := checkpoint.Record{LSN: 0x3000, Timeline: 2, Producer: checkpoint.Producer{Generation: 1, ID: 7, Epoch: 3}}
	for name, test := range map[string]struct {
		change func(*checkpoint.Record)
		want   bool
	}{
		"the same":                 {func(*checkpoint.Record) {}, true},
		"another position":         {func(r *checkpoint.Record) { r.LSN++ }, false},
		"another timeline":         {func(r *checkpoint.Record) { r.Timeline++ }, false},
		"another epoch":            {func(r *checkpoint.Record) { r.Producer.Epoch++ }, false},
		"another producer":         {func(r *checkpoint.Record) { r.Producer.ID++ }, false},
		"another transactional id": {func(r *checkpoint.Record) { r.Producer.Generation++ }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stored := saved
			test.change(&stored)
			assert.Equal(t, test.want, resumeAt(saved).follows(stored))
		})
	}
}
