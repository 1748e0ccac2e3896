package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/examples/patterns/eventstore"
)

func TestEventStore(t *testing.T) {
	t.Parallel()
	const topic = "eventstore.account"
	s := newStage(t, "eventstore")
	bank := s.database(eventstore.Schema)
	n := load(400)
	bank.streamer("bank", topic)
	one := bank.clients("eventstore-teller", n, 80, "-name", "one")
	two := bank.clients("eventstore-teller", n, 80, "-name", "two")
	s.rage(func() bool { return one.complete() && two.complete() })
	s.eventually("each event is published", func() bool { return bank.published("events", topic) })

	assert.EqualValues(t, 2*n, bank.number("select count(*) from events"), "each command has one event")
	assert.Zero(t, bank.number(`select count(*) from (
		select stream_id from events group by stream_id having max(version) <> count(*) or min(version) <> 1) gaps`), "gaps in versions")
	assert.Zero(t, bank.number(`select count(*) from (
		select sum(case type when 'account.deposited' then 1 when 'account.withdrawn' then -1 else 0 end * (data ->> 'cents')::bigint)
			over (partition by stream_id order by version) as balance from events) b where balance < 0`), "overdrawn accounts")
	conflicts := bank.number("select sum((metadata ->> 'attempts')::bigint - 1) from events")
	t.Logf("%d events, %d conflicts, %d kills", 2*n, conflicts, s.kills())
	assert.Positive(t, conflicts, "the tellers were in each other's way")

	assert.Equal(t, bank.texts(`select stream_id || ' v' || max(version) || ' ' ||
		sum(case type when 'account.deposited' then 1 when 'account.withdrawn' then -1 else 0 end * (data ->> 'cents')::bigint)
		from events group by stream_id order by stream_id`), s.accountsInKafka(topic), "what Kafka amounts to is what the table says")
	assert.ElementsMatch(t, bank.texts("select id || ' ' || stream_id || ' ' || version from events"), s.eventsInKafka(topic))
}

// accountsInKafka folds the records of a topic, which must come in the order of
// their versions.
func (s *stage) accountsInKafka(topic string) (all []string) {
	s.Helper()
	versions, balances := map[string]int64{}, map[string]int64{}
	for _, r := range s.records(topic) {
		account := string(r.Key)
		versions[account]++
		require.Equal(s, strconv.FormatInt(versions[account], 10), headerOf(r, "ce_streamversion"), "version of %s at offset %d", account, r.Offset)
		var data struct{ Cents int64 }
		require.NoError(s, json.Unmarshal(r.Value, &data))
		switch headerOf(r, "ce_type") {
		case "account.deposited":
			balances[account] += data.Cents
		case "account.withdrawn":
			balances[account] -= data.Cents
		}
	}
	for _, account := range slices.Sorted(maps.Keys(versions)) {
		all = append(all, fmt.Sprintf("%s v%d %d", account, versions[account], balances[account]))
	}
	return all
}

func (s *stage) eventsInKafka(topic string) (all []string) {
	s.Helper()
	for _, r := range s.records(topic) {
		all = append(all, headerOf(r, "ce_id")+" "+string(r.Key)+" "+headerOf(r, "ce_streamversion"))
	}
	return all
}
