package checkpoint_test

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/internal/failure"
)

// place is a location where a store keeps records. Each test gets its own.
type place struct {
	// open opens a store there; the caller closes it.
	open func(t *testing.T) checkpoint.Store
	// plant puts bytes where the store keeps the record of the identity.
	plant func(t *testing.T, id checkpoint.Identity, stored string)
	// named is what messages call the place.
	named string
	// single: the place holds one record only.
	single bool
	// fail makes Save impossible until repair is called.
	fail func(t *testing.T) (repair func())
}

// conform proves that stores behave as checkpoint.Store requires. intact and
// broken create places; those of broken can fail, and may be slower to create.
func conform(t *testing.T, intact, broken func(t *testing.T) place) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, place){
		"a place without a record says that there is none":            noneStored,
		"every field comes back":                                      everyField,
		"the last save wins":                                          lastWins,
		"records of two identities do not mix":                        twoIdentities,
		"a claim changes nothing for the claimant":                    claimed,
		"a record survives close and open":                            survives,
		"a record that is not ours or not whole is refused by name":   refusals,
		"a refused record can be replaced":                            replaceRefused,
		"a load during saves returns what was saved":                  loadDuringSave,
		"a cancelled context ends load and save, and nothing is lost": cancelled,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, intact(t))
		})
	}
	t.Run("a save works again when the place is back", func(t *testing.T) {
		t.Parallel()
		comesBack(t, broken(t))
	})
}

var ours = checkpoint.Identity{SystemID: "7300000000000000001", Database: "shop", Slot: "streamer"}

func record(lsn checkpoint.LSN) checkpoint.Record {
	return checkpoint.Record{
		Version: 1, Identity: ours, Timeline: 3, LSN: lsn, History: 2, Routing: "0123456789abcdef",
		Tables: []string{"public.a", "public.b"},
		Past: []checkpoint.Moment{
			{At: time.Date(2026, 2, 28, 12, 0, 0, 0, time.UTC), LSN: 1},
			{At: time.Date(2026, 2, 28, 13, 0, 0, 0, time.UTC), LSN: 2},
		},
		Replay:  &checkpoint.Replay{ID: "20261121T120000.000Z", Request: `--from "beginning"`, From: "0/1", Until: "0/2"},
		SavedAt: time.Date(2026, 2, 28, 23, 59, 58, 987654321, time.UTC),
	}
}

func opened(t *testing.T, p place) checkpoint.Store {
	t.Helper()
	store := p.open(t)
	t.Cleanup(func() { assert.NoError(t, store.Close()) })
	return store
}

func noneStored(t *testing.T, p place) {
	t.Helper()
	_, err := opened(t, p).Load(t.Context(), ours)
	require.ErrorIs(t, err, checkpoint.ErrNone)
	assert.ErrorContains(t, err, p.named)
}

func everyField(t *testing.T, p place) {
	t.Helper()
	store := opened(t, p)
	want := record(0xFFFFFFFF_FFFFFFFE)
	want.Database = "shöp \"<&>'/\\\u2028 %s"
	want.Producer = checkpoint.Producer{Generation: 1, ID: 1 << 40, Epoch: 32767}
	want.Topics = map[string]checkpoint.Topic{"orders": {ID: "AAAA", Offsets: []int64{0, 1 << 60}}, "new": {Offsets: []int64{7}}}
	want.Last = &checkpoint.Event{Sequence: "0000000001b3e9c0-00000001", ID: "5c004d42"}
	want.Publication = "16402/16405"
	want.AtLeastOnce = "transactional id not allowed"
	want.NextTransaction = 1 << 40
	want.Started, want.Exact, want.Disputed = "2026-11-30 08:00:00.123456+00", true, true
	want.Last.CommitTime = 1_790_000_000_123_456
	want.Former = []string{"4d2f6c1e00aa55ff"}
	want.Version = 3 // of a predecessor whose records are still to come by
	want.Predecessor = &checkpoint.Predecessor{
		Until: "FFFFFFFF/FFFFFFFF", Topics: map[string][]int64{"orders": {0, 1 << 60}}, Holes: []string{"a", "\u2028"},
	}
	want.Snapshot = &checkpoint.Snapshot{
		Table: "public.outbox", Begun: time.Date(2026, 2, 27, 1, 2, 3, 0, time.UTC),
		Key: `"created_at" timestamptz`, Last: `["z"]`, After: `["é"]`, Ordinal: 1 << 31, Rows: 1 << 40, Expected: 1 << 41,
	}
	fields := reflect.ValueOf(want)
	for i := range fields.NumField() {
		require.False(t, fields.Field(i).IsZero(), "the test forgets field %s", fields.Type().Field(i).Name)
	}
	require.NoError(t, store.Save(t.Context(), want))
	got, err := store.Load(t.Context(), want.Identity)
	require.NoError(t, err)
	assert.Equal(t, want, got)
}

func lastWins(t *testing.T, p place) {
	t.Helper()
	store := opened(t, p)
	for _, lsn := range []checkpoint.LSN{100, 300, 200, 200} { // an operator may move it back
		require.NoError(t, store.Save(t.Context(), record(lsn)))
		got, err := store.Load(t.Context(), ours)
		require.NoError(t, err)
		assert.Equal(t, lsn, got.LSN)
	}
}

func claimed(t *testing.T, p place) {
	t.Helper()
	store := opened(t, p)
	require.NoError(t, store.Claim(t.Context(), ours), "before there is a record")
	for lsn := checkpoint.LSN(100); lsn < 103; lsn++ {
		require.NoError(t, store.Save(t.Context(), record(lsn)))
		require.NoError(t, store.Claim(t.Context(), ours))
		got, err := store.Load(t.Context(), ours)
		require.NoError(t, err)
		assert.Equal(t, lsn, got.LSN)
	}
}

func twoIdentities(t *testing.T, p place) {
	t.Helper()
	store := opened(t, p)
	mine, theirs := record(100), record(200)
	theirs.Slot = "other"
	require.NoError(t, store.Save(t.Context(), mine))
	if p.single {
		_, err := store.Load(t.Context(), theirs.Identity)
		requireRefused(t, p, err, checkpoint.ErrForeign)
		requireRefused(t, p, store.Save(t.Context(), theirs), checkpoint.ErrForeign)
	} else {
		_, err := store.Load(t.Context(), theirs.Identity)
		require.ErrorIs(t, err, checkpoint.ErrNone)
		require.NoError(t, store.Save(t.Context(), theirs))
		got, err := store.Load(t.Context(), theirs.Identity)
		require.NoError(t, err)
		assert.Equal(t, theirs, got)
	}
	got, err := store.Load(t.Context(), ours)
	require.NoError(t, err)
	assert.Equal(t, mine, got)
}

func survives(t *testing.T, p place) {
	t.Helper()
	store := p.open(t)
	require.NoError(t, store.Save(t.Context(), record(100)))
	require.NoError(t, store.Close())
	got, err := opened(t, p).Load(t.Context(), ours)
	require.NoError(t, err)
	assert.Equal(t, record(100), got)
}

// findsFormer is for stores of many records: they find the record of the same
// slot under another name of its database, and no other record.
func findsFormer(t *testing.T, store checkpoint.Store) {
	t.Helper()
	renamed := ours
	renamed.Database = "shop2"
	none := func(id checkpoint.Identity) {
		t.Helper()
		_, err := checkpoint.Former(t.Context(), store, id)
		require.ErrorIs(t, err, checkpoint.ErrNone)
	}
	none(renamed)
	other := record(50)
	other.Slot = "other_" + ours.Slot
	require.NoError(t, store.Save(t.Context(), other))
	none(renamed)
	require.NoError(t, store.Save(t.Context(), record(100)))
	none(ours)
	found, err := checkpoint.Former(t.Context(), store, renamed)
	require.NoError(t, err)
	assert.Equal(t, ours, found.Identity)
	assert.Equal(t, checkpoint.LSN(100), found.LSN)
	renamed.SystemID = "7300000000000000002"
	none(renamed)
}

// damaged are stored forms that Load must refuse, keyed by the damage.
func damaged(t *testing.T) map[string]struct {
	stored string
	cause  error
} {
	t.Helper()
	type refused = struct {
		stored string
		cause  error
	}
	whole := encoded(t, record(0x16B3748))
	foreign := func(change func(*checkpoint.Record)) refused {
		r := record(100)
		change(&r)
		return refused{encoded(t, r), checkpoint.ErrForeign}
	}
	return map[string]refused{
		"empty":            {"", checkpoint.ErrTorn},
		"truncated":        {whole[:len(whole)-1], checkpoint.ErrTorn},
		"torn in the half": {whole[:len(whole)/2], checkpoint.ErrTorn},
		"two records":      {whole + whole, checkpoint.ErrTorn},
		"garbage":          {"\x01\x02 garbage", checkpoint.ErrTorn},
		"other JSON":       {`[1, 2]`, checkpoint.ErrTorn},
		"JSON null":        {`null`, checkpoint.ErrTorn},
		"nothing in it":    {`{}`, checkpoint.ErrTorn},
		"checksum changed": {strings.Replace(whole, `"crc32":"`, `"crc32":"0`, 1), checkpoint.ErrTorn},
		"position changed": {strings.Replace(whole, "16B3748", "16B3749", 1), checkpoint.ErrTorn},
		"no version":       {sealed(`{"lsn":"0/1"}`), checkpoint.ErrTorn},
		"no position":      {sealed(`{"version":1}`), checkpoint.ErrTorn},
		"wrong types":      {sealed(`{"version":1,"slot":7,"lsn":"0/1"}`), checkpoint.ErrTorn},
		"not an object":    {sealed(`null`), checkpoint.ErrTorn},
		"future":           {sealed(`{"version":4,"position":{"lsn":1}}`), checkpoint.ErrFuture},
		"far future":       {`{"checkpoint":{"version":99},"sha512":"…"}`, checkpoint.ErrFuture},
		"other cluster":    foreign(func(r *checkpoint.Record) { r.SystemID = "7300000000000000002" }),
		"other database":   foreign(func(r *checkpoint.Record) { r.Database = "shop2" }),
		"other slot":       foreign(func(r *checkpoint.Record) { r.Slot = "streamer2" }),
	}
}

func encoded(t *testing.T, r checkpoint.Record) string {
	t.Helper()
	stored, err := checkpoint.Encode(r)
	require.NoError(t, err)
	return string(stored)
}

// sealed is a record with a correct checksum that Encode would not write.
func sealed(body string) string {
	sum := crc32.Checksum([]byte(body), crc32.MakeTable(crc32.Castagnoli))
	return fmt.Sprintf(`{"checkpoint":%s,"crc32":"%08x"}`, body, sum)
}

func refusals(t *testing.T, p place) {
	t.Helper()
	store := opened(t, p)
	for name, test := range damaged(t) {
		p.plant(t, ours, test.stored)
		_, err := store.Load(t.Context(), ours)
		require.Error(t, err, name)
		t.Log(err)
		requireRefused(t, p, err, test.cause)
	}
}

func requireRefused(t *testing.T, p place, err, cause error) {
	t.Helper()
	require.ErrorIs(t, err, cause)
	assert.Equal(t, failure.Refused, failure.ClassOf(err))
	require.ErrorContains(t, err, p.named)
	remedies := map[error]string{
		checkpoint.ErrTorn:    "restore it from a backup, or decide on a position with `streamer checkpoint set`",
		checkpoint.ErrFuture:  "run the newer version",
		checkpoint.ErrForeign: "different slot names",
	}
	assert.Contains(t, failure.Fix(err), remedies[cause])
}

func replaceRefused(t *testing.T, p place) {
	t.Helper()
	store := opened(t, p)
	former := record(50)
	former.SystemID = "7300000000000000002"
	for _, stored := range []string{"garbage", "", encoded(t, former)} {
		p.plant(t, ours, stored)
		require.NoError(t, store.Save(t.Context(), record(100)), "as checkpoint set does")
		got, err := store.Load(t.Context(), ours)
		require.NoError(t, err)
		assert.Equal(t, record(100), got)
	}
}

func loadDuringSave(t *testing.T, p place) {
	t.Helper()
	store := opened(t, p)
	const saves = 50
	require.NoError(t, store.Save(t.Context(), record(1)))
	var running sync.WaitGroup
	defer running.Wait()
	done := make(chan struct{})
	running.Go(func() {
		defer close(done)
		for lsn := range checkpoint.LSN(saves) {
			if !assert.NoError(t, store.Save(t.Context(), record(lsn+1))) {
				return
			}
		}
	})
	for last := checkpoint.LSN(1); ; {
		got, err := store.Load(t.Context(), ours)
		require.NoError(t, err)
		require.GreaterOrEqual(t, got.LSN, last)
		require.Equal(t, record(got.LSN), got)
		last = got.LSN
		select {
		case <-done:
			return
		default:
		}
	}
}

func cancelled(t *testing.T, p place) {
	t.Helper()
	store := opened(t, p)
	require.NoError(t, store.Save(t.Context(), record(100)))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, store.Save(ctx, record(200)), context.Canceled)
	_, err := store.Load(ctx, ours)
	require.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, failure.Transient, failure.ClassOf(err))

	got, err := store.Load(t.Context(), ours)
	require.NoError(t, err)
	assert.EqualValues(t, 100, got.LSN)
	require.NoError(t, store.Save(t.Context(), record(300)))
}

func comesBack(t *testing.T, p place) {
	t.Helper()
	store := opened(t, p)
	require.NoError(t, store.Save(t.Context(), record(100)))
	repair := p.fail(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	err := store.Save(ctx, record(200))
	require.Error(t, err)
	t.Log(err)
	assert.Equal(t, failure.Transient, failure.ClassOf(err))
	require.ErrorContains(t, err, p.named)
	repair()

	ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	got, err := store.Load(ctx, ours)
	require.NoError(t, err)
	// A save that reported an error may have been stored or not.
	assert.Contains(t, []checkpoint.LSN{100, 200}, got.LSN)
	require.NoError(t, store.Save(ctx, record(300)))
	got, err = store.Load(ctx, ours)
	require.NoError(t, err)
	assert.EqualValues(t, 300, got.LSN)
}

// TestEncodeIsReadable is for the operator who opens the file.
func TestEncodeIsReadable(t *testing.T) {
	t.Parallel()
	var stored struct {
		Checkpoint map[string]any `json:"checkpoint"`
		Checksum   string         `json:"crc32"`
	}
	plain := record(0x1_0000_00FF)
	plain.Past, plain.Replay, plain.Tables = plain.Past[:1], nil, nil
	require.NoError(t, json.Unmarshal([]byte(encoded(t, plain)), &stored))
	assert.Equal(t, map[string]any{
		"version": 1.0, "system_identifier": "7300000000000000001", "database": "shop", "slot": "streamer",
		"timeline": 3.0, "lsn": "1/FF", "history": 2.0, "routing": "0123456789abcdef",
		"past": []any{"2026-02-28T12:00:00.000Z 0/1"}, "saved_at": "2026-02-28T23:59:58.987654321Z",
	}, stored.Checkpoint)
	assert.Len(t, stored.Checksum, 8)
}
