package router

import (
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/kafkatest/fake"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router/kafka"
	"github.com/outboxstream/streamer/router/wire"
)

const (
	letterTopic = "dead-letters"
	textOID     = 25
	jsonbOID    = 3802
)

// rowColumns returns a row as the decoder passes it on.
func rowColumns(id, aggregateType, aggregateID, payload string) []decoder.Column {
	column := func(name, value string, oid uint32) decoder.Column {
		return decoder.Column{Name: name, TypeOID: oid, Bytes: []byte(value)}
	}
	return []decoder.Column{
		column("id", id, textOID), column("aggregatetype", aggregateType, textOID), column("aggregateid", aggregateID, textOID),
		column("type", "order.placed", textOID), column("payload", payload, jsonbOID),
	}
}

// letterOf returns the n-th row of a stream as a dead letter.
func letterOf(n int, columns []decoder.Column) DeadLetter {
	l := NewDeadLetter(someRules().Tables[0], columns)
	l.StreamID, l.Position, l.CommitTime = someRules().StreamID,
		replication.Position{Commit: commitOf(n), Ordinal: 1}, 1_700_000_000_123_456+int64(n)
	l.Class, l.Reason = PoisonSize, "is too large"
	return l
}

// desk writes to a cluster as the commands do.
type desk struct {
	*Writer
	t      *testing.T
	config kafka.ClientConfig
}

func newDesk(t *testing.T, topics ...string) *desk {
	t.Helper()
	cluster := fake.Start(t, kfake.NumBrokers(1), kfake.SeedTopics(3, append(topics, letterTopic)...))
	return deskOf(t, someClient(cluster.Brokers()))
}

func deskOf(t *testing.T, c kafka.ClientConfig) *desk {
	t.Helper()
	routes, err := NewRouter(someRules())
	require.NoError(t, err)
	client, err := kafka.Connect(c)
	require.NoError(t, err)
	w, err := NewWriter(t.Context(), client, someConfig(), routes)
	require.NoError(t, err)
	t.Cleanup(w.Close)
	return &desk{w, t, c}
}

func (d *desk) write(topic string, partition int32, r *sarama.Record) {
	d.t.Helper()
	require.NoError(d.t, d.producer.write(d.t.Context(), topic, partition, r, time.Now().UnixMilli()))
}

// bury writes a dead letter as a streamer does.
func (d *desk) bury(partition int32, l DeadLetter) {
	d.t.Helper()
	r := &sarama.Record{Key: l.Key, Headers: pointers(l.headers(l.StreamID))}
	if !l.Payload.Null {
		r.Value = l.Payload.Bytes
	}
	d.write(letterTopic, partition, r)
}

func pointers(headers []sarama.RecordHeader) (list []*sarama.RecordHeader) {
	for i := range headers {
		list = append(list, &headers[i])
	}
	return list
}

func (d *desk) letters() []Letter {
	d.t.Helper()
	letters, err := Letters(d.t.Context(), d.client, letterTopic, someRules())
	require.NoError(d.t, err)
	return letters
}

func TestLetters(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	assert.Empty(t, d.letters())
	missing, err := Letters(t.Context(), d.client, "no-such-topic", someRules())
	require.NoError(t, err)
	assert.Empty(t, missing)

	first := letterOf(1, rowColumns("event-1", "order", "a", `{"n": 1}`))
	second := letterOf(2, rowColumns("event-2", "order", "b", `{"n": 2}`))
	elsewhere := letterOf(1, rowColumns("event-1", "order", "a", `{}`))
	elsewhere.StreamID = "another"
	d.bury(2, second)
	d.write(letterTopic, 1, &sarama.Record{Value: []byte("somebody else's")})
	d.bury(1, first)
	d.bury(1, first) // a start repeats it: at least once
	d.bury(1, elsewhere)

	letters := d.letters()
	require.Len(t, letters, 3)
	assert.Equal(t, Letter{
		Topic: letterTopic, Partition: 1, Offset: 1, StreamID: first.StreamID, Position: first.Position,
		CommitTime: time.UnixMicro(first.CommitTime).UTC(), EventID: "event-1", Key: "a", AggregateType: "order",
		Class: PoisonSize, Reason: "is too large", Copies: 2,
	}, letters[0])
	assert.Equal(t, "event-2", letters[1].EventID)
	assert.Equal(t, "another", letters[2].StreamID)

	opened, headers, err := letters[0].Open(t.Context(), d.client)
	require.NoError(t, err)
	assert.Equal(t, first.Payload, opened.Payload)
	assert.ElementsMatch(t, first.Columns, opened.Columns)
	assert.Equal(t, []byte("a"), opened.Key)
	assert.Len(t, headers, len(first.headers("")))

	at := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	require.NoError(t, d.Resolve(t.Context(), letters[0], opened.Key, Resolution{Dropped, "me", at}))
	decision := records(t, d.client, letterTopic)[1][4]
	assert.Equal(t, []byte("a"), decision.Key)
	assert.Nil(t, decision.Value)
	assert.Equal(t, []string{
		"streamer-resolved=dropped", "streamer-resolved-stream=" + first.StreamID,
		"streamer-resolved-sequence=" + wire.FormatSequence(first.Position),
		"streamer-resolved-offset=1", "streamer-resolved-by=me", "streamer-resolved-at=2026-11-21T10:00:00Z", "streamer-replay=resolution",
	}, texts(decision.Headers))
	letters = d.letters()
	require.Len(t, letters, 3)
	assert.Equal(t, &Resolution{Dropped, "me", at}, letters[0].Resolution, "the resolution is for both copies")
	assert.Nil(t, letters[1].Resolution)
	assert.Nil(t, letters[2].Resolution, "another stream has the same position")
	d.bury(1, first)
	assert.NotNil(t, d.letters()[0].Resolution, "the repeated letter is resolved as well")

	gone := letters[1]
	gone.Offset = 99
	_, _, err = gone.Open(t.Context(), d.client)
	require.ErrorIs(t, err, errGone)
	assert.Equal(t, failure.Refused, failure.ClassOf(err))
}

func texts(headers []*sarama.RecordHeader) (list []string) {
	for _, h := range headers {
		list = append(list, string(h.Key)+"="+string(h.Value))
	}
	return list
}

// A revived event is the record that the row would have become, plus one
// header.
func TestRevive(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change  func(*Rules)
		columns func([]decoder.Column) []decoder.Column
	}{
		"binary":       {},
		"structured":   {change: func(r *Rules) { r.Tables[0].Mode = Structured }},
		"null payload": {columns: func(c []decoder.Column) []decoder.Column { c[4].Null, c[4].Bytes = true, nil; return c }},
		"tombstone": {
			change:  func(r *Rules) { r.Tables[0].NullPayload = NullTombstone },
			columns: func(c []decoder.Column) []decoder.Column { c[4].Null, c[4].Bytes = true, nil; return c },
		},
		"empty payload":    {columns: func(c []decoder.Column) []decoder.Column { c[4].TypeOID, c[4].Bytes = textOID, []byte{}; return c }},
		"other topic":      {change: func(r *Rules) { r.Tables[0].Topic = "corrected" }},
		"binary format":    {columns: func(c []decoder.Column) []decoder.Column { c[4].Binary, c[4].Bytes = true, []byte("\x01{}"); return c }},
		"row without time": {columns: func(c []decoder.Column) []decoder.Column { return append(c, decoder.Column{Name: "note", Null: true}) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rules := someRules()
			if c.change != nil {
				c.change(&rules)
			}
			columns := rowColumns("event-1", "order", "a", `{"n":  1}`)
			if c.columns != nil {
				columns = c.columns(columns)
			}
			letter := letterOf(1, columns)
			mapping := decoder.Mapping{Columns: coreColumns}
			e, err := decoder.New(mapping).Restore(0, decoder.NamesOf("public", "outbox"), letter.Position, letter.CommitTime, columns)
			require.NoError(t, err)
			want := newBatch()
			encodeInto(t, encoderFor(t, rules), want, e)

			// Through Kafka and back.
			var value []byte
			if !letter.Payload.Null {
				value = letter.Payload.Bytes
			}
			parsed, err := ParseDeadLetter(pointers(letter.headers(letter.StreamID)), letter.Key, value)
			require.NoError(t, err)
			rules.StreamID = "that of now" // the letter's stream ID counts
			routes, err := NewRouter(rules)
			require.NoError(t, err)
			got, err := routes.Revive(decoder.New(mapping), &parsed)
			require.NoError(t, err)

			headers := slices.Clone(got.record.Headers)
			last := headers[len(headers)-1]
			assert.Equal(t, wire.ReplayHeader, string(last.Key))
			assert.Equal(t, want.record(0).Headers, headers[:len(headers)-1])
			assert.Equal(t, want.record(0).Key, got.record.Key)
			assert.Equal(t, want.record(0).Value, got.record.Value)
			assert.Equal(t, want.record(0).Value == nil, got.record.Value == nil, "a tombstone is a tombstone again")
			assert.Equal(t, want.baseTime, got.at)
		})
	}
}

func TestReviveRefusesWhatIsStillPoison(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		columns []decoder.Column
		limit   int
		says    string
	}{
		"row":   {columns: rowColumns("event-1", "order", "", "{}"), says: "aggregateid"},
		"route": {columns: rowColumns("event-1", "no/topic", "a", "{}"), says: "Kafka does not take"},
		"event": {columns: rowColumns("event-1", "order", "a", ""), says: "declared as JSON"},
		"size":  {columns: rowColumns("event-1", "order", "a", `"0123456789"`), limit: 5, says: "kafka.max_record_bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rules := someRules()
			rules.MaxRecordBytes = c.limit
			routes, err := NewRouter(rules)
			require.NoError(t, err)
			letter := letterOf(1, c.columns)
			_, err = routes.Revive(decoder.New(decoder.Mapping{Columns: coreColumns}), &letter)
			require.ErrorContains(t, err, c.says)
		})
	}
}

func TestWriterRefusesAMissingTopic(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	letter := letterOf(1, rowColumns("event-1", "nobody", "a", "{}"))
	v, err := d.router.Revive(decoder.New(decoder.Mapping{Columns: coreColumns}), &letter)
	require.NoError(t, err)
	_, err = d.Publish(t.Context(), v)
	var poison *PoisonError
	require.ErrorAs(t, err, &poison)
	assert.Equal(t, PoisonTopic, poison.Class)
	assert.Equal(t, "event-1", poison.EventID)

	d.config.Topics.Create = true
	d = deskOf(t, d.config)
	partition, err := d.Publish(t.Context(), v)
	require.NoError(t, err)
	assert.Len(t, records(t, d.client, "outbox.event.nobody")[partition], 1)
}

func TestTopicSettingsOfItsOwn(t *testing.T) {
	t.Parallel()
	c := newDesk(t).config
	c.Topics = kafka.TopicConfig{Create: true, Partitions: 2, Configs: map[string]string{"cleanup.policy": "compact"}}
	c.TopicSettings = map[string]map[string]string{"special": {"cleanup.policy": "delete"}}
	d := deskOf(t, c)
	for topic, want := range map[string]string{"plain": "compact", "special": "delete"} {
		_, err := d.client.Provide(t.Context(), topic)
		require.NoError(t, err)
		got, err := d.client.TopicSetting(topic, "cleanup.policy")
		require.NoError(t, err)
		assert.Equal(t, want, got, topic)
		count, err := d.client.Partitions(topic)
		require.NoError(t, err)
		assert.Equal(t, 2, count)
	}
}

// records reads a topic, partition by partition.
func records(t *testing.T, c *kafka.Client, topic string) [][]*sarama.Record {
	t.Helper()
	spans, err := c.Whole(t.Context(), topic)
	require.NoError(t, err)
	all := make([][]*sarama.Record, len(spans))
	require.NoError(t, c.ReadSpans(t.Context(), spans, func(s *kafka.Span, _ int64, r *sarama.Record) error {
		all[s.Partition] = append(all[s.Partition], r)
		return nil
	}))
	return all
}

// What operators publish again or decide does not show how far the stream has
// come.
func TestReadBackPassesOverDecisions(t *testing.T) {
	t.Parallel()
	const orders = "outbox.event.order"
	d := newDesk(t, orders)
	buried := letterOf(5, rowColumns("event-5", "order", "a", `{"n": 5}`))
	d.bury(0, buried)
	v, err := d.router.Revive(decoder.New(decoder.Mapping{Columns: coreColumns}), &buried)
	require.NoError(t, err)
	partition, err := d.Publish(t.Context(), v)
	require.NoError(t, err)
	require.NoError(t, d.Resolve(t.Context(), d.letters()[0], buried.Key, Resolution{Retried, "me", time.Now()}))

	marks := map[string]Marks{orders: {Offsets: make([]int64, 3)}, letterTopic: {Offsets: make([]int64, 3)}}
	readBack := func(scattered func(string) bool) Found {
		found, err := ReadBack{
			StreamID: someRules().StreamID, Marks: marks, Above: commitOf(1), Log: slog.New(slog.DiscardHandler), Scattered: scattered,
		}.Read(t.Context(), d.client)
		require.NoError(t, err)
		assert.Empty(t, found.Gaps)
		return found
	}
	found := readBack(func(topic string) bool { return topic == letterTopic })
	assert.Equal(t, map[replication.Position]struct{}{buried.Position: {}}, found.Published, "the dead letter itself")
	assert.Zero(t, found.Topics[orders].Partitions[partition].Last)
	require.Len(t, found.Landmarks, 1)
	assert.Equal(t, letterTopic, found.Landmarks[0].Topic)

	// The same where routing has changed and every record is read.
	found = readBack(func(string) bool { return true })
	assert.Equal(t, map[replication.Position]struct{}{buried.Position: {}}, found.Published)
	assert.Zero(t, found.Topics[orders].Partitions[partition].Last)

	// The test can fail: without its mark the record would count.
	naked := *v.record
	naked.Headers = v.record.Headers[:len(v.record.Headers)-1]
	d.write(orders, partition, &naked)
	found = readBack(func(topic string) bool { return topic == letterTopic })
	assert.Equal(t, buried.Position, found.Topics[orders].Partitions[partition].Last)
}
