package replication

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/failure"
)

func TestCheckCondition(t *testing.T) {
	t.Parallel()
	healthy := Condition{Slots: 3, MaxSlots: 10, Senders: 2, MaxSenders: 10, Clock: time.Second}
	assert.Empty(t, CheckCondition(healthy))
	for name, c := range map[string]struct {
		change func(*Condition)
		says   []string
	}{
		"slots": {
			func(s *Condition) { s.Slots = 9 },
			[]string{"1 of max_replication_slots = 10 are left", "max_replication_slots = 20"},
		},
		"more slots than were": {func(s *Condition) { s.Slots = 12 }, []string{"0 of max_replication_slots = 10 are left"}},
		"senders": {
			func(s *Condition) { s.Senders = 9 },
			[]string{"other clients take 9 of max_wal_senders = 10", "max_wal_senders = 20"},
		},
		"transaction": {
			func(s *Condition) { s.Oldest = &Transaction{PID: 42, Age: time.Hour} },
			[]string{"process 42", "running for 1h", "reads it again", "pg_terminate_backend(42)"},
		},
		"prepared": {func(s *Condition) { s.Oldest = &Transaction{Prepared: "it's", Age: time.Hour} }, []string{"ROLLBACK PREPARED 'it''s'"}},
		"clock":    {func(s *Condition) { s.Clock = -time.Minute }, []string{"1m0s apart", "NTP"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ill := healthy
			c.change(&ill)
			found := CheckCondition(ill)
			if assert.Len(t, found, 1) {
				assert.False(t, found[0].Fatal)
				for _, says := range c.says {
					assert.Contains(t, failure.Describe(found[0]), says)
				}
			}
		})
	}
	young := healthy
	young.Oldest = &Transaction{PID: 42, Age: time.Minute}
	assert.Empty(t, CheckCondition(young))
}

func TestCheckSize(t *testing.T) {
	t.Parallel()
	table := Table{Outbox: Outbox{Table: "public.outbox"}}
	assert.Empty(t, CheckSize(TableSize{Rows: 10, Dead: 5, Bytes: 1 << 20}, table))
	for _, c := range []struct {
		size TableSize
		says []string
	}{
		{TableSize{Rows: 10, Bytes: 20 << 30}, []string{"public.outbox takes 20 GiB", "outbox.cleanup"}},
		{TableSize{Rows: 10, Dead: 2_000_000}, []string{"2000000 dead rows", `VACUUM "public"."outbox"`}},
	} {
		found := CheckSize(c.size, table)
		require.Len(t, found, 1)
		assert.False(t, found[0].Fatal)
		for _, says := range c.says {
			assert.Contains(t, failure.Describe(found[0]), says)
		}
	}
}
